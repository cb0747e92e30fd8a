// Package replicas decides what one replica of a partition does. As leader: how
// far its records are replicated, who may see them, who is in sync. As follower:
// what to ask its leader for, and what of its own log must go first.
//
// It is pure: no clock, no I/O, no goroutine. The replica actor owns a Leader or
// a Follower and tells it what happened; invariants are checked where a value
// changes. The rules are those of KIP-101, KIP-497, KIP-595, KIP-903 and KIP-966.
package replicas

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
)

// Bounds are where a replica's log stands when a role begins.
type Bounds struct {
	Start, HighWatermark, End messages.Offset
}

// Leader is the leading role of one partition under one leader epoch. It has
// one owner and is not safe for concurrent use.
//
// Invariant: logStart <= high watermark <= log end; the high watermark never falls.
type Leader struct {
	self  messages.NodeID
	part  messages.Partition // as the controller last decided
	min   int                // min.insync.replicas
	begun messages.Offset    // log end when the leadership began

	logStart  messages.Offset
	hw        messages.Offset
	end       messages.Offset // of the own log
	followers map[messages.NodeID]*progress
	// pending is a proposed in-sync set whose outcome is not known. The
	// controller may have accepted it, so its members count as in sync too.
	pending *messages.AlterPartition
}

// progress is what the leader knows of one follower.
type progress struct {
	epoch messages.NodeEpoch // under which it fetched last
	end   messages.Offset    // of its log; NoOffset: not heard of yet
	// caughtUp is the latest moment at which it had everything there was.
	caughtUp time.Time
	// fetched is when it fetched last, and fetchedEnd where the leader's log ended then.
	fetched    time.Time
	fetchedEnd messages.Offset
	parked     bool // its fetch waits here for records
}

func newProgress(now time.Time) *progress {
	return &progress{epoch: messages.NoNodeEpoch, end: messages.NoOffset, caughtUp: now}
}

// NewLeader returns the leader of a partition from the state the controller
// decided and the own log's bounds.
func NewLeader(
	self messages.NodeID, p *messages.Partition, minISR int, b Bounds, now time.Time,
) *Leader {
	invariant.That(p.Leader == self, "node %d is told to lead a partition of node %d", self, p.Leader)
	l := &Leader{
		self: self, part: *p, min: minISR, begun: b.End,
		logStart: b.Start, hw: max(b.Start, min(b.HighWatermark, b.End)), end: b.End,
		followers: map[messages.NodeID]*progress{},
	}
	for _, n := range p.Replicas {
		if n != self {
			l.followers[n] = newProgress(now)
		}
	}
	l.advance()
	return l
}

// Epoch is the leader epoch every write is stamped with.
func (l *Leader) Epoch() messages.LeaderEpoch { return l.part.LeaderEpoch }

// HighWatermark is the offset below which every in-sync replica has the records.
func (l *Leader) HighWatermark() messages.Offset { return l.hw }

// LogEnd is the offset the next record gets.
func (l *Leader) LogEnd() messages.Offset { return l.end }

// Settled reports whether the high watermark has reached what was in the log
// when this leadership began. Before that, an earlier leader may have shown more
// than this one does, so it cannot say yet where the partition ends (KIP-207).
func (l *Leader) Settled() bool { return l.hw >= l.begun }

// CheckAppend says whether a write with these acks may be taken at all. With
// acks=all it fails with messages.ErrNotEnoughReplicas when the in-sync set is
// smaller than min.insync.replicas: then nothing is appended.
//
// docs/flows/replication.md: 1.
func (l *Leader) CheckAppend(acks data.Acks) error {
	if acks == data.AcksAll && len(l.part.ISR) < l.required() {
		return fmt.Errorf("%d in sync, %d required: %w",
			len(l.part.ISR), l.required(), messages.ErrNotEnoughReplicas)
	}
	return nil
}

// Appended records that the own log ends at end now.
func (l *Leader) Appended(end messages.Offset, now time.Time) {
	invariant.That(end >= l.end, "log end falls from %d to %d on the leader", l.end, end)
	for _, f := range l.followers { // any order: each is changed alone
		if f.parked && f.end == l.end {
			f.caughtUp = now // until this moment it lacked nothing
		}
	}
	l.end = end
	l.advance()
}

// SetMinISR takes over a changed min.insync.replicas.
func (l *Leader) SetMinISR(n int) {
	l.min = n
	l.advance()
}

// SetPartition takes over a newer decision of the controller under the same
// leader epoch; one that is not newer changes nothing.
func (l *Leader) SetPartition(p *messages.Partition, now time.Time) {
	invariant.That(p.Leader == l.self && p.LeaderEpoch == l.part.LeaderEpoch,
		"node %d leads under epoch %d and is told of leader %d, epoch %d",
		l.self, l.part.LeaderEpoch, p.Leader, p.LeaderEpoch)
	if p.PartitionEpoch <= l.part.PartitionEpoch {
		return
	}
	l.part, l.pending = *p, nil
	for n := range l.followers { // any order: each is dropped alone
		if !slices.Contains(p.Replicas, n) {
			delete(l.followers, n)
		}
	}
	for _, n := range p.Replicas {
		if n != l.self && l.followers[n] == nil {
			l.followers[n] = newProgress(now)
		}
	}
	l.advance()
}

// SetLogStart raises the log start after retention or DeleteRecords.
func (l *Leader) SetLogStart(start messages.Offset) {
	invariant.That(start >= l.logStart && start <= l.hw,
		"log start %d is not in %d..%d", start, l.logStart, l.hw)
	l.logStart = start
}

// InSync reports whether n is in the in-sync set that the controller has.
func (l *Leader) InSync(n messages.NodeID) bool { return slices.Contains(l.part.ISR, n) }

// inSync reports whether n counts as in sync: in the controller's set, or in a
// proposed one that the controller may have accepted already.
func (l *Leader) inSync(n messages.NodeID) bool {
	if l.InSync(n) {
		return true
	}
	return l.pending != nil && slices.ContainsFunc(l.pending.ISR,
		func(m messages.ISRMember) bool { return m.Node == n })
}

// required is how many replicas must be in sync.
func (l *Leader) required() int { return l.part.LeastISR(l.min) }

// advance raises the high watermark to what all in-sync replicas have. It does
// not move while fewer than min.insync.replicas are in sync (KIP-966).
//
// docs/flows/replication.md: 9.
func (l *Leader) advance() {
	if len(l.part.ISR) < l.required() {
		return
	}
	lowest := l.end
	for n, f := range l.followers { // any order: a minimum
		if !l.inSync(n) {
			continue
		}
		if f.end == messages.NoOffset {
			return
		}
		lowest = min(lowest, f.end)
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
