package clientlib

import "context"

type clientBox struct{ client *Client }

func (b *clientBox) send(ctx context.Context, r *Record, done func(error)) { done(ErrUnavailable) }
func (b *clientBox) close(ctx context.Context)                             {}
