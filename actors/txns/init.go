package txns

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/primitive"
	"github.com/troupelog/troupe/messages/txn"
)

// initialize gives a producer the id: it gets a producer id and an epoch that no
// producer had before, unless it names those of an answer it may have lost.
func (t *Txn) initialize(now time.Time, r *txn.Init) {
	if err := t.checkInit(r); err != nil {
		r.Refuse(t.refusal(err))
		return
	}
	m, named := t.meta, max(r.Epoch, noEpoch)
	switch {
	case m == nil:
		t.needID(now, r, func(now time.Time, id messages.ProducerID) {
			t.conclude(r, newMeta(id, r.TimeoutMs, toMs(now)))
		})
	case m.state == txn.Ongoing:
		// Nobody is told the epoch that fences. The caller asks again, and then
		// gets one that is above it.
		t.decide(m.fence(toMs(now)), func(err error) {
			if err == nil {
				err = t.refusal(txn.ErrConcurrent)
			}
			r.Refuse(err)
		})
	case m.asksAgain(r):
		t.conclude(r, m.repeated(r.TimeoutMs, toMs(now)))
	case m.exhausted():
		t.needID(now, r, func(now time.Time, id messages.ProducerID) {
			t.conclude(r, m.rotated(id, named, r.TimeoutMs, toMs(now)))
		})
	default:
		t.conclude(r, m.bumped(named, r.TimeoutMs, toMs(now)))
	}
}

// checkInit returns why the request cannot be granted now.
func (t *Txn) checkInit(r *txn.Init) error {
	limit := t.config().MaxTimeout
	switch {
	case t.id == "" || len(t.id) > primitive.MaxText:
		return fmt.Errorf("%d bytes, from 1 to %d fit in its record: %w",
			len(t.id), primitive.MaxText, messages.ErrInvalidRequest)
	case r.TimeoutMs <= 0 || time.Duration(r.TimeoutMs)*time.Millisecond > limit:
		return fmt.Errorf("%d ms, transaction.max.timeout.ms is %d: %w",
			r.TimeoutMs, limit.Milliseconds(), txn.ErrInvalidTimeout)
	case (r.Producer < 0) != (r.Epoch < 0):
		return fmt.Errorf("producer id %d with epoch %d: give both or none: %w",
			r.Producer, r.Epoch, messages.ErrInvalidRequest)
	case t.busy():
		return txn.ErrConcurrent
	case t.meta == nil:
		return nil
	case r.Producer >= 0 && !t.meta.knows(r.Producer, r.Epoch):
		return fmt.Errorf("producer %d: %w", r.Producer, txn.ErrProducerFenced)
	case t.meta.prepared():
		return txn.ErrConcurrent
	case r.Producer >= 0 && t.meta.owner(r.Producer, r.Epoch) != nil && !t.meta.asksAgain(r):
		// Kafka lets it pass while a transaction is open, so that a producer that
		// was fenced can have that of its successor aborted.
		return fmt.Errorf("producer %d, epoch %d: %w", r.Producer, r.Epoch, txn.ErrProducerFenced)
	default:
		return nil
	}
}

// asksAgain reports whether the producer names what it had before the answer
// that gave the current epoch: that answer was lost (KIP-360). Had somebody else
// got the id since, last would not be there.
func (m *meta) asksAgain(r *txn.Init) bool {
	if r.Producer < 0 || r.Epoch != m.last || m.state == txn.Ongoing {
		return false
	}
	return m.knows(r.Producer, r.Epoch)
}

// knows reports whether a producer id is one that the rightful producer may name:
// that in use, or the one next to it if its epochs were used up.
func (m *meta) knows(id messages.ProducerID, epoch messages.ProducerEpoch) bool {
	return id == m.producer || id == m.next || id == m.previous && epoch >= lastEpoch
}

// conclude makes next durable, then answers with it.
func (t *Txn) conclude(r *txn.Init, next *meta) {
	t.decide(next, func(err error) {
		if err != nil {
			r.Refuse(err)
			return
		}
		r.Reply(txn.Initialized{Producer: next.producer, Epoch: next.epoch})
	})
}

// needID lets r wait for a fresh producer id.
func (t *Txn) needID(now time.Time, r coord.Request,
	resume func(now time.Time, id messages.ProducerID)) {
	t.waiting = &waiting{request: r, resume: resume, until: now.Add(freshIDWait)}
	t.out.NewProducerID()
}

func (t *Txn) freshID(now time.Time, r *txn.FreshID) {
	w := t.waiting
	if w == nil {
		return // given up meanwhile; the producer id is lost, there are enough
	}
	t.waiting = nil
	if r.Err != nil {
		w.request.Refuse(fmt.Errorf("transactional id %q: no producer id: %w", t.id, r.Err))
		return
	}
	invariant.That(r.ID >= 0, "producer id %d is handed out", r.ID)
	w.resume(now, r.ID)
}
