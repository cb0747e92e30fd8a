package txns

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// verdict is what an End that is not refused leads to.
type verdict int8

const (
	refused  verdict = iota
	granted          // the transaction ends
	repeated         // it has ended so before
)

// end commits or aborts. The answer comes when the outcome is durable; the
// markers follow.
func (t *Txn) end(now time.Time, r *txn.End) {
	v, err := t.judge(r)
	m := t.meta
	switch {
	case v == refused:
		r.Refuse(fmt.Errorf("transactional id %q: producer %d, epoch %d: %w",
			t.id, r.Producer, r.Epoch, err))
	case v == repeated:
		r.Reply(m.ending(r))
	case r.V2 && m.exhausted():
		t.needID(now, r, func(now time.Time, id messages.ProducerID) { t.finish(now, r, id) })
	default:
		t.finish(now, r, messages.NoProducerID)
	}
}

// finish makes the outcome durable, then answers.
func (t *Txn) finish(now time.Time, r *txn.End, next messages.ProducerID) {
	ended := t.meta.ended(r.Commit, r.V2, next, toMs(now))
	t.decide(ended, func(err error) {
		if err != nil {
			r.Refuse(err)
			return
		}
		r.Reply(ended.ending(r))
	})
}

// ending is the answer to an End that m is the outcome of.
func (m *meta) ending(r *txn.End) txn.Ended {
	if !r.V2 {
		return txn.Ended{Producer: messages.NoProducerID, Epoch: noEpoch}
	}
	id, epoch := m.current()
	return txn.Ended{Producer: id, Epoch: epoch}
}

// judge decides an End without changing anything.
func (t *Txn) judge(r *txn.End) (verdict, error) {
	m := t.meta
	if m == nil {
		return refused, txn.ErrInvalidMapping
	}
	again := r.V2 && m.repeats(r.Producer, r.Epoch)
	if err := m.owner(r.Producer, r.Epoch); err != nil && !again {
		return refused, err
	}
	same := r.Commit == (m.state == txn.PrepareCommit || m.state == txn.CompleteCommit)
	if t.busy() {
		return refused, txn.ErrConcurrent
	}
	switch {
	case m.state == txn.Ongoing:
		return granted, nil
	case m.prepared():
		// A producer of V2 that has the epoch of the next transaction knows that
		// this one has ended: it waits for the markers, whatever it wants then.
		if same || r.V2 && !again {
			return refused, txn.ErrConcurrent
		}
		return refused, messages.ErrInvalidTxnState
	case m.completed() && same && (again || !r.V2):
		return repeated, nil
	case r.V2 && !r.Commit && !again:
		return granted, nil // nothing was added; the epoch rises all the same
	default:
		return refused, messages.ErrInvalidTxnState
	}
}
