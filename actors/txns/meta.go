package txns

import (
	"cmp"
	"math"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/txn"
)

const (
	noEpoch  messages.ProducerEpoch = -1
	maxEpoch messages.ProducerEpoch = math.MaxInt16
	// lastEpoch is the last one that a producer is given. The one after it is
	// kept for a fence: there is always one more epoch to end a transaction with.
	lastEpoch = maxEpoch - 1
)

// meta is the state of a transactional id, as its record has it. A meta never
// changes once it is made: the methods that lead to another state return a new
// one.
//
// Invariant: for one producer id the epoch never falls.
type meta struct {
	producer messages.ProducerID
	epoch    messages.ProducerEpoch
	// previous is the producer id before, if this very state has changed it: the
	// answer that told of the new one may be lost (KIP-360, 890).
	previous messages.ProducerID
	// next is, in a Prepare state, the producer id to go on with, because the
	// epochs of this one are used up.
	next messages.ProducerID
	// last is the epoch before, if the producer that had it may ask once more
	// for the answer that told of the new one. It is not in the record.
	last       messages.ProducerEpoch
	timeoutMs  int32
	state      txn.State
	partitions []messages.TopicPartition // of the transaction: sorted, each one once
	startedMs  messages.Timestamp
	updatedMs  messages.Timestamp
	// v2: the transaction was ended with another epoch (transaction.version 2).
	v2 bool
}

// newMeta is the state of an id that comes into use.
func newMeta(id messages.ProducerID, timeoutMs int32, now messages.Timestamp) *meta {
	return &meta{
		producer: id, epoch: 0, timeoutMs: timeoutMs, state: txn.Empty,
		previous: messages.NoProducerID, next: messages.NoProducerID, last: noEpoch,
		startedMs: messages.NoTimestamp, updatedMs: now,
	}
}

// prepared reports that the outcome stands and markers are being written.
func (m *meta) prepared() bool {
	return m.state == txn.PrepareCommit || m.state == txn.PrepareAbort
}

// completed reports that the last transaction is over, and the id still as it
// was left.
func (m *meta) completed() bool {
	return m.state == txn.CompleteCommit || m.state == txn.CompleteAbort
}

// exhausted reports that a producer cannot be given another epoch of this id.
func (m *meta) exhausted() bool { return m.epoch >= lastEpoch }

// successor is a copy to change, for the state that follows.
func (m *meta) successor(now messages.Timestamp) *meta {
	n := *m
	n.previous = messages.NoProducerID
	n.updatedMs = max(now, m.updatedMs) // the clock of another node may be behind
	return &n
}

// emptied is the state after an Init, but for producer id and epoch.
func (m *meta) emptied(timeoutMs int32, now messages.Timestamp) *meta {
	n := m.successor(now)
	n.state, n.timeoutMs, n.v2 = txn.Empty, timeoutMs, false
	n.partitions, n.startedMs = nil, messages.NoTimestamp
	return n
}

// rotated is the state after an Init that needs another producer id. last is the
// epoch that the producer named, or noEpoch.
func (m *meta) rotated(id messages.ProducerID, last messages.ProducerEpoch, timeoutMs int32,
	now messages.Timestamp) *meta {
	n := m.emptied(timeoutMs, now)
	n.producer, n.epoch, n.previous, n.last = id, 0, m.producer, last
	return n
}

// bumped is the state after an Init that needs another epoch.
func (m *meta) bumped(last messages.ProducerEpoch, timeoutMs int32, now messages.Timestamp) *meta {
	n := m.emptied(timeoutMs, now)
	n.epoch, n.last = m.epoch+1, last
	return n
}

// repeated is the state after an Init that is answered as the one before.
func (m *meta) repeated(timeoutMs int32, now messages.Timestamp) *meta {
	n := m.emptied(timeoutMs, now)
	n.previous = m.previous
	return n
}

// with is the state after partitions were added.
func (m *meta) with(partitions []messages.TopicPartition, now messages.Timestamp) *meta {
	n := m.successor(now)
	if m.state != txn.Ongoing {
		n.state, n.startedMs = txn.Ongoing, now
	}
	n.partitions = sortedSet(slices.Concat(m.partitions, partitions))
	return n
}

// contains reports whether p is in the transaction.
func (m *meta) contains(p messages.TopicPartition) bool {
	_, found := slices.BinarySearchFunc(m.partitions, p, comparePartitions)
	return found
}

// ended is the state after an End that was accepted. next is a fresh producer id
// if the producer is given another epoch and there is none left.
func (m *meta) ended(commit, v2 bool, next messages.ProducerID, now messages.Timestamp) *meta {
	n := m.successor(now)
	n.state, n.v2, n.next = txn.PrepareAbort, v2, next
	if commit {
		n.state = txn.PrepareCommit
	}
	if v2 {
		invariant.That(m.epoch < maxEpoch, "epoch %d has no successor", m.epoch)
		n.epoch, n.last = m.epoch+1, m.epoch
	}
	if m.state != txn.Ongoing {
		// There is nothing to abort, so no marker is awaited.
		n.startedMs, n.partitions = now, nil
		return n.complete(now)
	}
	return n
}

// fence is the state after the coordinator gave the transaction up. The epoch
// rises by two: a producer of V2 whose epoch is one below takes its transaction
// for ended by itself.
func (m *meta) fence(now messages.Timestamp) *meta {
	n := m.successor(now)
	n.state, n.v2, n.last = txn.PrepareAbort, true, noEpoch
	n.epoch = messages.ProducerEpoch(min(int(m.epoch)+2, int(maxEpoch)))
	return n
}

// complete is the state once every partition has its marker.
func (m *meta) complete(now messages.Timestamp) *meta {
	n := m.successor(now)
	n.state, n.partitions = txn.CompleteAbort, nil
	if m.state == txn.PrepareCommit {
		n.state = txn.CompleteCommit
	}
	if m.next != messages.NoProducerID {
		n.producer, n.epoch, n.previous = m.next, 0, m.producer
		n.next = messages.NoProducerID
	}
	return n
}

// current is the producer id and epoch that the rightful producer has: during
// the end of a transaction those it has been told for the next one.
func (m *meta) current() (messages.ProducerID, messages.ProducerEpoch) {
	if m.next != messages.NoProducerID {
		return m.next, 0
	}
	return m.producer, m.epoch
}

// owner fails unless the producer id and epoch are the current ones, and such as
// a producer is given.
func (m *meta) owner(id messages.ProducerID, epoch messages.ProducerEpoch) error {
	producer, current := m.current()
	switch {
	case id == producer && epoch == current && epoch <= lastEpoch:
		return nil
	case id == producer || id == m.producer:
		return txn.ErrProducerFenced
	default:
		return txn.ErrInvalidMapping
	}
}

// repeats reports whether an End of V2 from this producer may be the one that
// led here, sent again: it has the epoch before. After a fence there is none
// such: the epoch rose by two, or to the last one there is, which only a fence
// leaves behind.
func (m *meta) repeats(id messages.ProducerID, epoch messages.ProducerEpoch) bool {
	if !m.v2 || !m.prepared() && !m.completed() {
		return false
	}
	fenced := m.epoch == maxEpoch && m.next == messages.NoProducerID
	sameID := id == m.producer && epoch == m.epoch-1 && epoch >= 0 && !fenced
	overflow := m.previous != messages.NoProducerID && id == m.previous &&
		epoch == lastEpoch && m.epoch == 0
	return sameID || overflow
}

// assertLeadsTo stops a step that must not be; n is nil when the id is forgotten.
func (m *meta) assertLeadsTo(n *meta) {
	if m == nil || n == nil {
		idle := m == nil || m.state == txn.Empty || m.completed()
		invariant.That(idle, "a transaction in state %v is forgotten", m)
		return
	}
	allowed := map[txn.State][]txn.State{
		txn.Empty:          {txn.Empty, txn.Ongoing, txn.CompleteAbort},
		txn.Ongoing:        {txn.Ongoing, txn.PrepareCommit, txn.PrepareAbort},
		txn.PrepareCommit:  {txn.CompleteCommit},
		txn.PrepareAbort:   {txn.CompleteAbort},
		txn.CompleteCommit: {txn.Empty, txn.Ongoing, txn.CompleteAbort},
		txn.CompleteAbort:  {txn.Empty, txn.Ongoing, txn.CompleteAbort},
	}[m.state]
	invariant.That(slices.Contains(allowed, n.state), "state %v leads to %v", m.state, n.state)
	invariant.That(n.producer != m.producer || n.epoch >= m.epoch,
		"epoch of producer %d falls from %d to %d", m.producer, m.epoch, n.epoch)
	invariant.That(n.next == messages.NoProducerID || n.prepared(),
		"state %v has a next producer id", n.state)
}

func comparePartitions(a, b messages.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// sortedSet sorts partitions and drops the doubles, in place.
func sortedSet(partitions []messages.TopicPartition) []messages.TopicPartition {
	slices.SortFunc(partitions, comparePartitions)
	return slices.Compact(partitions)
}
