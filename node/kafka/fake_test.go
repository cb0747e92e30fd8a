package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// fakeCluster is a cluster of one node in memory: Cluster, Partitions and
// Settings in one. Tests reach into it to set the scene.
type fakeCluster struct {
	mu         sync.Mutex
	image      *messages.Image
	replicas   map[messages.PartitionID]*fakePartition
	settings   map[string]Setting
	nextID     byte
	nextPID    messages.ProducerID
	dirs       []messages.LogDir
	err        error                             // answered by every control operation while it is set
	partitions map[messages.TopicPartition]error // answered by Partition
}

const fakeNode messages.NodeID = 1

// fakePartitionsMax bounds a topic, as a controller does.
const fakePartitionsMax = 10000

func newFakeCluster() *fakeCluster {
	f := &fakeCluster{
		image:      messages.NewImage(),
		replicas:   map[messages.PartitionID]*fakePartition{},
		settings:   map[string]Setting{},
		nextPID:    1000,
		partitions: map[messages.TopicPartition]error{},
	}
	f.apply(&messages.Delta{
		Controller: fakeNode,
		ClusterID:  "fake-cluster-id-000000",
		Nodes:      []messages.Node{{ID: fakeNode, Host: "127.0.0.1", Port: 9092}},
	})
	return f
}

// apply takes the image one version on. The caller holds mu or is the only one.
func (f *fakeCluster) apply(d *messages.Delta) {
	d.From, d.To = f.image.Version, f.image.Version+1
	if d.ClusterID == "" {
		d.Controller, d.ClusterID = f.image.Controller, f.image.ClusterID
	}
	next, ok := f.image.Apply(d)
	if !ok {
		panic("delta does not follow the image")
	}
	f.image = next
}

// addTopic makes a topic this node leads.
func (f *fakeCluster) addTopic(name string, partitions int) *messages.Topic {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addTopicLocked(name, partitions, nil)
}

func (f *fakeCluster) addTopicLocked(name string, partitions int, cfg messages.Config) *messages.Topic {
	f.nextID++
	t := &messages.Topic{ID: messages.TopicID{0: 0xfa, 15: f.nextID}, Name: name, Configs: cfg}
	f.growLocked(t, partitions)
	return f.image.Topic(name)
}

func (f *fakeCluster) growLocked(t *messages.Topic, partitions int) {
	grown := *t
	grown.Partitions = slices.Clone(t.Partitions)
	for i := len(t.Partitions); i < partitions; i++ {
		grown.Partitions = append(grown.Partitions, messages.Partition{
			Leader: fakeNode, LeaderEpoch: 3,
			Replicas: []messages.NodeID{fakeNode}, ISR: []messages.NodeID{fakeNode},
		})
		f.replicas[messages.PartitionID{Topic: t.ID, Partition: int32(i)}] = newFakePartition(3)
	}
	f.apply(&messages.Delta{Topics: []*messages.Topic{&grown}})
}

// change replaces a topic in the image by what edit makes of a copy.
func (f *fakeCluster) change(name string, edit func(*messages.Topic)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := *f.image.Topic(name)
	t.Partitions = slices.Clone(t.Partitions)
	edit(&t)
	f.apply(&messages.Delta{Topics: []*messages.Topic{&t}})
}

// replica returns the fake behind a partition.
func (f *fakeCluster) replica(topic string, index int32) *fakePartition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[messages.PartitionID{Topic: f.image.Topic(topic).ID, Partition: index}]
}

// fail makes Partition answer err for one partition.
func (f *fakeCluster) fail(topic string, index int32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.partitions[messages.TopicPartition{Topic: topic, Partition: index}] = err
}

// Partition implements Partitions.
func (f *fakeCluster) Partition(t *messages.Topic, index int32) (Partition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.partitions[messages.TopicPartition{Topic: t.Name, Partition: index}]; err != nil {
		return nil, err
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrUnknownTopicOrPartition)
	}
	if t.Partitions[index].Leader != fakeNode {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrNotLeader)
	}
	return f.replicas[messages.PartitionID{Topic: t.ID, Partition: index}], nil
}

// Image implements Cluster.
func (f *fakeCluster) Image() *messages.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.image
}

// Self implements Cluster.
func (f *fakeCluster) Self() messages.NodeID { return fakeNode }

// CreateTopics implements Cluster.
func (f *fakeCluster) CreateTopics(_ context.Context, topics []messages.CreateTopic,
	validateOnly bool) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, c := range topics {
		n := max(c.Partitions, 1)
		if len(c.Assignment) > 0 {
			n = int32(len(c.Assignment))
		}
		results[i] = messages.TopicResult{Name: c.Name, Partitions: n, ReplicationFactor: 1, Configs: c.Configs}
		switch {
		case f.image.Topic(c.Name) != nil:
			results[i].Err = fmt.Errorf("topic %q: %w", c.Name, messages.ErrTopicAlreadyExists)
		case n > fakePartitionsMax:
			results[i].Err = fmt.Errorf("%d partitions: %w", n, messages.ErrInvalidPartitions)
		case c.ReplicationFactor > 1:
			results[i].Err = fmt.Errorf("one node is alive: %w", messages.ErrInvalidReplicationFactor)
		case !validateOnly:
			results[i].ID = f.addTopicLocked(c.Name, int(n), c.Configs).ID
		}
	}
	return results, nil
}

// AutoCreate implements Cluster.
func (f *fakeCluster) AutoCreate(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if f.image.Topic(name) == nil {
		f.addTopicLocked(name, 1, nil)
	}
	return nil
}

// DeleteTopics implements Cluster.
func (f *fakeCluster) DeleteTopics(_ context.Context, topics []messages.TopicRef) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, ref := range topics {
		t, err := f.image.Topic(ref.Name), messages.ErrUnknownTopicOrPartition
		if ref.Name == "" {
			t, err = f.image.TopicByID(ref.ID), messages.ErrUnknownTopicID
		}
		results[i] = messages.TopicResult{Name: ref.Name, ID: ref.ID}
		if t == nil {
			results[i].Err = err
			continue
		}
		results[i].Name, results[i].ID = t.Name, t.ID
		f.apply(&messages.Delta{Removed: []messages.TopicID{t.ID}})
	}
	return results, nil
}

// CreatePartitions implements Cluster.
func (f *fakeCluster) CreatePartitions(_ context.Context, topics []messages.CreatePartitions,
	validateOnly bool) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, c := range topics {
		results[i] = messages.TopicResult{Name: c.Topic}
		t := f.image.Topic(c.Topic)
		switch {
		case t == nil:
			results[i].Err = messages.ErrUnknownTopicOrPartition
		case int(c.Count) <= len(t.Partitions), c.Count > fakePartitionsMax:
			results[i].Err = fmt.Errorf("topic %q has %d partitions: %w",
				c.Topic, len(t.Partitions), messages.ErrInvalidPartitions)
		case !validateOnly:
			f.growLocked(t, int(c.Count))
		}
	}
	return results, nil
}

// AlterConfigs implements Cluster.
func (f *fakeCluster) AlterConfigs(_ context.Context, reqs []messages.AlterConfigs,
	validateOnly bool) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	errs := make([]error, len(reqs))
	for i, r := range reqs {
		t := f.image.Topic(r.Resource.Name)
		if r.Resource.Type != messages.ConfigTopic || t == nil {
			errs[i] = messages.ErrUnknownTopicOrPartition
			continue
		}
		next := *t
		next.Configs = maps.Clone(t.Configs)
		if r.Replace || next.Configs == nil {
			next.Configs = messages.Config{}
		}
		for _, c := range r.Changes {
			if c.Op == messages.ConfigDelete {
				delete(next.Configs, c.Key)
			} else {
				next.Configs[c.Key] = c.Value
			}
		}
		if !validateOnly {
			f.apply(&messages.Delta{Topics: []*messages.Topic{&next}})
		}
	}
	return errs, nil
}

// NewProducerID implements Cluster.
func (f *fakeCluster) NewProducerID(context.Context) (messages.ProducerID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextPID++
	return f.nextPID, f.err
}

// LogDirs implements Cluster.
func (f *fakeCluster) LogDirs(context.Context) ([]messages.LogDir, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirs, f.err
}

// Broker implements Settings.
func (f *fakeCluster) Broker() []Setting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.settings), func(a, b Setting) int {
		return slices.Compare([]string{a.Name}, []string{b.Name})
	})
}

// Value implements Settings.
func (f *fakeCluster) Value(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settings[name].Value
}

// set puts a broker setting in force.
func (f *fakeCluster) set(name, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings[name] = Setting{Name: name, Value: value, Static: true, Default: value}
}

// fakePartition is one partition's log in memory. The high watermark follows
// the log end unless hold is set.
type fakePartition struct {
	mu      sync.Mutex
	epoch   messages.LeaderEpoch
	start   messages.Offset
	high    messages.Offset
	stable  messages.Offset // -1: the high watermark
	batches []record.Batch
	aborted []data.AbortedTxn
	waiters map[*fakeWaiter]struct{}
	parked  []*data.Append // while pause is set: in order, not answered yet
	pause   bool
	hold    bool
	config  *configs.TopicSettings // nil: does not lead
	err     error                  // of Append and Read while it is set
	logTime messages.Timestamp
	diverge *data.EpochEnd
	extents func(b record.Batch) []messages.Extent // nil: one in memory
	views   atomic.Int64                           // taken and not released
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
	p.mu.Lock()
	if p.pause {
		p.parked = append(p.parked, a)
		p.mu.Unlock()
		return
	}
	res := p.appendLocked(a)
	wake := p.wakeLocked()
	p.mu.Unlock()
	a.Done(res)
	notifyAll(wake)
}

func (p *fakePartition) appendLocked(a *data.Append) data.AppendResult {
	res := data.AppendResult{BaseOffset: messages.NoOffset, LogAppendTime: p.logTime,
		LogStart: messages.NoOffset, Leader: data.LeaderHint{Leader: messages.NoNode}}
	if p.err != nil {
		res.Err = p.err
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
		if b.NextOffset() > limit || !fits {
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

// DeleteRecords implements Partition.
func (p *fakePartition) DeleteRecords(_ context.Context, before messages.Offset) (messages.Offset, error) {
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
	p.batches = slices.DeleteFunc(p.batches, func(b record.Batch) bool { return b.NextOffset() <= p.start })
	return p.start, nil
}
