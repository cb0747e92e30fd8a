package sim

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// loaded is a World of n nodes with a topic that is written to without end.
func loaded(t *testing.T, n int, partitions int32) *World {
	w := New(t, Seed(t), n)
	w.CreateTopic("orders", Topic{Partitions: partitions, Replicas: 3, MinInSync: 2})
	for i := range partitions {
		w.Produce("orders", i, -1)
	}
	w.RunFor(3 * time.Second)
	return w
}

// flows expects that producers get answers within d.
func (w *World) flows(d time.Duration) {
	w.t.Helper()
	before := w.Acknowledged()
	w.RunFor(d)
	if w.Acknowledged() == before {
		w.t.Fatalf("nothing was acknowledged for %s", d)
	}
}

// incarnations are the registrations in force.
func (w *World) incarnations() (names []string) {
	for _, n := range w.meta().Nodes {
		names = append(names, n.Incarnation)
	}
	return names
}

// holds counts the replicas and the leaderships of a node.
func (w *World) holds(id messages.NodeID) (replicas, leads int) {
	for _, t := range w.meta().Topics() {
		for _, p := range t.Partitions {
			if slices.Contains(p.Replicas, id) {
				replicas++
			}
			if p.Leader == id {
				leads++
			}
		}
	}
	return replicas, leads
}

// A leader that stood still for 15 seconds wakes up believing that it leads. It
// acknowledges nothing, drops what was never committed, and is back in the same
// process, as another incarnation.
func TestAZombieLeaderRejoinsByItself(t *testing.T) {
	w := loaded(t, 3, 1)
	old := w.Leader("orders", 0)
	zombie := w.node(old)
	life, incarnation := zombie.life, w.meta().Node(old).Incarnation
	w.Pause(old)
	w.RunUntil("another node leads", func() bool {
		n, _ := w.leading("orders", 0)
		return n != nil && n.id != old
	})
	w.flows(15 * time.Second)
	w.Resume(old)
	w.RunUntil("everything is in sync again", w.settledSize)
	if zombie.life != life || w.meta().Node(old).Incarnation == incarnation {
		t.Errorf("process %d as %s, before: process %d as %s",
			zombie.life, w.meta().Node(old).Incarnation, life, incarnation)
	}
	w.Rest()
	w.Verify()
}

// Two nodes run a controller at the same time. The older one's first write is
// refused, and it is none from then on.
func TestTheFirstWriteOfAStaleControllerIsRefused(t *testing.T) {
	w := loaded(t, 3, 1)
	old := w.node(w.Controller())
	next := w.nodes[int(old.id)%3]
	w.service.mem.Expire()
	next.activate()
	if !old.controller.Active() || !next.controller.Active() {
		t.Fatal("there are no two controllers")
	}
	create := w.createTopic("refused", Topic{Partitions: 1, Replicas: 3, MinInSync: 2})
	a := old.controller.Handle(w.now, create)
	if !errors.Is(a.Err, messages.ErrFencedController) || old.controller.Active() {
		t.Errorf("the stale controller answers %v, active: %v", a.Err, old.controller.Active())
	}
	if w.service.refused != 1 || w.meta().Topic("refused") != nil {
		t.Errorf("%d writes were refused, the topic is %v", w.service.refused, w.meta().Topic("refused"))
	}
	w.flows(time.Second)
	w.Rest()
	w.Verify()
}

// The controller's node dies. What others lead goes on as it was, and another
// controller is there soon.
func TestTheControllerIsKilled(t *testing.T) {
	w := loaded(t, 4, 4)
	dead := w.Controller()
	before := slices.Clone(w.meta().Topic("orders").Partitions)
	died := w.now
	w.Crash(dead, KeepingAll)
	w.RunUntil("another node is controller", func() bool {
		return w.Controller() != messages.NoNode && w.meta().Node(dead).Fenced
	})
	if took := w.now.Sub(died); took > 2*time.Second {
		t.Errorf("a new controller took %s", took)
	}
	for i, p := range w.meta().Topic("orders").Partitions {
		if was := before[i]; was.Leader != dead && p.LeaderEpoch != was.LeaderEpoch {
			t.Errorf("partition %d was led by %d under %d and is now by %d under %d",
				i, was.Leader, was.LeaderEpoch, p.Leader, p.LeaderEpoch)
		}
	}
	w.flows(time.Second)
	w.Rest()
	w.Verify()
}

// Consul is gone for a minute: nobody is declared dead, leaders go on, and when it
// is back everything is as before.
func TestConsulIsAwayForAMinute(t *testing.T) {
	w := loaded(t, 3, 3)
	nodes, controller, version := w.incarnations(), w.service.holder(), w.meta().Version
	w.ConsulGoes()
	for range 60 {
		w.flows(time.Second)
	}
	w.ConsulComesBack()
	w.flows(10 * time.Second)
	if now := w.incarnations(); !slices.Equal(nodes, now) {
		t.Errorf("nodes are registered as %v, were as %v", now, nodes)
	}
	if now := w.service.holder(); now != controller || w.meta().Version != version {
		t.Errorf("controller is %+v and was %+v, version is %d and was %d",
			now, controller, w.meta().Version, version)
	}
	w.Rest()
	w.Verify()
}

// While Consul is away a leader dies, which nobody can decide about; when it is
// back, somebody does.
func TestALeaderDiesWhileConsulIsAway(t *testing.T) {
	w := loaded(t, 3, 3)
	w.ConsulGoes()
	w.RunFor(10 * time.Second)
	dead := w.Leader("orders", 0)
	w.Crash(dead, KeepingAll)
	w.RunFor(20 * time.Second)
	w.ConsulComesBack()
	w.RunUntil("somebody else leads", func() bool {
		n, _ := w.leading("orders", 0)
		return n != nil && n.id != dead
	})
	w.flows(time.Second)
	w.Rest()
	w.Verify()
}

// A fourth node joins and holds its share without anyone asking; drained, it holds
// nothing, and undrained it gets its share again.
func TestAFourthNodeGetsItsShareAndIsEmptiedAgain(t *testing.T) {
	w := loaded(t, 3, 8)
	id := w.Join()
	share := func() bool {
		replicas, leads := w.holds(id)
		return replicas >= 5 && leads >= 1 && w.settledSize()
	}
	w.RunUntil("the new node has its share", share)
	w.flows(time.Second)
	w.Drain(id, true)
	w.RunUntil("the drained node is empty", func() bool {
		replicas, leads := w.holds(id)
		return replicas == 0 && leads == 0 && len(w.node(id).order) == 0
	})
	w.flows(time.Second)
	w.Drain(id, false)
	w.RunUntil("the node has its share again", share)
	w.Rest()
	w.Verify()
}

// A power cut takes what a node had not synced. When it is back it says so, is in
// no in-sync set until it has fetched what it lacks, and never leads before.
func TestAPowerCutTakesAReplicaOutOfTheInSyncSets(t *testing.T) {
	w := loaded(t, 3, 1)
	id := w.Leader("orders", 0)
	w.Crash(id, LosingUnsynced)
	w.Start(id)
	w.RunUntil("it is registered", w.node(id).registered)
	if p := w.meta().Topic("orders").Partitions[0]; slices.Contains(p.ISR, id) || p.Leader == id {
		t.Errorf("node %d lost records and is part of %+v", id, p)
	}
	w.RunUntil("it is in sync", func() bool {
		return slices.Contains(w.meta().Topic("orders").Partitions[0].ISR, id)
	})
	w.Rest()
	w.Verify()
}

// All machines lose power at once. Nobody can say whose log is whole, so nobody is
// elected before an operator says that one may be; what was flushed is there.
func TestAPowerCutOfAllMachines(t *testing.T) {
	w := loaded(t, 3, 1)
	w.stopped = true
	w.RunUntil("producers have finished", func() bool {
		return !slices.ContainsFunc(w.clients, func(p *producer) bool { return !p.done })
	})
	w.RunFor(10 * time.Second) // log.flush.interval.ms is one second
	for _, n := range w.nodes {
		w.Crash(n.id, LosingUnsynced)
	}
	for _, n := range w.nodes {
		w.Start(n.id)
	}
	w.RunUntil("all are registered", func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *node) bool { return !n.registered() })
	})
	w.RunFor(10 * time.Second)
	topic := w.meta().Topic("orders")
	if p := topic.Partitions[0]; p.Leader != messages.NoNode {
		t.Errorf("%+v has a leader that may lack records", p)
	}
	w.command(&control.ElectLeaders{Type: messages.ElectUnclean,
		Partitions: []messages.PartitionID{{Topic: topic.ID}}})
	w.Rest()
	w.Verify()
}

// Nodes are stopped and started one by one: their leaderships move before they go,
// so that no producer waits for long.
func TestARollingRestart(t *testing.T) {
	w := loaded(t, 3, 3)
	for _, n := range w.nodes {
		w.RunUntil("all are in sync", w.settledSize)
		stopping := w.now
		w.Stop(n.id)
		if took := w.now.Sub(stopping); took > 2*time.Second {
			t.Errorf("node %d took %s to stop", n.id, took)
		}
		w.flows(250 * time.Millisecond)
		w.Start(n.id)
	}
	w.Rest()
	w.Verify()
}

// The membership loses sight of a node that is well. It rejoins in the same process.
func TestANodeWhoseMembershipLapsedRejoins(t *testing.T) {
	w := loaded(t, 3, 3)
	var id messages.NodeID = 1
	if w.Controller() == id {
		id = 2
	}
	life, incarnation := w.node(id).life, w.meta().Node(id).Incarnation
	w.Lapse(id)
	w.RunUntil("it is registered anew", func() bool {
		n := w.meta().Node(id)
		return n.Incarnation != incarnation && !n.Fenced && w.settledSize()
	})
	if w.node(id).life != life {
		t.Error("its process was started anew")
	}
	w.Rest()
	w.Verify()
}

// A topic is deleted and made again under its name: the new one begins empty, on
// nodes that were there and on one that was not.
func TestATopicIsDeletedAndMadeAgain(t *testing.T) {
	w := loaded(t, 3, 2)
	w.Crash(3, KeepingAll)
	w.RunFor(2 * time.Second)
	w.DeleteTopic("orders")
	w.Start(3)
	w.RunUntil("node 3 is back", w.node(3).serving)
	w.CreateTopic("orders", Topic{Partitions: 2, Replicas: 3, MinInSync: 2})
	w.Produce("orders", 0, 20)
	w.Rest()
	w.Verify()
	if end := w.nodes[2].order; len(end) != 2 {
		t.Errorf("node 3 runs %d replicas", len(end))
	}
}

// A partition is moved to other nodes while it is written to, and its leader dies on
// the way.
func TestALeaderDiesWhileItsPartitionMoves(t *testing.T) {
	w := loaded(t, 5, 1)
	topic := w.meta().Topic("orders")
	p := topic.Partitions[0]
	var others []messages.NodeID
	for _, n := range w.nodes {
		if !slices.Contains(p.Replicas, n.id) {
			others = append(others, n.id)
		}
	}
	target := append(others, p.Replicas[1])
	w.command(&control.Reassign{Reqs: []messages.Reassign{{
		ID: messages.PartitionID{Topic: topic.ID}, Replicas: target}}})
	w.Crash(p.Leader, KeepingAll)
	w.RunUntil("the partition is where it should be", func() bool {
		now := w.meta().Topic("orders").Partitions[0]
		return slices.Equal(now.Replicas, target) && len(now.ISR) == 3
	})
	w.flows(time.Second)
	w.Rest()
	w.Verify()
}

// Records are deleted up to the middle of a batch. A node that has nothing of the
// partition gets the batch as a whole, and begins where the leader does.
func TestANewReplicaOfALogThatBeginsInsideABatch(t *testing.T) {
	w := New(t, Seed(t), 3)
	w.CreateTopic("orders", Topic{Partitions: 1, Replicas: 2, MinInSync: 1})
	id := messages.PartitionID{Topic: w.meta().Topic("orders").ID}
	w.Produce("orders", 0, 20)
	w.RunUntil("producers have finished", func() bool { return w.clients[0].done })
	leader := w.node(w.Leader("orders", 0)).replicas[id]
	_, batches := w.truth.stored(leader)
	i := slices.IndexFunc(batches, func(b record.Batch) bool { return b.LastOffsetDelta > 0 })
	inside := batches[i].BaseOffset + 1
	w.RunUntil("the leader deletes records", func() bool {
		w.DeleteRecords(id, inside)
		return leader.body.Log().Start() == inside
	})
	replicas := w.meta().Partition(id).Replicas
	other := messages.NodeID(6) - replicas[0] - replicas[1]
	w.command(&control.Reassign{Reqs: []messages.Reassign{{
		ID: id, Replicas: []messages.NodeID{w.Leader("orders", 0), other}}}})
	w.RunUntil("the new replica is in sync", func() bool {
		p := w.meta().Partition(id)
		return slices.Contains(p.ISR, other) && !p.Reassigning()
	})
	if log := w.node(other).replicas[id].body.Log(); log.Start() != inside {
		t.Errorf("the copy begins at %d, the leader's log at %d", log.Start(), inside)
	}
	w.Rest()
	w.Verify()
}
