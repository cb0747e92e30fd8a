package replicas

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// Nodes tells which nodes may be in an in-sync set, and under which epoch they
// are registered. *messages.Image knows.
type Nodes interface {
	Node(messages.NodeID) *messages.Node
}

// Fetched records that a follower has everything below offset, its log end, and
// asks for more. It fails with messages.ErrIneligibleReplica when the partition
// has no replica on that node.
//
// docs/flows/replication.md: 8.
func (l *Leader) Fetched(
	follower messages.NodeID, epoch messages.NodeEpoch, offset messages.Offset, now time.Time,
) error {
	f := l.followers[follower]
	if f == nil {
		return fmt.Errorf("node %d has no replica of the partition: %w",
			follower, messages.ErrIneligibleReplica)
	}
	invariant.That(offset <= l.end, "node %d fetches at %d, the log ends at %d",
		follower, offset, l.end)
	switch {
	case offset >= l.end:
		f.caughtUp = now
	case offset < l.hw && l.inSync(follower):
		// It was in sync and lacks what was acknowledged: it lost its disk and
		// nobody told. It must leave the set before it can be elected.
		f.caughtUp = time.Time{}
	case f.end != messages.NoOffset && offset >= f.fetchedEnd && f.fetched.After(f.caughtUp):
		f.caughtUp = f.fetched
	}
	f.epoch, f.end = epoch, offset
	f.fetched, f.fetchedEnd = now, l.end
	l.advance()
	return nil
}

// Park records that a follower's fetch waits here for records: as long as it
// does, the follower lacks nothing.
func (l *Leader) Park(follower messages.NodeID) {
	if f := l.followers[follower]; f != nil {
		f.parked = true
	}
}

// Unpark records that a parked fetch was answered, or that its connection broke.
func (l *Leader) Unpark(follower messages.NodeID, now time.Time) {
	if f := l.followers[follower]; f != nil && f.parked {
		f.parked = false
		if f.end == l.end {
			f.caughtUp = now
		}
	}
}

// Behind reports whether a follower that counts as in sync lacks records: then
// Propose must be asked again later, even if nothing else happens.
func (l *Leader) Behind() bool {
	for n, f := range l.followers { // any order: it asks whether there is one
		if f.end < l.end && l.inSync(n) {
			return true
		}
	}
	return false
}

// Propose returns another in-sync set that the leader should ask the controller
// for, or nil. Until Answered or SetPartition it returns nil, and both the old
// and the proposed set hold back the high watermark.
//
// Who did not have everything at any moment of the last lag leaves the set. Who
// has everything that was acknowledged joins it, if it fetches under its node's
// latest registration (KIP-903).
//
// docs/flows/replication.md: set 1.
func (l *Leader) Propose(lag time.Duration, nodes Nodes, now time.Time) *messages.AlterPartition {
	if l.pending != nil {
		return nil
	}
	changed := func(n messages.NodeID) bool {
		had := slices.Contains(l.part.ISR, n)
		stays, _ := l.belongs(n, had, lag, nodes, now)
		return stays != had
	}
	if !slices.ContainsFunc(l.part.Replicas, changed) {
		return nil // nearly always, and this is asked at each fetch
	}
	var isr []messages.ISRMember
	for _, n := range l.part.Replicas {
		stays, epoch := l.belongs(n, slices.Contains(l.part.ISR, n), lag, nodes, now)
		if stays {
			isr = append(isr, messages.ISRMember{Node: n, Epoch: epoch})
		}
	}
	l.pending = &messages.AlterPartition{
		LeaderEpoch: l.part.LeaderEpoch, PartitionEpoch: l.part.PartitionEpoch, ISR: isr,
	}
	l.advance()
	return l.pending
}

// belongs says whether n should be in sync, and under which epoch it is.
func (l *Leader) belongs(
	n messages.NodeID, had bool, lag time.Duration, nodes Nodes, now time.Time,
) (bool, messages.NodeEpoch) {
	node := nodes.Node(n)
	epoch := messages.NoNodeEpoch
	if node != nil {
		epoch = node.Epoch
	}
	if n == l.self {
		return true, epoch
	}
	f := l.followers[n]
	if had {
		return f.end >= l.end || now.Sub(f.caughtUp) <= lag, epoch
	}
	return node != nil && node.MayLead() && f.epoch == node.Epoch &&
		f.end >= l.hw && f.end >= l.begun, epoch
}

// Answered ends a proposal that the controller refused for good, so that nothing
// of it can have happened. If its outcome is unknown the proposal stays, and the
// caller sends it again: Pending returns it.
func (l *Leader) Answered() {
	l.pending = nil
	l.advance()
}

// Pending returns the proposal under way, or nil.
func (l *Leader) Pending() *messages.AlterPartition { return l.pending }
