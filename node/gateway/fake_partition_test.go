package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/node/door"
)

func batch(t testing.TB, values ...string) []byte {
	t.Helper()
	b := record.NewBuilder(record.Compression{})
	for _, v := range values {
		b.Append(1000, nil, []byte(v))
	}
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return built.Bytes
}

// errPanic as the error of a partition has reads panic.
var errPanic = errors.New("panic")

// fakePartition is one partition's log in memory.
type fakePartition struct {
	door.Partition // what a test does not need

	mu      sync.Mutex
	batches []record.Batch
	start   messages.Offset
	held    []*data.Append // while hold is set: handed over and not appended
	hold    bool
	asks    bool // about transactional batches
	fresh   bool // the last one that was asked about has an epoch of its own
	// undecided is how many of the last records are of open transactions.
	undecided int
	err       error
	block     chan struct{} // reads wait until it is closed
	reading   int
	settings  configs.TopicSettings
	waiters   map[*fakeWaiter]struct{}
	aborted   []data.AbortedTxn
}

type fakeWaiter struct {
	visible messages.Offset
	notify  func()
}

func newFakePartition() *fakePartition {
	settings := configs.ForTopic(nil, nil)
	settings.MaxMessageBytes = 64 << 20
	return &fakePartition{settings: settings, waiters: map[*fakeWaiter]struct{}{}}
}

func (p *fakePartition) end() messages.Offset {
	if n := len(p.batches); n > 0 {
		return p.batches[n-1].NextOffset()
	}
	return p.start
}

func (p *fakePartition) Settings() *configs.TopicSettings { return &p.settings }

func (p *fakePartition) Append(a *data.Append) {
	p.mu.Lock()
	if p.hold {
		p.held = append(p.held, a)
		p.mu.Unlock()
		return
	}
	if p.asks && a.Verify != nil {
		p.fresh = a.FreshEpoch
		p.mu.Unlock()
		a.Verify(func(err error) {
			if err != nil {
				a.Done(data.AppendResult{Err: err, BaseOffset: -1, LogAppendTime: -1, LogStart: -1})
				return
			}
			p.mu.Lock()
			p.appendLocked(a)
		})
		return
	}
	p.appendLocked(a)
}

// appendLocked gives mu back.
func (p *fakePartition) appendLocked(a *data.Append) {
	res := data.AppendResult{BaseOffset: -1, LogAppendTime: -1, LogStart: -1, Err: p.err,
		Leader: data.LeaderHint{Leader: messages.NoNode}}
	var woken []*fakeWaiter
	if p.err == nil {
		a.Batch.Stamp(p.end(), 3)
		res.BaseOffset, res.LogStart = a.Batch.BaseOffset, p.start
		kept := a.Batch
		kept.Bytes = slices.Clone(kept.Bytes) // they are not the leader's after Done
		p.batches = append(p.batches, kept)
		for w := range p.waiters {
			woken = append(woken, w)
		}
		clear(p.waiters)
	}
	p.mu.Unlock()
	a.Done(res)
	for _, w := range woken {
		w.notify()
	}
}

// release appends what was held.
func (p *fakePartition) release() {
	p.mu.Lock()
	held := p.held
	p.held, p.hold = nil, false
	p.mu.Unlock()
	for _, a := range held {
		p.Append(a)
	}
}

func (p *fakePartition) holding() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

func (p *fakePartition) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiters)
}

func (p *fakePartition) values(t *testing.T) (all []string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.batches {
		all = append(all, valuesOf(t, p.batches[i].Bytes)...)
	}
	return all
}

// valuesOf reads the values of whole batches.
func valuesOf(t *testing.T, b []byte) (all []string) {
	t.Helper()
	for len(b) > 0 {
		h, err := record.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		one := record.Batch{Header: h, Bytes: b[:12+h.Length]}
		b = b[len(one.Bytes):]
		for r, err := range record.Records(&one, record.InflateLimit) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(r.Value))
		}
	}
	return all
}

func (p *fakePartition) Read(q data.Read) data.ReadResult {
	p.mu.Lock()
	p.reading++
	block := p.block
	p.mu.Unlock()
	if block != nil {
		<-block
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading--
	r := data.ReadResult{HighWatermark: p.end(),
		LastStable: p.visible(data.ReadCommitted), LogStart: p.start, Err: p.err,
		Leader: data.LeaderHint{Leader: messages.NoNode}, Aborted: p.aborted}
	if p.err == errPanic {
		panic("the partition has a bug")
	}
	if r.Err != nil {
		return r
	}
	if q.From > p.end() || q.From < p.start {
		r.Err = messages.ErrOffsetOutOfRange
		return r
	}
	for _, b := range p.batches {
		if b.NextOffset() <= q.From {
			continue
		}
		if b.BaseOffset >= p.visible(q.Isolation) {
			break
		}
		if r.View.Bytes > 0 && r.View.Bytes+b.Size() > q.MaxBytes {
			break
		}
		r.View.Extents = append(r.View.Extents, messages.Extent{Mem: slices.Clone(b.Bytes)})
		r.View.Extents[len(r.View.Extents)-1].Len = b.Size()
		r.View.Bytes += b.Size()
	}
	return r
}

// visible is how far a reader may see.
func (p *fakePartition) visible(i data.Isolation) messages.Offset {
	if i == data.ReadCommitted {
		return p.end() - messages.Offset(p.undecided)
	}
	return p.end()
}

// decide ends all transactions.
func (p *fakePartition) decide() {
	p.mu.Lock()
	p.undecided = 0
	var woken []*fakeWaiter
	for w := range p.waiters {
		if p.end() > w.visible {
			woken = append(woken, w)
			delete(p.waiters, w)
		}
	}
	p.mu.Unlock()
	for _, w := range woken {
		w.notify()
	}
}

func (p *fakePartition) isReading() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reading > 0
}

func (p *fakePartition) Await(i data.Isolation, visible messages.Offset, notify func()) func() {
	p.mu.Lock()
	if p.visible(i) > visible || p.err != nil {
		p.mu.Unlock()
		notify()
		return func() {}
	}
	w := &fakeWaiter{visible, notify}
	p.waiters[w] = struct{}{}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiters, w)
	}
}

func (p *fakePartition) ByTimestamp(_ context.Context, t messages.Timestamp, _ data.Isolation,
	_ messages.LeaderEpoch) (data.TimestampOffset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := data.TimestampOffset{Timestamp: -1, Offset: p.start, Epoch: 3}
	if t == data.TimestampLatest {
		at.Offset = p.end()
	}
	return at, p.err
}

func (p *fakePartition) DeleteRecords(_ context.Context, before messages.Offset) (
	messages.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before == messages.NoOffset {
		before = p.end()
	}
	p.start = before
	return before, p.err
}
