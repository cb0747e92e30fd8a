package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// field is a cluster that is balanced until nothing moves any more.
type field struct {
	t             *testing.T
	nodes         []messages.Node
	parts         []Partition
	steps, copies int
}

// settle applies moves, a few at a time, and fails if they do not end.
func (f *field) settle(limit int) {
	f.t.Helper()
	bound := 10 + 8*len(f.parts)*(1+len(f.nodes))
	for f.steps = 0; ; f.steps++ {
		if f.steps > bound {
			f.t.Fatalf("still moving after %d steps: %+v", f.steps, f.parts)
		}
		moves := Balance(f.nodes, f.parts, limit, limit)
		if len(moves) == 0 {
			return
		}
		if len(moves) > 2*limit {
			f.t.Fatalf("%d moves at a limit of %d", len(moves), limit)
		}
		for _, m := range moves {
			if f.parts[m.Partition].Pinned {
				f.t.Fatalf("partition %d was not to be moved", m.Partition)
			}
			f.check(m)
			f.parts[m.Partition].Replicas = m.Replicas
		}
	}
}

// check checks that a move takes at most one copy, and only to a usable node.
func (f *field) check(m Move) {
	f.t.Helper()
	old := f.parts[m.Partition].Replicas
	fresh := 0
	for i, r := range m.Replicas {
		if slices.Contains(m.Replicas[:i], r) {
			f.t.Fatalf("partition %d is twice on node %d", m.Partition, r)
		}
		if !slices.Contains(old, r) {
			fresh++
			if n := f.node(r); n == nil || !n.Usable() {
				f.t.Fatalf("partition %d goes to node %d, which takes nothing", m.Partition, r)
			}
		}
	}
	if len(m.Replicas) != len(old) || fresh > 1 || (fresh == 1) != m.Copies {
		f.t.Fatalf("%v to %v with %d copies, Copies is %v", old, m.Replicas, fresh, m.Copies)
	}
	f.copies += fresh
}

func (f *field) node(id messages.NodeID) *messages.Node {
	i := slices.IndexFunc(f.nodes, func(n messages.Node) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &f.nodes[i]
}

// spread returns the differences between the most and the least replicas and
// preferred leaders of usable nodes.
func (f *field) spread() (replicas, leaders int) {
	b := newBalancer(f.nodes, f.parts)
	if len(b.usable) == 0 {
		return 0, 0
	}
	return slices.Max(b.replicas) - slices.Min(b.replicas),
		slices.Max(b.leaders) - slices.Min(b.leaders)
}

func (f *field) held(id messages.NodeID) (n int) {
	for _, p := range f.parts {
		if slices.Contains(p.Replicas, id) {
			n++
		}
	}
	return n
}

func (f *field) place(topics, partitions, factor int) {
	f.t.Helper()
	for topic := range topics {
		got, err := Assign(f.nodes, partitions, factor, len(f.parts))
		if err != nil {
			f.t.Fatal(err)
		}
		for _, replicas := range got {
			f.parts = append(f.parts, Partition{Topic: topic, Replicas: replicas})
		}
	}
}

func TestAJoiningNodeGetsItsShareAndNoMore(t *testing.T) {
	for _, limit := range []int{1, 5, 1000} {
		f := &field{t: t, nodes: nodes("", "", "")}
		f.place(10, 12, 3)
		f.nodes = append(f.nodes, messages.Node{ID: 4})
		f.settle(limit)
		if replicas, leaders := f.spread(); replicas > 1 || leaders > 1 {
			t.Errorf("replicas differ by %d, leaders by %d", replicas, leaders)
		}
		// 360 replicas on 4 nodes are 90 each.
		if f.held(4) != 90 || f.copies != 90 {
			t.Errorf("node 4 holds %d of 360 replicas after %d copies, want 90", f.held(4), f.copies)
		}
		for topic := range 10 {
			held := 0
			for _, p := range f.parts {
				if p.Topic == topic && slices.Contains(p.Replicas, 4) {
					held++
				}
			}
			if held < 8 || held > 10 {
				t.Errorf("node 4 holds %d replicas of topic %d, want about 9", held, topic)
			}
		}
	}
}

func TestDrainingEmptiesANodeAlsoADeadOne(t *testing.T) {
	for _, fenced := range []bool{false, true} {
		f := &field{t: t, nodes: nodes("", "", "", "")}
		f.place(3, 8, 3)
		f.nodes[1].Draining, f.nodes[1].Fenced = true, fenced
		before := f.held(2)
		f.settle(4)
		if f.held(2) != 0 || f.copies != before {
			t.Errorf("fenced %v: node 2 holds %d, %d copies for %d replicas",
				fenced, f.held(2), f.copies, before)
		}
		if replicas, leaders := f.spread(); replicas > 1 || leaders > 1 {
			t.Errorf("replicas differ by %d, leaders by %d", replicas, leaders)
		}
	}
}

func TestANodeThatCannotBeEmptiedIsNoPreferredLeader(t *testing.T) {
	f := &field{t: t, nodes: nodes("", "", "")}
	f.place(1, 9, 3)
	f.nodes[0].Draining = true
	f.settle(2)
	if f.copies != 0 {
		t.Errorf("%d copies where no node could take one", f.copies)
	}
	for i, p := range f.parts {
		if p.Replicas[0] == 1 {
			t.Errorf("partition %d still prefers the draining node", i)
		}
	}
}

func TestANodeThatIsAwayForAWhileKeepsWhatItHas(t *testing.T) {
	for _, away := range []func(*messages.Node){
		func(n *messages.Node) { n.Fenced = true },
		func(n *messages.Node) { n.Leaving = true },
	} {
		f := &field{t: t, nodes: nodes("a", "b", "c")}
		f.place(4, 6, 2)
		f.settle(100)
		f.copies = 0
		before := f.held(3)
		away(&f.nodes[2])
		f.settle(100)
		if f.copies > 1 || f.held(3) != before {
			t.Errorf("%d copies were made because a node was restarted", f.copies)
		}
	}
}

func TestBalancingEndsEvenInAnyCluster(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 3))
		f := &field{t: t}
		racks := 1 + rng.IntN(4)
		for id := range 2 + rng.IntN(7) {
			n := messages.Node{ID: messages.NodeID(id)}
			if racks > 1 {
				n.Rack = fmt.Sprintf("r%d", rng.IntN(racks))
			}
			n.Draining, n.Fenced = rng.IntN(6) == 0, rng.IntN(8) == 0
			f.nodes = append(f.nodes, n)
		}
		fixed := false
		for range 1 + rng.IntN(60) {
			factor := 1 + rng.IntN(min(4, len(f.nodes)))
			p := Partition{Topic: rng.IntN(4), Pinned: rng.IntN(40) == 0}
			for _, i := range rng.Perm(len(f.nodes))[:factor] {
				p.Replicas = append(p.Replicas, f.nodes[i].ID)
			}
			fixed = fixed || p.Pinned
			f.parts = append(f.parts, p)
		}
		before := slices.Clone(f.parts)
		f.settle(1 + rng.IntN(5))
		for i, p := range f.parts {
			f.checkSettled(seed, before[i], p)
		}
		replicas, leaders := f.spread()
		if racks == 1 && !fixed && (replicas > 1 || leaders > 1 && !f.leaderBound()) {
			t.Errorf("seed %d: replicas differ by %d, leaders by %d", seed, replicas, leaders)
		}
	}
}

// checkSettled checks one partition at the end: on no draining node if another
// could take it, and on no fewer racks than before or than can be.
func (f *field) checkSettled(seed uint64, before, p Partition) {
	f.t.Helper()
	if p.Pinned {
		return
	}
	b := newBalancer(f.nodes, []Partition{before, p})
	for pos, r := range p.Replicas {
		if f.node(r).Draining && b.better(1, pos, 0) >= 0 {
			f.t.Errorf("seed %d: %v is still on draining node %d", seed, p.Replicas, r)
		}
		if b.index(r) >= 0 && b.better(1, pos, b.racksWith(1, -1, 0)+1) >= 0 &&
			b.racksWith(1, -1, 0) < min(len(p.Replicas), b.racks) {
			f.t.Errorf("seed %d: %v could be on more racks", seed, p.Replicas)
		}
	}
}

// leaderBound reports whether single replicas decide who leads, so that leaders
// are as even as replicas and reordering cannot help.
func (f *field) leaderBound() bool {
	b := newBalancer(f.nodes, f.parts)
	return b.path(b.leaders, len(f.parts), b.leaderHop) == nil
}

func TestSameInputGivesTheSameMoves(t *testing.T) {
	f := &field{t: t, nodes: nodes("a", "b", "a", "b")}
	f.place(3, 7, 3)
	f.nodes = append(f.nodes, messages.Node{ID: 5, Rack: "b"})
	first := Balance(f.nodes, f.parts, 9, 9)
	for range 20 {
		if again := Balance(f.nodes, f.parts, 9, 9); !reflect.DeepEqual(again, first) {
			t.Fatalf("%v and %v", again, first)
		}
	}
}

func BenchmarkBalanceANodeThatJoins(b *testing.B) {
	members := nodes("", "", "", "", "", "")
	got, err := Assign(members[:5], 10_000, 3, 0)
	if err != nil {
		b.Fatal(err)
	}
	var parts []Partition
	for i, replicas := range got {
		parts = append(parts, Partition{Topic: i / 10, Replicas: replicas})
	}
	for b.Loop() {
		Balance(members, parts, 20, 20)
	}
}
