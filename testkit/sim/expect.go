package sim

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// Rest heals the network, starts what crashed, lets producers finish, and returns
// when every replica of every partition is in sync and has all there is.
func (w *World) Rest() {
	w.t.Helper()
	w.Heal()
	for _, n := range w.nodes {
		w.Resume(n.id)
		w.Start(n.id)
		n.skew = 0
		n.disk.SetCapacity(-1)
		for _, f := range n.faults {
			f.Remove()
		}
	}
	for _, k := range w.workers {
		k.resume()
	}
	w.stopped = true
	for _, n := range w.nodes {
		w.ask(drain(n.id, false), 1000, nil)
	}
	w.RunUntil("everybody is registered", func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *node) bool { return !n.serving() })
	})
	w.RunUntil("producers have finished", func() bool {
		return !slices.ContainsFunc(w.clients, func(p *producer) bool { return !p.done })
	})
	w.RunUntil("workers have finished", func() bool {
		return !slices.ContainsFunc(w.workers, func(k *worker) bool { return !k.done })
	})
	w.RunUntil("all replicas are in sync and equal in length", w.settled)
	w.fetchAll()
	w.RunUntil("all replicas are in sync and equal in length", w.settled)
}

func (w *World) settled() bool {
	im := w.meta()
	for _, t := range im.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			n, leader := w.leading(t.Name, int32(i))
			if n == nil || len(p.ISR) != len(p.Replicas) || p.Reassigning() {
				return false
			}
			for _, id := range p.Replicas {
				r := w.node(id).replicas[messages.PartitionID{Topic: t.ID, Partition: int32(i)}]
				if r == nil || r.body.Log() == nil || r.body.Log().End() != leader.Log().End() {
					return false
				}
			}
			if end := leader.Log().End(); leader.HighWatermark() != end ||
				leader.Face.Offsets().LastStable != end { // a transaction hangs
				return false
			}
		}
	}
	return true
}

// Verify checks, in a World at rest, that every acknowledged record is stored
// once, where it was said to be and in the order of its producer, that what
// readers saw is still there, and that replicas are equal byte for byte. Only what
// the test asked to delete may be gone, and in a compacted topic what is superseded.
func (w *World) Verify() {
	w.t.Helper()
	for _, p := range w.truth.order {
		switch {
		case w.meta().Partition(p.id) != nil:
			w.verify(p)
		case !w.deleted[p.topic]:
			w.t.Fatalf("%s-%d is gone, and nobody deleted the topic", p.topic, p.id.Partition)
		}
	}
	w.verifyTxns()
}

func (w *World) verify(p *partition) {
	w.t.Helper()
	state := w.meta().Partition(p.id)
	leader := w.node(state.Leader).replicas[p.id]
	values, batches := w.truth.stored(leader)
	if start := leader.body.Log().Start(); start > p.dropped {
		w.t.Fatalf("%s-%d: the log of node %d begins at %d, deletion was asked of what is before %d",
			p.topic, p.id.Partition, leader.n.id, start, p.dropped)
	}
	if !p.internal { // those who need it look into it
		w.expectAll(p, "acknowledged", p.acked, values)
		w.expectAll(p, "read", p.seen, values)
	}
	if p.ordered {
		w.expectOrder(p, values)
	}
	for _, id := range state.Replicas {
		other := w.node(id).replicas[p.id]
		_, others := w.truth.stored(other)
		// A leader that died may have told only some that records were deleted.
		start := max(leader.body.Log().Start(), other.body.Log().Start())
		if p.internal && p.compacted {
			continue
		}
		if p.compacted {
			w.expectSameRecords(p, start, leader, other)
			continue
		}
		batches, others := from(start, batches), from(start, others)
		for i := range min(len(batches), len(others)) {
			if !bytes.Equal(batches[i].Bytes, others[i].Bytes) {
				w.t.Fatalf("%s-%d: node %d has %+v, node %d has %+v", p.topic, p.id.Partition,
					leader.n.id, batches[i].Header, id, others[i].Header)
			}
		}
		if len(batches) != len(others) {
			w.t.Fatalf("%s-%d: node %d has %d batches, node %d has %d",
				p.topic, p.id.Partition, leader.n.id, len(batches), id, len(others))
		}
	}
}

// from returns the batches that have records from an offset on.
func from(start messages.Offset, batches []record.Batch) []record.Batch {
	i := slices.IndexFunc(batches, func(b record.Batch) bool { return b.NextOffset() > start })
	if i < 0 {
		return nil
	}
	return batches[i:]
}

func (w *World) expectAll(p *partition, what string, want, have map[messages.Offset][]byte) {
	w.t.Helper()
	last := newest(have)
	for _, o := range slices.Sorted(maps.Keys(want)) {
		if _, ok := have[o]; !ok && p.superseded(o, want[o], last) {
			continue
		}
		if v, ok := have[o]; o >= p.dropped && (!ok || !bytes.Equal(v, want[o])) {
			w.t.Fatalf("%s-%d: offset %d was %s as %x, stored is %x",
				p.topic, p.id.Partition, o, what, want[o], v)
		}
	}
}

// expectOrder: each producer's records stand once and in its order; without a gap
// if it cares.
func (w *World) expectOrder(p *partition, values map[messages.Offset][]byte) {
	w.t.Helper()
	next := map[uint64]uint32{}
	for _, o := range slices.Sorted(maps.Keys(values)) {
		id, seq := binary.BigEndian.Uint64(values[o]), binary.BigEndian.Uint32(values[o][8:])
		mayMiss := w.clients[id-firstProducer].acks != data.AcksAll
		if _, seen := next[id]; p.compacted || !seen && p.dropped > 0 {
			mayMiss = true
		}
		if seq != next[id] && (!mayMiss || seq < next[id]) {
			w.t.Fatalf("%s-%d: offset %d has record %d of producer %d, %d comes next",
				p.topic, p.id.Partition, o, seq, id, next[id])
		}
		next[id] = seq + 1
	}
}

// Acknowledged returns how many records producers were told are safe.
func (w *World) Acknowledged() int {
	n := 0
	for _, p := range w.truth.order {
		n += len(p.acked)
	}
	return n
}
