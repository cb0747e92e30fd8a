// Package txns decides what becomes of the transactions of one transactional id
// (KIP-98, 360, 890): who may use the id, which partitions are in the open
// transaction, how it ends and when it is given up.
//
// A Txn reads no clock, starts no goroutine and touches no disk: it is a
// coord.Machine. Its owner, the actor of the transactional id, hands it requests
// and the time, makes durable what it decides and tells it so. A decision makes
// a new state; the Txn has it, and anybody hears of it, once its record is on
// every in-sync replica. The record is Kafka's own of __transaction_state, and
// replaying the last one gives the same Txn.
//
//	Empty, Complete*  --Add-->     Ongoing
//	Ongoing           --End-->     PrepareCommit, PrepareAbort
//	Ongoing           --Init, or the timeout-->  PrepareAbort, with an epoch that fences
//	Prepare*          --all markers are written-->  Complete*
//	Empty, Complete*  --Init-->    Empty, with another epoch or producer id
//	Empty, Complete*  --End, abort, V2-->  CompleteAbort, with another epoch
//	Empty, Complete*  --idle for transactional.id.expiration.ms-->  forgotten
//
// Once PrepareCommit or PrepareAbort is durable the outcome stands: whoever
// coordinates the id then sends the markers until every partition has its own.
//
// Only the actors and tests may import it; it imports messages alone.
package txns

import (
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/txn"
)

const (
	// retryAfter is how long a Txn waits after a failed write before it tries
	// again what nobody asks it for: to give up, to complete, to expire.
	retryAfter = time.Second
	// freshIDWait bounds the wait for a producer id; who waits is told to ask again.
	freshIDWait = 30 * time.Second
)

// Outbox is what a Txn wants done. Calls return at once; the answers come later,
// by Handle.
type Outbox interface {
	// NewProducerID wants a fresh producer id: a txn.FreshID answers.
	NewProducerID()
	// SendMarkers has markers written, tried again for as long as this node
	// coordinates the id. txn.MarkersWritten answers, at least once for each
	// partition, and repeats m.Sending.
	SendMarkers(m txn.Markers)
}

// Config is what an operator can set.
type Config struct {
	MaxTimeout       time.Duration // transaction.max.timeout.ms
	IDExpiration     time.Duration // transactional.id.expiration.ms
	CoordinatorEpoch func() int32  // the leader epoch of the partition that keeps the id
	// TimedOut hears of transactions that are aborted because their time is over; nil:
	// nobody does.
	TimedOut func(id string, producer messages.ProducerID)
}

// Txn is one transactional id. Make one with New. It has one owner and is not
// safe for concurrent use.
type Txn struct {
	id     string
	config func() Config
	out    Outbox

	meta     *meta                            // durable; nil: the id is not in use
	unmarked map[messages.TopicPartition]bool // in a Prepare state: still without a marker
	sending  int64                            // the last one; answers to earlier ones are late
	fenced   bool                             // another coordinator ended the transaction

	staged  *staged   // decided and not yet durable
	writing bool      // staged was taken by the owner
	waiting *waiting  // for a producer id
	retryAt time.Time // after a failed write
	stopped bool
}

var _ coord.Machine = (*Txn)(nil)

// staged is a decision: the state that its record makes, and who is told.
type staged struct {
	next   *meta           // nil: the id is forgotten
	answer func(err error) // nil: nobody asked
}

// waiting is a request that needs a producer id. Nothing else is decided
// meanwhile, so what was checked holds when the id is there.
type waiting struct {
	request coord.Request
	resume  func(now time.Time, id messages.ProducerID)
	until   time.Time
}

// New returns the Txn of a transactional id that is not in use. config is asked
// each time, so settings may change.
func New(id string, config func() Config, out Outbox) *Txn {
	return &Txn{id: id, config: config, out: out}
}

// Replay implements coord.Machine.
func (t *Txn) Replay(r coord.Replayed) error {
	id, err := ParseKey(r.Key)
	if err != nil {
		return err
	}
	if id != t.id {
		return fmt.Errorf("record of transactional id %q, %q is replayed: %w",
			id, t.id, ErrDamaged)
	}
	if r.Value == nil {
		t.meta = nil
		return nil
	}
	m, err := parseValue(r.Value)
	if err != nil {
		return fmt.Errorf("transactional id %q: %w", t.id, err)
	}
	t.meta = m
	return nil
}

// Loaded implements coord.Machine. Markers may have been sent before: sending
// them again changes nothing in partitions that have them.
func (t *Txn) Loaded(now time.Time) {
	// Answers to what an earlier life of the machine sent are not for this one,
	// be it under another coordinator epoch or just before.
	t.sending = int64(t.config().CoordinatorEpoch())<<32 + now.UnixMicro()&(1<<32-1)
	t.sendMarkers()
	t.settle(now)
}

// Handle implements coord.Machine.
func (t *Txn) Handle(now time.Time, r coord.Request) {
	if t.fenced || t.stopped {
		r.Refuse(t.refusal(messages.ErrNotCoordinator))
		return
	}
	switch r := r.(type) {
	case *txn.Init:
		t.initialize(now, r)
	case *txn.Add:
		t.add(now, r)
	case *txn.End:
		t.end(now, r)
	case *txn.Describe:
		t.describe(r)
	case *txn.FreshID:
		t.freshID(now, r)
	case *txn.MarkersWritten:
		t.markersWritten(now, r)
	default:
		invariant.That(false, "a transactional id cannot handle a %T", r)
	}
}

// Tick implements coord.Machine.
func (t *Txn) Tick(now time.Time) {
	if w := t.waiting; w != nil && !now.Before(w.until) {
		t.waiting = nil
		w.request.Refuse(fmt.Errorf("transactional id %q: no producer id for %v: %w",
			t.id, freshIDWait, messages.ErrUnavailable))
	}
	due := t.Due()
	if due.IsZero() || now.Before(due) || t.busy() {
		return
	}
	switch {
	case t.meta.state == txn.Ongoing:
		if tell := t.config().TimedOut; tell != nil {
			tell(t.id, t.meta.producer)
		}
		t.decide(t.meta.fence(toMs(now)), nil)
	case t.meta.prepared():
		t.settle(now)
	default:
		t.decide(nil, nil)
	}
}

// Due implements coord.Machine.
func (t *Txn) Due() time.Time {
	var due time.Time
	switch m := t.meta; {
	case t.stopped || t.fenced || t.staged != nil:
		return due
	case t.waiting != nil:
		return t.waiting.until
	case m == nil || m.prepared() && len(t.unmarked) > 0:
		return due
	case m.prepared():
		return t.retryAt
	case m.state == txn.Ongoing:
		due = fromMs(m.startedMs + messages.Timestamp(m.timeoutMs))
	default:
		due = fromMs(m.updatedMs).Add(t.config().IDExpiration)
	}
	if due.Before(t.retryAt) {
		return t.retryAt
	}
	return due
}

// TakeWrite implements coord.Machine.
func (t *Txn) TakeWrite() *coord.Write {
	if t.staged == nil || t.writing {
		return nil
	}
	t.writing = true
	record := coord.Record{Key: encodeKey(t.id)}
	if t.staged.next != nil {
		record.Value = t.staged.next.encodeValue()
	}
	return &coord.Write{
		Records:  []coord.Record{record},
		Producer: messages.NoProducerID, Epoch: noEpoch,
		Done: t.done,
	}
}

// Empty implements coord.Machine.
func (t *Txn) Empty() bool { return t.meta == nil && !t.busy() }

// Stop implements coord.Machine.
func (t *Txn) Stop(err error) {
	t.stopped = true
	if w := t.waiting; w != nil {
		t.waiting = nil
		w.request.Refuse(err)
	}
	if d := t.staged; d != nil {
		t.staged = nil
		d.tell(err)
	}
}

// busy reports that the state is about to change.
func (t *Txn) busy() bool { return t.waiting != nil || t.staged != nil }

// decide stages the state that follows; answer is told whether it is durable.
func (t *Txn) decide(next *meta, answer func(err error)) {
	invariant.That(!t.busy(), "transactional id %q decides while a decision is pending", t.id)
	t.meta.assertLeadsTo(next)
	t.staged = &staged{next: next, answer: answer}
}

// done ends a write. After a failed one the record may be in the log all the
// same, but nobody was told of it and no marker was sent: the state before goes
// on, and its next record replaces the lost one.
func (t *Txn) done(now time.Time, err error) {
	if t.stopped {
		return
	}
	d := t.staged
	invariant.That(t.writing, "transactional id %q: a write ends that was not taken", t.id)
	t.staged, t.writing = nil, false
	if err != nil {
		t.retryAt = now.Add(retryAfter)
		d.tell(fmt.Errorf("transactional id %q: %w", t.id, err))
		return
	}
	t.meta, t.retryAt = d.next, time.Time{}
	d.tell(nil)
	t.sendMarkers()
	t.settle(now)
}

func (d *staged) tell(err error) {
	if d.answer != nil {
		d.answer(err)
	}
}

// sendMarkers has the markers written if there is an outcome to tell.
func (t *Txn) sendMarkers() {
	if t.meta == nil || !t.meta.prepared() || len(t.meta.partitions) == 0 {
		return
	}
	t.sending++
	t.unmarked = make(map[messages.TopicPartition]bool, len(t.meta.partitions))
	for _, p := range t.meta.partitions {
		t.unmarked[p] = true
	}
	t.out.SendMarkers(txn.Markers{
		Sending:  t.sending,
		Producer: t.meta.producer, Epoch: t.meta.epoch,
		CoordinatorEpoch: t.config().CoordinatorEpoch(),
		Commit:           t.meta.state == txn.PrepareCommit,
		// The last epoch may be that of the transaction itself.
		Raised:     t.meta.v2 && t.meta.epoch < maxEpoch,
		Partitions: t.meta.partitions,
	})
}

func (t *Txn) markersWritten(now time.Time, r *txn.MarkersWritten) {
	if r.Sending != t.sending || t.meta == nil || !t.meta.prepared() {
		return // late: that transaction is over
	}
	if r.Err != nil {
		// The partition knows a newer coordinator or producer epoch, so this is
		// not the coordinator any more; its owner is about to find out.
		t.fenced = errors.Is(r.Err, txn.ErrCoordinatorFenced) ||
			errors.Is(r.Err, messages.ErrInvalidProducerEpoch)
		return
	}
	for _, p := range r.Partitions {
		delete(t.unmarked, p)
	}
	t.settle(now)
}

// settle completes the transaction when every partition has its marker.
func (t *Txn) settle(now time.Time) {
	done := t.meta != nil && t.meta.prepared() && len(t.unmarked) == 0
	if !done || t.busy() || t.fenced || now.Before(t.retryAt) {
		return
	}
	t.decide(t.meta.complete(toMs(now)), nil)
}

// refusal names the id in an error.
func (t *Txn) refusal(err error) error { return fmt.Errorf("transactional id %q: %w", t.id, err) }

func toMs(t time.Time) messages.Timestamp   { return messages.Timestamp(t.UnixMilli()) }
func fromMs(t messages.Timestamp) time.Time { return time.UnixMilli(int64(t)) }
