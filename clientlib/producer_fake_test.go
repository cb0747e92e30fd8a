package clientlib

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
)

// producerWorld is a cluster of two nodes as a producer sees it. Its leaders check batches
// as the real ones do, and a test may have any request fail.
type producerWorld struct {
	t testing.TB

	mu      sync.Mutex
	topics  map[string]*worldTopic
	queue   []func() // requests on their way
	wake    chan struct{}
	stopped chan struct{}
	nextID  int64
	txns    map[string]*worldTxn
	appends int              // that arrived
	moved   *messages.NodeID // leads everything, as only the nodes know

	// fate, if set, is asked about each append: whether it arrives, and an error that the
	// client gets for its answer.
	fate func(a *wire.ClientAppend) (arrives bool, err error)
	// ask, if set, answers a request instead of the world if it returns true.
	ask func(req *wire.ClientRequest) (bool, *wire.ClientResponse, error)
}

type worldTopic struct {
	route   link.Route
	logs    []*worldLog
	watches map[int]func(*link.Route)
	told    sync.Mutex // one call of a watch at a time
}

type worldLog struct {
	batches []record.Batch
	state   *producers.State
	end     messages.Offset
}

// worldTxn is a transactional id as its coordinator knows it.
type worldTxn struct {
	who       identity
	last      identity // before the end of the latest transaction
	committed []bool   // outcomes
	positions int
}

func newProducerWorld(t testing.TB) *producerWorld {
	before := goleak.IgnoreCurrent()
	w := &producerWorld{t: t, topics: map[string]*worldTopic{}, wake: make(chan struct{}, 1),
		stopped: make(chan struct{}), nextID: 100, txns: map[string]*worldTxn{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run()
	}()
	t.Cleanup(func() {
		close(w.stopped)
		<-done
		goleak.VerifyNone(t, before)
	})
	return w
}

func (w *producerWorld) client() *Client {
	c := newClient(Config{}, w, func(context.Context) error { return nil })
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			w.t.Logf("closing: %v", err)
		}
	})
	return c
}

func (w *producerWorld) producer(cfg ProducerConfig) *Producer {
	w.t.Helper()
	p, err := w.client().NewProducer(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *producerWorld) create(name string, partitions int) *worldTopic {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &worldTopic{route: link.Route{Topic: name, Version: 1, MaxMessageBytes: 1 << 20},
		watches: map[int]func(*link.Route){}}
	for i := range partitions {
		t.logs = append(t.logs, &worldLog{state: producers.New()})
		t.route.Partitions = append(t.route.Partitions, link.Leader{Node: messages.NodeID(i % 2)})
	}
	w.topics[name] = t
	return t
}

// change changes where a topic is led, and tells those who watch it.
func (w *producerWorld) change(name string, f func(*link.Route)) {
	w.mu.Lock()
	t := w.topics[name]
	route := t.route
	route.Partitions = slices.Clone(route.Partitions)
	route.Version++
	f(&route)
	t.route = route
	var told []func(*link.Route)
	for _, n := range t.watches {
		told = append(told, n)
	}
	w.mu.Unlock()
	t.told.Lock()
	defer t.told.Unlock()
	for _, n := range told {
		n(&route)
	}
}

// lead has a node lead a partition.
func (w *producerWorld) lead(name string, partition int, node messages.NodeID) {
	w.change(name, func(r *link.Route) {
		r.Partitions[partition].Node = node
		r.Partitions[partition].Epoch++
	})
}

func (w *producerWorld) run() {
	for {
		w.mu.Lock()
		queue := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, f := range queue {
			f()
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-w.stopped:
			return
		}
	}
}

func (w *producerWorld) Route(_ context.Context, topic string, _ bool) (*link.Route, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[topic]
	if t == nil {
		return nil, messages.ErrUnknownTopicOrPartition
	}
	route := t.route
	return &route, nil
}

func (w *producerWorld) Watch(topic string, notify func(*link.Route)) (cancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[topic]
	key := len(t.watches)
	t.watches[key] = notify
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(t.watches, key)
	}
}

func (w *producerWorld) Learn(topic string, partition int32, leader *wire.ClientLeader) {
	if leader == nil {
		w.change(topic, func(*link.Route) {}) // its actor is asked
		return
	}
	w.lead(topic, int(partition), messages.NodeID(leader.NodeId))
}

func (w *producerWorld) Send(to messages.NodeID, req *wire.ClientRequest, _ time.Duration,
	done func(*wire.ClientResponse, error)) {
	a := req.GetAppend()
	arrives, err := true, error(nil)
	w.mu.Lock()
	if w.fate != nil {
		arrives, err = w.fate(a)
	}
	w.queue = append(w.queue, func() {
		resp, failed := (*wire.ClientResponse)(nil), err
		if arrives {
			resp, failed = w.arrive(to, a)
		}
		if err != nil {
			resp, failed = nil, err
		}
		done(resp, failed)
	})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// arrive is an append at a node.
func (w *producerWorld) arrive(to messages.NodeID, a *wire.ClientAppend) (*wire.ClientResponse,
	error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.appends++
	t := w.topics[a.Topic]
	fail := func(err error) (*wire.ClientResponse, error) {
		return &wire.ClientResponse{Error: wire.FromError(err)}, err
	}
	if t == nil {
		return fail(messages.ErrUnknownTopicOrPartition)
	}
	if w.moved != nil && to != *w.moved {
		resp, err := fail(messages.ErrNotLeader)
		resp.Result = &wire.ClientResponse_Appended{Appended: &wire.ClientAppended{
			Leader: &wire.ClientLeader{NodeId: int32(*w.moved)}}}
		return resp, err
	}
	if t.route.Partitions[a.Partition].Node != to {
		return fail(messages.ErrNotLeader)
	}
	b, rest, err := record.Parse(slices.Clone(a.Records))
	if err != nil || len(rest) > 0 {
		return fail(fmt.Errorf("%d bytes behind a batch: %w", len(rest), err))
	}
	log := t.logs[a.Partition]
	b.Stamp(log.end, 0)
	v, err := log.state.Check(b.Header)
	if err != nil {
		return fail(err)
	}
	if x := w.txns[a.TransactionalId]; a.TransactionalId != "" &&
		(x == nil || x.who != identity{b.ProducerID, b.ProducerEpoch}) {
		return fail(messages.ErrInvalidProducerEpoch)
	}
	if !v.Duplicate {
		log.state.Apply(b.Header)
		log.batches = append(log.batches, b)
		log.end = b.NextOffset()
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_Appended{Appended: &wire.ClientAppended{
		BaseOffset: int64(v.BaseOffset)}}}, nil
}

func (w *producerWorld) Ask(ctx context.Context, _ messages.NodeID, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	return w.AskAny(ctx, req)
}

func (w *producerWorld) AskAny(ctx context.Context, req *wire.ClientRequest) (
	*wire.ClientResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w.ask != nil {
		if answered, resp, err := w.ask(req); answered {
			return resp, err
		}
	}
	return w.coordinate(req)
}

func (w *producerWorld) coordinate(req *wire.ClientRequest) (*wire.ClientResponse, error) {
	gives := func(who identity) (*wire.ClientResponse, error) {
		return &wire.ClientResponse{Result: &wire.ClientResponse_Producer{
			Producer: &wire.ClientProducer{ProducerId: int64(who.id),
				ProducerEpoch: int32(who.epoch)}}}, nil
	}
	switch c := req.Command.(type) {
	case *wire.ClientRequest_InitProducer:
		id := c.InitProducer.TransactionalId
		if x := w.txns[id]; x != nil {
			x.last, x.who.epoch = noIdentity, x.who.epoch+1
			return gives(x.who)
		}
		w.nextID++
		who := identity{messages.ProducerID(w.nextID), 0}
		if id != "" {
			w.txns[id] = &worldTxn{who: who, last: noIdentity}
		}
		return gives(who)
	case *wire.ClientRequest_EndTxn:
		x := w.txns[c.EndTxn.TransactionalId]
		from := identity{messages.ProducerID(c.EndTxn.ProducerId),
			messages.ProducerEpoch(c.EndTxn.ProducerEpoch)}
		switch n := len(x.committed); {
		case from == x.last && c.EndTxn.Commit == x.committed[n-1]:
			return gives(x.who)
		case from == x.last:
			return nil, messages.ErrInvalidTxnState
		case from != x.who:
			return nil, txn.ErrProducerFenced
		}
		x.last, x.who.epoch = x.who, x.who.epoch+1
		x.committed = append(x.committed, c.EndTxn.Commit)
		w.markers(from, x.who)
		return gives(x.who)
	case *wire.ClientRequest_TxnCommitOffsets:
		w.txns[c.TxnCommitOffsets.TransactionalId].positions += len(c.TxnCommitOffsets.Positions)
		return &wire.ClientResponse{Result: &wire.ClientResponse_Errors{Errors: &wire.ErrorList{
			Errors: []*wire.Error{{}}}}}, nil
	}
	return nil, messages.ErrInvalidRequest
}

// markers ends a transaction in all partitions.
func (w *producerWorld) markers(_, next identity) {
	for _, t := range w.topics {
		for _, log := range t.logs {
			m := record.EndTxnMarker(record.Marker{Commit: true}, next.id, next.epoch, 0)
			m.Stamp(log.end, 0)
			_ = log.state.ObserveMarker(m.Header, true, 0)
			log.end++
		}
	}
}

func (w *producerWorld) AskCoordinator(ctx context.Context, _ coord.Kind, _ string,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return w.AskAny(ctx, req)
}

func (w *producerWorld) AskLeader(ctx context.Context, _ messages.TopicPartition,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	return w.AskAny(ctx, req)
}

func (w *producerWorld) Nodes() []link.Node { return nil }

// stored is a record as it lies in a log.
type stored struct {
	key, value string
	offset     int64
	at         messages.Timestamp
	headers    []string
}

func (w *producerWorld) stored(topic string, partition int) (all []stored) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.topics[topic].logs[partition].batches {
		for r, err := range record.Records(&b, record.InflateLimit) {
			if err != nil {
				w.t.Fatal(err)
			}
			s := stored{key: string(r.Key), value: string(r.Value), offset: int64(r.Offset),
				at: r.Timestamp}
			for h := range r.RecordHeaders() {
				s.headers = append(s.headers, string(h.Key)+"="+string(h.Value))
			}
			all = append(all, s)
		}
	}
	return all
}

func (w *producerWorld) batches(topic string, partition int) []record.Batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.topics[topic].logs[partition].batches)
}
