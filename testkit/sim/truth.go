package sim

import (
	"bytes"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// truth knows what was promised and checks that it is kept.
type truth struct {
	w     *World
	parts map[messages.PartitionID]*partition
	order []*partition
	txns  []*transaction // by token
	// groups by id, and in the order in which they came.
	groups     map[string]*watched
	groupOrder []*watched
	// touched are the partitions that the present event may have changed.
	touched []*partition
}

// partition is what was promised about one partition.
type partition struct {
	topic string
	id    messages.PartitionID
	// compacted: replicas may lack records of which there are newer ones.
	compacted bool
	internal  bool                                     // its records are the state of coordinators
	ordered   bool                                     // they are those of producers
	outputs   bool                                     // they are those of workers' transactions
	leaders   map[messages.LeaderEpoch]messages.NodeID // who was seen to lead
	acked     map[messages.Offset][]byte               // values that were acknowledged
	end       messages.Offset                          // after the last of them
	seen      map[messages.Offset][]byte               // values that readers saw
	// shown is how far read_committed consumers have come, shownHW the high watermark
	// that they saw with it.
	shown, shownHW messages.Offset
	dropped        messages.Offset // deletion was asked of what is before it
	epoch          messages.PartitionEpoch
	// marks are the last watermarks of a leadership: the high one and what is stable.
	marks map[mark][2]messages.Offset
}

// mark is one leadership of one process.
type mark struct {
	node  messages.NodeID
	life  int
	epoch messages.LeaderEpoch
}

func newTruth(w *World) *truth {
	return &truth{w: w, parts: map[messages.PartitionID]*partition{}, groups: map[string]*watched{}}
}

func (t *truth) of(topic *messages.Topic, index int32) *partition {
	id := messages.PartitionID{Topic: topic.ID, Partition: index}
	p := t.parts[id]
	if p == nil {
		p = &partition{topic: topic.Name, id: id,
			compacted: topic.Configs["cleanup.policy"] == "compact",
			internal:  strings.HasPrefix(topic.Name, "__"),
			leaders:   map[messages.LeaderEpoch]messages.NodeID{},
			acked:     map[messages.Offset][]byte{}, seen: map[messages.Offset][]byte{},
			marks: map[mark][2]messages.Offset{}}
		t.parts[id] = p
		t.order = append(t.order, p)
	}
	return p
}

// decided checks a decision of the controller.
func (t *truth) decided(topic *messages.Topic, index int32) {
	p, state := t.of(topic, index), topic.Partitions[index]
	if state.PartitionEpoch < p.epoch {
		t.w.t.Fatalf("%s-%d: partition epoch falls from %d to %d",
			topic.Name, index, p.epoch, state.PartitionEpoch)
	}
	if state.PartitionEpoch > p.epoch {
		t.w.note("%s-%d is led by %d, epoch %d.%d, in sync %v, eligible %v", topic.Name, index,
			state.Leader, state.LeaderEpoch, state.PartitionEpoch, state.ISR, state.ELR)
	}
	p.epoch = state.PartitionEpoch
	t.touched = append(t.touched, p)
}

// acknowledged notes that a producer was told that its batch is safe.
func (t *truth) acknowledged(p *producer, s sent, base messages.Offset) {
	part := t.parts[p.id]
	for i := range s.count {
		o, v := base+messages.Offset(i), valueOf(p.pid, s.first+messages.Sequence(i))
		if was, ok := part.acked[o]; ok && !bytes.Equal(was, v) {
			t.w.t.Fatalf("%s-%d: offset %d was acknowledged twice, for %x and for %x",
				part.topic, p.id.Partition, o, was, v)
		}
		part.acked[o] = v
		part.end = max(part.end, o+1)
	}
	t.touched = append(t.touched, part)
}

// check looks at what the event changed.
func (t *truth) check() {
	for _, p := range t.touched {
		t.checkLeaders(p)
		t.checkInSync(p)
	}
	t.touched = t.touched[:0]
}

// checkLeaders: one leader per epoch, and its high watermark never falls.
func (t *truth) checkLeaders(p *partition) {
	for _, n := range t.w.nodes {
		r := n.replicas[p.id]
		if !n.up || r == nil {
			continue
		}
		epoch, leads := r.body.Leads()
		if !leads {
			continue
		}
		if other, ok := p.leaders[epoch]; ok && other != n.id {
			t.w.t.Fatalf("%s-%d: nodes %d and %d lead under epoch %d",
				p.topic, p.id.Partition, other, n.id, epoch)
		}
		p.leaders[epoch] = n.id
		m, hw := mark{n.id, n.life, epoch}, r.body.HighWatermark()
		stable := r.body.Face.Offsets().LastStable
		before := p.marks[m] // zero: there is none
		if hw < before[0] || stable < before[1] {
			t.w.t.Fatalf("%s-%d: the watermarks of leader %d fall from %d to %d, stable from %d to %d",
				p.topic, p.id.Partition, n.id, before[0], hw, before[1], stable)
		}
		if hw >= p.shownHW && stable < p.shown {
			t.w.t.Fatalf("%s-%d: leader %d has %d stable and the high watermark %d, consumers saw %d and %d",
				p.topic, p.id.Partition, n.id, stable, hw, p.shown, p.shownHW)
		}
		p.marks[m] = [2]messages.Offset{hw, stable}
	}
}

// checkInSync: who is in sync, by the controller's word, has what was
// acknowledged. Processes that the controller does not know of yet may lack it:
// a power cut took it, and their registration says so.
func (t *truth) checkInSync(p *partition) {
	im := t.w.meta()
	state := im.Partition(p.id)
	if state == nil {
		return
	}
	for _, id := range state.ISR {
		n := t.w.node(id)
		r := n.replicas[p.id]
		if r == nil || r.body.Log() == nil || n.lost[p.id] || !n.registered() {
			continue
		}
		if end := r.body.Log().End(); end < p.end {
			t.w.t.Fatalf("%s-%d: node %d is in sync and its log ends at %d, acknowledged are %d",
				p.topic, p.id.Partition, id, end, p.end)
		}
	}
}

// stored reads a whole log: values by offset.
func (t *truth) stored(r *replica) (map[messages.Offset][]byte, []record.Batch) {
	log := r.body.Log()
	values := map[messages.Offset][]byte{}
	var batches []record.Batch
	for at := log.Start(); at < log.End(); {
		view, err := log.Read(at, log.End(), 1<<20, true)
		if err != nil {
			t.w.t.Fatalf("reading %d of node %d: %v", at, r.n.id, err)
		}
		bytes, err := view.AppendTo(nil)
		view.Release()
		if err != nil {
			t.w.t.Fatalf("reading %d of node %d: %v", at, r.n.id, err)
		}
		for len(bytes) > 0 {
			b, rest, err := record.Parse(bytes)
			if err != nil {
				t.w.t.Fatalf("node %d serves a bad batch at %d: %v", r.n.id, at, err)
			}
			for o, v := range t.values(b) {
				values[o] = v
			}
			batches = append(batches, b)
			bytes, at = rest, b.NextOffset()
		}
	}
	return values, batches
}

// values are a batch's, by offset. Nobody is shown those of markers.
func (t *truth) values(b record.Batch) map[messages.Offset][]byte {
	out := map[messages.Offset][]byte{}
	if b.Control() {
		return out
	}
	for r, err := range record.Records(&b, 1<<20) {
		if err != nil {
			t.w.t.Fatalf("records at %d: %v", b.BaseOffset, err)
		}
		out[r.Offset] = bytes.Clone(r.Value)
	}
	return out
}

// readAgain is how many records a consumer reads that were seen before.
const readAgain = 100

// read is a consumer's fetch: it sees what the leader shows, once and for all.
func (t *truth) read(p *partition, r *replica) {
	face := r.body.Face
	// From a little before the end of what was seen: there it is decided.
	at := max(0, messages.Offset(len(p.seen)-readAgain))
	if log := r.body.Log(); log != nil {
		at = max(at, log.Start())
	}
	for {
		res := face.Read(data.Read{From: at, MaxBytes: 1 << 20, MinOne: true,
			CurrentEpoch: messages.NoEpoch, LastEpoch: messages.NoEpoch})
		if res.Err != nil || res.View.Bytes == 0 {
			res.View.Release()
			return
		}
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		if err != nil {
			return
		}
		for len(b) > 0 {
			batch, rest, err := record.Parse(b)
			if err != nil {
				t.w.t.Fatalf("a consumer got a bad batch at %d: %v", at, err)
			}
			if batch.LastOffset() >= res.HighWatermark {
				t.w.t.Fatalf("%s-%d: a consumer sees offset %d, the high watermark is %d",
					p.topic, p.id.Partition, batch.LastOffset(), res.HighWatermark)
			}
			for o, v := range t.values(batch) {
				if was, ok := p.seen[o]; ok && !bytes.Equal(was, v) {
					t.w.t.Fatalf("%s-%d: offset %d was read as %x and is %x now",
						p.topic, p.id.Partition, o, was, v)
				}
				p.seen[o] = v
			}
			b, at = rest, batch.NextOffset()
		}
	}
}
