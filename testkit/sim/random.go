package sim

import (
	"time"

	"github.com/troupelog/troupe/messages"
)

// Chaos breaks things at random for a while of virtual time: processes die and
// come back, with or without what was not synced; pause and go on; links are cut,
// swallow packets or are slow; clocks jump; disks are full. It leaves them broken;
// see Rest.
func (w *World) Chaos(d time.Duration) {
	w.t.Helper()
	until := w.now.Add(d)
	for w.now.Before(until) {
		w.RunFor(w.between(time.Millisecond, 3*time.Second))
		w.breakSomething()
		w.consume()
	}
}

func (w *World) breakSomething() {
	id := messages.NodeID(1 + w.rng.IntN(len(w.nodes)))
	other := messages.NodeID(1 + w.rng.IntN(len(w.nodes)))
	n := w.node(id)
	switch w.rng.IntN(14) {
	case 0, 1:
		w.Crash(id, KeepingAll)
	case 2, 3, 4:
		w.Start(id)
	case 5:
		// Acknowledged means: on the in-sync replicas. A power cut of all of them at
		// the same time is the one thing that replication does not survive.
		if w.settled() {
			w.Crash(id, []Loss{LosingUnsynced, Torn}[w.rng.IntN(2)])
		}
	case 6:
		w.Pause(id)
	case 7, 8:
		w.Resume(id)
	case 9:
		if id != other {
			w.Cut(id, other)
		}
	case 10:
		if id != other {
			w.CutOneWay(id, other)
		}
	case 11:
		w.Isolate(id)
	case 12:
		w.Heal()
	case 13:
		w.disturb(n, other)
	}
}

// disturb does what is unpleasant but breaks nothing.
func (w *World) disturb(n *node, other messages.NodeID) {
	switch w.rng.IntN(3) {
	case 0:
		n.skew = w.between(-time.Hour, time.Hour)
	case 1:
		if n.id != other {
			w.Slow(n.id, other, w.between(0, 300*time.Millisecond))
		}
	case 2:
		if w.rng.IntN(2) == 0 {
			w.note("disk of node %d is full", n.id)
			n.disk.SetCapacity(n.disk.Used() + w.rng.Int64N(4096))
		} else {
			n.disk.SetCapacity(-1)
		}
	}
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
