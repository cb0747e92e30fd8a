package producers

import (
	"fmt"
	"maps"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// ErrUnverified: the batch would begin a transaction that the coordinator was not
// asked about, or not since the last marker. INVALID_TXN_STATE.
var ErrUnverified = fmt.Errorf("the coordinator was not asked about the transaction: %w",
	messages.ErrInvalidTxnState)

// Verification is what is known of the transaction that a batch belongs to.
type Verification struct {
	// Required: a batch that begins a transaction needs a Guard that is still good.
	Required bool
	Guard    uint64 // under which the coordinator was asked; 0: it was not
	// FreshEpoch: the epoch is the transaction's own, so its first batch has
	// sequence 0 also where nothing is known of the producer.
	FreshEpoch bool
}

// guard is a question to the coordinator about a producer's next transaction here.
// It dies with the transaction's first batch and with every marker of the producer:
// what the coordinator said before is worth nothing then.
type guard struct {
	id     uint64
	epoch  messages.ProducerEpoch
	lowest messages.Sequence // asked about in this epoch
	since  messages.Timestamp
}

// Guard notes that the coordinator is going to be asked about the transaction that
// a batch of that producer, epoch and sequence begins, and returns the number to
// hand to Decide with the batch: fresh, which must be above 0 and must not come
// again, or that of the question under way. now is the wall clock.
func (s *State) Guard(id messages.ProducerID, epoch messages.ProducerEpoch,
	sequence messages.Sequence, fresh uint64, now messages.Timestamp) uint64 {
	g := s.guards[id]
	if g == nil {
		g = &guard{id: fresh, epoch: epoch, lowest: sequence}
		if s.guards == nil {
			s.guards = map[messages.ProducerID]*guard{}
		}
		s.guards[id] = g
	}
	g.since = now
	switch {
	case epoch > g.epoch:
		g.epoch, g.lowest = epoch, sequence
	case epoch == g.epoch:
		g.lowest = min(g.lowest, sequence)
	}
	return g.id
}

// Guarded reports whether a question is still good: no marker of the producer was
// written since it was asked, and no batch of the transaction.
func (s *State) Guarded(id messages.ProducerID, number uint64) bool {
	g := s.guards[id]
	return g != nil && g.id == number
}

// Unguard forgets a question that was answered with no for good.
func (s *State) Unguard(id messages.ProducerID, number uint64) {
	if g := s.guards[id]; g != nil && g.id == number {
		delete(s.guards, id)
	}
}

// Unguarded forgets all questions: a leadership ended, and what is answered later
// was asked by another one.
func (s *State) Unguarded() { clear(s.guards) }

// Began says whether a transaction of that producer and epoch is open, so that its
// batches need no question, and fails with messages.ErrInvalidProducerEpoch for an
// epoch that is over.
func (s *State) Began(id messages.ProducerID, epoch messages.ProducerEpoch) (bool, error) {
	p := s.producers[id]
	if p == nil {
		return false, nil
	}
	if epoch < p.epoch {
		h := record.Header{ProducerID: id, ProducerEpoch: epoch}
		return false, refused(&h, messages.ErrInvalidProducerEpoch, "epoch %d was seen", p.epoch)
	}
	return p.inTxn(epoch), nil
}

// checkVerified decides whether h may begin a transaction.
func (p *Plan) checkVerified(h *record.Header, known *producer, v Verification) error {
	g := p.state.guards[h.ProducerID]
	if known.epoch == noEpoch && h.BaseSequence > 0 {
		// What the producer sent before is forgotten, so nobody sees a gap: but a
		// batch before this one may have failed for want of an answer.
		if v.FreshEpoch {
			return refused(h, messages.ErrOutOfOrderSequence,
				"sequence %d begins a transaction, 0 is expected", h.BaseSequence)
		}
		if g != nil && g.epoch == h.ProducerEpoch && h.BaseSequence > g.lowest {
			return refused(h, messages.ErrOutOfOrderSequence,
				"sequence %d, %d waits to be sent again", h.BaseSequence, g.lowest)
		}
	}
	if !v.Required {
		return nil
	}
	// A batch or marker that is staged kills the guard with the plan's Commit.
	if _, staged := p.index[h.ProducerID]; staged || v.Guard == 0 || g == nil || g.id != v.Guard {
		return refused(h, ErrUnverified, "a batch that begins a transaction")
	}
	return nil
}

// expireGuards forgets questions that nothing came of.
func (s *State) expireGuards(now messages.Timestamp, idleMs int64) {
	maps.DeleteFunc(s.guards, func(_ messages.ProducerID, g *guard) bool {
		g.since = min(g.since, now) // the clock was set back
		return int64(now-g.since) >= idleMs
	})
}
