package groups

import (
	"cmp"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// offsets are the committed offsets of a group and those that wait for the end of
// a transaction. They change in the order of the log alone, so a replay of the
// same records leads to the same offsets.
type offsets struct {
	committed map[messages.TopicPartition]committed
	// pending are of open transactions.
	pending map[messages.ProducerID]map[messages.TopicPartition]committed
	// unstable counts the transactions that have an offset of a partition pending.
	unstable map[messages.TopicPartition]int
	// applied counts records: it stands for their order in the log.
	applied uint64
}

// committed is an offset with the place of its record among those of the group.
type committed struct {
	group.Offset
	at uint64
}

func newOffsets() offsets {
	return offsets{
		committed: map[messages.TopicPartition]committed{},
		pending:   map[messages.ProducerID]map[messages.TopicPartition]committed{},
		unstable:  map[messages.TopicPartition]int{},
	}
}

func (s *offsets) len() int { return len(s.committed) }

func (s *offsets) empty() bool { return len(s.committed)+len(s.pending) == 0 }

// apply takes over offsets that are in the log, in a transaction of producer or,
// with NoProducerID, in none.
func (s *offsets) apply(producer messages.ProducerID, list []group.Offset) {
	for _, o := range list {
		s.applied++
		tp := messages.TopicPartition{Topic: o.Topic, Partition: o.Partition}
		if producer == messages.NoProducerID {
			s.committed[tp] = committed{Offset: o, at: s.applied}
			continue
		}
		txn := s.pending[producer]
		if txn == nil {
			txn = map[messages.TopicPartition]committed{}
			s.pending[producer] = txn
		}
		if _, again := txn[tp]; !again {
			s.unstable[tp]++
		}
		txn[tp] = committed{Offset: o, at: s.applied}
	}
}

// remove applies a tombstone that is in the log: it ends what is pending too.
func (s *offsets) remove(tp messages.TopicPartition) {
	s.applied++
	delete(s.committed, tp)
	if s.unstable[tp] == 0 {
		return
	}
	for _, producer := range s.producers() {
		txn := s.pending[producer]
		if _, has := txn[tp]; has {
			delete(txn, tp)
			s.settled(tp)
		}
		if len(txn) == 0 {
			delete(s.pending, producer)
		}
	}
	invariant.That(s.unstable[tp] == 0, "offset of %s stays pending", tp)
}

// end applies the marker of a transaction. Of a pending offset and a committed one
// the later in the log counts: the topic is compacted by key, so whatever is
// chosen has to be what is left after that.
func (s *offsets) end(producer messages.ProducerID, commit bool) {
	txn := s.pending[producer]
	delete(s.pending, producer)
	for tp, o := range txn { // any order: partitions do not touch each other
		s.settled(tp)
		if commit && o.at > s.committed[tp].at {
			s.committed[tp] = o
		}
	}
}

// settled takes note that one transaction less has an offset of tp pending.
func (s *offsets) settled(tp messages.TopicPartition) {
	s.unstable[tp]--
	if s.unstable[tp] == 0 {
		delete(s.unstable, tp)
	}
}

// isPending reports whether an open transaction has an offset of tp.
func (s *offsets) isPending(tp messages.TopicPartition) bool { return s.unstable[tp] > 0 }

// has reports whether there is a record for tp in the log.
func (s *offsets) has(tp messages.TopicPartition) bool {
	_, ok := s.committed[tp]
	return ok || s.isPending(tp)
}

// producers returns the producers with open transactions, ascending.
func (s *offsets) producers() []messages.ProducerID {
	return slices.Sorted(maps.Keys(s.pending))
}

// partitions returns the partitions with a committed offset, sorted.
func (s *offsets) partitions() []messages.TopicPartition {
	return slices.SortedFunc(maps.Keys(s.committed), byPartition)
}

// recorded returns all partitions that have a record in the log, sorted.
func (s *offsets) recorded() []messages.TopicPartition {
	all := slices.AppendSeq(s.partitions(), maps.Keys(s.unstable))
	slices.SortFunc(all, byPartition)
	return slices.Compact(all)
}

func byPartition(a, b messages.TopicPartition) int {
	if c := cmp.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return cmp.Compare(a.Partition, b.Partition)
}

// offsetTombstones are the records that forget offsets of group id.
func offsetTombstones(id string, tps []messages.TopicPartition) []coord.Record {
	records := make([]coord.Record, len(tps))
	for i, tp := range tps {
		records[i] = offsetTombstone(id, tp)
	}
	return records
}
