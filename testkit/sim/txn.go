package sim

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// transactor is a transactional producer of one partition together with its
// coordinator, which never fails: what is under test is the partition. It runs
// transaction after transaction, and ends some of them while batches are still on
// their way. Markers are sent until one is answered.
//
// With transaction.version 2 every transaction has an epoch of its own. Without it
// the epoch rises only where something of a transaction may still be on its way.
type transactor struct {
	*producer // its place among the clients
	v2        bool
	round     int  // transactions so far
	doubt     bool // something of this round may come late
	flying    bool // a batch is not answered
	marked    int  // the last round with an answer to its marker
	epoch     messages.ProducerEpoch
	ongoing   bool                // the coordinator has an open transaction
	sequence  messages.Sequence   // of the next batch in this epoch
	values    messages.Sequence   // records made so far, which names them
	batches   int                 // to come in this transaction
	open      []messages.Sequence // records of this transaction that were acknowledged
	committed map[messages.Sequence]bool
	seen      map[messages.Sequence]bool // by readers of committed records
}

// Transact starts a transactional producer on one partition, without end.
func (w *World) Transact(topic string, partition int32, v2 bool) *transactor {
	p := &producer{w: w, acks: data.AcksLeader, left: -1, // so that it may leave records out
		id:  messages.PartitionID{Topic: w.meta().Topic(topic).ID, Partition: partition},
		pid: messages.ProducerID(firstProducer + len(w.clients))}
	w.clients = append(w.clients, p)
	t := &transactor{producer: p, v2: v2, committed: map[messages.Sequence]bool{},
		seen: map[messages.Sequence]bool{}}
	t.begin()
	return t
}

// begin opens a transaction at the coordinator.
func (t *transactor) begin() {
	w := t.w
	if w.stopped || t.epoch > 30000 {
		t.done = true
		return
	}
	if t.v2 || t.doubt {
		t.epoch++
		t.sequence = 0
	}
	t.round++
	t.ongoing, t.doubt, t.batches, t.open = true, false, 1+w.rng.IntN(4), nil
	round := t.round
	if w.rng.IntN(3) == 0 { // it runs out of time, wherever it is then
		w.after(w.between(0, 300*time.Millisecond), func() {
			if t.ongoing && t.round == round {
				t.end(false)
			}
		})
	}
	t.send()
}

// send sends the next batch until it is acknowledged, or its transaction is over.
func (t *transactor) send() {
	if t.batches == 0 {
		t.end(t.w.rng.IntN(3) > 0)
		return
	}
	t.batches--
	t.flying = true
	n := 1 + t.w.rng.IntN(4)
	first, sequence := t.values, t.sequence
	t.values += messages.Sequence(n)
	t.sequence += messages.Sequence(n)
	t.try(t.epoch, first, sequence, n)
}

func (t *transactor) try(epoch messages.ProducerEpoch, first, sequence messages.Sequence, n int) {
	w := t.w
	over := func() bool {
		return !t.ongoing || t.epoch != epoch || t.values != first+messages.Sequence(n)
	}
	tried := false
	again := func() {
		if !tried {
			tried = true
			w.after(w.between(time.Millisecond, 100*time.Millisecond), func() {
				if !over() {
					t.try(epoch, first, sequence, n)
				}
			})
		}
	}
	w.after(requestTimeout, again)
	t.at(func(n2 *node, r *replica) {
		r.body.Face.Append(&data.Append{Batch: t.make(epoch, first, sequence, n), Acks: data.AcksAll,
			FreshEpoch: t.v2, Verify: t.verify(n2, epoch), Done: func(res data.AppendResult) {
				w.after(w.between(20*time.Microsecond, time.Millisecond), func() {
					switch {
					case over() || tried && res.Err != nil:
					case res.Err != nil:
						again()
					default:
						tried, t.flying = true, false
						for i := range n {
							t.open = append(t.open, first+messages.Sequence(i))
						}
						t.send()
					}
				})
			}})
	}, again)
}

func (t *transactor) make(epoch messages.ProducerEpoch, first, sequence messages.Sequence, n int,
) record.Batch {
	b := record.NewBuilder(record.Compression{}).Producer(t.pid, epoch, sequence).Transactional()
	for i := range n {
		b.Append(messages.Timestamp(t.w.now.UnixMilli()), nil, valueOf(t.pid, first+messages.Sequence(i)))
	}
	built, err := b.Build()
	if err != nil {
		t.w.t.Fatalf("building a batch: %v", err)
	}
	return built
}

// verify is the Verify of a batch: the coordinator decides after a while, and a
// while later the partition hears of it.
func (t *transactor) verify(n *node, epoch messages.ProducerEpoch) func(func(error)) {
	w, life := t.w, n.life
	return func(reply func(error)) {
		w.after(w.between(time.Millisecond, 50*time.Millisecond), func() {
			var err error
			if !t.ongoing || t.epoch != epoch {
				err = messages.ErrInvalidTxnState
			}
			w.after(w.between(time.Millisecond, 200*time.Millisecond), func() {
				n.run(life, func() { reply(err) })
			})
		})
	}
}

// at runs f at whom the client takes for the leader, or failed if it has no guess.
func (t *transactor) at(f func(*node, *replica), failed func()) {
	r := t.w.guess(t.id)
	if r == nil {
		failed()
		return
	}
	n, life := r.n, r.n.life
	late := t.w.between(20*time.Microsecond, 5*time.Millisecond)
	if t.w.rng.IntN(8) == 0 {
		late = t.w.between(0, 2*requestTimeout)
	}
	t.w.after(late, func() {
		n.run(life, func() { f(n, r) })
	})
}

// end has the coordinator decide, and write markers until one is answered.
func (t *transactor) end(commit bool) {
	t.ongoing, t.doubt = false, t.flying
	t.flying = false
	if commit {
		for _, v := range t.open {
			t.committed[v] = true
		}
	}
	m := data.Marker{Producer: t.pid, Epoch: t.epoch, Commit: commit, V2: t.v2}
	if t.v2 {
		m.Epoch++
	}
	t.mark(m, t.round)
}

func (t *transactor) mark(m data.Marker, round int) {
	w, tried := t.w, false
	over := func() bool { return t.round != round || t.ongoing || t.done }
	again := func() {
		if !tried && !over() {
			tried, t.doubt = true, true
			w.after(w.between(time.Millisecond, 100*time.Millisecond), func() {
				if !over() && t.marked != round {
					t.mark(m, round)
				}
			})
		}
	}
	w.after(requestTimeout, again)
	t.at(func(_ *node, r *replica) {
		r.body.Face.WriteMarker(m, func(err error) {
			w.after(w.between(20*time.Microsecond, time.Millisecond), func() {
				switch {
				case over(): // another try was answered
				case err != nil:
					again()
				case t.marked != round:
					tried, t.marked = true, round
					w.after(w.between(time.Microsecond, 20*time.Millisecond), t.begin)
				}
			})
		})
	}, again)
}

// look reads what readers of committed records are shown by the nodes that lead.
func (t *transactor) look() {
	for _, n := range t.w.nodes {
		if r := n.replicas[t.id]; r != nil && n.alive() {
			for _, v := range t.shown(r) {
				t.seen[v] = true
			}
		}
	}
}

// shown returns the transactor's records that a read_committed consumer gets from a
// replica, in their order.
func (t *transactor) shown(r *replica) (values []messages.Sequence) {
	at := r.body.Face.Offsets().LogStart
	skip := map[messages.ProducerID]bool{}
	for at >= 0 {
		res := r.body.Face.Read(data.Read{From: at, MaxBytes: 1 + t.w.rng.IntN(1<<14), MinOne: true,
			Isolation:    data.ReadCommitted,
			CurrentEpoch: messages.NoEpoch, LastEpoch: messages.NoEpoch})
		if res.Err != nil || res.View.Bytes == 0 {
			res.View.Release()
			break
		}
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		if err != nil {
			break
		}
		slices.SortFunc(res.Aborted,
			func(a, b data.AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
		for len(b) > 0 {
			batch, rest, err := record.Parse(b)
			if err != nil {
				t.w.t.Fatalf("a consumer got a bad batch at %d: %v", at, err)
			}
			if batch.LastOffset() >= res.LastStable {
				t.w.t.Fatalf("a consumer sees offset %d, the last stable offset is %d",
					batch.LastOffset(), res.LastStable)
			}
			for len(res.Aborted) > 0 && res.Aborted[0].FirstOffset <= batch.LastOffset() {
				skip[res.Aborted[0].Producer] = true
				res.Aborted = res.Aborted[1:]
			}
			values = append(values, t.of(&batch, skip)...)
			b, at = rest, batch.NextOffset()
		}
	}
	return values
}

// of returns the transactor's records of a batch, unless they are skipped.
func (t *transactor) of(b *record.Batch, skip map[messages.ProducerID]bool) (
	values []messages.Sequence,
) {
	if b.Control() {
		if m, ok, _ := record.ParseMarker(b); ok && !m.Commit {
			delete(skip, b.ProducerID)
		}
		return nil
	}
	if b.ProducerID != t.pid || skip[t.pid] {
		return nil
	}
	for _, o := range slices.Sorted(maps.Keys(t.w.truth.values(*b))) {
		v := t.w.truth.values(*b)[o]
		values = append(values, messages.Sequence(binary.BigEndian.Uint32(v[8:])))
	}
	return values
}

// Verify checks, in a World at rest, that what was committed, and nothing else, is
// shown, once and in order, that nothing else was shown before, and that no
// transaction is left without an end.
func (t *transactor) Verify() {
	w := t.w
	w.t.Helper()
	n, _ := w.leading(w.meta().TopicByID(t.id.Topic).Name, t.id.Partition)
	r := n.replicas[t.id]
	if o := r.body.Face.Offsets(); o.LastStable != o.HighWatermark {
		w.t.Fatalf("a transaction of node %d never ends: %+v", n.id, o)
	}
	if got, want := t.shown(r), slices.Sorted(maps.Keys(t.committed)); !slices.Equal(got, want) {
		w.t.Fatalf("producer %d: committed are %v, node %d shows %v", t.pid, want, n.id, got)
	}
	for _, v := range slices.Sorted(maps.Keys(t.seen)) {
		if !t.committed[v] {
			w.t.Fatalf("producer %d: record %d was shown and is not committed", t.pid, v)
		}
	}
}
