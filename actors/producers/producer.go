package producers

import (
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// producer is what a partition knows of one producer. It is a plain value: a
// Plan works on copies.
type producer struct {
	epoch            messages.ProducerEpoch
	coordinatorEpoch int32
	txnFirst         messages.Offset    // of the open transaction, or NoOffset
	lastTimestamp    messages.Timestamp // of the last batch or marker
	idleSince        messages.Timestamp // NoTimestamp: active since the last Expire
	used             int                // entries of window in use
	window           [windowSize]sent   // the last batches of this epoch, oldest first
}

// sent is a batch that was appended.
type sent struct {
	lastSequence messages.Sequence
	delta        int32 // to the first sequence, and to the first offset
	lastOffset   messages.Offset
	timestamp    messages.Timestamp // the batch's maximum
}

func newProducer() *producer {
	return &producer{
		epoch: noEpoch, coordinatorEpoch: noCoordinator, txnFirst: messages.NoOffset,
		lastTimestamp: messages.NoTimestamp, idleSince: messages.NoTimestamp,
	}
}

// firstSequence undoes the wrap from 2147483647 to 0.
func (b *sent) firstSequence() messages.Sequence {
	if int32(b.lastSequence) >= b.delta {
		return b.lastSequence - messages.Sequence(b.delta)
	}
	return messages.Sequence(int64(b.lastSequence) - int64(b.delta) + math.MaxInt32 + 1)
}

func (b *sent) baseOffset() messages.Offset { return b.lastOffset - messages.Offset(b.delta) }

// lastSequence is the sequence of the last record, NoSequence when none is known.
func (p *producer) lastSequence() messages.Sequence {
	if p.used == 0 {
		return messages.NoSequence
	}
	return p.window[p.used-1].lastSequence
}

// nextSequence is the only sequence that may follow in this epoch.
func (p *producer) nextSequence() messages.Sequence {
	last := p.lastSequence()
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1 // 0 when none is known
}

// duplicate finds the batch that h repeats.
func (p *producer) duplicate(h *record.Header) *sent {
	if h.ProducerEpoch != p.epoch || h.BaseSequence < 0 {
		return nil
	}
	for i := range p.window[:p.used] {
		b := &p.window[i]
		if b.firstSequence() == h.BaseSequence && b.lastSequence == h.LastSequence() {
			return b
		}
	}
	return nil
}

// check decides whether h may follow what is known.
func (p *producer) check(h *record.Header) error {
	switch {
	case h.ProducerEpoch < p.epoch:
		return refused(h, messages.ErrInvalidProducerEpoch, "epoch %d was seen", p.epoch)
	case h.BaseSequence < 0:
		// Only coordinators write without sequences: clients were refused before.
	case p.epoch == noEpoch && h.BaseOffset == 0 && h.BaseSequence != 0:
		// Nothing ever came before this batch, so it is not the first the
		// producer sent: the first is late (KAFKA-15591).
		return refused(h, messages.ErrOutOfOrderSequence,
			"sequence %d begins an empty partition, 0 is expected", h.BaseSequence)
	case p.epoch == noEpoch:
		// What the producer sent before may be expired or deleted.
	case h.ProducerEpoch > p.epoch && h.BaseSequence != 0:
		return refused(h, messages.ErrOutOfOrderSequence,
			"sequence %d begins a new epoch, 0 is expected", h.BaseSequence)
	case h.ProducerEpoch == p.epoch && h.BaseSequence != p.nextSequence():
		return refused(h, messages.ErrOutOfOrderSequence,
			"sequence %d, %d is expected", h.BaseSequence, p.nextSequence())
	}
	if p.txnFirst != messages.NoOffset && !h.Transactional() {
		return refused(h, messages.ErrInvalidTxnState,
			"a batch outside the transaction that is open since offset %d", p.txnFirst)
	}
	return nil
}

// checkMarker decides whether a marker may follow what is known. repeat reports
// one that was written before.
func (p *producer) checkMarker(h *record.Header, coordinatorEpoch int32, raised bool) (
	repeat bool, err error,
) {
	if h.ProducerEpoch < p.epoch {
		return false, refused(h, messages.ErrInvalidProducerEpoch, "epoch %d was seen", p.epoch)
	}
	if coordinatorEpoch < p.coordinatorEpoch {
		return false, refused(h, txn.ErrCoordinatorFenced,
			"marker of coordinator epoch %d, %d was seen", coordinatorEpoch, p.coordinatorEpoch)
	}
	if raised && h.ProducerEpoch == p.epoch {
		if p.txnFirst != messages.NoOffset {
			// The epoch of the marker is that of the next transaction, which is open.
			return false, refused(h, messages.ErrInvalidProducerEpoch,
				"a late marker, the transaction that is open since offset %d is a later one", p.txnFirst)
		}
		return true, nil
	}
	return false, nil
}

// inTxn reports whether a transaction of that epoch is open.
func (p *producer) inTxn(epoch messages.ProducerEpoch) bool {
	return p.txnFirst != messages.NoOffset && p.epoch == epoch
}

// append takes note of a batch and reports whether it begins a transaction.
func (p *producer) append(h *record.Header) (began bool) {
	p.setEpoch(h.ProducerEpoch)
	p.active(h)
	if h.BaseSequence >= 0 {
		p.push(sent{
			lastSequence: h.LastSequence(), delta: h.LastOffsetDelta,
			lastOffset: h.LastOffset(), timestamp: h.MaxTimestamp,
		})
	}
	if h.Transactional() && p.txnFirst == messages.NoOffset {
		p.txnFirst = h.BaseOffset
		return true
	}
	return false
}

// end takes note of a marker and returns the first offset of the transaction it
// ends, if one was open.
func (p *producer) end(h *record.Header, coordinatorEpoch int32) (messages.Offset, bool) {
	p.setEpoch(h.ProducerEpoch)
	p.active(h)
	p.coordinatorEpoch = coordinatorEpoch
	first := p.txnFirst
	p.txnFirst = messages.NoOffset
	return first, first != messages.NoOffset
}

func (p *producer) active(h *record.Header) {
	p.lastTimestamp = h.MaxTimestamp
	p.idleSince = messages.NoTimestamp
}

// setEpoch begins a new life of the producer: sequences count from 0 again.
func (p *producer) setEpoch(e messages.ProducerEpoch) {
	if e != p.epoch {
		p.epoch, p.used = e, 0
	}
}

func (p *producer) push(b sent) {
	if p.used == windowSize {
		copy(p.window[:], p.window[1:])
		p.used--
	}
	p.window[p.used] = b
	p.used++
}
