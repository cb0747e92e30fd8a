package kafka

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// fakePartition is one partition's log in memory. The high watermark follows
// the log end unless hold is set.
type fakePartition struct {
	reads  atomic.Int64 // calls of Read
	onRead func()       // nil, or called by Read

	mu        sync.Mutex
	epoch     messages.LeaderEpoch
	start     messages.Offset
	high      messages.Offset
	stable    messages.Offset // -1: the high watermark
	batches   []record.Batch
	aborted   []data.AbortedTxn
	waiters   map[*fakeWaiter]struct{}
	parked    []*data.Append // while pause is set: in order, not answered yet
	pause     bool
	asks      bool          // about the first batch of a transaction
	open      bool          // a transaction is open
	drop      bool          // keep no records: for benchmarks
	lends     bool          // it is the poster's to run
	stuck     chan struct{} // not nil: the poster runs it until that is closed
	taken     atomic.Int64
	left      atomic.Int64
	hold      bool
	config    *configs.TopicSettings // nil: does not lead
	err       error                  // of Append and Read while it is set
	logTime   messages.Timestamp
	diverge   *data.EpochEnd
	extents   func(b record.Batch) []messages.Extent // nil: one in memory
	producers []data.Producer
	views     atomic.Int64 // taken and not released
}

type fakeWaiter struct {
	isolation data.Isolation
	visible   messages.Offset
	notify    func()
}

func newFakePartition(epoch messages.LeaderEpoch) *fakePartition {
	settings := configs.ForTopic(nil, nil)
	return &fakePartition{epoch: epoch, stable: -1, logTime: messages.NoTimestamp,
		config:  &settings,
		waiters: map[*fakeWaiter]struct{}{}}
}

func (p *fakePartition) endLocked() messages.Offset {
	if n := len(p.batches); n > 0 {
		return p.batches[n-1].NextOffset()
	}
	return p.start
}

func (p *fakePartition) visibleLocked(i data.Isolation) messages.Offset {
	if i == data.ReadCommitted && p.stable >= 0 {
		return min(p.stable, p.high)
	}
	return p.high
}

// Append implements Partition.
func (p *fakePartition) Append(a *data.Append) {
	if p.lends {
		a.Turns(&fakeTurn{p, a})
		return
	}
	p.append(a)
}

// fakeTurn is an append that waits for the poster to run it.
type fakeTurn struct {
	p *fakePartition
	a *data.Append
}

// Take implements data.Turn.
func (t *fakeTurn) Take() {
	t.p.taken.Add(1)
	if t.p.stuck != nil {
		<-t.p.stuck
	}
	t.p.append(t.a)
}

// Leave implements data.Turn.
func (t *fakeTurn) Leave() {
	t.p.left.Add(1)
	go t.p.append(t.a)
}

func (p *fakePartition) append(a *data.Append) {
	p.mu.Lock()
	if p.pause {
		p.parked = append(p.parked, a)
		p.mu.Unlock()
		return
	}
	if p.asks && a.Verify != nil && !p.open {
		p.mu.Unlock()
		a.Verify(func(err error) { p.verified(a, err) })
		return
	}
	p.open = p.open || a.Verify != nil
	res := p.appendLocked(a)
	wake := p.wakeLocked()
	p.mu.Unlock()
	a.Done(res)
	notifyAll(wake)
}

// verified is what the coordinator said about a batch that begins a transaction.
func (p *fakePartition) verified(a *data.Append, err error) {
	if err != nil {
		a.Done(data.AppendResult{Err: err, BaseOffset: messages.NoOffset,
			LogAppendTime: messages.NoTimestamp, LogStart: messages.NoOffset})
		return
	}
	p.mu.Lock()
	p.open = true
	p.mu.Unlock()
	p.Append(a)
}

func (p *fakePartition) appendLocked(a *data.Append) data.AppendResult {
	res := data.AppendResult{BaseOffset: messages.NoOffset, LogAppendTime: p.logTime,
		LogStart: messages.NoOffset, Leader: data.LeaderHint{Leader: messages.NoNode}}
	if p.err != nil {
		res.Err = p.err
		return res
	}
	if p.drop {
		res.BaseOffset, res.LogStart = p.start, p.start
		return res
	}
	b := a.Batch
	b.Bytes = slices.Clone(b.Bytes) // the buffer goes back when Done runs
	b.Stamp(p.endLocked(), p.epoch)
	p.batches = append(p.batches, b)
	if !p.hold {
		p.high = p.endLocked()
	}
	res.BaseOffset, res.LogStart = b.BaseOffset, p.start
	return res
}

// resume appends what came in while pause was set.
func (p *fakePartition) resume() {
	p.mu.Lock()
	p.pause = false
	parked := p.parked
	p.parked = nil
	p.mu.Unlock()
	for _, a := range parked {
		p.Append(a)
	}
}

// edit changes the partition and wakes every waiter, as a new leadership would.
func (p *fakePartition) edit(f func(*fakePartition)) {
	p.mu.Lock()
	f(p)
	wake := slices.Collect(maps.Keys(p.waiters))
	clear(p.waiters)
	p.mu.Unlock()
	notifyAll(wake)
}

func (p *fakePartition) wakeLocked() (wake []*fakeWaiter) {
	for w := range p.waiters {
		if p.visibleLocked(w.isolation) > w.visible {
			wake = append(wake, w)
			delete(p.waiters, w)
		}
	}
	return wake
}

func notifyAll(ws []*fakeWaiter) {
	for _, w := range ws {
		w.notify()
	}
}

// Read implements Partition.
func (p *fakePartition) Read(r data.Read) data.ReadResult {
	p.reads.Add(1)
	p.mu.Lock()
	hook := p.onRead
	p.mu.Unlock()
	if hook != nil {
		hook()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	none := data.ReadResult{HighWatermark: -1, LastStable: -1, LogStart: -1,
		Leader: data.LeaderHint{Leader: messages.NoNode}}
	if p.err != nil {
		none.Err = p.err
		return none
	}
	if err := p.checkEpochLocked(r.CurrentEpoch); err != nil {
		none.Err = err
		none.Leader = data.LeaderHint{Leader: fakeNode, Epoch: p.epoch}
		return none
	}
	res := data.ReadResult{HighWatermark: p.high, LastStable: p.visibleLocked(data.ReadCommitted),
		LogStart: p.start, Leader: none.Leader, Diverging: p.diverge}
	if r.Isolation == data.ReadCommitted {
		res.Aborted = append([]data.AbortedTxn{}, p.aborted...)
	}
	if r.From < p.start || r.From > p.endLocked() {
		res.Err = messages.ErrOffsetOutOfRange
		return res
	}
	if p.diverge == nil {
		p.collectLocked(r, &res)
	}
	return res
}

func (p *fakePartition) checkEpochLocked(current messages.LeaderEpoch) error {
	switch {
	case current == messages.NoEpoch || current == p.epoch:
		return nil
	case current < p.epoch:
		return messages.ErrFencedLeaderEpoch
	default:
		return messages.ErrUnknownLeaderEpoch
	}
}

func (p *fakePartition) collectLocked(r data.Read, res *data.ReadResult) {
	limit := p.visibleLocked(r.Isolation)
	for _, b := range p.batches {
		if b.NextOffset() <= r.From {
			continue
		}
		size := len(b.Bytes)
		fits := res.View.Bytes+size <= r.MaxBytes || r.MinOne && res.View.Bytes == 0
		if b.NextOffset() > limit {
			break
		}
		if !fits {
			res.View.More = true
			break
		}
		extents := []messages.Extent{{Mem: b.Bytes, Len: size}}
		if p.extents != nil {
			extents = p.extents(b)
		}
		res.View.Extents = append(res.View.Extents, extents...)
		res.View.Bytes += size
	}
	if res.View.Bytes > 0 {
		p.views.Add(1)
		var once atomic.Bool
		res.View.Done = func() {
			if once.Swap(true) {
				p.views.Add(1 << 32) // released twice: never zero again
			}
			p.views.Add(-1)
		}
	}
}

// Await implements Partition.
func (p *fakePartition) Await(i data.Isolation, visible messages.Offset, notify func()) func() {
	w := &fakeWaiter{isolation: i, visible: visible, notify: notify}
	p.mu.Lock()
	if p.visibleLocked(i) > visible || p.err != nil {
		p.mu.Unlock()
		notify()
		return func() {}
	}
	p.waiters[w] = struct{}{}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiters, w)
	}
}

// pending is how many appends are paused.
func (p *fakePartition) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked)
}

// waiting is how many readers are parked.
func (p *fakePartition) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiters)
}

// Settings implements Partition.
func (p *fakePartition) Settings() *configs.TopicSettings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// Offsets implements Partition.
func (p *fakePartition) Offsets() Offsets {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Offsets{LogStart: p.start, HighWatermark: p.high,
		LastStable: p.visibleLocked(data.ReadCommitted), LogEnd: p.endLocked(), Epoch: p.epoch}
}

// ByTimestamp implements Partition. It knows batches, not records: the answer
// for a real timestamp is the base of the first batch that ends at or after it.
func (p *fakePartition) ByTimestamp(_ context.Context, t messages.Timestamp, i data.Isolation,
	current messages.LeaderEpoch) (data.TimestampOffset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	none := data.TimestampOffset{Timestamp: -1, Offset: -1, Epoch: -1}
	if err := p.checkEpochLocked(current); err != nil {
		return none, err
	}
	if p.err != nil {
		return none, p.err
	}
	at := func(ts messages.Timestamp, o messages.Offset) (data.TimestampOffset, error) {
		return data.TimestampOffset{Timestamp: ts, Offset: o, Epoch: p.epoch}, nil
	}
	switch t {
	case data.TimestampLatest:
		return at(-1, p.visibleLocked(i))
	case data.TimestampEarliest, data.TimestampEarliestLocal:
		return at(-1, p.start)
	case data.TimestampLatestTiered:
		return none, nil
	}
	best := none
	for _, b := range p.batches {
		if t == data.TimestampMax && b.MaxTimestamp > best.Timestamp {
			best, _ = at(b.MaxTimestamp, b.LastOffset())
		}
		if t >= 0 && b.MaxTimestamp >= t {
			return at(max(b.BaseTimestamp, t), b.BaseOffset)
		}
	}
	return best, nil
}

// EpochEnd implements Partition. All records are of the current epoch.
func (p *fakePartition) EpochEnd(current, asked messages.LeaderEpoch) (data.EpochEnd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkEpochLocked(current); err != nil {
		return data.EpochEnd{Epoch: -1, End: -1}, err
	}
	switch {
	case p.err != nil:
		return data.EpochEnd{Epoch: -1, End: -1}, p.err
	case asked == p.epoch:
		return data.EpochEnd{Epoch: asked, End: p.endLocked()}, nil
	case asked > p.epoch || asked < 0:
		return data.EpochEnd{Epoch: -1, End: -1}, nil
	default:
		return data.EpochEnd{Epoch: asked, End: p.start}, nil
	}
}

// Producers implements Partition.
func (p *fakePartition) Producers(context.Context) ([]data.Producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.producers, p.err
}

// DeleteRecords implements Partition.
func (p *fakePartition) DeleteRecords(_ context.Context, before messages.Offset,
) (messages.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return -1, p.err
	}
	if before == messages.NoOffset {
		before = p.high
	}
	if before > p.high {
		return -1, messages.ErrOffsetOutOfRange
	}
	p.start = max(p.start, before)
	p.batches = slices.DeleteFunc(p.batches, func(b record.Batch) bool {
		return b.NextOffset() <= p.start
	})
	return p.start, nil
}
