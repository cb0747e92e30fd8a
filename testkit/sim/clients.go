package sim

import (
	"encoding/binary"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// producer is an idempotent producer of one partition: batch after batch, each
// until it is acknowledged, as Kafka's clients do.
type producer struct {
	w         *World
	topic     string
	partition int32
	id        messages.ProducerID
	acks      data.Acks
	next      messages.Sequence // of the batch under way
	count     int               // records of the batch under way
	left      int               // batches to come; negative: without end
	attempt   int
	done      bool
}

// Produce starts an idempotent producer with acks=all that sends batches of 1 to
// 5 records to one partition, n in all; without end for a negative n.
func (w *World) Produce(topic string, partition int32, n int) *producer {
	p := &producer{w: w, topic: topic, partition: partition, left: n, acks: data.AcksAll,
		id: messages.ProducerID(1000 + len(w.clients))}
	w.clients = append(w.clients, p)
	p.begin()
	return p
}

func (p *producer) begin() {
	if p.left == 0 || p.w.stopped {
		p.done = true
		return
	}
	p.left--
	p.count = 1 + p.w.rng.IntN(5)
	p.try()
}

// valueOf names a record of a producer.
func valueOf(id messages.ProducerID, seq messages.Sequence) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(id))
	return binary.BigEndian.AppendUint32(b, uint32(seq))
}

func (p *producer) batch() record.Batch {
	b := record.NewBuilder(record.Compression{}).Producer(p.id, 0, p.next)
	for i := range p.count {
		b.Append(messages.Timestamp(p.w.now.UnixMilli()), nil, valueOf(p.id, p.next+messages.Sequence(i)))
	}
	built, err := b.Build()
	if err != nil {
		p.w.t.Fatalf("building a batch: %v", err)
	}
	return built
}

// requestTimeout is how long a client waits for an answer before it asks anew.
const requestTimeout = 3 * time.Second

// try sends the batch to whom the client takes for the leader.
func (p *producer) try() {
	w := p.w
	p.attempt++
	attempt := p.attempt
	retry := func() {
		w.after(w.between(time.Millisecond, 100*time.Millisecond), func() {
			if p.attempt == attempt {
				p.try()
			}
		})
	}
	face := w.guess(p.topic, p.partition)
	if face == nil {
		retry()
		return
	}
	w.after(requestTimeout, func() {
		if p.attempt == attempt {
			p.try()
		}
	})
	at, s, batch := face.n, sent{p.next, p.count}, p.batch()
	life := at.life
	w.after(w.between(20*time.Microsecond, time.Millisecond), func() {
		at.run(life, func() {
			face.body.Face.Append(&data.Append{Batch: batch, Acks: p.acks,
				Done: func(res data.AppendResult) {
					// An answer of a process that has died since is lost on the way.
					w.after(w.between(20*time.Microsecond, time.Millisecond), func() {
						p.answered(attempt, s, res, retry)
					})
				}})
		})
	})
}

// sent is one batch.
type sent struct {
	first messages.Sequence
	count int
}

func (p *producer) answered(attempt int, s sent, res data.AppendResult, retry func()) {
	if res.Err != nil {
		if p.attempt == attempt {
			retry()
		}
		return
	}
	if p.acks == data.AcksAll {
		p.w.truth.acknowledged(p, s, res.BaseOffset) // also one that came too late
	}
	if p.attempt != attempt {
		return // of an attempt that was given up; the batch is acknowledged all the same
	}
	p.next += messages.Sequence(p.count)
	p.attempt++
	p.w.after(p.w.between(time.Microsecond, 20*time.Millisecond), p.begin)
}

// guess is the replica that a client takes for the leader: it asks any node that
// answers, whose metadata may be old.
func (w *World) guess(topic string, partition int32) *replica {
	ask := w.nodes[w.rng.IntN(len(w.nodes))]
	if !ask.alive() {
		return nil
	}
	t := ask.image.Topic(topic)
	if t == nil || t.Partitions[partition].Leader == messages.NoNode {
		return nil
	}
	n := w.node(t.Partitions[partition].Leader)
	if !n.up {
		return nil
	}
	return n.replicas[messages.PartitionID{Topic: t.ID, Partition: partition}]
}

// leading returns the node and body that the controller has as a partition's
// leader, once it leads.
func (w *World) leading(topic string, partition int32) (*node, *actors.ReplicaBody) {
	t := w.control.image().Topic(topic)
	p := t.Partitions[partition]
	if p.Leader == messages.NoNode || !w.node(p.Leader).alive() {
		return nil, nil
	}
	n := w.node(p.Leader)
	r := n.replicas[messages.PartitionID{Topic: t.ID, Partition: partition}]
	if r == nil {
		return nil, nil
	}
	if epoch, leads := r.body.Leads(); !leads || epoch != p.LeaderEpoch {
		return nil, nil
	}
	return n, r.body
}

// Leader is the node that leads a partition, as the controller has it.
func (w *World) Leader(topic string, partition int32) messages.NodeID {
	return w.control.image().Topic(topic).Partitions[partition].Leader
}
