//go:build linux

package peer

import (
	"context"
	"errors"
)

// NewNATS is NATS JetStream.
func NewNATS(string) Kind {
	return Kind{Name: NATS, Start: func(context.Context, Options) (*Broker, error) {
		return nil, errors.New("not built yet")
	}, Version: func(context.Context) (string, error) { return "", errors.New("not built yet") }}
}
