package sim

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
)

// keysOf is how many keys a producer writes to.
const keysOf = 6

// keyOf is the key of a record by its value: its producer's, and one of a few.
func keyOf(value []byte) string {
	b := bytes.Clone(value)
	binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(b[8:])%keysOf)
	return string(b)
}

// Compacted are the settings of a topic whose segments are small enough for a
// compaction to find something to do.
func Compacted() messages.Config {
	return messages.Config{"cleanup.policy": "compact", "index.interval.bytes": "64",
		"segment.index.bytes": "120", "min.cleanable.dirty.ratio": "0.1"}
}

// compact asks the replicas of compacted topics, wherever they are, to compact.
func (w *World) compact() {
	for _, n := range w.nodes {
		for _, r := range n.order {
			if r.truth.compacted && w.rng.IntN(2) == 0 {
				r.send(actors.CompactDue)
			}
		}
	}
}

// compactStep is a step of a compaction, on a goroutine in a real node.
func (r *replica) compactStep(step func()) {
	r.n.do(r.n.w.between(50*time.Microsecond, 50*time.Millisecond), step)
}

// key is that of a record of the partition, by what is known of it as its value.
func (p *partition) key(value []byte) string {
	if p.internal {
		return string(value[2 : 2+int(value[1])])
	}
	return keyOf(value)
}

// superseded reports whether a record may be gone from a compacted log: a newer
// one of its key is there, or it is of a transaction, which may have been aborted.
func (p *partition) superseded(
	o messages.Offset, value []byte, have map[string]messages.Offset,
) bool {
	return p.compacted && (have[p.key(value)] > o || p.internal && value[0] == 1)
}

// newest returns the offset of the newest record of each key.
func (p *partition) newest(values map[messages.Offset][]byte) map[string]messages.Offset {
	last := map[string]messages.Offset{}
	for o, v := range values { // any order: the largest counts
		last[p.key(v)] = max(last[p.key(v)], o)
	}
	return last
}

// expectSameRecords: of two replicas of a compacted log, each has what the other
// has, but for what was superseded.
func (w *World) expectSameRecords(p *partition, start messages.Offset, a, b *replica) {
	w.t.Helper()
	one, _ := w.truth.stored(a)
	two, _ := w.truth.stored(b)
	for _, x := range []struct {
		from, to   map[messages.Offset][]byte
		node, peer messages.NodeID
	}{{one, two, a.n.id, b.n.id}, {two, one, b.n.id, a.n.id}} {
		last := p.newest(x.to)
		for o, v := range x.from { // any order: one failure is as good as another
			other, there := x.to[o]
			if o >= start && (there && !bytes.Equal(v, other) ||
				!there && !p.superseded(o, v, last)) {
				w.t.Fatalf("%s-%d: node %d has %x at offset %d, node %d has %x",
					p.topic, p.id.Partition, x.node, v, o, x.peer, other)
			}
		}
	}
}

// Compactions returns how far the replicas of a topic were compacted, added up.
func (w *World) Compactions(topic string) (offsets int64) {
	for _, n := range w.nodes {
		for _, r := range n.order {
			if r.truth.topic == topic && r.body.Log() != nil {
				offsets += int64(r.body.Log().Cleaned())
			}
		}
	}
	return offsets
}
