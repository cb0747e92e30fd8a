package clientlib

import (
	"context"
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages/wire"
)

// errUnsettled: no node says.
var errUnsettled = fmt.Errorf("it is not known what became of the transaction, make a new "+
	"consumer to go on: %w", ErrUnavailable)

// offsetsError is about the positions of a transaction, and not about its records.
type offsetsError struct{ cause error }

func (e *offsetsError) Error() string { return e.cause.Error() }

func (e *offsetsError) Unwrap() error { return e.cause }

// groupTxns are the transactions of a producer with the positions of a consumer's group.
type groupTxns struct {
	*Consumer
	producer *Producer
	box      clientBox
}

func (g *groupTxns) begin(ctx context.Context) (*Transaction, error) {
	return g.producer.Begin(ctx)
}

func (g *groupTxns) bury(ctx context.Context, tx *Transaction, r *Record) error {
	limited, cancel := context.WithTimeout(ctx, deadLetterTimeout)
	defer cancel()
	if err := g.box.ensure(limited, r.Topic); err != nil {
		return err
	}
	err := tx.Produce(ctx, r)
	g.box.learn(r.Topic, err)
	return err
}

func (g *groupTxns) failure(tx *Transaction) error {
	if err := g.producer.endErr(); err != nil {
		return err
	}
	return tx.failure()
}

func (g *groupTxns) commit(
	ctx context.Context, tx *Transaction, who groupMember, ps []*wire.ClientPosition,
) error {
	g.identify(ps)
	err := tx.commitOffsets(ctx, g.cfg.Group, who, ps)
	if err != nil {
		g.wakeHeart.set() // the member may not be what it was
		err = &offsetsError{err}
	} else if err = tx.Commit(ctx); err == nil {
		return nil
	}
	switch failed := g.abort(ctx, tx); {
	case errors.Is(failed, errTxnCommitted):
		return nil
	case failed != nil:
		return fmt.Errorf("%w: %w", failed, err)
	}
	return err
}

func (g *groupTxns) abort(ctx context.Context, tx *Transaction) error {
	err := tx.Abort(ctx)
	switch {
	case err == nil || unrecoverable(err): // or committed, which is an ErrInvalidRequest
		return err
	case tx.isOver():
		return nil
	}
	return fmt.Errorf("%w: %w", errUnsettled, err)
}

// identify adds the ids of the topics.
func (g *groupTxns) identify(ps []*wire.ClientPosition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, at := range ps {
		if p := g.parts[Partition{at.GetTopic(), at.GetPartition()}]; p != nil {
			at.TopicId = p.id[:]
		}
	}
}

func (g *groupTxns) committed(ps []*wire.ClientPosition) { g.committedAs(ps) }
