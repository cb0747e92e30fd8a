package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// each runs a scenario for transactions of both versions and groups of both protocols.
func each(t *testing.T, scenario func(t *testing.T, job Job)) {
	for _, protocol := range []group.Type{group.Classic, group.Consumer} {
		for _, v2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s v2=%v", protocol, v2), func(t *testing.T) {
				scenario(t, Job{Group: "readers", Protocol: protocol, In: "orders", Out: "results", V2: v2})
			})
		}
	}
}

// working is a World of four nodes in which n workers do a job.
func working(t *testing.T, job Job, n int) *World {
	w := New(t, Seed(t), 4)
	orders(w)
	w.CreateInternalTopics(2)
	w.CreateTopic("results", Topic{Partitions: 2, Replicas: 3, MinInSync: 2})
	w.Produce("orders", 0, -1)
	for i := range n {
		w.Work(fmt.Sprint("worker", i), job)
	}
	w.commits(5)
	return w
}

// commits waits for n more transactions that producers are told are committed.
func (w *World) commits(n int) {
	w.t.Helper()
	until := w.Committed() + n
	w.RunUntil("transactions are committed", func() bool { return w.Committed() >= until })
}

// stable reports whether a partition has no transaction that waits for its marker.
func (w *World) stable(topic string, partition int32) bool {
	_, leader := w.leading(topic, partition)
	return leader != nil && leader.Face.Offsets().LastStable == leader.HighWatermark()
}

// settledTxns reports whether every transaction has all its markers.
func (w *World) settledTxns() bool {
	for _, t := range w.meta().Topics() {
		for i := range t.Partitions {
			if !w.stable(t.Name, int32(i)) {
				return false
			}
		}
	}
	return true
}

// beforeMarker waits for the moment when a transaction is committed, as its producer is
// told, and its marker in the first partition of the results is still to come. It
// returns the worker.
func (w *World) beforeMarker() *worker {
	w.t.Helper()
	before := w.Committed()
	w.RunUntil("a transaction waits for its marker", func() bool {
		if w.Committed() == before || w.stable("results", 0) {
			before = w.Committed()
			return false
		}
		return true
	})
	for _, tx := range slices.Backward(w.truth.txns) {
		if tx.ended != nil && *tx.ended {
			return tx.k
		}
	}
	panic("BUG: no transaction is committed")
}

// A producer stands still in its transaction, the coordinator of it dies, and another
// process takes the transactional id over at the next one. What the first one wakes up
// to do comes to nothing.
func TestAZombieProducerAfterItsCoordinatorMoved(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 1)
		zombie := w.workers[0]
		w.RunUntil("a transaction is open", func() bool {
			return zombie.txn != nil && zombie.txn.added && !zombie.txn.asked
		})
		token := zombie.txn.token
		zombie.pause()
		dead := w.Coordinator(coord.Txn, zombie.name)
		w.Crash(dead, KeepingAll)
		w.RunUntil("there is another coordinator", func() bool {
			now := w.Coordinator(coord.Txn, zombie.name)
			return now != dead && now != messages.NoNode
		})
		zombie.replace()
		w.commits(3)
		zombie.resume()
		w.RunUntil("the zombie is fenced", func() bool { return zombie.done })
		if tx := w.truth.txns[token]; tx.ended != nil && *tx.ended {
			t.Errorf("transaction %d of the zombie is committed", token)
		}
		w.Start(dead)
		w.commits(3)
		w.Rest()
		w.Verify()
	})
}

// A coordinator dies after it has decided and before any marker is there. The next one
// finds the decision in its log and ends the transaction.
func TestACoordinatorDiesBetweenTheDecisionAndTheMarkers(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 1)
		for range 3 {
			k := w.beforeMarker()
			dead := w.Coordinator(coord.Txn, k.name)
			w.Crash(dead, KeepingAll)
			w.RunUntil("consumers see the transaction", func() bool { return w.stable("results", 0) })
			w.Start(dead)
			w.commits(3)
			w.RunUntil("all are in sync", w.settledSize)
		}
		w.Rest()
		w.Verify()
	})
}

// A leader writes the marker, and its answer is lost. The coordinator has it written
// again, which ends nothing but what it ended before.
func TestAMarkerIsWrittenAndTheAnswerIsLost(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 1)
		for range 3 {
			k := w.beforeMarker()
			coordinator, leader := w.Coordinator(coord.Txn, k.name), w.Leader("results", 0)
			if coordinator != leader {
				w.CutOneWay(leader, coordinator)
				w.RunFor(time.Duration(1+w.rng.IntN(15)) * time.Second)
				w.Heal()
			}
			w.commits(3)
			w.RunUntil("all are in sync", w.settledSize)
		}
		w.Rest()
		w.Verify()
	})
}

// A coordinator decides, its marker is lost on the way, and it stands still. Its
// successor ends the transaction, and the producer begins the next one, under the same
// epoch where transactions share one. The marker that the first coordinator sends again
// when it goes on must not end it.
func TestAMarkerOfAStaleCoordinatorEndsNothing(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 1)
		k := w.workers[0]
		for range 5 {
			w.RunUntil("all are in sync and no transaction is under way", func() bool {
				return w.settledSize() && k.txn == nil && w.settledTxns()
			})
			old := w.node(w.Coordinator(coord.Txn, k.name))
			w.net.mute = old.id
			w.RunUntil("a transaction is decided", func() bool {
				n := len(w.truth.txns)
				return k.txn == nil && n > 0 && w.truth.txns[n-1].ended != nil && !w.settledTxns()
			})
			w.Pause(old.id)
			w.RunUntil("there is another coordinator", func() bool {
				now := w.Coordinator(coord.Txn, k.name)
				return now != old.id && now != messages.NoNode
			})
			w.net.mute = messages.NoNode
			w.RunFor(peerWait)
			w.RunUntil("another transaction has records", func() bool {
				return k.txn != nil && k.next[0] > 0 && !w.stable("results", 0)
			})
			w.Resume(old.id)
			w.commits(3)
		}
		w.Rest()
		w.Verify()
	})
}

// The coordinator of a group dies while the offsets of a transaction wait for their
// marker. Its successor has them as they are in the log: they count when the marker is
// there.
func TestTheCoordinatorOfAGroupDiesBetweenOffsetsAndMarker(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 2)
		home := w.home(coord.Group, job.Group)
		for round := range 6 {
			w.RunUntil("offsets wait for their marker", func() bool {
				n, _ := w.leading(home.Topic, home.Partition)
				return n != nil && !w.stable(home.Topic, home.Partition)
			})
			dead := w.Leader(home.Topic, home.Partition)
			w.Crash(dead, KeepingAll)
			if round%2 == 0 { // the marker comes while the successor still replays the log
				for _, a := range w.nodes {
					for _, b := range w.nodes[a.id:] {
						w.Slow(a.id, b.id, w.between(0, 200*time.Millisecond))
					}
				}
			}
			w.commits(3)
			w.Heal()
			w.Start(dead)
			w.RunUntil("all are in sync", w.settledSize)
		}
		w.Rest()
		w.Verify()
	})
}

// The member that is to assign partitions dies before it does. The others do not wait
// for it longer than a rebalance may take.
func TestTheLeaderOfAGroupDiesDuringTheSync(t *testing.T) {
	w := working(t, Job{Group: "readers", Protocol: group.Classic, In: "orders", Out: "results"}, 3)
	for range 3 {
		var leader *worker
		for _, k := range w.workers { // they join again, as when what they read changes
			k.m.settled = false
		}
		w.RunUntil("a leader is to assign partitions", func() bool {
			i := slices.IndexFunc(w.workers, func(k *worker) bool { return k.m.assigns })
			if i >= 0 {
				leader = w.workers[i]
			}
			return i >= 0
		})
		died := w.now
		leader.die(errKilled)
		w.commits(1)
		if took := w.now.Sub(died); took > sessionTimeout+2*rebalanceTimeout {
			t.Errorf("the group took %s", took)
		}
		w.commits(5)
	}
	w.Rest()
	w.Verify()
}

// A node that coordinates stands still until others coordinate in its place, and goes
// on: for a while there are two coordinators. The old one's word does not count.
func TestTwoCoordinatorsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 2)
		for _, kind := range []coord.Kind{coord.Group, coord.Txn} {
			w.RunUntil("all are in sync", w.settledSize)
			key := job.Group
			if kind == coord.Txn {
				key = "worker0"
			}
			old := w.node(w.Coordinator(kind, key))
			w.Pause(old.id)
			w.RunUntil("another one coordinates", func() bool {
				now := w.Coordinator(kind, key)
				return now != old.id && now != messages.NoNode &&
					w.node(now).coord.body.Epoch(kind, key) != messages.NoEpoch
			})
			w.commits(5)
			if old.coord.body.Epoch(kind, key) == messages.NoEpoch {
				t.Fatalf("the %s coordinator on node %d knows that it is none", kind, old.id)
			}
			for _, k := range w.workers { // they ask the one they knew
				k.found[kind] = old
			}
			w.Resume(old.id)
			w.commits(5)
			w.RunUntil("the old one knows", func() bool {
				now := w.Coordinator(kind, key)
				return now == old.id || old.coord.body.Epoch(kind, key) == messages.NoEpoch
			})
		}
		w.Rest()
		w.Verify()
	})
}

// All nodes die at once in the middle of everything, and lose nothing but their memory.
func TestAllCoordinatorsDieAtOnce(t *testing.T) {
	each(t, func(t *testing.T, job Job) {
		w := working(t, job, 2)
		for range 3 {
			for _, n := range w.nodes {
				w.Crash(n.id, KeepingAll)
			}
			w.RunFor(time.Second)
			for _, n := range w.nodes {
				w.Start(n.id)
			}
			w.commits(5)
		}
		w.Rest()
		w.Verify()
	})
}
