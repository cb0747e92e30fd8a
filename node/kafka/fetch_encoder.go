package kafka

import (
	"encoding/binary"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/netio"
)

// fetchAnswer makes the answer to a Fetch. The frame's metadata is
// encoded into one buffer; the records stay where they are and are sent between
// its pieces. All views were taken before, so the frame's size is known before
// its first byte leaves.
func (c *conn) fetchAnswer(f *fetchCall) answer {
	buf := c.s.buffers.Get(netio.BufferMin)
	b := append(buf.B[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(f.e.header.correlation))
	var a answer
	a.head, a.cuts, a.views = f.appendResponse(b)
	records := 0
	for i := range a.views {
		records += a.views[i].Bytes
	}
	binary.BigEndian.PutUint32(a.head, uint32(len(a.head)-4+records))
	a.frame = c.s.buffers.Adopt(buf, a.head)
	return a
}

// appendResponse appends the header's tag section and the body of the response
// without the records, which belong at the cuts. kmsg cannot do that: it copies
// the records, and takes a microsecond per partition for its tagged fields.
func (f *fetchCall) appendResponse(b []byte) (head []byte, cuts []cut, views []messages.View) {
	w := encoder{b: b, flexible: f.version >= 12}
	w.tags(0) // of the header
	w.i32(0)  // throttle time
	if f.version >= 7 {
		w.i16(f.code)
		w.i32(f.sessionID)
	}
	nodes := endpoints{conn: f.conn}
	w.arrayLen(len(f.topics))
	part := 0
	for i := range f.topics {
		t := &f.topics[i]
		if f.version >= 13 {
			w.b = append(w.b, t.id[:]...)
		} else {
			w.text(t.name)
		}
		w.arrayLen(t.end - part)
		for ; part < t.end; part++ {
			p := &f.parts[part]
			f.appendPartition(&w, p)
			if p.result.View.Bytes > 0 {
				cuts = append(cuts, cut{at: len(w.b), view: len(views)})
				views = append(views, p.result.View)
				p.result.View = messages.View{} // the answer owns it now
			}
			f.appendHints(&w, t, p, &nodes)
		}
		w.tags(0)
	}
	w.nodeEndpoints(nodes.nodes)
	return w.b, cuts, views
}

// appendPartition appends the fields of a partition up to its records.
func (f *fetchCall) appendPartition(w *encoder, p *fetchPart) {
	w.i32(p.index)
	w.i16(p.code)
	w.i64(int64(p.result.HighWatermark))
	w.i64(int64(p.result.LastStable))
	if f.version >= 5 {
		w.i64(int64(p.result.LogStart))
	}
	f.appendAborted(w, p)
	if f.version >= 11 {
		w.i32(-1) // preferred replica: none but the leader
	}
	// Never null: Kafka sends an empty set where there is nothing, and some
	// clients stumble over anything else.
	w.arrayLen(p.result.View.Bytes)
}

// appendAborted appends the aborted transactions: null for readers that do not
// care, and for errors.
func (f *fetchCall) appendAborted(w *encoder, p *fetchPart) {
	if f.level != data.ReadCommitted || p.code != codeNone {
		w.nullArray()
		return
	}
	w.arrayLen(len(p.result.Aborted))
	for _, txn := range p.result.Aborted {
		w.i64(int64(txn.Producer))
		w.i64(int64(txn.FirstOffset))
		w.tags(0)
	}
}

// appendHints appends the tagged fields of a partition: where the reader's log
// diverges from this one (tag 0), and where the leader is (tag 1).
func (f *fetchCall) appendHints(w *encoder, t *fetchTopic, p *fetchPart, nodes *endpoints) {
	var hint data.LeaderHint
	lead := f.version >= 16 && (p.code == codeNotLeaderOrFollower || p.code == codeFencedLeaderEpoch)
	if lead {
		hint = leaderHint(p.result.Leader, t.topic, p.index)
		lead = nodes.known(hint)
	}
	diverges := f.version >= 12 && p.code == codeNone && p.result.Diverging != nil
	n := 0
	for _, there := range []bool{diverges, lead} {
		if there {
			n++
		}
	}
	w.tags(n)
	if diverges {
		w.uvarint(0)
		w.uvarint(4 + 8 + 1)
		w.i32(int32(p.result.Diverging.Epoch))
		w.i64(int64(p.result.Diverging.End))
		w.tags(0)
	}
	if lead {
		w.leaderTag(1, hint)
	}
}
