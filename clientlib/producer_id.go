package clientlib

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// identity is under what a producer is known to the partitions' leaders.
type identity struct {
	id    messages.ProducerID
	epoch messages.ProducerEpoch
}

var noIdentity = identity{messages.NoProducerID, -1}

func identityOf(w *wire.ClientProducer) identity {
	return identity{messages.ProducerID(w.GetProducerId()),
		messages.ProducerEpoch(w.GetProducerEpoch())}
}

// initialize asks for an identity that nobody has, or, with a transactional id, that
// shuts out whoever had one before. has is what a transactional producer has: it is
// refused if somebody else has the id meanwhile.
func (p *Producer) initialize(ctx context.Context, has identity) (identity, error) {
	id := p.cfg.TransactionalID
	ask := &wire.ClientInitProducer{TransactionalId: id, ProducerId: int64(has.id),
		ProducerEpoch: int32(has.epoch)}
	if id != "" {
		ask.TimeoutMs = int32(p.cfg.TransactionTimeout.Milliseconds())
	}
	who := noIdentity
	err := patiently(ctx, func() error {
		req := &wire.ClientRequest{Command: &wire.ClientRequest_InitProducer{InitProducer: ask}}
		var resp *wire.ClientResponse
		var err error
		if id == "" {
			resp, err = p.link.AskAny(ctx, req)
		} else {
			resp, err = p.link.AskCoordinator(ctx, coord.Txn, id, req)
		}
		if err == nil {
			who = identityOf(resp.GetProducer())
		}
		return err
	})
	return who, err
}

// patiently tries until it works, the error is not one that passes, or ctx ends.
func patiently(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		if err == nil || !outgoing.Passes(err) {
			return err
		}
		select {
		case <-time.After(outgoing.Backoff(n, rand.Float64())):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// identify gives the line of a partition the identity it needs, if there is one.
func (l *sendLoop) identify(part *partition) {
	line := part.line
	if l.txn != nil {
		// Each transaction has an epoch of its own, under which all lines begin anew.
		if part.generation != l.generation && !line.Busy() {
			part.generation = l.generation
			line.Identify(l.who.id, l.who.epoch)
			if l.abandoned != nil {
				line.Abandon(l.abandoned)
			}
		}
		return
	}
	switch {
	case !line.Nameless():
	case part.generation < l.generation && !l.known:
		part.generation = l.generation
		line.Identify(l.who.id, l.who.epoch)
	default:
		l.ask() // it has used up what there is
	}
}

// ask asks for another producer id, for the lines that have none any more.
func (l *sendLoop) ask() {
	if l.asking {
		return
	}
	l.asking = true
	l.p.work.Go(func() {
		who, err := l.p.initialize(l.p.background, noIdentity)
		l.p.inbox.post(func() { l.renamed(who, err) })
	})
}

func (l *sendLoop) renamed(who identity, err error) {
	l.asking = false
	if err != nil {
		l.p.end(fmt.Errorf("the producer has no producer id any more: %w", err))
		l.everyPartition(l.closeOpen)
	} else {
		l.who, l.known = who, false
		l.generation++
	}
	for part := range l.active {
		if err != nil {
			part.line.Abandon(l.p.endErr())
		}
		l.touch(part)
	}
}
