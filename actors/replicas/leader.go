// Package replicas decides what one replica of a partition does: as leader, how
// far its records are replicated and who may see them; and which appends it may
// take.
//
// It is pure: no clock, no I/O, no goroutine. The replica actor owns a Leader
// and tells it what happened; invariants are checked where a value changes.
package replicas

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
)

// Leader is the leading role of one partition under one leader epoch. It has
// one owner and is not safe for concurrent use.
//
// Invariant: logStart <= high watermark <= log end; the high watermark never falls.
type Leader struct {
	self     messages.NodeID
	epoch    messages.LeaderEpoch
	isr      []messages.NodeID // includes self
	replicas int               // how many the partition has
	min      int               // min.insync.replicas

	logStart messages.Offset
	hw       messages.Offset
	end      messages.Offset                     // of the own log
	others   map[messages.NodeID]messages.Offset // log ends of followers, as far as known
}

// NewLeader returns the leader of a partition from the state the controller
// decided, the own log's bounds, and the highest high watermark known so far.
func NewLeader(
	self messages.NodeID,
	p *messages.Partition,
	minISR int,
	logStart, hw, end messages.Offset,
) *Leader {
	invariant.That(p.Leader == self, "node %d is told to lead a partition of node %d", self, p.Leader)
	l := &Leader{
		self: self, epoch: p.LeaderEpoch, min: minISR, isr: slices.Clone(p.ISR),
		replicas: len(p.Replicas),
		logStart: logStart, hw: max(logStart, min(hw, end)), end: end,
		others: map[messages.NodeID]messages.Offset{},
	}
	l.advance()
	return l
}

// Epoch is the leader epoch every write is stamped with.
func (l *Leader) Epoch() messages.LeaderEpoch { return l.epoch }

// HighWatermark is the offset below which every in-sync replica has the records.
func (l *Leader) HighWatermark() messages.Offset { return l.hw }

// LogEnd is the offset the next record gets.
func (l *Leader) LogEnd() messages.Offset { return l.end }

// CheckAppend says whether a write with these acks may be taken at all. With
// acks=all it fails with messages.ErrNotEnoughReplicas when the in-sync set is
// smaller than min.insync.replicas: then nothing is appended.
func (l *Leader) CheckAppend(acks data.Acks) error {
	if acks == data.AcksAll && len(l.isr) < l.required() {
		return fmt.Errorf("%d in sync, %d required: %w",
			len(l.isr), l.required(), messages.ErrNotEnoughReplicas)
	}
	return nil
}

// Appended records that the own log now ends at end.
func (l *Leader) Appended(end messages.Offset) {
	invariant.That(end >= l.end, "log end falls from %d to %d on the leader", l.end, end)
	l.end = end
	l.advance()
}

// Fetched records that a follower has everything below its fetch offset.
func (l *Leader) Fetched(follower messages.NodeID, offset messages.Offset) {
	l.others[follower] = offset
	l.advance()
}

// SetMinISR takes over a changed min.insync.replicas.
func (l *Leader) SetMinISR(n int) {
	l.min = n
	l.advance()
}

// SetISR takes over an in-sync set the controller decided.
func (l *Leader) SetISR(isr []messages.NodeID) {
	l.isr = slices.Clone(isr)
	l.advance()
}

// SetLogStart raises the log start after retention or DeleteRecords.
func (l *Leader) SetLogStart(start messages.Offset) {
	invariant.That(start >= l.logStart && start <= l.hw,
		"log start %d is not in %d..%d", start, l.logStart, l.hw)
	l.logStart = start
}

// required is how many replicas must be in sync. As in Kafka a partition cannot
// be asked for more than it has.
func (l *Leader) required() int { return min(l.min, l.replicas) }

// advance raises the high watermark to what all in-sync replicas have. It does
// not move while fewer than min.insync.replicas are in sync (KIP-966).
func (l *Leader) advance() {
	if len(l.isr) < l.required() {
		return
	}
	lowest := l.end
	for _, n := range l.isr {
		if n == l.self {
			continue
		}
		at, known := l.others[n]
		if !known {
			return
		}
		lowest = min(lowest, at)
	}
	if lowest > l.hw {
		l.hw = lowest
	}
	invariant.That(l.logStart <= l.hw && l.hw <= l.end,
		"log start %d, high watermark %d, log end %d", l.logStart, l.hw, l.end)
}

// Fence compares the leader epoch a client believes in with ours (KIP-320).
// messages.NoEpoch passes.
func Fence(ours, theirs messages.LeaderEpoch) error {
	switch {
	case theirs == messages.NoEpoch || theirs == ours:
		return nil
	case theirs < ours:
		return fmt.Errorf("epoch %d, the leader has %d: %w", theirs, ours, messages.ErrFencedLeaderEpoch)
	}
	return fmt.Errorf("epoch %d, the leader has %d: %w", theirs, ours, messages.ErrUnknownLeaderEpoch)
}

// CheckFetchOffset says whether a reader may start at an offset.
func CheckFetchOffset(from, logStart, logEnd messages.Offset) error {
	if from < logStart || from > logEnd {
		return fmt.Errorf(
			"offset %d is not in %d..%d: %w",
			from,
			logStart,
			logEnd,
			messages.ErrOffsetOutOfRange,
		)
	}
	return nil
}

// Diverges reports whether a reader's log differs from ours before from, given
// the epoch of its last record and where that epoch ends with us (KIP-595).
func Diverges(from messages.Offset, last messages.LeaderEpoch, ours data.EpochEnd) bool {
	return last != messages.NoEpoch && (ours.Epoch != last || ours.End < from)
}
