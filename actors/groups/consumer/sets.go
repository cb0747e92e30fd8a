package consumer

import (
	"bytes"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
)

// set is a set of partitions: topics ascending by id, none without a partition,
// the partitions of each ascending. A set is never changed once made, so members,
// answers and records share it.
type set = []group.TopicPartitions

func compareIDs(a, b messages.TopicID) int { return bytes.Compare(a[:], b[:]) }

func byTopic(t group.TopicPartitions, id messages.TopicID) int { return compareIDs(t.Topic, id) }

// normal makes a set of what a client or another broker listed in any order.
func normal(listed []group.TopicPartitions) set {
	s := make(set, 0, len(listed))
	sorted := slices.Clone(listed)
	slices.SortStableFunc(sorted, func(a, b group.TopicPartitions) int {
		return compareIDs(a.Topic, b.Topic)
	})
	for _, t := range sorted {
		if len(t.Partitions) == 0 {
			continue
		}
		if n := len(s); n > 0 && s[n-1].Topic == t.Topic {
			s[n-1].Partitions = slices.Concat(s[n-1].Partitions, t.Partitions)
			continue
		}
		s = append(s, group.TopicPartitions{Topic: t.Topic, Partitions: t.Partitions})
	}
	for i := range s {
		if !ascending(s[i].Partitions) {
			s[i].Partitions = slices.Compact(slices.Sorted(slices.Values(s[i].Partitions)))
		}
	}
	return s
}

func ascending(p []int32) bool {
	for i := 1; i < len(p); i++ {
		if p[i-1] >= p[i] {
			return false
		}
	}
	return true
}

func equal(a, b set) bool {
	if len(a) != len(b) || len(a) == 0 || &a[0] == &b[0] {
		return len(a) == len(b)
	}
	return slices.EqualFunc(a, b, func(a, b group.TopicPartitions) bool {
		return a.Topic == b.Topic && slices.Equal(a.Partitions, b.Partitions)
	})
}

// of returns the partitions of one topic.
func of(s set, topic messages.TopicID) []int32 {
	if i, ok := slices.BinarySearchFunc(s, topic, byTopic); ok {
		return s[i].Partitions
	}
	return nil
}

func has(s set, topic messages.TopicID, partition int32) bool {
	_, ok := slices.BinarySearch(of(s, topic), partition)
	return ok
}

// divide parts a set by what f says of each partition.
func divide(s set, f func(topic messages.TopicID, partition int32) bool) (yes, no set) {
	for _, t := range s {
		var y, n []int32
		for _, p := range t.Partitions {
			if f(t.Topic, p) {
				y = append(y, p)
			} else {
				n = append(n, p)
			}
		}
		if len(y) > 0 {
			yes = append(yes, group.TopicPartitions{Topic: t.Topic, Partitions: y})
		}
		if len(n) > 0 {
			no = append(no, group.TopicPartitions{Topic: t.Topic, Partitions: n})
		}
	}
	return yes, no
}

// split parts a into what is in b, too, and what is not, in linear time.
func split(a, b set) (in, out set) {
	if equal(a, b) {
		return a, nil
	}
	for _, t := range a {
		for len(b) > 0 && compareIDs(b[0].Topic, t.Topic) < 0 {
			b = b[1:]
		}
		var other, i, o []int32
		if len(b) > 0 && b[0].Topic == t.Topic {
			other = b[0].Partitions
		}
		for _, p := range t.Partitions {
			for len(other) > 0 && other[0] < p {
				other = other[1:]
			}
			if len(other) > 0 && other[0] == p {
				i = append(i, p)
			} else {
				o = append(o, p)
			}
		}
		if len(i) > 0 {
			in = append(in, group.TopicPartitions{Topic: t.Topic, Partitions: i})
		}
		if len(o) > 0 {
			out = append(out, group.TopicPartitions{Topic: t.Topic, Partitions: o})
		}
	}
	return in, out
}

// union returns what is in a or in b.
func union(a, b set) set {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	return normal(slices.Concat(a, b))
}

func overlap(a, b set) bool {
	in, _ := split(a, b)
	return len(in) > 0
}

func subset(a, b set) bool {
	_, out := split(a, b)
	return len(out) == 0
}

func appendPartitions(b []byte, s set) []byte {
	b = enc.AppendCount(b, len(s))
	for _, t := range s {
		b = append(b, t.Topic[:]...)
		b = enc.AppendCount(b, len(t.Partitions))
		for _, p := range t.Partitions {
			b = primitive.AppendInt32(b, p)
		}
		b = enc.AppendTags(b, 0)
	}
	return b
}

// maxPartition bounds what a record can make the table of owners grow to. A topic
// has far fewer partitions.
const maxPartition = 1 << 20

// readPartitions reads topics with their partitions, which may stand in any order.
func readPartitions(r *primitive.Reader) set {
	const least = 16 + 1 + 1 // id, length, tags
	n := r.Count(least)
	listed := make([]group.TopicPartitions, 0, n)
	for range n {
		var t group.TopicPartitions
		copy(t.Topic[:], r.Take(len(t.Topic)))
		for range r.Count(4) {
			p := r.Int32()
			if p < 0 || p > maxPartition {
				r.Fail("partition %d of topic %s", p, t.Topic)
			}
			t.Partitions = append(t.Partitions, p)
		}
		r.Tags(nil)
		listed = append(listed, t)
	}
	if r.Err() != nil || len(listed) == 0 {
		return nil
	}
	return normal(listed)
}
