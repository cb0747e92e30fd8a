package clientlib

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// fedSource is a consumer for Process: it hands out what feed was given, and remembers what
// it was told.
type fedSource struct {
	mu       sync.Mutex
	more     chan struct{} // closed and made anew when there may be something to hand out
	queue    [][]*Record
	err      error // of next, when the queue is empty
	marks    map[Partition]int64
	epochs   map[Partition]int32
	paused   map[Partition]bool
	rewound  map[Partition]int64
	commits  int
	handedTo int // how often next returned records

	draining func(ctx context.Context, ps []Partition)
	lost     func(ps []Partition)
}

func newFedSource(batches ...[]*Record) *fedSource {
	return &fedSource{
		more: make(chan struct{}), queue: batches,
		marks: map[Partition]int64{}, epochs: map[Partition]int32{},
		paused: map[Partition]bool{}, rewound: map[Partition]int64{},
	}
}

// locked calls f while nothing changes, and has next look again.
func (s *fedSource) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.more)
	s.more = make(chan struct{})
}

func (s *fedSource) feed(records ...*Record) {
	s.locked(func() { s.queue = append(s.queue, records) })
}

func (s *fedSource) next(ctx context.Context) ([]*Record, error) {
	for {
		records, more, err := s.look()
		if records != nil || err != nil {
			return records, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-more:
		}
	}
}

func (s *fedSource) look() ([]*Record, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, records := range s.queue {
		if !s.paused[partitionOf(records[0])] {
			s.queue = slices.Delete(s.queue, i, i+1)
			s.handedTo++
			return records, nil, nil
		}
	}
	if len(s.queue) == 0 && s.err != nil {
		return nil, nil, s.err
	}
	return nil, s.more, nil
}

func (s *fedSource) finished() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func partitionOf(r *Record) Partition { return Partition{r.Topic, r.Partition} }

func (s *fedSource) hooks(
	draining func(ctx context.Context, ps []Partition), lost func(ps []Partition),
) {
	s.locked(func() { s.draining, s.lost = draining, lost })
}

func (s *fedSource) handled(p Partition, next int64, epoch int32) {
	s.locked(func() {
		if next <= s.marks[p] {
			panic(fmt.Sprintf("the mark of %v goes from %d to %d", p, s.marks[p], next))
		}
		s.marks[p], s.epochs[p] = next, epoch
	})
}

func (s *fedSource) commitNow(context.Context) error {
	s.locked(func() { s.commits++ })
	return nil
}

func (s *fedSource) rewind(p Partition, next int64) {
	s.locked(func() { s.rewound[p] = next })
}

func (s *fedSource) pause(ps ...Partition) {
	s.locked(func() {
		for _, p := range ps {
			s.paused[p] = true
		}
	})
}

func (s *fedSource) resume(ps ...Partition) {
	s.locked(func() {
		for _, p := range ps {
			delete(s.paused, p)
		}
	})
}

// mark is what is handled of a partition of "orders".
func (s *fedSource) mark(partition int32) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[Partition{"orders", partition}]
}

func (s *fedSource) isPaused(partition int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused[Partition{"orders", partition}]
}

// keptBox is a dead-letter topic that may refuse.
type keptBox struct {
	mu      sync.Mutex
	refuse  error
	asked   []time.Time
	letters []*Record
	closed  bool
}

func (b *keptBox) send(_ context.Context, r *Record, done func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, time.Now())
	err := b.refuse
	if err == nil {
		b.letters = append(b.letters, r)
	}
	go done(err) // by another goroutine, as a producer does it
}

func (b *keptBox) close(context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *keptBox) all() []*Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.letters)
}

// orders makes records of a partition of the topic "orders", one for each key, with the
// offsets from first on.
func orders(partition int32, first int64, keys ...string) []*Record {
	var records []*Record
	for i, key := range keys {
		r := &Record{
			Topic: "orders", Partition: partition, Offset: first + int64(i),
			Value: []byte("value"), epoch: int32(first) + int32(i),
			Time: time.UnixMilli(1_700_000_000_000 + int64(i)),
		}
		if key != "" {
			r.Key = []byte(key)
		}
		records = append(records, r)
	}
	return records
}

// processing is a processor that runs.
type processing struct {
	*processor
	box    *keptBox
	cancel context.CancelFunc
	result chan error
}

// start runs a processor until stop.
func startProcess(t *testing.T, s source, cfg ConsumerConfig, o processOptions) *processing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	run := &processing{
		processor: newProcessor(s, cfg, o), box: &keptBox{}, cancel: cancel,
		result: make(chan error, 1),
	}
	run.processor.box = run.box
	go func() { run.result <- run.run(ctx) }()
	return run
}

// stop ends the processor by its context and returns what it returned.
func (run *processing) stop() error {
	run.cancel()
	return <-run.result
}

// one are options of Process.
func one(handler func(ctx context.Context, r *Record) error) processOptions {
	return processOptions{one: handler}
}

// calls remembers what handlers were called with.
type calls struct {
	mu    sync.Mutex
	names []string
	times []time.Time
}

func (c *calls) add(r *Record) (times int) {
	name := fmt.Sprintf("%s@%d/%d", r.Key, r.Partition, r.Offset)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, name)
	c.times = append(c.times, time.Now())
	for _, n := range c.names {
		if n == name {
			times++
		}
	}
	return times
}

func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.names)
}

// letPass lets time pass in the bubble of a test.
func letPass(d time.Duration) { <-time.After(d) }
