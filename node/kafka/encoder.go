package kafka

import (
	"encoding/binary"

	"github.com/troupelog/troupe/messages/data"
)

// encoder appends the fields of a response in Kafka's encoding. Compact lengths
// and tag sections come with flexible versions alone.
type encoder struct {
	b        []byte
	flexible bool
}

func (w *encoder) i16(v int16) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *encoder) i32(v int32) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *encoder) i64(v int64) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }

func (w *encoder) uvarint(v int) { w.b = binary.AppendUvarint(w.b, uint64(v)) }

// arrayLen appends the length of an array that is not null.
func (w *encoder) arrayLen(n int) {
	if w.flexible {
		w.uvarint(n + 1)
		return
	}
	w.i32(int32(n))
}

// nullArray appends an array that is null.
func (w *encoder) nullArray() {
	if w.flexible {
		w.b = append(w.b, 0)
		return
	}
	w.i32(-1)
}

func (w *encoder) text(s string) {
	if w.flexible {
		w.uvarint(len(s) + 1)
	} else {
		w.i16(int16(len(s)))
	}
	w.b = append(w.b, s...)
}

// null appends a string that is null.
func (w *encoder) null() {
	if w.flexible {
		w.b = append(w.b, 0)
		return
	}
	w.i16(-1)
}

// tags begins a tag section of n fields, which follow in ascending order.
func (w *encoder) tags(n int) {
	if w.flexible {
		w.uvarint(n)
	}
}

// leaderTag appends the tagged field CurrentLeader (KIP-951).
func (w *encoder) leaderTag(tag int, h data.LeaderHint) {
	w.uvarint(tag)
	w.uvarint(4 + 4 + 1)
	w.i32(int32(h.Leader))
	w.i32(int32(h.Epoch))
	w.tags(0)
}

// nodeEndpoints appends the tag section that ends a response: the tagged field
// NodeEndpoints (KIP-951), if there are nodes.
func (w *encoder) nodeEndpoints(nodes []endpoint) {
	if len(nodes) == 0 {
		w.tags(0)
		return
	}
	w.tags(1)
	w.uvarint(0)
	size := encoder{b: make([]byte, 0, 64*len(nodes)), flexible: true}
	size.endpoints(nodes)
	w.uvarint(len(size.b))
	w.b = append(w.b, size.b...)
}

func (w *encoder) endpoints(nodes []endpoint) {
	w.arrayLen(len(nodes))
	for i := range nodes {
		n := &nodes[i]
		w.i32(int32(n.id))
		w.text(n.host)
		w.i32(n.port)
		if n.rack == "" {
			w.null()
		} else {
			w.text(n.rack)
		}
		w.tags(0)
	}
}
