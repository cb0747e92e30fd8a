package sim

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// producer is a producer of one partition: batch after batch. With acks=all it is
// idempotent and sends each until it is acknowledged, as Kafka's clients do; with
// acks=1 it is not, and goes on with the next whatever became of the last.
type producer struct {
	w       *World
	id      messages.PartitionID
	pid     messages.ProducerID
	acks    data.Acks
	next    messages.Sequence // of the batch under way
	count   int               // records of the batch under way
	left    int               // batches to come; negative: without end
	attempt int
	done    bool
	refusal error // the last
}

// Produce starts an idempotent producer with acks=all that sends batches of 1 to
// 5 records to one partition, n in all; without end for a negative n.
func (w *World) Produce(topic string, partition int32, n int) *producer {
	return w.produce(topic, partition, n, data.AcksAll)
}

// ProduceCarelessly is Produce with acks=1, without retries.
func (w *World) ProduceCarelessly(topic string, partition int32, n int) *producer {
	return w.produce(topic, partition, n, data.AcksLeader)
}

// firstProducer is the id of the first producer; the others follow.
const firstProducer = 1 << 40

func (w *World) produce(topic string, partition int32, n int, acks data.Acks) *producer {
	p := &producer{w: w, left: n, acks: acks,
		id:  messages.PartitionID{Topic: w.meta().Topic(topic).ID, Partition: partition},
		pid: messages.ProducerID(firstProducer + len(w.clients))}
	w.truth.parts[p.id].ordered = true
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
	b := record.NewBuilder(record.Compression{})
	if p.acks == data.AcksAll {
		b.Producer(p.pid, 0, p.next)
	}
	for i := range p.count {
		at := messages.Timestamp(p.w.now.UnixMilli())
		value := valueOf(p.pid, p.next+messages.Sequence(i))
		b.Append(at, []byte(keyOf(value)), value)
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
	if w.meta().Partition(p.id) == nil && w.truth.parts[p.id] != nil {
		p.done = true // the topic was deleted
		return
	}
	p.attempt++
	attempt := p.attempt
	retry := func() {
		w.after(w.between(time.Millisecond, 100*time.Millisecond), func() {
			if p.attempt == attempt {
				p.try()
			}
		})
	}
	face := w.guess(p.id)
	if face == nil {
		retry()
		return
	}
	w.after(requestTimeout, func() {
		if p.attempt == attempt {
			p.failed(errNoAnswer, p.try)
		}
	})
	at, s, batch := face.n, sent{p.next, p.count}, p.batch()
	life := at.life
	over := func() bool { return p.attempt != attempt }
	at.requests = waiting(at.requests, func() {
		w.after(w.soon(), func() {
			if !over() {
				p.failed(errReset, retry)
			}
		})
	}, over)
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

var (
	errNoAnswer = errors.New("no answer in time")
	errReset    = errors.New("the connection broke")
)

// failed goes on after a failure: with the same batch, or, if the producer is
// careless, with the next.
func (p *producer) failed(err error, retry func()) {
	p.refusal = err
	if p.acks == data.AcksAll {
		retry()
		return
	}
	p.next += messages.Sequence(p.count)
	p.attempt++
	p.w.after(p.w.between(time.Millisecond, 20*time.Millisecond), p.begin)
}

// sent is one batch.
type sent struct {
	first messages.Sequence
	count int
}

func (p *producer) answered(attempt int, s sent, res data.AppendResult, retry func()) {
	if res.Err != nil {
		if p.attempt == attempt {
			p.failed(res.Err, retry)
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
func (w *World) guess(id messages.PartitionID) *replica {
	ask := w.nodes[w.rng.IntN(len(w.nodes))]
	if !ask.alive() {
		return nil
	}
	p := ask.image.Partition(id)
	if p == nil || p.Leader == messages.NoNode || !w.node(p.Leader).up {
		return nil
	}
	return w.node(p.Leader).replicas[id]
}

// leading returns the node and body that the controller has as a partition's
// leader, once it leads.
func (w *World) leading(topic string, partition int32) (*node, *actors.ReplicaBody) {
	t := w.meta().Topic(topic)
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
	return w.meta().Topic(topic).Partitions[partition].Leader
}
