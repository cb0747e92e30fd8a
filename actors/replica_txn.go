package actors

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// Messages to a replica about transactions.
type (
	// writeMarker asks for the end of a transaction; done is called once.
	writeMarker struct {
		data.Marker
		done func(error)
	}
	// guardTxn says that the coordinator is going to be asked about a transaction.
	guardTxn struct {
		producer messages.ProducerID
		epoch    messages.ProducerEpoch
		sequence messages.Sequence
		reply    func(guard uint64, err error)
	}
	// verified is what the coordinator said to the question of that number.
	verified struct {
		producer messages.ProducerID
		number   uint64
		life     int64
		err      error
	}
	// describeProducers asks for what is known of the producers.
	describeProducers struct {
		reply func([]data.Producer, error)
	}
)

// heldAppends are a producer's batches that wait until the coordinator has said
// whether the first of them may begin a transaction. There are as many as their
// connections have requests under way, which the listener bounds.
type heldAppends struct {
	number  uint64         // of the question
	guard   uint64         // of the transaction
	appends []*data.Append // oldest first, at least one
}

// writeMarker appends the control batch that ends a transaction, as safe as acks=all.
//
// docs/flows/transactions.md: 5.
func (r *replica) writeMarker(m *writeMarker) {
	b := record.EndTxnMarker(
		record.Marker{Commit: m.Commit, CoordinatorEpoch: m.CoordinatorEpoch},
		m.Producer, m.Epoch, messages.Timestamp(r.env.Now().UnixMilli()))
	r.append(&data.Append{Batch: b, Acks: data.AcksAll, FreshEpoch: m.V2,
		Done: func(res data.AppendResult) { m.done(res.Err) }})
}

// admitMarker is admit for a control batch. A marker that was written before is
// answered as soon as everything that is in the log now is safe.
func (r *replica) admitMarker(plan *producers.Plan, a *data.Append, next messages.Offset) (
	producers.Verdict, error,
) {
	m, ok, err := record.ParseMarker(&a.Batch)
	if err == nil && !ok {
		err = fmt.Errorf("a control batch that is no transaction marker: %w", messages.ErrInvalidRecord)
	}
	if err != nil {
		return producers.Verdict{}, err
	}
	h := a.Batch.Header
	h.BaseOffset = next
	v, err := plan.DecideMarker(h, m, a.FreshEpoch)
	if v.Duplicate {
		v.LastOffset = next - 1
	}
	return v, err
}

// verification is what must be known of a batch's transaction. Of a batch in an
// open transaction nothing must.
func (r *replica) verification(a *data.Append) producers.Verification {
	if !a.Batch.Transactional() {
		return producers.Verification{}
	}
	return producers.Verification{
		Guard: a.Guard, FreshEpoch: a.FreshEpoch,
		Required: a.Verify != nil ||
			r.env.Settings("transaction.partition.verification.enable") == "true",
	}
}

// holdBehind keeps the order of a producer whose earlier batch waits for the
// coordinator. Markers never wait.
func (r *replica) holdBehind(a *data.Append) bool {
	if len(r.held) == 0 || a.Batch.Control() || !a.Batch.Idempotent() {
		return false
	}
	h := r.held[a.Batch.ProducerID]
	if h == nil {
		return false
	}
	h.appends = append(h.appends, a)
	return true
}

// hold asks the coordinator about the transaction that a batch begins, and keeps
// the batch until it has answered.
func (r *replica) hold(a *data.Append) {
	if r.held == nil {
		r.held = map[messages.ProducerID]*heldAppends{}
	}
	r.askCoordinator(&heldAppends{appends: []*data.Append{a}})
}

// askCoordinator asks about the first of the batches that wait.
//
// docs/flows/transactions.md: 2.
func (r *replica) askCoordinator(held *heldAppends) {
	first := held.appends[0]
	h, out, life := &first.Batch.Header, r.out, r.life
	id, number := h.ProducerID, r.env.guards.Add(1)
	held.number = number
	held.guard = r.producers.Guard(id, h.ProducerEpoch, h.BaseSequence, number,
		messages.Timestamp(r.env.Now().UnixMilli()))
	r.held[id] = held
	first.Verify(func(err error) {
		out.Self(verified{producer: id, number: number, life: life, err: err})
	})
}

// verified appends what waited for the coordinator, before what came in meanwhile.
//
// docs/flows/transactions.md: 3.
func (r *replica) verified(m verified) {
	h := r.held[m.producer]
	if m.life != r.life || h == nil || h.number != m.number {
		return // answered when the leadership ended
	}
	if m.err == nil && !r.producers.Guarded(m.producer, h.guard) {
		// A marker was written meanwhile, and nobody knows which came first, it or the
		// answer. A producer that begins its next transaction before the markers of the
		// last one are written gets here.
		r.askCoordinator(h)
		return
	}
	delete(r.held, m.producer)
	if m.err != nil {
		if final(m.err) {
			r.producers.Unguard(m.producer, h.guard)
		}
		r.refuseHeld(h, m.err)
		return
	}
	h.appends[0].Guard = h.guard
	r.queue = slices.Insert(r.queue, 0, h.appends...)
	for _, a := range h.appends {
		r.queued += len(a.Batch.Bytes)
	}
	r.writeSoon()
}

// final reports whether the coordinator will not answer otherwise later.
func final(err error) bool {
	return slices.ContainsFunc([]error{messages.ErrInvalidTxnState,
		messages.ErrInvalidProducerEpoch, txn.ErrAbortable, txn.ErrInvalidMapping, txn.ErrProducerFenced,
	}, func(e error) bool { return errors.Is(err, e) })
}

func (r *replica) refuseHeld(h *heldAppends, err error) {
	refusal := r.face.refusal(err)
	for _, a := range h.appends {
		a.Done(refusal)
	}
}

// endVerification refuses what waits for the coordinator and forgets what it was
// asked: the next leader of the partition, who may be this one, asks again.
func (r *replica) endVerification(err error) {
	for _, id := range slices.Sorted(maps.Keys(r.held)) {
		r.refuseHeld(r.held[id], err)
	}
	clear(r.held)
	if r.producers != nil {
		r.producers.Unguarded()
	}
}

// guardTxn is hold for somebody who asks the coordinator without a batch.
func (r *replica) guardTxn(m *guardTxn) {
	if r.leader == nil {
		m.reply(0, r.face.notLeading())
		return
	}
	began, err := r.producers.Began(m.producer, m.epoch)
	if began || err != nil {
		m.reply(0, err)
		return
	}
	m.reply(r.producers.Guard(m.producer, m.epoch, m.sequence, r.env.guards.Add(1),
		messages.Timestamp(r.env.Now().UnixMilli())), nil)
}

func (r *replica) describeProducers(m *describeProducers) {
	if r.leader == nil {
		m.reply(nil, r.face.notLeading())
		return
	}
	m.reply(r.producers.Producers(), nil)
}

// noteAborted puts the transactions whose abort markers were appended just now into
// the transaction index, before any reader may see past them.
//
// docs/flows/transactions.md: 6.
func (r *replica) noteAborted() error {
	ended := r.producers.TakeAborted()
	if len(ended) == 0 {
		return nil
	}
	if err := r.store.AddAborted(ended); err != nil {
		return fmt.Errorf("adding to the transaction index: %w", err)
	}
	return nil
}

// lastStable is where read_committed consumers must stop. Transactions that begin
// below the log start are decided as far as readers are concerned, as in Kafka:
// they see what is left of them.
func (r *replica) lastStable(hw messages.Offset) messages.Offset {
	return max(r.producers.LastStable(hw), min(r.store.Start(), hw))
}
