package txns

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
)

const (
	minuteMs = 60_000
	none     = messages.NoProducerID
)

var (
	noon     = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	orders0  = messages.TopicPartition{Topic: "orders", Partition: 0}
	orders1  = messages.TopicPartition{Topic: "orders", Partition: 1}
	offsets7 = messages.TopicPartition{Topic: coord.OffsetsTopic, Partition: 7}
	errDown  = messages.ErrUnavailable
)

// rig runs a Txn as its owner does and keeps what becomes durable.
type rig struct {
	t    *testing.T
	m    *Txn
	now  time.Time
	log  []coord.Record
	held *coord.Write // under way, if hold
	hold bool         // writes are not answered at once
	fail error        // of the writes to come

	config Config
	epoch  int32

	asked int           // producer ids asked for and not given
	ids   int64         // producer ids given so far
	sent  []txn.Markers // all of them
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: noon, ids: 1000, epoch: 3}
	r.config = Config{MaxTimeout: 15 * time.Minute, IDExpiration: 7 * 24 * time.Hour,
		CoordinatorEpoch: func() int32 { return r.epoch }}
	r.restart()
	return r
}

// from is a rig whose id is in the state m.
func from(t *testing.T, m *meta) *rig {
	r := newRig(t)
	r.log = append(r.log, coord.Record{Key: encodeKey("pay"), Value: m.encodeValue()})
	r.restart()
	r.m.meta.last = m.last // no record has it
	return r
}

func (r *rig) NewProducerID()            { r.asked++ }
func (r *rig) SendMarkers(m txn.Markers) { r.sent = append(r.sent, m) }

// restart drops the machine and makes another from the records.
func (r *rig) restart() {
	r.t.Helper()
	r.m, r.held, r.asked = New("pay", func() Config { return r.config }, r), nil, 0
	for _, record := range r.log {
		if err := r.m.Replay(coord.Replayed{Record: record, Producer: none}); err != nil {
			r.t.Fatalf("replay: %v", err)
		}
	}
	r.m.Loaded(r.now)
	r.write()
}

// write makes durable what the machine decided, until it decides no more.
func (r *rig) write() {
	for r.held == nil {
		w := r.m.TakeWrite()
		if w == nil {
			return
		}
		r.held = w
		if !r.hold {
			r.answer(r.fail)
		}
	}
}

// answer ends the write that is under way.
func (r *rig) answer(err error) {
	w := r.held
	r.held = nil
	if err == nil {
		r.log = append(r.log, w.Records...)
	}
	w.Done(r.now, err)
}

func (r *rig) handle(req coord.Request) {
	r.m.Handle(r.now, req)
	r.write()
}

func (r *rig) tick() {
	r.m.Tick(r.now)
	r.write()
}

// after moves the clock and lets the machine do what became due.
func (r *rig) after(d time.Duration) {
	r.now = r.now.Add(d)
	r.tick()
}

// give answers one wish for a producer id.
func (r *rig) give() messages.ProducerID {
	r.t.Helper()
	if r.asked == 0 {
		r.t.Fatal("no producer id was asked for")
	}
	r.asked--
	r.ids++
	r.handle(&txn.FreshID{ID: messages.ProducerID(r.ids)})
	return messages.ProducerID(r.ids)
}

// ack tells that the last markers are written in these partitions, or in all.
func (r *rig) ack(partitions ...messages.TopicPartition) {
	m := r.sent[len(r.sent)-1]
	if partitions == nil {
		partitions = m.Partitions
	}
	r.handle(&txn.MarkersWritten{Sending: m.Sending, Producer: m.Producer, Epoch: m.Epoch,
		Partitions: partitions})
}

// start calls a request that is answered later.
func (r *rig) startInit(req txn.Init) *txn.Initialized {
	got := &txn.Initialized{Err: errNoAnswer}
	req.Reply = func(a txn.Initialized) { *got = once(r.t, got.Err, a) }
	r.handle(&req)
	return got
}

func (r *rig) startEnd(req txn.End) *txn.Ended {
	got := &txn.Ended{Err: errNoAnswer}
	req.Reply = func(a txn.Ended) { *got = once(r.t, got.Err, a) }
	r.handle(&req)
	return got
}

func (r *rig) startAdd(req txn.Add) *txn.Added {
	got := &txn.Added{Err: errNoAnswer}
	req.Reply = func(a txn.Added) { *got = once(r.t, got.Err, a) }
	r.handle(&req)
	return got
}

var errNoAnswer = errors.New("no answer yet")

func once[A any](t *testing.T, before error, answer A) A {
	t.Helper()
	if !errors.Is(before, errNoAnswer) {
		t.Error("a request was answered twice")
	}
	return answer
}

func (r *rig) init(named ...int64) txn.Initialized {
	req := txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch}
	if named != nil {
		req.Producer, req.Epoch = messages.ProducerID(named[0]), messages.ProducerEpoch(named[1])
	}
	got := r.startInit(req)
	if r.asked > 0 {
		r.give()
	}
	return *got
}

func (r *rig) add(id messages.ProducerID, epoch messages.ProducerEpoch,
	partitions ...messages.TopicPartition) error {
	return r.startAdd(txn.Add{Producer: id, Epoch: epoch, Partitions: partitions}).Err
}

func (r *rig) end(id messages.ProducerID, epoch messages.ProducerEpoch, commit, v2 bool) txn.Ended {
	got := r.startEnd(txn.End{Producer: id, Epoch: epoch, Commit: commit, V2: v2})
	if r.asked > 0 {
		r.give()
	}
	return *got
}

func (r *rig) describe() (got txn.Description) {
	r.handle(&txn.Describe{Reply: func(d txn.Description) { got = d }})
	return got
}

// is checks the durable state.
func (r *rig) is(state txn.State, id messages.ProducerID, epoch messages.ProducerEpoch) {
	r.t.Helper()
	d := r.describe()
	if d.Err != nil || d.State != state || d.Producer != id || d.Epoch != epoch {
		r.t.Errorf("state is %v, producer %d, epoch %d (%v); want %v, %d, %d",
			d.State, d.Producer, d.Epoch, d.Err, state, id, epoch)
	}
}

// gave checks the answer of an Init or an End.
func gave(t *testing.T, err error, id messages.ProducerID, epoch messages.ProducerEpoch,
	wantID messages.ProducerID, wantEpoch messages.ProducerEpoch) {
	t.Helper()
	if err != nil || id != wantID || epoch != wantEpoch {
		t.Errorf("answer is producer %d, epoch %d, %v; want %d, %d", id, epoch, err, wantID, wantEpoch)
	}
}

func failed(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// state makes a meta of producer 7, epoch 5.
func state(s txn.State, change ...func(*meta)) *meta {
	m := newMeta(7, minuteMs, toMs(noon))
	m.state, m.epoch = s, 5
	if s == txn.Ongoing || m.prepared() {
		m.partitions = []messages.TopicPartition{offsets7, orders0}
		m.startedMs = toMs(noon)
	}
	for _, f := range change {
		f(m)
	}
	return m
}

func v2(m *meta)                                    { m.v2 = true }
func epoch(e messages.ProducerEpoch) func(m *meta)  { return func(m *meta) { m.epoch = e } }
func last(e messages.ProducerEpoch) func(m *meta)   { return func(m *meta) { m.last = e } }
func previous(id messages.ProducerID) func(m *meta) { return func(m *meta) { m.previous = id } }
func next(id messages.ProducerID) func(m *meta)     { return func(m *meta) { m.next = id } }
func without(m *meta)                               { m.partitions = nil }
func (r *rig) lastSent() txn.Markers                { return r.sent[len(r.sent)-1] }
func (r *rig) markersAre(want ...txn.Markers) {
	r.t.Helper()
	same := slices.EqualFunc(r.sent, want, func(a, b txn.Markers) bool {
		return a.Producer == b.Producer && a.Epoch == b.Epoch && a.Commit == b.Commit &&
			a.Raised == b.Raised &&
			a.CoordinatorEpoch == b.CoordinatorEpoch && slices.Equal(a.Partitions, b.Partitions)
	})
	if !same {
		r.t.Errorf("markers are %+v, want %+v", r.sent, want)
	}
}
