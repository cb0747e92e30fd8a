package consumer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func topicsOf(partitions ...int) []*messages.Topic {
	var topics []*messages.Topic
	for i, n := range partitions {
		topics = append(topics, &messages.Topic{
			Name: fmt.Sprintf("t%02d", i), ID: idOf(fmt.Sprintf("t%02d", i), 0),
			Partitions: make([]messages.Partition, n),
		})
	}
	return topics
}

func claimsOf(members int, topics []*messages.Topic) []claim {
	claims := make([]claim, members)
	for i := range claims {
		claims[i] = claim{id: fmt.Sprintf("m%04d", i), topics: topics}
	}
	return claims
}

// again gives each claim what it got, for the next round.
func again(claims []claim, sets []set) {
	for i := range claims {
		claims[i].had = sets[i]
	}
}

func moved(claims []claim, sets []set) int {
	n := 0
	for i, c := range claims {
		_, gone := split(c.had, sets[i])
		n += size(gone)
	}
	return n
}

// complete checks that each partition is with one member that reads its topic.
func complete(t *testing.T, claims []claim, sets []set) {
	t.Helper()
	left := map[messages.PartitionID]bool{}
	for _, c := range claims {
		for _, topic := range c.topics {
			for n := range topic.Partitions {
				left[messages.PartitionID{Topic: topic.ID, Partition: int32(n)}] = true
			}
		}
	}
	for i, s := range sets {
		if !equal(s, normal(s)) {
			t.Fatalf("%v is not a set", s)
		}
		for _, tp := range s {
			reads := subscription{topics: claims[i].topics}
			for _, n := range tp.Partitions {
				p := messages.PartitionID{Topic: tp.Topic, Partition: n}
				if !left[p] || !reads.reads(tp.Topic) {
					t.Fatalf("%v is with %s, and should not be", p, claims[i].id)
				}
				delete(left, p)
			}
		}
	}
	if len(left) > 0 {
		t.Fatalf("%v are with nobody", left)
	}
}

func TestUniformBalancesMembersThatReadTheSameAndMovesNoMoreThanItMust(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		partitions := make([]int, 1+rng.IntN(4))
		for i := range partitions {
			partitions[i] = 1 + rng.IntN(9)
		}
		topics := topicsOf(partitions...)
		claims := claimsOf(1+rng.IntN(8), topics)
		sets := assignBy(Uniform, claims)
		for range 6 {
			complete(t, claims, sets)
			least, most := size(sets[0]), size(sets[0])
			for _, s := range sets {
				least, most = min(least, size(s)), max(most, size(s))
			}
			if most-least > 1 {
				t.Fatalf("loads from %d to %d", least, most)
			}
			again(claims, sets)
			switch rng.IntN(3) {
			case 0: // one more
				claims = append(claims, claim{id: fmt.Sprintf("n%04d", len(claims)), topics: topics})
			case 1: // one fewer
				if len(claims) > 1 {
					claims = slices.Delete(claims, 0, 1)
				}
			case 2: // one topic grows
				grown := topicsOf(partitions...)
				grown[0].Partitions = append(grown[0].Partitions, make([]messages.Partition, 3)...)
				topics = grown
				for i := range claims {
					claims[i].topics = topics
				}
			}
			sets = assignBy(Uniform, claims)
			if got, want := moved(claims, sets), fewestMoves(claims, topics); got != want {
				t.Fatalf("%d partitions moved, %d need to", got, want)
			}
			again(claims, sets)
			if n := moved(claims, assignBy(Uniform, claims)); n > 0 {
				t.Fatalf("%d partitions moved without a reason", n)
			}
		}
	}
}

// fewestMoves counts what members hold beyond their part, when those who hold
// most get the larger parts.
func fewestMoves(claims []claim, topics []*messages.Topic) int {
	total := 0
	exists := map[messages.TopicID]int{}
	for _, topic := range topics {
		total += len(topic.Partitions)
		exists[topic.ID] = len(topic.Partitions)
	}
	var had []int
	gone := 0
	for _, c := range claims {
		n := 0
		for _, tp := range c.had {
			for _, p := range tp.Partitions {
				if int(p) < exists[tp.Topic] {
					n++
				} else {
					gone++
				}
			}
		}
		had = append(had, n)
	}
	slices.Sort(had)
	slices.Reverse(had)
	least, extra := total/len(claims), total%len(claims)
	for i, n := range had {
		part := least
		if i < extra {
			part++
		}
		gone += max(0, n-part)
	}
	return gone
}

func TestUniformSpreadsEachTopicOverTheMembers(t *testing.T) {
	topics := topicsOf(8, 8)
	claims := claimsOf(2, topics)
	sets := assignBy(Uniform, claims)
	again(claims, sets)
	claims = append(claims, claim{id: "m3", topics: topics}, claim{id: "m4", topics: topics})
	sets = assignBy(Uniform, claims)
	for i, s := range sets {
		for _, topic := range topics {
			if n := len(of(s, topic.ID)); n != 2 {
				t.Errorf("member %d has %d partitions of %s, want 2", i, n, topic.Name)
			}
		}
	}
}

func TestUniformBalancesMembersThatReadDifferentTopics(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		partitions := make([]int, 1+rng.IntN(5))
		for i := range partitions {
			partitions[i] = 1 + rng.IntN(9)
		}
		topics := topicsOf(partitions...)
		claims := claimsOf(2+rng.IntN(7), nil)
		for range 5 {
			for i := range claims {
				if len(claims[i].topics) == 0 || rng.IntN(4) == 0 {
					claims[i].topics = nil
					for _, topic := range topics {
						if rng.IntN(2) == 0 {
							claims[i].topics = append(claims[i].topics, topic)
						}
					}
				}
			}
			sets := assignBy(Uniform, claims)
			complete(t, claims, sets)
			for i, s := range sets {
				for _, tp := range s {
					for j, other := range claims {
						reads := subscription{topics: other.topics}
						if reads.reads(tp.Topic) && size(s)-size(sets[j]) > 1 {
							t.Fatalf("%s has %d, %s has %d and could have one of them",
								claims[i].id, size(s), other.id, size(sets[j]))
						}
					}
				}
			}
			again(claims, sets)
			if n := moved(claims, assignBy(Uniform, claims)); n > 0 {
				t.Fatalf("%d partitions moved without a reason", n)
			}
		}
	}
}

func TestRangeGivesNeighboursAndDividesTopicsAlike(t *testing.T) {
	w := newWorld(t, "a:5", "b:5", "c:1")
	a, b, c := w.image.Topic("a"), w.image.Topic("b"), w.image.Topic("c")
	for name, tt := range map[string]struct {
		claims []claim
		want   []string
	}{
		"all read the same": {
			[]claim{
				{id: "m1", topics: []*messages.Topic{a, b, c}},
				{id: "m2", topics: []*messages.Topic{a, b, c}},
			},
			[]string{"a:0,1,2 b:0,1,2 c:0", "a:3,4 b:3,4"},
		},
		"static members go first, by instance": {
			[]claim{
				{id: "m1", topics: []*messages.Topic{a}},
				{id: "m2", instance: "i2", topics: []*messages.Topic{a}},
				{id: "m3", instance: "i1", topics: []*messages.Topic{a}},
			},
			[]string{"a:4", "a:2,3", "a:0,1"},
		},
		"members read different topics": {
			[]claim{
				{id: "m1", topics: []*messages.Topic{a}},
				{id: "m2", topics: []*messages.Topic{a, b}},
				{id: "m3", topics: []*messages.Topic{b, c}},
				{id: "m4", topics: []*messages.Topic{c}},
				{id: "m5"},
			},
			[]string{"a:0,1,2", "a:3,4 b:0,1,2", "b:3,4 c:0", "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sets := assignBy(Range, tt.claims)
			complete(t, tt.claims, sets)
			for i, s := range sets {
				if got := w.show(s); got != tt.want[i] {
					t.Errorf("%s has %s, want %s", tt.claims[i].id, got, tt.want[i])
				}
			}
		})
	}
}

func TestNobodyToAssignTo(t *testing.T) {
	for _, assignor := range []string{Uniform, Range} {
		if sets := assignBy(assignor, nil); len(sets) > 0 {
			t.Error(sets)
		}
		if sets := assignBy(assignor, claimsOf(2, nil)); len(sets) != 2 || size(sets[0]) > 0 {
			t.Error(sets)
		}
	}
}

// BenchmarkJoin lets 100 members join a group that reads 1,000 partitions, one
// after the other. Each join is one rebalance and one write.
func BenchmarkJoin(b *testing.B) {
	for _, assignor := range []string{Uniform, Range} {
		b.Run(assignor, func(b *testing.B) {
			written := 0
			for b.Loop() {
				w := newWorld(b, "a:1000")
				w.cfg.Assignors = []string{assignor}
				for i := range 100 {
					w.beat(join(fmt.Sprintf("m%04d", i), "a"))
					for _, r := range w.written {
						written += len(r.Key) + len(r.Value)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "us/join")
			b.ReportMetric(float64(written)/float64(b.N)/100, "B/join")
		})
	}
}

// BenchmarkRebalance is the last of 100 members to come, over and over.
func BenchmarkRebalance(b *testing.B) {
	mixed := topicsOf(slices.Repeat([]int{10}, 100)...)
	for name, claims := range map[string][]claim{
		"one topic":        claimsOf(100, topicsOf(1000)),
		"100 topics":       claimsOf(100, mixed),
		"different topics": claimsOf(100, mixed),
	} {
		if name == "different topics" {
			for i := range claims {
				claims[i].topics = slices.Delete(slices.Clone(mixed), i, i+1)
			}
		}
		again(claims, append(assignBy(Uniform, claims[:99]), nil))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				assignBy(Uniform, claims)
			}
		})
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	w := newWorld(b, "a:1000")
	w.beat(join("m1", "a"))
	r := plain("m1", 1)
	r.Reply = func(group.ConsumerHeartbeated) {}
	b.ReportAllocs()
	for b.Loop() {
		w.g.Heartbeat(w.now, &r)
	}
}

// size is how many partitions there are in a set.
func size(s set) int {
	n := 0
	for _, t := range s {
		n += len(t.Partitions)
	}
	return n
}
