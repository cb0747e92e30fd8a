package clientlib

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/outgoing"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

var errProducerClosed = fmt.Errorf("the producer: %w", ErrClosed)

// Producer sends records. It gathers them in batches, one being filled for each
// partition, sends those to the partitions' leaders, and sends again what fails, in order,
// as long as DeliveryTimeout allows. Any goroutine may call its methods.
//
// Unless NotIdempotent is set, each record that is acknowledged is in its partition once,
// behind those that were sent to the partition before.
type Producer struct {
	client *Client
	link   cluster
	cfg    ProducerConfig
	mode   outgoing.Mode
	room   room

	headersSize int // of cfg.Headers in a record
	counts      producerCounts

	mu     sync.RWMutex
	topics map[string]*sendTopic // nil once the producer is closed

	ended atomic.Pointer[endOfProducer] // set: nothing is sent any more
	open  context.Context               // until Close begins
	shut  context.CancelFunc            // ends it
	begun atomic.Bool                   // Close was called

	inbox  inbox  // of the loop
	outbox outbox // of the goroutine that calls back
	loop   sendLoop

	payloads chan *payload // to be used again

	background context.Context // of what the loop has others do
	cancel     context.CancelFunc
	work       sync.WaitGroup

	txn producerTxn
}

type endOfProducer struct{ err error }

// NewProducer returns a Producer that sends as cfg says. It fails with ErrConfig, naming
// the setting, if that cannot be. It waits for the producer id that idempotence needs,
// until ctx ends; with a TransactionalID it shuts out the producer that had it before and
// aborts the transaction that one left open.
func (c *Client) NewProducer(ctx context.Context, cfg ProducerConfig) (*Producer, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	cfg.Headers, cfg.Interceptors = slices.Clone(cfg.Headers), slices.Clone(cfg.Interceptors)
	p := &Producer{client: c, link: c.link, cfg: cfg, topics: map[string]*sendTopic{},
		payloads: make(chan *payload, keeps(&cfg))}
	switch {
	case cfg.TransactionalID != "":
		p.mode = outgoing.Transactional
	case !cfg.NotIdempotent:
		p.mode = outgoing.Idempotent
	}
	for _, h := range cfg.Headers {
		p.headersSize += record.HeaderSizeOf(len(h.Key), h.Value)
	}
	p.room.limit = cfg.BufferBytes
	p.inbox.signal = make(chan struct{}, 1)
	p.outbox.signal = make(chan struct{}, 1)
	p.background, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.open, p.shut = context.WithCancel(p.background)
	if p.mode != outgoing.Plain {
		who, err := p.initialize(ctx, noIdentity)
		if err != nil {
			p.cancel()
			return nil, fmt.Errorf("producer id: %w", err)
		}
		p.loop.who, p.loop.generation = who, 1
		p.txn.who = who
	}
	p.loop.init(p, runtime.GOMAXPROCS(0))
	p.work.Go(p.loop.run)
	p.work.Go(p.callBack)
	if err := c.register(p); err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

// Send sends a record and returns at once, or when there is room in the buffer, for which
// it waits until ctx ends; the first record of a topic also waits for where the topic is.
//
// done, unless it is nil, is called once: with the record, its Partition and Offset set,
// or with the error, which names topic and partition. It is called from one goroutine of
// the producer, for the records of a partition in the order in which they were sent. It
// must not block, but it may send. The record may be used again from then on. If done is
// nil, Flush returns that the record was not written.
//
// If Send itself returns an error, the record was not taken, and done is not called:
// ErrBufferFull, ErrTooLarge, ErrUnknownTopic, ErrInvalidTopic, ErrClosed, ErrFenced,
// ErrInvalidRequest for a transactional producer, which sends with its Transaction, or
// that of ctx. A Partitioner or Interceptor that panics does so here, before anything of
// the record was taken.
func (p *Producer) Send(ctx context.Context, r *Record, done func(*Record, error)) error {
	return p.send(ctx, nil, r, done)
}

// Produce sends records and waits until they are acknowledged, or failed: the error is
// that of all that did, and each names its topic and partition. If ctx ends before, so
// does Produce, and it is not known whether the records will be there.
func (p *Producer) Produce(ctx context.Context, records ...*Record) error {
	return p.produce(ctx, nil, records)
}

func (p *Producer) produce(ctx context.Context, t *Transaction, records []*Record) error {
	w := &produceWait{done: make(chan struct{})}
	w.left.Store(1)
	done := w.one // one closure for all records
	for _, r := range records {
		w.left.Add(1)
		if err := p.send(ctx, t, r, done); err != nil {
			w.one(r, fmt.Errorf("topic %q: %w", r.Topic, err))
			if ctx.Err() != nil {
				break
			}
		}
	}
	w.one(nil, nil)
	select {
	case <-w.done:
		return errors.Join(w.errs...)
	case <-ctx.Done():
		return fmt.Errorf("records may still be written: %w", ctx.Err())
	}
}

// produceWait waits for the records of one call of Produce.
type produceWait struct {
	left atomic.Int64
	done chan struct{}
	mu   sync.Mutex
	errs []error
}

func (w *produceWait) one(_ *Record, err error) {
	if err != nil {
		w.mu.Lock()
		if n := len(w.errs); n == 0 || w.errs[n-1] != err { //nolint:errorlint // the same value
			w.errs = append(w.errs, err)
		}
		w.mu.Unlock()
	}
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
}

// Go sends a record as Send does and returns its future. An error of Send is the future's.
func (p *Producer) Go(ctx context.Context, r *Record) *Future {
	return p.future(ctx, nil, r)
}

func (p *Producer) future(ctx context.Context, t *Transaction, r *Record) *Future {
	f := &Future{done: make(chan struct{})}
	if err := p.send(ctx, t, r, f.complete); err != nil {
		f.complete(r, err)
	}
	return f
}

// Future is a record on its way. Any goroutine may call its methods.
type Future struct {
	done chan struct{}
	err  error // once done is closed
}

func (f *Future) complete(_ *Record, err error) {
	f.err = err
	close(f.done)
}

// Wait waits until the record is acknowledged, and returns nil, or why it was not. It
// ends with ctx; the record is on its way all the same then.
func (f *Future) Wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done is closed once Wait does not wait any more.
func (f *Future) Done() <-chan struct{} { return f.done }

// Flush sends what waits for its batch to fill, and waits until all records that were
// sent before the call are acknowledged or failed and their callbacks were called. It
// returns an error if records without a callback failed since the last Flush, and ends
// with ctx. It must not be called by a callback.
func (p *Producer) Flush(ctx context.Context) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	return p.outbox.takeLost()
}

// flush is Flush without its verdict.
func (p *Producer) flush(ctx context.Context) error {
	f := &flusher{done: make(chan struct{})}
	p.inbox.post(func() { p.loop.flush(f) })
	select {
	case <-f.done:
		return nil
	case <-p.loop.stopped:
		return errProducerClosed
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", ctx.Err())
	}
}

// Close ends a transaction that is open by aborting it, flushes, and stops the producer.
// When ctx ends before that is done, records that are not acknowledged fail with
// ErrClosed; they may be in their topic all the same. Sends fail with ErrClosed from the
// beginning. A second call does nothing. It must not be called by a callback, and returns
// only after the last callback did.
func (p *Producer) Close(ctx context.Context) error {
	if p.begun.Swap(true) {
		return nil
	}
	p.ended.CompareAndSwap(nil, &endOfProducer{errProducerClosed})
	p.shut() // nobody begins a transaction any more, nor waits for room
	p.txn.abandon(ctx)
	err := p.flush(ctx)
	p.inbox.post(p.loop.end)
	<-p.loop.stopped
	p.cancel()
	p.mu.Lock()
	topics := p.topics
	p.topics = nil
	p.mu.Unlock()
	for _, t := range topics {
		t.unwatch()
	}
	p.outbox.put(delivery{last: true})
	p.work.Wait()
	p.client.forget(p)
	return errors.Join(err, p.outbox.takeLost())
}

// end has everything that is sent from now on fail with err.
func (p *Producer) end(err error) { p.ended.CompareAndSwap(nil, &endOfProducer{err}) }

func (p *Producer) endErr() error {
	if e := p.ended.Load(); e != nil {
		return e.err
	}
	return nil
}

// now is the time of a record that has none.
func now(r *Record) (messages.Timestamp, time.Time) {
	at := time.Now()
	if r.Time.IsZero() {
		return messages.Timestamp(at.UnixMilli()), at
	}
	return messages.Timestamp(r.Time.UnixMilli()), at
}
