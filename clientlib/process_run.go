package clientlib

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/lanes"
)

const (
	batchRecords  = 500 // of ProcessBatches, at most
	claimMost     = 32  // records that a worker takes at once
	claimFast     = 5 * time.Microsecond
	openLeast     = 4096             // records of a partition that wait before it is paused
	openPerWorker = 4                // or this many for each handler
	windowOffsets = 100_000          // handled again after a crash, at most
	fillTimeout   = 10 * time.Second // for what stands below what was begun
	endTimeout    = 5 * time.Second
)

// source is what processing needs of a Consumer, which says what the methods do.
type source interface {
	hooks(draining func(ctx context.Context, ps []Partition), lost func(ps []Partition))
	next(ctx context.Context) ([]*Record, error)
	handled(p Partition, next int64, epoch int32)
	commitNow(ctx context.Context) error
	finished() error
	rewind(p Partition, next int64)
	pause(ps ...Partition)
	resume(ps ...Partition)
}

type processOptions struct {
	one   func(ctx context.Context, r *Record) error    // or
	many  func(ctx context.Context, rs []*Record) error // of a partition
	order Order
}

// job is what the lanes hold: a record, or several.
type job struct {
	record  *Record
	records []*Record // instead
	dead    *letters  // what cannot be handled; nil: nothing yet
}

// share is a partition as long as it is assigned.
type share struct {
	Partition
	ctx    context.Context // of its handlers
	cancel context.CancelFunc
}

type (
	task    = lanes.Task[*share, job]
	holding = lanes.Partition[*share, job]
)

// processor runs handlers. A feeder takes records from the source into the lanes, workers
// take them out, and run itself waits for what is to be tried again. The hooks are called
// by the consumer's goroutine.
type processor struct {
	source  source
	cfg     ConsumerConfig
	options processOptions
	box     letterbox
	seed    maphash.Seed
	logger  *slog.Logger
	mishaps *mishaps

	handlers context.Context    // of all handlers; it outlives that of run
	cancel   context.CancelFunc // has run wind down
	rearm    chan struct{}      // something is to be tried again

	telling sync.Mutex // held while the source is told, so that marks do not go back
	news    []lanes.Change[*share, job]

	intake              // its mu guards what follows
	work     *sync.Cond // something is ready, or it stops
	lanes    *lanes.Lanes[*share, job]
	parts    map[Partition]*holding
	going    map[Partition]bool  // are being given up
	winding  bool                // nothing is taken in any more
	unread   map[Partition]int64 // what came all the same begins there
	stopping bool                // nothing is begun any more
	idle     int                 // workers that wait
	starved  bool                // the feeder waits for room
	posted   int                 // tasks whose letters are under way
	failure  error               // what run returns
	mute     bool                // letters cannot be written, which was said
}

// processor returns one over the consumer's own source, letterbox and logger.
func (c *Consumer) processor(o processOptions) *processor {
	p := newProcessor(c, c.cfg, o)
	p.logger, p.mishaps = c.log, &c.mishaps
	p.box = &clientBox{client: c.client}
	return p
}

// newProcessor returns a processor that writes no dead letters yet: box is to be set.
func newProcessor(s source, cfg ConsumerConfig, o processOptions) *processor {
	cfg = processDefaults(cfg)
	open := max(openLeast, openPerWorker*cfg.Concurrency)
	p := &processor{
		source: s, cfg: cfg, options: o, seed: maphash.MakeSeed(),
		logger: slog.New(slog.DiscardHandler), mishaps: &mishaps{},
		rearm: make(chan struct{}, 1),
		lanes: lanes.New[*share, job](lanes.Limits{Open: open, Window: windowOffsets}),
		parts: map[Partition]*holding{}, going: map[Partition]bool{},
		unread: map[Partition]int64{},
	}
	p.work, p.quiet = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	return p
}

// processDefaults are the settings with what 0 means.
func processDefaults(cfg ConsumerConfig) ConsumerConfig {
	orElse(&cfg.Concurrency, 16)
	orElse(&cfg.Retry.Attempts, 5)
	orElse(&cfg.Retry.Backoff, 100*time.Millisecond)
	orElse(&cfg.Retry.MaxBackoff, 10*time.Second)
	orElse(&cfg.BufferBytes, 32<<20)
	return cfg
}

func orElse[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// run processes until ctx ends, the source does, or fail is called.
func (p *processor) run(ctx context.Context) error {
	feeding, cancel := context.WithCancel(ctx)
	defer cancel()
	p.cancel = cancel
	handlers, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	p.handlers = handlers
	p.source.hooks(p.draining, p.lost)
	defer p.source.hooks(nil, nil)
	var running sync.WaitGroup
	running.Go(func() { p.feed(feeding) })
	for range p.cfg.Concurrency {
		running.Go(p.labour)
	}
	p.retryUntil(feeding)
	p.windDown(over)
	running.Wait()
	return p.end(ctx)
}

// warn tells an operator.
func (p *processor) warn(text string, err error) {
	p.logger.Warn(text, "group", p.cfg.Group, "error", err)
}

// fail ends the processing with an error.
func (p *processor) fail(err error) {
	p.mu.Lock()
	if p.failure == nil {
		p.failure = err
	}
	p.mu.Unlock()
	p.cancel()
}

// retryUntil makes ready what is to be tried again when it is due, until ctx ends.
func (p *processor) retryUntil(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		due, some := p.lanes.Wake(time.Now())
		if p.lanes.Ready() > 0 {
			p.work.Signal()
		}
		p.mu.Unlock()
		if some {
			timer.Reset(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-p.rearm:
		}
	}
}

// feed hands records from the source to the lanes until ctx ends.
func (p *processor) feed(ctx context.Context) {
	for {
		asking, ok := p.mayFeed(ctx)
		if !ok {
			return
		}
		records, err := p.source.next(asking)
		interrupted := asking.Err() != nil
		p.mu.Lock()
		p.took()
		p.offer(records)
		if p.lanes.Ready() > 0 {
			p.work.Signal()
		}
		p.mu.Unlock()
		p.tell()
		if err == nil || interrupted {
			continue
		}
		if end := p.source.finished(); end != nil {
			p.awaitClose(end)
			p.fail(end)
			return
		}
		p.warn("a partition cannot be read; it is tried again", err)
	}
}

// awaitClose waits, if the consumer is being closed, until it has given all partitions up.
func (p *processor) awaitClose(end error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for errors.Is(end, ErrClosed) && len(p.parts) > 0 && !p.winding {
		p.quiet.Wait()
	}
}

// mayFeed waits until there is room and no hook keeps the feeder, and returns the context
// to ask for more with.
func (p *processor) mayFeed(ctx context.Context) (context.Context, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starved = p.lanes.Bytes() >= p.cfg.BufferBytes
	for !p.winding && ctx.Err() == nil && (p.holds > 0 || p.starved) {
		p.quiet.Wait()
	}
	if p.winding || ctx.Err() != nil {
		return nil, false
	}
	return p.ask(ctx), true
}

// offer takes records into the lanes. The caller holds mu.
func (p *processor) offer(records []*Record) {
	for len(records) > 0 {
		at := Partition{records[0].Topic, records[0].Partition}
		n := 1
		for n < len(records) && records[n].Partition == at.Index && records[n].Topic == at.Topic {
			n++
		}
		switch _, unread := p.unread[at]; {
		case p.going[at]:
		case !p.winding:
			p.offerTo(p.part(at, records[0].Offset), records[:n])
		case !unread:
			p.unread[at] = records[0].Offset
		}
		records = records[n:]
	}
}

func (p *processor) offerTo(to *holding, records []*Record) {
	if p.options.many == nil {
		for _, r := range records {
			p.lanes.Offer(to, p.span(r), job{record: r})
		}
		return
	}
	for chunk := range slices.Chunk(records, batchRecords) {
		p.lanes.Offer(to, batchSpan(chunk), job{records: chunk})
	}
}

// part is where records of a partition go. If it was read on from an earlier place, it is
// begun anew. The caller holds mu.
func (p *processor) part(at Partition, offset int64) *holding {
	old := p.parts[at]
	if old != nil && offset >= old.End() {
		return old
	}
	if old != nil {
		p.lanes.Lose(old)
		old.Owner.cancel()
	}
	s := &share{Partition: at}
	s.ctx, s.cancel = context.WithCancel(p.handlers)
	p.parts[at] = lanes.NewPartition[*share, job](s)
	return p.parts[at]
}

func (p *processor) span(r *Record) lanes.Span {
	span := lanes.Span{
		First: r.Offset, Last: r.Offset, Records: 1, Bytes: len(r.Key) + len(r.Value),
		Epoch: r.epoch,
	}
	switch {
	case p.options.order == ByPartition:
	case r.Key == nil:
		span.Free = true
	default:
		span.Lane = maphash.Bytes(p.seed, r.Key)
	}
	return span
}

func batchSpan(records []*Record) lanes.Span {
	last := records[len(records)-1]
	span := lanes.Span{
		First: records[0].Offset, Last: last.Offset, Records: len(records), Epoch: last.epoch,
	}
	for _, r := range records {
		span.Bytes += len(r.Key) + len(r.Value)
	}
	return span
}

// tell has the source know what is handled, and what is to be paused or read on.
func (p *processor) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	p.lanes.Changes(func(c lanes.Change[*share, job]) { p.news = append(p.news, c) })
	p.mu.Unlock()
	for i, c := range p.news {
		at := c.Partition.Owner.Partition
		if c.Moved {
			p.source.handled(at, c.Mark.Offset, c.Mark.Epoch)
		}
		if c.Pause {
			p.source.pause(at)
		}
		if c.Resume {
			p.source.resume(at)
		}
		p.news[i] = lanes.Change[*share, job]{}
	}
	p.news = p.news[:0]
}

// backoff is before the attempt after so many.
func backoff(r Retry, tries int) time.Duration {
	wait := r.Backoff
	for i := 1; i < tries && wait < r.MaxBackoff; i++ {
		wait *= 2
	}
	wait = min(wait, r.MaxBackoff)
	return wait/2 + rand.N(wait/2+1)
}
