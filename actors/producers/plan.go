package producers

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/record"
)

// Verdict says what to do with a batch that is not refused.
type Verdict struct {
	// Duplicate: do not append. The batch was appended before, at the offsets
	// below, and is answered as it was then, once the original is as safe as
	// the producer demands.
	Duplicate bool
	// BaseOffset and LastOffset are the batch's own, or the original's.
	BaseOffset, LastOffset messages.Offset
	// Timestamp is the batch's own maximum, or the original's.
	Timestamp messages.Timestamp
}

// Plan decides several batches that will be appended in one go, each in the
// light of those before it, without changing the State. Then either Commit it
// (they were appended) or drop it (they were not): all or nothing, like the
// append. A State has one Plan at a time, and must not change meanwhile.
type Plan struct {
	state   *State
	staged  []record.Header // accepted so far
	markers []stagedMarker
	index   map[messages.ProducerID]int // of producers
	copies  []producer                  // of the producers that staged batches change
}

// stagedMarker is a marker among the staged batches.
type stagedMarker struct {
	at     int // in staged
	marker record.Marker
}

// Plan begins a plan; one that was begun before is dropped.
func (s *State) Plan() *Plan {
	s.plan.state = s
	s.plan.Reset()
	return &s.plan
}

// Reset drops what was decided so far: nothing of it happened.
func (p *Plan) Reset() {
	p.staged, p.markers, p.copies = p.staged[:0], p.markers[:0], p.copies[:0]
	clear(p.index)
}

// Decide says what to do with a batch that follows those decided so far. The
// header must be the one that would be appended: BaseOffset where the batch would
// stand, MaxTimestamp the leader's time if the topic is of LogAppendTime (a
// duplicate is answered with it). v says what is known of the transaction that a
// transactional batch belongs to; the zero value demands nothing.
//
// Errors wrap messages.ErrInvalidProducerEpoch (a newer life of the producer was
// here), messages.ErrOutOfOrderSequence (a batch before it is missing),
// messages.ErrInvalidTxnState (outside the producer's open transaction), or
// ErrUnverified; the plan goes on without the batch then, as it does after a
// duplicate.
func (p *Plan) Decide(h record.Header, v Verification) (Verdict, error) {
	invariant.That(!h.Control(), "a marker at %d among batches", h.BaseOffset)
	own := Verdict{BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(), Timestamp: h.MaxTimestamp}
	if !h.Idempotent() {
		return own, nil
	}
	known := p.known(h.ProducerID)
	if known == nil {
		known = newProducer()
	}
	if b := known.duplicate(&h); b != nil {
		return Verdict{
			Duplicate: true, BaseOffset: b.baseOffset(), LastOffset: b.lastOffset,
			Timestamp: b.timestamp,
		}, nil
	}
	if err := known.check(&h); err != nil {
		return Verdict{}, err
	}
	if h.Transactional() && !known.inTxn(h.ProducerEpoch) {
		if err := p.checkVerified(&h, known, v); err != nil {
			return Verdict{}, err
		}
	}
	p.stage(h, known).append(&h)
	return own, nil
}

// DecideMarker is Decide for a transaction marker that this leader was asked to
// write. raised: its epoch was raised for it, so that one which is known says that
// the marker was written before (KIP-1228): it is a duplicate then, without
// offsets, or, if the next transaction has begun, refused. Other markers that are
// repeated are written again, as in Kafka, and change nothing.
//
// Errors wrap messages.ErrInvalidProducerEpoch or txn.ErrCoordinatorFenced.
func (p *Plan) DecideMarker(h record.Header, m record.Marker, raised bool) (Verdict, error) {
	invariant.That(h.Control(), "a batch at %d as a marker", h.BaseOffset)
	known := p.known(h.ProducerID)
	if known == nil {
		known = newProducer()
	}
	repeat, err := known.checkMarker(&h, m.CoordinatorEpoch, raised)
	if err != nil {
		return Verdict{}, err
	}
	if repeat {
		return Verdict{Duplicate: true, BaseOffset: messages.NoOffset, LastOffset: messages.NoOffset,
			Timestamp: messages.NoTimestamp}, nil
	}
	p.markers = append(p.markers, stagedMarker{at: len(p.staged), marker: m})
	p.stage(h, known).end(&h, m.CoordinatorEpoch)
	return Verdict{BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(),
		Timestamp: h.MaxTimestamp}, nil
}

// Commit changes the State: the batches decided on were appended. The plan is
// empty then.
func (p *Plan) Commit() {
	next := 0 // of markers
	for i := range p.staged {
		if next < len(p.markers) && p.markers[next].at == i {
			m := p.markers[next].marker
			_ = p.state.ObserveMarker(p.staged[i], m.Commit, m.CoordinatorEpoch)
			next++
			continue
		}
		p.state.Apply(p.staged[i])
	}
	p.Reset()
}

// known returns the producer as the staged batches leave it, or nil.
func (p *Plan) known(id messages.ProducerID) *producer {
	if i, ok := p.index[id]; ok {
		return &p.copies[i]
	}
	return p.state.producers[id]
}

// stage keeps h for Commit and returns the plan's copy of its producer. The
// pointer is good until the next call.
func (p *Plan) stage(h record.Header, known *producer) *producer {
	p.staged = append(p.staged, h)
	i, ok := p.index[h.ProducerID]
	if !ok {
		if p.index == nil {
			p.index = map[messages.ProducerID]int{}
		}
		i = len(p.copies)
		p.copies = append(p.copies, *known)
		p.index[h.ProducerID] = i
	}
	return &p.copies[i]
}
