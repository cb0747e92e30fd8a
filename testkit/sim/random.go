package sim

import (
	"slices"
	"time"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Chaos breaks things at random for a while of virtual time: processes die and
// come back, with or without what was not synced; pause and go on; stop in good
// order; links are cut, swallow packets or are slow; clocks jump; disks are full or
// fail; the registry is away, and controllers lose their lock without knowing;
// operators move, drain, elect, and delete topics and records. It leaves them broken; see Rest.
func (w *World) Chaos(d time.Duration) {
	w.t.Helper()
	until := w.now.Add(d)
	for w.now.Before(until) {
		w.RunFor(w.between(time.Millisecond, 3*time.Second))
		w.breakSomething()
		w.consume()
		w.compact()
	}
}

// anyNode draws a node.
func (w *World) anyNode() *node { return w.nodes[w.rng.IntN(len(w.nodes))] }

func (w *World) breakSomething() {
	if len(w.workers) > 0 && w.rng.IntN(4) == 0 {
		w.breakWorker(w.workers[w.rng.IntN(len(w.workers))])
	}
	switch w.rng.IntN(10) {
	case 0, 1:
		w.breakProcess(w.anyNode())
	case 2, 3, 4:
		w.mend(w.anyNode())
	case 5:
		w.breakLink(w.anyNode().id, w.anyNode().id)
	case 6:
		w.disturb(w.anyNode(), w.anyNode())
	case 7:
		w.breakRegistry(w.anyNode())
	case 8:
		w.operate()
	case 9:
		if h := w.service.holder().Node; h != messages.NoNode {
			w.breakController(w.node(h))
		}
	}
}

// breakWorker kills a worker, has it stand still, or has another take its place.
func (w *World) breakWorker(k *worker) {
	if k.done {
		return
	}
	switch w.rng.IntN(6) {
	case 0, 1:
		k.die(errKilled)
	case 2, 3:
		k.pause()
		w.after(w.between(time.Second, 20*time.Second), k.resume)
	case 4:
		k.pause()
		w.after(w.between(time.Second, 20*time.Second), k.resume)
		k.replace()
	case 5:
		k.replace()
	}
}

func (w *World) breakProcess(n *node) {
	switch w.rng.IntN(6) {
	case 0, 1:
		w.Crash(n.id, KeepingAll)
	case 2:
		if w.mayLosePower(n) {
			w.Crash(n.id, []Loss{LosingUnsynced, Torn}[w.rng.IntN(2)])
		}
	case 3, 4:
		w.Pause(n.id)
	case 5:
		n.stop()
	}
}

// mayLosePower reports whether others have all that was acknowledged, so that it
// survives if this node loses what it did not sync. Replication does not survive a
// power cut of all in-sync replicas at about the same time, nor any when one
// replica is enough to acknowledge.
func (w *World) mayLosePower(n *node) bool {
	if !n.up || w.dark() {
		return false
	}
	for _, t := range w.meta().Topics() {
		if t.Configs["min.insync.replicas"] == "1" {
			return false
		}
		for _, p := range t.Partitions {
			if !slices.ContainsFunc(p.ISR, func(id messages.NodeID) bool {
				return id != n.id && w.node(id).alive()
			}) {
				return false
			}
		}
	}
	return true
}

// dark reports whether a node lost power and the cluster does not know it yet.
func (w *World) dark() bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.unclean })
}

func (w *World) mend(n *node) {
	switch w.rng.IntN(5) {
	case 0, 1:
		w.Start(n.id)
	case 2, 3:
		w.Resume(n.id)
	case 4:
		w.Heal()
	}
}

func (w *World) breakLink(a, b messages.NodeID) {
	if a == b {
		w.Isolate(a)
		return
	}
	switch w.rng.IntN(3) {
	case 0:
		w.Cut(a, b)
	case 1:
		w.CutOneWay(a, b)
	case 2:
		w.note("the connections between %d and %d break", a, b)
		w.net.breakAll(false, func(l link) bool { return l == link{a, b} || l == link{b, a} })
	}
}

func (w *World) breakRegistry(n *node) {
	switch w.rng.IntN(6) {
	case 0:
		w.ConsulGoes()
	case 1, 2:
		if w.service.away {
			w.ConsulComesBack()
		}
	case 3:
		w.CutFromConsul(n.id)
	case 4:
		w.Lapse(n.id)
	case 5:
		w.service.flaky = !w.service.flaky
		w.note("the registry fails now and then: %v", w.service.flaky)
	}
}

func (w *World) breakController(n *node) {
	switch w.rng.IntN(5) {
	case 0:
		w.Crash(n.id, KeepingAll)
	case 1:
		w.Pause(n.id)
	case 2:
		w.Isolate(n.id)
	case 3:
		w.CutFromConsul(n.id)
	case 4:
		w.service.expire(n.id) // it goes on as if nothing had happened
	}
}

// disturb does what is unpleasant but breaks little.
func (w *World) disturb(n, other *node) {
	switch w.rng.IntN(5) {
	case 0:
		n.skew = w.between(-time.Hour, time.Hour)
		w.note("the clock of node %d is off by %s", n.id, n.skew)
	case 1:
		if n != other {
			w.Slow(n.id, other.id, w.between(0, 300*time.Millisecond))
		}
	case 2:
		w.net.lossy = !w.net.lossy
		w.note("control messages are lost now and then: %v", w.net.lossy)
	case 3:
		if w.rng.IntN(2) == 0 {
			w.note("disk of node %d is full", n.id)
			n.disk.SetCapacity(n.disk.Used() + w.rng.Int64N(4096))
		} else {
			n.disk.SetCapacity(-1)
		}
	case 4:
		w.FailDisk(n.id)
	}
}

// FailDisk has one of a node's next writes or syncs fail, a write perhaps half way.
func (w *World) FailDisk(id messages.NodeID) {
	r := vfs.Rule{Ops: vfs.OpWrite | vfs.OpWritev | vfs.OpSync, Err: vfs.ErrIO, Times: 1,
		Nth: 1 + w.rng.IntN(50)}
	if w.rng.IntN(2) == 0 {
		r.Ops, r.Short = vfs.OpWrite|vfs.OpWritev, w.rng.Int64N(100)
	}
	w.note("an operation of the disk of node %d will fail", id)
	n := w.node(id)
	n.faults = append(n.faults, n.fsys.Inject(r))
}

// operate does what an operator may do at any time.
func (w *World) operate() {
	t := w.meta().Topics()[w.rng.IntN(w.meta().TopicCount())]
	id := messages.PartitionID{Topic: t.ID, Partition: int32(w.rng.IntN(len(t.Partitions)))}
	var c control.Command
	switch w.rng.IntN(8) {
	case 0, 1:
		c = &control.Reassign{Reqs: []messages.Reassign{{ID: id, Replicas: w.someNodes()}}}
	case 2:
		c = &control.Reassign{Reqs: []messages.Reassign{{ID: id}}} // gives one up
	case 3:
		c = drain(w.anyNode().id, w.rng.IntN(2) == 0)
	case 4:
		c = &control.ElectLeaders{Type: messages.ElectPreferred, Partitions: []messages.PartitionID{id}}
	case 5:
		if w.dark() {
			return
		}
		c = minInSync(t.Name, 1+w.rng.IntN(2))
	case 6:
		w.churn()
		return
	case 7:
		if p := w.truth.of(t, id.Partition); p.internal || p.outputs {
			return // nobody deletes what is the state of others
		}
		w.DeleteRecords(id, messages.Offset(w.rng.Int64N(int64(w.truth.of(t, id.Partition).end)+1)))
		return
	}
	w.note("an operator asks for %T %+v", c, c)
	w.ask(c, 3, nil)
}

// someNodes draws two or three nodes.
func (w *World) someNodes() []messages.NodeID {
	var ids []messages.NodeID
	for _, i := range w.rng.Perm(len(w.nodes))[:2+w.rng.IntN(2)] {
		ids = append(ids, w.nodes[i].id)
	}
	return ids
}

// churn deletes a topic and makes it anew under the same name, with a producer.
func (w *World) churn() {
	const name = "churn"
	w.note("topic %s is made anew", name)
	w.deleted[name] = true
	create := w.createTopic(name, Topic{Partitions: 1, Replicas: 3, MinInSync: 2})
	w.ask(&control.DeleteTopics{Topics: []messages.TopicRef{{Name: name}}}, 3,
		func(*control.Answer) {
			w.ask(create, 3, func(*control.Answer) {
				if t := w.meta().Topic(name); t != nil && !w.stopped {
					w.Produce(name, 0, -1)
				}
			})
		})
}

// consume has a reader look at every partition, at whoever leads it.
func (w *World) consume() {
	for _, p := range w.truth.order {
		for _, n := range w.nodes {
			if r := n.replicas[p.id]; r != nil && n.alive() {
				w.truth.read(p, r)
			}
		}
	}
}
