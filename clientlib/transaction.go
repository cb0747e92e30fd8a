package clientlib

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
)

// abortPatience bounds the abort of a transaction whose context has ended.
const abortPatience = 10 * time.Second

var (
	// errTxnFailed is why records are not sent any more in a transaction that failed.
	errTxnFailed = fmt.Errorf("the transaction cannot be committed any more: %w", ErrAborted)
	// errTxnCommitted: an abort came too late.
	errTxnCommitted = fmt.Errorf("the transaction is committed: %w", ErrInvalidRequest)
)

// Transaction is a set of records, in any partitions, and positions of consumer groups
// that become visible together once it is committed, or never. A Producer with a
// TransactionalID begins it, one after the other. Any goroutine may call its methods.
type Transaction struct {
	p    *Producer
	open atomic.Bool // takes records
	used atomic.Bool // the cluster may know of it

	mu     sync.Mutex
	cause  error // why it has to be aborted
	ending bool  // Commit or Abort runs
	asked  bool  // for the commit, and there was no answer
	over   bool
}

// producerTxn is what a producer knows of its transactions.
type producerTxn struct {
	mu     sync.Mutex
	who    identity // of the next one
	renew  bool     // who may be outdated
	latest *Transaction
}

// Begin begins a transaction. It fails with ErrInvalidRequest if the one before is not
// over or the producer has no TransactionalID, with ErrFenced if another producer has the
// id by now, and with ErrClosed.
func (p *Producer) Begin(ctx context.Context) (*Transaction, error) {
	if err := p.endErr(); err != nil {
		return nil, err
	}
	if p.mode != outgoing.Transactional {
		return nil, fmt.Errorf("the producer has no TransactionalID: %w", ErrInvalidRequest)
	}
	x := &p.txn
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.latest != nil && !x.latest.isOver() {
		return nil, fmt.Errorf("a transaction is open, end it before the next: %w", ErrInvalidRequest)
	}
	if err := x.renewed(ctx, p); err != nil {
		return nil, err
	}
	if err := p.endErr(); err != nil { // Close looks for an open one after this
		return nil, err
	}
	t := &Transaction{p: p}
	t.open.Store(true)
	x.latest = t
	who := x.who
	p.inbox.post(func() { p.loop.begin(t, who) })
	return t, nil
}

// renewed asks for the identity of the next transaction, if it is not known. The caller has
// the lock, for which Close waits.
func (x *producerTxn) renewed(ctx context.Context, p *Producer) error {
	if !x.renew {
		return nil
	}
	ctx, cancel := during(p.open, ctx)
	defer cancel()
	who, err := p.initialize(ctx, x.who)
	if ended := p.endErr(); ended != nil {
		return ended
	}
	if err != nil {
		return p.txnError(err)
	}
	x.who, x.renew = who, false
	return nil
}

// Transact calls f in a transaction and commits it if f returns nil. If f returns an
// error, Transact aborts and returns that error; if f panics, it aborts too. An error that
// is ErrAborted says that nothing of the transaction counts and it may be tried again. An
// error that comes from the end of ctx during the commit leaves open what became of it,
// unless it is ErrAborted, too.
func (p *Producer) Transact(ctx context.Context, f func(*Transaction) error) error {
	t, err := p.Begin(ctx)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			_ = t.abortSoon(ctx) // f panics; the transaction times out at the latest
		}
	}()
	err = f(t)
	returned = true
	if err != nil {
		if failed := t.abortSoon(ctx); failed != nil && !errors.Is(failed, ErrClosed) {
			return errors.Join(err, fmt.Errorf("aborting: %w", failed))
		}
		return err
	}
	err = t.Commit(ctx)
	if err == nil || t.isOver() {
		return err
	}
	switch failed := t.abortSoon(ctx); {
	case errors.Is(failed, errTxnCommitted):
		return nil
	case failed != nil:
		return errors.Join(err, fmt.Errorf("aborting: %w", failed))
	case errors.Is(err, ErrAborted):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrAborted, err)
	}
}

// abortSoon is Abort also if ctx has ended.
func (t *Transaction) abortSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortPatience)
	defer cancel()
	return t.Abort(ctx)
}

// Send sends a record in the transaction; see Producer.Send. It fails with ErrAborted if
// the transaction cannot be committed any more. That a record was not written is told by
// Commit, and not by Flush.
func (t *Transaction) Send(ctx context.Context, r *Record, done func(*Record, error)) error {
	return t.p.send(ctx, t, r, done)
}

// Produce sends records in the transaction and waits for them; see Producer.Produce. They
// are visible only when the transaction is committed.
func (t *Transaction) Produce(ctx context.Context, records ...*Record) error {
	return t.p.produce(ctx, t, records)
}

// Commit waits for the records of the transaction and commits it. It fails with
// ErrAborted if a record was not written: call Abort then. If it fails with ErrFenced the
// transaction was aborted by whom the id belongs to now, and the producer can only be
// closed. After any other error, such as that of ctx, call Commit again to learn what
// became of it, or Abort.
func (t *Transaction) Commit(ctx context.Context) error {
	if err := t.begin(); err != nil {
		return err
	}
	defer t.rest()
	if err := t.p.flush(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := t.failure(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if !t.used.Load() {
		t.finish()
		return nil
	}
	if err := t.end(ctx, true); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Abort ends the transaction so that nothing of it counts: records that are under way
// fail with ErrAborted. It does nothing if the transaction is over. It fails with
// ErrFenced as Commit does; after any other error it may be called again, and at the
// latest TransactionTimeout after the first record the cluster aborts by itself.
func (t *Transaction) Abort(ctx context.Context) error {
	if t.isOver() {
		return nil
	}
	if err := t.begin(); err != nil {
		return err
	}
	defer t.rest()
	t.fail(fmt.Errorf("it was given up: %w", ErrAborted))
	p := t.p
	p.inbox.post(func() { p.loop.abandon(errTxnFailed) })
	if err := p.flush(ctx); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	if !t.used.Load() {
		t.finish()
		return nil
	}
	if err := t.end(ctx, false); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	return nil
}

// begin begins to end the transaction: no records are taken from now on.
func (t *Transaction) begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ended := t.p.endErr(); (t.over || t.ending) && errors.Is(ended, ErrClosed) {
		return ended
	}
	if t.over || t.ending {
		return fmt.Errorf("the transaction has ended, or is being ended: %w", ErrInvalidRequest)
	}
	t.ending = true
	t.open.Store(false)
	return nil
}

// rest ends what begin began, whatever came of it.
func (t *Transaction) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = false
}

func (t *Transaction) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

func (t *Transaction) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// fail notes that the transaction cannot be committed, and reports whether that is new.
func (t *Transaction) fail(cause error) bool {
	t.open.Store(false)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != nil {
		return false
	}
	t.cause = cause
	return true
}

// failure is why the transaction has to be aborted.
func (t *Transaction) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.cause == nil:
		return nil
	case errors.Is(t.cause, ErrAborted):
		return t.cause
	default:
		return fmt.Errorf("%w: %w", ErrAborted, t.cause)
	}
}

// refusal is why the transaction takes no records.
func (t *Transaction) refusal() error {
	if t.open.Load() {
		return nil
	}
	if err := t.failure(); err != nil {
		return err
	}
	return fmt.Errorf("the transaction has ended, or is being ended: %w", ErrInvalidRequest)
}

// end tells the coordinator, and learns the identity of the next transaction.
func (t *Transaction) end(ctx context.Context, commit bool) error {
	p, x := t.p, &t.p.txn
	x.mu.Lock()
	who := x.who
	x.mu.Unlock()
	asked := t.asks(commit)
	next := who
	err := patiently(ctx, func() error {
		resp, err := p.link.AskCoordinator(ctx, coord.Txn, p.cfg.TransactionalID,
			&wire.ClientRequest{Command: &wire.ClientRequest_EndTxn{EndTxn: &wire.ClientEndTxn{
				TransactionalId: p.cfg.TransactionalID, ProducerId: int64(who.id),
				ProducerEpoch: int32(who.epoch), Commit: commit,
			}}})
		if err == nil {
			next = identityOf(resp.GetProducer())
		}
		return err
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil:
		x.who = next
		t.finish()
		return nil
	case p.fences(err):
		t.finish()
		return p.txnError(err)
	case !errors.Is(err, messages.ErrInvalidTxnState) && !errors.Is(err, txn.ErrAbortable):
		return err
	case commit:
		t.fail(err)
		t.mu.Lock()
		t.asked = false // and it was answered
		t.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrAborted, err)
	}
	// The epoch of the next transaction was in an answer that was lost.
	x.renew = true
	t.finish()
	if asked {
		return fmt.Errorf("%w (%w)", errTxnCommitted, err)
	}
	return err
}

// asks notes that the coordinator is asked to commit, and reports whether it was before.
func (t *Transaction) asks(commit bool) (before bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.asked
	t.asked = before || commit
	return before
}

// fences reports whether an error of the coordinator says that somebody else has the
// transactional id.
func (p *Producer) fences(err error) bool {
	return errors.Is(err, txn.ErrProducerFenced) || errors.Is(err, txn.ErrInvalidMapping) ||
		errors.Is(err, messages.ErrInvalidProducerEpoch)
}

// txnError is what an error of the coordinator means. If it fences, it ends the producer.
func (p *Producer) txnError(err error) error {
	if !p.fences(err) {
		return err
	}
	if !errors.Is(err, ErrFenced) {
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	}
	p.end(err)
	return err
}

// abandon aborts the transaction that is open when the producer is closed, if that can be
// done soon.
func (x *producerTxn) abandon(ctx context.Context) {
	x.mu.Lock()
	t := x.latest
	x.mu.Unlock()
	if t != nil {
		ctx, cancel := context.WithTimeout(ctx, abortPatience)
		defer cancel()
		_ = t.Abort(ctx) // else the cluster does it, when it has taken too long
	}
}

// begin has the lines send for a transaction.
func (l *sendLoop) begin(t *Transaction, who identity) {
	l.txn, l.who, l.abandoned = t, who, nil
	l.generation++
}

// abandon fails what is not sent yet of a transaction that cannot be committed.
func (l *sendLoop) abandon(err error) {
	l.abandoned = err
	l.everyPartition(l.closeOpen)
	for part := range l.active {
		part.line.Abandon(err)
		l.touch(part)
	}
}
