package topics

import (
	"fmt"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// step lets every reassignment in progress come to its end: all replicas on live
// nodes catch up, and leaders say so.
func (w *world) step(p *Plan) {
	im := w.state.Image()
	for _, t := range im.Topics() {
		for i := range t.Partitions {
			part := &t.Partitions[i]
			a := messages.AlterPartition{
				ID:          messages.PartitionID{Topic: t.ID, Partition: int32(i)},
				LeaderEpoch: part.LeaderEpoch, PartitionEpoch: part.PartitionEpoch,
			}
			for _, r := range part.Replicas {
				if n := im.Node(r); !n.Fenced && (!n.Leaving || r == part.Leader) {
					a.ISR = append(a.ISR, messages.ISRMember{Node: r, Epoch: n.Epoch})
				}
			}
			if part.Leader != messages.NoNode {
				p.AlterPartition(part.Leader, a)
			}
		}
	}
}

// balance goes on until nothing moves; no more than limit partitions may ever be
// reassigning.
func (w *world) balance(limit int) {
	w.t.Helper()
	w.repeat(limit, (*Plan).Balance)
}

func (w *world) repeat(limit int, step func(p *Plan, limit int) int) {
	w.t.Helper()
	for range 2000 {
		p := w.state.Plan()
		moved := step(p, limit)
		if moved == 0 {
			if !p.Empty() {
				w.t.Fatal("nothing was moved and the plan is not empty")
			}
			if w.state.Health().Reassigning == 0 {
				return
			}
		}
		w.adopt(p)
		if err := Check(w.state.Image()); err != nil {
			w.t.Fatal(err)
		}
		if n := w.state.Health().Reassigning; n > limit {
			w.t.Fatalf("%d partitions are being reassigned, at most %d may", n, limit)
		}
		p = w.state.Plan()
		w.step(p)
		w.adopt(p)
	}
	w.t.Fatalf("it does not come to an end: %+v", w.state.Health())
}

// shares counts replicas and leaders by node.
func (w *world) shares() (replicas, leaders map[messages.NodeID]int) {
	replicas, leaders = map[messages.NodeID]int{}, map[messages.NodeID]int{}
	for _, t := range w.state.Image().Topics() {
		for _, part := range t.Partitions {
			leaders[part.Leader]++
			for _, r := range part.Replicas {
				replicas[r]++
			}
		}
	}
	return replicas, leaders
}

func (w *world) topics(count int, partitions int32, factor int16) {
	w.t.Helper()
	p := w.state.Plan()
	for i := range count {
		w.ids++
		r := p.CreateTopic(plain(fmt.Sprint("t", i), partitions, factor), messages.TopicID{1, w.ids})
		if r.Err != nil {
			w.t.Fatal(r.Err)
		}
	}
	w.adopt(p)
}

func (w *world) node(id messages.NodeID, life string) {
	w.t.Helper()
	p := w.state.Plan()
	w.register(p, messages.Node{ID: id, Host: "h", Port: 9092, Incarnation: life})
	w.adopt(p)
}

func TestANodeThatJoinsHoldsAndLeadsItsShare(t *testing.T) {
	w := newWorld(t, 3)
	w.topics(4, 10, 3)
	w.node(4, "first")
	w.balance(5)
	replicas, leaders := w.shares()
	for id := messages.NodeID(1); id <= 4; id++ {
		if replicas[id] != 30 || leaders[id] != 10 {
			t.Errorf("node %d holds %d of 120 replicas and leads %d of 40", id, replicas[id], leaders[id])
		}
	}
	if h := w.state.Health(); h.NotPreferred+h.UnderReplicated+h.Leaderless > 0 {
		t.Errorf("%+v", h)
	}

	p := w.state.Plan()
	if err := p.SetDraining(4, true); err != nil {
		t.Fatal(err)
	}
	w.adopt(p)
	w.balance(5)
	replicas, leaders = w.shares()
	if replicas[4] != 0 || leaders[4] != 0 {
		t.Errorf("drained, it holds %d and leads %d", replicas[4], leaders[4])
	}
	p = w.state.Plan()
	p.Fence(4)
	if err := p.Unregister(4); err != nil {
		t.Error(err)
	}
}

// For those who place replicas and leaders themselves.
func TestDrainingMovesNothingElse(t *testing.T) {
	w := newWorld(t, 3)
	w.topics(1, 12, 2)
	w.node(4, "first") // it has nothing, and is owed nothing
	p := w.state.Plan()
	if err := p.SetDraining(3, true); err != nil {
		t.Fatal(err)
	}
	w.adopt(p)
	before := slices.Clone(w.state.Image().Topic("t0").Partitions)
	w.repeat(5, (*Plan).Drain)
	kept := 0
	for i, part := range w.state.Image().Topic("t0").Partitions {
		switch was := before[i]; {
		case slices.Contains(part.Replicas, 3) || part.Leader == 3:
			t.Errorf("partition %d is on node 3 still: %+v", i, part)
		case slices.Contains(was.Replicas, 3):
		case !slices.Equal(was.Replicas, part.Replicas) || was.Leader != part.Leader:
			t.Errorf("partition %d was moved from %v to %v", i, was.Replicas, part.Replicas)
		default:
			kept++
		}
	}
	if kept != 4 {
		t.Errorf("%d partitions were kept, want 4", kept)
	}
}

func TestLeadersReturnToARestartedNode(t *testing.T) {
	w := newWorld(t, 3)
	w.topics(1, 30, 3)
	p := w.state.Plan()
	p.Fence(2)
	w.adopt(p)
	if _, leaders := w.shares(); leaders[2] != 0 || leaders[messages.NoNode] != 0 {
		t.Fatalf("without node 2: %v", leaders)
	}
	if moved := w.state.Plan().Balance(5); moved != 0 {
		t.Errorf("%d partitions moved while a node was away", moved)
	}
	w.node(2, "second")
	p = w.state.Plan()
	w.step(p)
	w.adopt(p)
	p = w.state.Plan()
	if moved := p.Balance(4); moved != 4 {
		t.Errorf("%d leaders returned in one step, want 4", moved)
	}
	w.adopt(p)
	w.balance(4)
	if _, leaders := w.shares(); leaders[2] != 10 {
		t.Errorf("node 2 leads %d, want 10", leaders[2])
	}
}

func TestMovesDoNotWaitForOnesThatCannotGoOn(t *testing.T) {
	w := newWorld(t, 3)
	w.topics(1, 12, 2)
	w.node(4, "first")
	p := w.state.Plan()
	if moved := p.Balance(2); moved < 2 {
		t.Fatalf("%d moved", moved)
	}
	w.adopt(p)
	if moved := w.state.Plan().Balance(2); moved != 0 {
		t.Errorf("%d more moved while two were under way", moved)
	}
	p = w.state.Plan()
	p.Fence(4)
	w.adopt(p)
	w.node(5, "first")
	p = w.state.Plan()
	if p.Balance(2) == 0 {
		t.Error("a node that died holds all moves up")
	}
}

func TestAPartitionThatCatchesUpIsNotMoved(t *testing.T) {
	lagging := scene{draining: nodeIDs{1}, part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}
	if moved := lagging.state().Plan().Balance(5); moved != 0 {
		t.Error("the only in-sync replica is moved while another catches up")
	}
	dead := scene{draining: nodeIDs{2}, fenced: nodeIDs{2},
		part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}
	if moved := dead.state().Plan().Balance(5); moved != 1 {
		t.Error("a dead node is not drained")
	}
}

func BenchmarkFence(b *testing.B) {
	w := newWorld(&testing.T{}, 5)
	w.topics(200, 50, 3)
	for b.Loop() {
		p := w.state.Plan()
		p.Fence(3)
	}
}

func BenchmarkBalanceAtRest(b *testing.B) {
	w := newWorld(&testing.T{}, 5)
	w.topics(200, 50, 3)
	for b.Loop() {
		w.state.Plan().Balance(10)
	}
}
