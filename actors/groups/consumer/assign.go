package consumer

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// claim is one member as an assignor sees it.
type claim struct {
	id       string
	instance string
	topics   []*messages.Topic // it reads these: by id, each with a partition
	had      set               // its target before
}

// assignBy computes the target assignment: a set for each claim, in the order of
// the claims, which are by id. Each partition of a topic that somebody reads is in
// one set. The same claims lead to the same sets.
func assignBy(assignor string, claims []claim) []set {
	if assignor == Range {
		return ranged(claims)
	}
	return uniform(claims)
}

// ranged gives each member neighbouring partitions of each topic it reads, so
// that topics with as many partitions are divided alike: Kafka's RangeAssignor.
// Static members go first, by instance id, so that a restart moves nothing.
func ranged(claims []claim) []set {
	readers := map[messages.TopicID]int{}
	order := make([]int, len(claims))
	for i, c := range claims {
		order[i] = i
		for _, t := range c.topics {
			readers[t.ID]++
		}
	}
	slices.SortFunc(order, func(a, b int) int { return byInstance(&claims[a], &claims[b]) })
	served := map[messages.TopicID]int{} // members that had their part
	sets := make([]set, len(claims))
	for _, i := range order {
		for _, t := range claims[i].topics {
			n, all, k := len(t.Partitions), readers[t.ID], served[t.ID]
			served[t.ID]++
			quota, extra := n/all, n%all
			first := k*quota + min(k, extra)
			if k < extra {
				quota++
			}
			if quota == 0 {
				continue
			}
			part := make([]int32, quota)
			for j := range part {
				part[j] = int32(first + j)
			}
			sets[i] = append(sets[i], group.TopicPartitions{Topic: t.ID, Partitions: part})
		}
	}
	return sets
}

func byInstance(a, b *claim) int {
	if (a.instance == "") != (b.instance == "") {
		return strings.Compare(b.instance, a.instance) // the one that has one is first
	}
	return cmp.Or(strings.Compare(a.instance, b.instance), strings.Compare(a.id, b.id))
}

// board is an assignment in the making: partitions are numbered through, topic
// by topic.
type board struct {
	topics []*messages.Topic
	base   []int                    // number of the first partition of each topic
	place  map[messages.TopicID]int // in topics
	holder []int32                  // member of each partition; nobody: -1
	load   []int                    // partitions of each member
}

const nobody int32 = -1

// newBoard lays out all topics that somebody reads and gives each member what it
// had and may still have.
func newBoard(claims []claim) *board {
	b := &board{place: map[messages.TopicID]int{}, load: make([]int, len(claims))}
	for _, c := range claims {
		for _, t := range c.topics {
			if _, ok := b.place[t.ID]; !ok {
				b.place[t.ID] = 0
				b.topics = append(b.topics, t)
			}
		}
	}
	slices.SortFunc(b.topics, func(a, b *messages.Topic) int { return compareIDs(a.ID, b.ID) })
	total := 0
	for i, t := range b.topics {
		b.place[t.ID] = i
		b.base = append(b.base, total)
		total += len(t.Partitions)
	}
	b.holder = slices.Repeat([]int32{nobody}, total)
	for i, c := range claims {
		reads := subscription{topics: c.topics}
		for _, t := range c.had {
			if !reads.reads(t.Topic) {
				continue
			}
			k := b.place[t.Topic]
			for _, n := range t.Partitions {
				if int(n) < len(b.topics[k].Partitions) {
					b.give(b.base[k]+int(n), int32(i))
				}
			}
		}
	}
	return b
}

// give makes the member the holder of what nobody holds.
func (b *board) give(partition int, member int32) {
	if b.holder[partition] == nobody {
		b.holder[partition] = member
		b.load[member]++
	}
}

func (b *board) take(partition int) {
	b.load[b.holder[partition]]--
	b.holder[partition] = nobody
}

// sets reads the assignment off the board.
func (b *board) sets() []set {
	sets := make([]set, len(b.load))
	for i, t := range b.topics {
		for n := range t.Partitions {
			m := b.holder[b.base[i]+n]
			if m == nobody {
				continue
			}
			s := sets[m]
			if len(s) == 0 || s[len(s)-1].Topic != t.ID {
				s = append(s, group.TopicPartitions{Topic: t.ID})
			}
			last := &s[len(s)-1]
			last.Partitions = append(last.Partitions, int32(n))
			sets[m] = s
		}
	}
	return sets
}

// uniform gives all members as many partitions as it can, and moves as few as
// possible for that: Kafka's UniformAssignor.
//
// If all members read the same topics, their loads differ by one at most, no
// smaller number of moves would do, and the time is linear in partitions plus
// members. Else no move of one partition would make two loads more alike, and the
// time is up to partitions times members.
func uniform(claims []claim) []set {
	b := newBoard(claims)
	if alike(claims) {
		b.level()
	} else {
		b.levelMixed(claims)
	}
	return b.sets()
}

func alike(claims []claim) bool {
	for i := 1; i < len(claims); i++ {
		a, c := claims[0].topics, claims[i].topics
		if len(a) != len(c) || len(a) > 0 && &a[0] != &c[0] && !slices.Equal(a, c) {
			return false
		}
	}
	return true
}

// level takes from members that have more than their part, and hands what is free
// to the others in turn, so that each gets something of each topic.
func (b *board) level() {
	if len(b.holder) == 0 {
		return
	}
	quota := b.quotas()
	// Of what a member has too much, every so many is taken: a member that keeps
	// a third keeps a third of each topic.
	seen, had := make([]int, len(b.load)), slices.Clone(b.load)
	for i, m := range b.holder {
		if m == nobody || had[m] <= quota[m] {
			continue
		}
		k := seen[m]
		seen[m]++
		if (k+1)*quota[m]/had[m] == k*quota[m]/had[m] {
			b.take(i)
		}
	}
	var open []int32
	for m := range b.load {
		if b.load[m] < quota[m] {
			open = append(open, int32(m))
		}
	}
	turn := 0
	for i, m := range b.holder {
		if m != nobody {
			continue
		}
		turn %= len(open)
		m = open[turn]
		b.give(i, m)
		if b.load[m] < quota[m] {
			turn++
		} else {
			open = slices.Delete(open, turn, turn+1)
		}
	}
}

// quotas divides the partitions: what is left over goes to members that would
// lose one otherwise, then to the first.
func (b *board) quotas() []int {
	least, extra := len(b.holder)/len(b.load), len(b.holder)%len(b.load)
	quota := slices.Repeat([]int{least}, len(b.load))
	for _, losers := range []bool{true, false} {
		for m := range quota {
			if extra > 0 && quota[m] == least && (b.load[m] > least) == losers {
				quota[m]++
				extra--
			}
		}
	}
	return quota
}

// byLoad is a heap of members, the one with the least load first.
type byLoad struct {
	members []int32
	load    []int
}

func (h *byLoad) Len() int { return len(h.members) }

func (h *byLoad) Less(i, j int) bool {
	a, b := h.members[i], h.members[j]
	return cmp.Or(cmp.Compare(h.load[a], h.load[b]), cmp.Compare(a, b)) < 0
}

func (h *byLoad) Swap(i, j int) { h.members[i], h.members[j] = h.members[j], h.members[i] }

// Push is part of heap.Interface and never called: members only sink.
func (h *byLoad) Push(any) {}

// Pop is part of heap.Interface and never called.
func (h *byLoad) Pop() any { return nil }

// passesMax bounds how often all topics are gone through. Each move makes two
// loads more alike, so it ends anyway; so often nobody has seen it need.
const passesMax = 64

// levelMixed is level for members that read different topics.
func (b *board) levelMixed(claims []claim) {
	readers := make([][]int32, len(b.topics))
	for m, c := range claims {
		for _, t := range c.topics {
			k := b.place[t.ID]
			readers[k] = append(readers[k], int32(m))
		}
	}
	// Topics with few readers first: they have the least choice.
	order := make([]int, len(b.topics))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Compare(len(readers[x]), len(readers[y]))
	})
	for _, k := range order {
		h := &byLoad{members: slices.Clone(readers[k]), load: b.load}
		heap.Init(h)
		for n := range b.topics[k].Partitions {
			if i := b.base[k] + n; b.holder[i] == nobody {
				b.give(i, h.members[0])
				heap.Fix(h, 0)
			}
		}
	}
	for range passesMax {
		moved := false
		for _, k := range order {
			moved = b.levelTopic(k, readers[k]) || moved
		}
		if !moved {
			return
		}
	}
}

// levelTopic moves partitions of one topic among its readers, while there is one
// that has two more than another.
func (b *board) levelTopic(topic int, readers []int32) (moved bool) {
	held := map[int32][]int{} // partitions of the topic by member
	for n := range b.topics[topic].Partitions {
		i := b.base[topic] + n
		held[b.holder[i]] = append(held[b.holder[i]], i)
	}
	for {
		most, least := nobody, readers[0]
		for _, m := range readers {
			if len(held[m]) > 0 && (most == nobody || b.load[m] > b.load[most]) {
				most = m
			}
			if b.load[m] < b.load[least] {
				least = m
			}
		}
		if most == nobody || b.load[most]-b.load[least] < 2 {
			return moved
		}
		last := len(held[most]) - 1
		i := held[most][last]
		held[most] = held[most][:last]
		b.take(i)
		b.give(i, least)
		held[least] = append(held[least], i)
		moved = true
	}
}
