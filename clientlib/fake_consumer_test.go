package clientlib

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/actors/groups"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
)

// readWorld is a cluster for consumers: logs in memory, and the machine that coordinates
// real groups. It implements cluster.
type readWorld struct {
	t       *testing.T
	answers sync.WaitGroup
	gone    context.Context // ends with the test

	mu      sync.Mutex
	image   *messages.Image
	topics  map[string]*readTopic
	groups  map[string]*groups.Group
	ahead   time.Duration // of the coordinators' clock
	pace    time.Duration // of heartbeats
	refuse  func(req *wire.ClientRequest) error
	damage  func(b []byte) []byte // of records that are fetched
	changed chan struct{}         // closed and made anew when something may be read
	asked   map[string]int        // requests by type
}

type readTopic struct {
	id       messages.TopicID
	parts    []*readLog
	version  messages.MetadataVersion
	watchers map[int]func(*link.Route)
	watched  int
}

// readLog is a partition.
type readLog struct {
	leader  messages.NodeID
	epoch   messages.LeaderEpoch
	start   messages.Offset
	high    messages.Offset
	stable  messages.Offset // -1: the high watermark
	batches []record.Batch
	aborted []*wire.ClientAborted
	unknown bool // the epochs of readers are not checked
}

func newReadWorld(t *testing.T, topics map[string]int) *readWorld {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(context.Background())
	w := &readWorld{
		t: t, gone: ctx, image: messages.NewImage(), topics: map[string]*readTopic{},
		groups: map[string]*groups.Group{}, changed: make(chan struct{}), asked: map[string]int{},
		pace: 20 * time.Millisecond,
	}
	for name, n := range topics {
		w.create(name, n)
	}
	t.Cleanup(func() {
		cancel()
		w.answers.Wait()
		goleak.VerifyNone(t, before)
	})
	return w
}

func (w *readWorld) create(name string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	topic := &readTopic{watchers: map[int]func(*link.Route){}, version: 1}
	copy(topic.id[:], name)
	for range n {
		topic.parts = append(topic.parts, &readLog{leader: 1, stable: -1})
	}
	w.topics[name] = topic
	image, ok := w.image.Apply(&messages.Delta{
		From: w.image.Version, To: w.image.Version + 1,
		Topics: []*messages.Topic{{
			Name: name, ID: topic.id, Partitions: make([]messages.Partition, n),
		}},
	})
	if !ok {
		w.t.Fatal("delta does not apply")
	}
	w.image = image
}

// client returns a client of the world.
func (w *readWorld) client() *Client {
	return newClient(Config{}, w, func(context.Context) error { return nil })
}

// consumer makes a consumer that is closed with the test.
func (w *readWorld) consumer(cfg ConsumerConfig) *Consumer {
	w.t.Helper()
	c, err := w.client().NewConsumer(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	return c
}

// log changes a partition.
func (w *readWorld) log(topic string, index int, change func(l *readLog)) {
	w.mu.Lock()
	t := w.topics[topic]
	l := t.parts[index]
	leader, epoch := l.leader, l.epoch
	change(l)
	var notify []func(*link.Route)
	if leader != l.leader || epoch != l.epoch {
		t.version++
		for _, f := range t.watchers {
			notify = append(notify, f)
		}
	}
	route := t.route(topic)
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	for _, f := range notify {
		f(route)
	}
}

// write appends a batch of records whose values are texts.
func (w *readWorld) write(topic string, index int, values ...string) {
	w.t.Helper()
	bu := record.NewBuilder(record.Compression{})
	for i, v := range values {
		bu.Append(messages.Timestamp(1000+i), fmt.Appendf(nil, "key-%s", v), []byte(v))
	}
	w.append(topic, index, bu)
}

func (w *readWorld) append(topic string, index int, bu *record.Builder) {
	w.t.Helper()
	b, err := bu.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	w.appendBatch(topic, index, b)
}

func (w *readWorld) appendBatch(topic string, index int, b record.Batch) {
	w.log(topic, index, func(l *readLog) {
		b.Stamp(l.high, l.epoch)
		l.batches = append(l.batches, b)
		l.high = b.NextOffset()
	})
}

func (t *readTopic) route(name string) *link.Route {
	r := &link.Route{Topic: name, ID: t.id, Version: t.version}
	for _, l := range t.parts {
		r.Partitions = append(r.Partitions, link.Leader{Node: l.leader, Epoch: l.epoch})
	}
	return r
}

// Route implements cluster.
func (w *readWorld) Route(_ context.Context, topic string, _ bool) (*link.Route, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[topic]
	if t == nil {
		return nil, messages.ErrUnknownTopicOrPartition
	}
	return t.route(topic), nil
}

// Watch implements cluster.
func (w *readWorld) Watch(topic string, notify func(*link.Route)) (cancel func()) {
	w.mu.Lock()
	t := w.topics[topic]
	t.watched++
	at := t.watched
	t.watchers[at] = notify
	route := t.route(topic)
	w.mu.Unlock()
	notify(route)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(t.watchers, at)
	}
}

// watching is how many watch a topic.
func (w *readWorld) watching(topic string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.topics[topic].watchers)
}

// Learn implements cluster: the topic's actor is asked at once.
func (w *readWorld) Learn(topic string, _ int32, _ *wire.ClientLeader) {
	w.mu.Lock()
	t := w.topics[topic]
	t.version++
	route, notify := t.route(topic), slices.Collect(maps.Values(t.watchers))
	w.mu.Unlock()
	for _, f := range notify {
		f(route)
	}
}

// Nodes implements cluster.
func (w *readWorld) Nodes() []link.Node { return nil }

// Send implements cluster.
func (w *readWorld) Send(to messages.NodeID, req *wire.ClientRequest, wait time.Duration,
	done func(resp *wire.ClientResponse, err error)) {
	w.answers.Go(func() {
		ctx, cancel := context.WithTimeout(w.gone, wait)
		defer cancel()
		done(w.answer(ctx, to, req))
	})
}

// Ask implements cluster.
func (w *readWorld) Ask(ctx context.Context, to messages.NodeID, req *wire.ClientRequest) (
	*wire.ClientResponse, error,
) {
	return w.answer(ctx, to, req)
}

// AskAny implements cluster.
func (w *readWorld) AskAny(ctx context.Context, req *wire.ClientRequest) (
	*wire.ClientResponse, error,
) {
	return w.answer(ctx, messages.NoNode, req)
}

// AskCoordinator implements cluster.
func (w *readWorld) AskCoordinator(
	ctx context.Context, _ coord.Kind, _ string, req *wire.ClientRequest,
) (*wire.ClientResponse, error) {
	return w.answer(ctx, messages.NoNode, req)
}

// AskLeader implements cluster.
func (w *readWorld) AskLeader(ctx context.Context, _ messages.TopicPartition,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return w.answer(ctx, messages.NoNode, req)
}

// refusing has requests fail with what f returns.
func (w *readWorld) refusing(f func(req *wire.ClientRequest) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = f
}

// count is how many requests of that type came, by the name of the oneof's field type.
func (w *readWorld) count(command any) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[fmt.Sprintf("%T", command)]
}

func (w *readWorld) answer(ctx context.Context, to messages.NodeID, req *wire.ClientRequest) (
	*wire.ClientResponse, error,
) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.asked[fmt.Sprintf("%T", req.Command)]++
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil {
		if err := refuse(req); err != nil {
			return nil, err
		}
	}
	switch cmd := req.Command.(type) {
	case *wire.ClientRequest_Fetch:
		return w.fetch(ctx, to, cmd.Fetch)
	case *wire.ClientRequest_ListOffsets:
		return w.listOffsets(cmd.ListOffsets)
	case *wire.ClientRequest_GroupHeartbeat:
		return w.heartbeat(cmd.GroupHeartbeat)
	case *wire.ClientRequest_CommitOffsets:
		return w.commitOffsets(cmd.CommitOffsets)
	case *wire.ClientRequest_FetchOffsets:
		return w.fetchOffsets(cmd.FetchOffsets)
	}
	return nil, fmt.Errorf("%T: %w", req.Command, wire.ErrUnsupported)
}

func (w *readWorld) fetch(ctx context.Context, to messages.NodeID, f *wire.ClientFetch) (
	*wire.ClientResponse, error,
) {
	park, cancel := context.WithTimeout(ctx, time.Duration(f.WaitMs)*time.Millisecond)
	defer cancel()
	for {
		w.mu.Lock()
		out, err := w.topics[f.Topic].parts[f.Partition].read(to, f)
		if w.damage != nil && out != nil && len(out.Records) > 0 {
			out.Records = w.damage(out.Records)
		}
		changed := w.changed
		w.mu.Unlock()
		if err != nil || len(out.Records) > 0 || out.Diverging != nil || park.Err() != nil {
			resp := &wire.ClientResponse{Result: &wire.ClientResponse_Fetched{Fetched: out}}
			return resp, err
		}
		select {
		case <-changed:
		case <-park.Done():
		}
	}
}

// read answers a fetch as a leader does, without waiting.
func (l *readLog) read(to messages.NodeID, f *wire.ClientFetch) (*wire.ClientFetched, error) {
	out := &wire.ClientFetched{
		HighWatermark: int64(l.high), LastStable: int64(l.high), LogStart: int64(l.start),
	}
	visible := l.high
	if l.stable >= 0 && f.ReadCommitted {
		visible = l.stable
	}
	at := messages.Offset(f.Offset)
	switch {
	case to != l.leader:
		return out, messages.ErrNotLeader
	case f.LeaderEpoch < int32(l.epoch):
		return out, messages.ErrFencedLeaderEpoch
	case at < l.start || at > l.high && f.LastEpoch < 0:
		return out, messages.ErrOffsetOutOfRange
	}
	if end, epoch, diverges := l.diverges(f); diverges {
		out.Diverging = &wire.ClientEpochEnd{Epoch: epoch, End: end}
		return out, nil
	}
	for _, b := range l.batches {
		if b.LastOffset() < at || b.NextOffset() > visible {
			continue
		}
		if len(out.Records) > 0 && len(out.Records)+len(b.Bytes) > int(f.MaxBytes) {
			break
		}
		out.Records = append(out.Records, b.Bytes...)
	}
	if f.ReadCommitted {
		out.Aborted = l.aborted
	}
	return out, nil
}

// diverges reports whether the reader has another log than the leader.
func (l *readLog) diverges(f *wire.ClientFetch) (end int64, epoch int32, _ bool) {
	if f.LastEpoch < 0 || l.unknown {
		return 0, 0, false
	}
	for _, b := range l.batches {
		if int32(b.LeaderEpoch) <= f.LastEpoch {
			end, epoch = int64(b.NextOffset()), int32(b.LeaderEpoch)
		}
	}
	return end, epoch, end < f.Offset
}

func (w *readWorld) listOffsets(q *wire.ClientListOffsets) (*wire.ClientResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.topics[q.Topic].parts[q.Partitions[0].Partition]
	out := &wire.ClientOffset{Offset: -1, Timestamp: -1}
	switch t := q.Partitions[0].Timestamp; t {
	case -1:
		out.Offset = int64(l.high)
	case -2:
		out.Offset = int64(l.start)
	default:
		for i := range l.batches {
			o, at, ok, err := record.FirstAtOrAfter(&l.batches[i], messages.Timestamp(t), 1<<20)
			if err == nil && ok {
				out.Offset, out.Timestamp = int64(o), int64(at)
				break
			}
		}
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Offsets{
		Offsets: &wire.ClientOffsets{Partitions: []*wire.ClientOffset{out}},
	}}, nil
}
