// Package producers decides whether a batch of an idempotent or transactional
// producer may be appended to a partition, was appended before, or is out of
// order (KIP-98), and where the last stable offset is.
//
// State is what one partition knows of its producers. It reads no clock, starts
// no goroutine and touches no disk: its owner, the replica actor, hands it the
// headers of batches and the time. The leader decides a gather of batches with a
// Plan, appends them, then commits the plan; a follower and a recovering log
// tell the State what is in the log with Observe. The same batches in the same
// order always lead to the same State.
//
// Only the actors and tests may import it; it imports messages alone.
package producers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// windowSize is how many batches of a producer are remembered: as many as an
// idempotent client may have in flight, so that any of them is recognised when
// it is sent again.
const windowSize = 5

// noEpoch is the epoch of a producer that has none yet.
const noEpoch messages.ProducerEpoch = -1

// noCoordinator is the coordinator epoch before the first marker.
const noCoordinator int32 = -1

// State is what a partition knows of its producers. Make one with New. It has
// one owner and is not safe for concurrent use.
type State struct {
	producers map[messages.ProducerID]*producer
	open      []data.OpenTxn // transactions without a marker, by first offset
	ended     []endedTxn     // whose markers were not seen below the high watermark yet
	aborted   []EndedTxn     // since the last TakeAborted
	plan      Plan           // its memory is used again
	// guards are the verifications under way, by producer; nil or empty mostly.
	guards map[messages.ProducerID]*guard
}

// endedTxn is a transaction that has its marker.
type endedTxn struct {
	first, marker messages.Offset
}

// EndedTxn is one aborted transaction: an entry of the transaction index.
type EndedTxn = data.EndedTxn

// Producer describes one producer, as DescribeProducers shows it.
type Producer = data.Producer

// New returns the State of a partition that never held a record.
func New() *State {
	s := &State{}
	s.Reset()
	return s
}

// Reset forgets everything.
func (s *State) Reset() {
	*s = State{producers: map[messages.ProducerID]*producer{}}
}

// Len is how many producers are remembered.
func (s *State) Len() int { return len(s.producers) }

// Check decides one batch without changing anything: a Plan of one.
func (s *State) Check(h record.Header) (Verdict, error) {
	v, err := s.Plan().Decide(h, Verification{})
	s.plan.Reset()
	return v, err
}

// Apply takes note of a batch that is in the log. It never refuses: what is in
// the log was decided by a leader. Markers are ObserveMarker's.
func (s *State) Apply(h record.Header) {
	if !h.Idempotent() || h.Control() {
		return
	}
	p := s.producer(h.ProducerID)
	if h.Transactional() {
		delete(s.guards, h.ProducerID)
	}
	if p.append(&h) {
		began := data.OpenTxn{Producer: h.ProducerID, First: h.BaseOffset}
		// The place is the end, unless the snapshot the log began with belongs
		// to another log: that is the world's mistake, not ours.
		at, _ := slices.BinarySearchFunc(s.open, began, byFirst)
		s.open = slices.Insert(s.open, at, began)
	}
}

// Observe is Apply for a log that reads its batches again. The error is nil.
func (s *State) Observe(h record.Header) error {
	s.Apply(h)
	return nil
}

// ObserveMarker takes note of a transaction marker that is in the log. A marker
// of a producer without an open transaction changes only its epochs. An aborted
// transaction is an event, see TakeAborted. The error is nil.
func (s *State) ObserveMarker(h record.Header, commit bool, coordinatorEpoch int32) error {
	p := s.producer(h.ProducerID)
	delete(s.guards, h.ProducerID)
	first, ended := p.end(&h, coordinatorEpoch)
	if !ended {
		return nil
	}
	s.open = slices.DeleteFunc(s.open, func(t data.OpenTxn) bool { return t.Producer == h.ProducerID })
	s.ended = append(s.ended, endedTxn{first: first, marker: h.BaseOffset})
	if !commit {
		stable := h.NextOffset()
		if len(s.open) > 0 {
			stable = s.open[0].First
		}
		s.aborted = append(s.aborted, EndedTxn{
			Producer: h.ProducerID, First: first, Marker: h.BaseOffset, LastStable: stable,
		})
	}
	return nil
}

// TakeAborted returns the transactions whose abort markers were observed since
// the last call, in the order of the markers.
func (s *State) TakeAborted() []EndedTxn {
	a := s.aborted
	s.aborted = nil
	return a
}

// Open returns the transactions without a marker, by their first offset.
func (s *State) Open() []data.OpenTxn { return slices.Clone(s.open) }

// Vanished ends the open transaction of a producer, if there is one, whose marker
// and records compaction has taken from the log since the state was saved.
func (s *State) Vanished(id messages.ProducerID) {
	if p := s.producers[id]; p != nil {
		p.txnFirst = messages.NoOffset
	}
	s.open = slices.DeleteFunc(s.open, func(t data.OpenTxn) bool { return t.Producer == id })
}

// AdvanceHighWatermark lets transactions whose markers lie below hw be stable.
func (s *State) AdvanceHighWatermark(hw messages.Offset) {
	s.ended = slices.DeleteFunc(s.ended, func(t endedTxn) bool { return t.marker < hw })
}

// FirstUndecided returns the first offset of the oldest open transaction; ok is
// false if there is none.
func (s *State) FirstUndecided() (o messages.Offset, ok bool) {
	if len(s.open) == 0 {
		return 0, false
	}
	return s.open[0].First, true
}

// LastStable returns the last stable offset: read_committed consumers may read
// below it. It is the high watermark hw, or the first offset of the oldest
// transaction that is open or whose marker is not below the high watermark last
// given to AdvanceHighWatermark. It may lie below the log start.
func (s *State) LastStable(hw messages.Offset) messages.Offset {
	stable := hw
	if first, ok := s.FirstUndecided(); ok {
		stable = min(stable, first)
	}
	for _, t := range s.ended {
		stable = min(stable, t.first)
	}
	return stable
}

// Expire forgets the producers that sent nothing for idleMs milliseconds
// (producer.id.expiration.ms) and have no open transaction, and returns how many
// it forgot. The owner calls it from time to time with the wall clock; a
// producer counts as idle from the first call after its last batch, so the
// clocks of clients, which Kafka goes by, cannot make it forget too early, and
// after a restart every producer has its full time again.
func (s *State) Expire(now messages.Timestamp, idleMs int64) int {
	before := len(s.producers)
	maps.DeleteFunc(s.producers, func(_ messages.ProducerID, p *producer) bool {
		if p.idleSince == messages.NoTimestamp || p.idleSince > now {
			p.idleSince = now
		}
		return p.txnFirst == messages.NoOffset && int64(now-p.idleSince) >= idleMs
	})
	s.expireGuards(now, idleMs)
	return before - len(s.producers)
}

// Producers describes all producers, by id.
func (s *State) Producers() []Producer {
	all := make([]Producer, 0, len(s.producers))
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		p := s.producers[id]
		all = append(all, Producer{
			ID: id, Epoch: p.epoch, LastSequence: p.lastSequence(), LastTimestamp: p.lastTimestamp,
			CoordinatorEpoch: p.coordinatorEpoch, TxnFirst: p.txnFirst,
		})
	}
	return all
}

// producer returns the producer of that id, which may be new.
func (s *State) producer(id messages.ProducerID) *producer {
	p := s.producers[id]
	if p == nil {
		p = newProducer()
		s.producers[id] = p
	}
	return p
}

// sortOpen rebuilds the list of open transactions from the producers.
func (s *State) sortOpen() {
	s.open = s.open[:0]
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		if first := s.producers[id].txnFirst; first != messages.NoOffset {
			s.open = append(s.open, data.OpenTxn{Producer: id, First: first})
		}
	}
	slices.SortStableFunc(s.open, byFirst)
}

func byFirst(a, b data.OpenTxn) int { return cmp.Compare(a.First, b.First) }

// refused names the producer in an error.
func refused(h *record.Header, err error, format string, args ...any) error {
	return fmt.Errorf("producer %d, epoch %d: %s: %w", h.ProducerID, h.ProducerEpoch,
		fmt.Sprintf(format, args...), err)
}
