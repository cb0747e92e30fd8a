package clientlib

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/outgoing"
)

// outbox is what is done and not told yet. What it holds is bounded by the room for
// records, which is given back when they are told.
type outbox struct {
	mu     sync.Mutex
	done   []delivery
	spare  []delivery
	signal chan struct{}

	// Of records without a callback, since the last Flush.
	lost  error // of the first that failed
	count int
}

// delivery is one of: a batch that is done, a flush that waits for those before it, the
// end.
type delivery struct {
	pl    *payload
	flush *flusher
	last  bool
}

// flusher is a call of Flush.
type flusher struct {
	left atomic.Int64 // what it waits for
	done chan struct{}
}

func (f *flusher) one() {
	if f.left.Add(-1) == 0 {
		close(f.done)
	}
}

func (o *outbox) put(d delivery) {
	o.mu.Lock()
	o.done = append(o.done, d)
	o.mu.Unlock()
	select {
	case o.signal <- struct{}{}:
	default:
	}
}

func (o *outbox) take() []delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.spare)
	o.done, o.spare = o.spare[:0], o.done
	return o.spare
}

func (o *outbox) lose(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 {
		o.lost = err
	}
	o.count++
}

func (o *outbox) takeLost() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 {
		return nil
	}
	err := fmt.Errorf("%d records were not written, the first: %w", o.count, o.lost)
	o.lost, o.count = nil, 0
	return err
}

// finished takes a batch that is done: its callbacks are called by another goroutine, so
// that none of them can hold up what is on its way.
func (l *sendLoop) finished(pl *payload, now time.Time) {
	p := l.p
	records := int64(len(pl.waits))
	if err := pl.out.Err; err != nil {
		p.counts.errors.Add(records)
		if l.txn != nil && l.txn.fail(err) {
			p.inbox.post(func() { l.abandon(errTxnFailed) })
		}
	} else {
		p.counts.acknowledged(records, int64(len(pl.batch.Bytes)), now.Sub(pl.born))
	}
	p.room.answered(pl.room)
	p.outbox.put(delivery{pl: pl})
}

// callBack is the goroutine that calls the callbacks of records.
func (p *Producer) callBack() {
	for range p.outbox.signal {
		for _, d := range p.outbox.take() {
			switch {
			case d.last:
				return
			case d.flush != nil:
				d.flush.one()
			default:
				p.tell(d.pl)
			}
		}
	}
}

// tell tells what became of the records of a batch.
func (p *Producer) tell(pl *payload) {
	err := pl.out.Err
	if err != nil {
		err = fmt.Errorf("topic %q, partition %d: %w", pl.part.topic.name, pl.part.index, err)
	}
	p.room.give(pl.room)
	for i, w := range pl.waits {
		w.r.Offset = -1
		if err == nil && pl.base >= 0 {
			w.r.Offset = pl.base + int64(i)
		}
		switch {
		case w.done != nil:
			w.done(w.r, err)
		case err != nil && p.mode != outgoing.Transactional: // else the transaction tells
			p.outbox.lose(err)
		}
	}
	for _, f := range pl.flush {
		f.one()
	}
	p.recycle(pl)
}
