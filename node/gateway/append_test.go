package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func TestAppendsTakeEffectInTheOrderInWhichTheyWereSent(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 2)
	p := s.farAway("far:1")
	var want []string
	const n = 200
	for i := range n {
		v := fmt.Sprint(i)
		if i%2 == 1 {
			want = append(want, v)
		}
		p.send(p.session, appendOf(uint64(10+i), &wire.ClientAppend{
			Topic: "t", Partition: int32(i % 2), Acks: -1, Records: batch(t, v)}))
	}
	for i := range n {
		r := p.answer()
		if r.GetError() != nil || r.GetRequestId() != uint64(10+i) ||
			r.GetAppended().GetBaseOffset() != int64(i/2) {
			t.Fatalf("append %d was answered %v", i, r)
		}
	}
	if got := s.partition("t", 1).values(t); !slices.Equal(got, want) {
		t.Errorf("the log has %v", got)
	}
	if s.metrics.produced != n {
		t.Errorf("%d records are counted", s.metrics.produced)
	}
}

func TestTheBytesOfAClientInThisProcessAreLeftAlone(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	b := batch(t, "a")
	before := slices.Clone(b)
	for id := range uint64(2) {
		r := p.ask(p.session, appendOf(id, &wire.ClientAppend{Topic: "t", Acks: -1, Records: b}))
		if r.GetError() != nil {
			t.Fatal(r)
		}
	}
	if !slices.Equal(b, before) {
		t.Error("the leader stamped the client's own bytes")
	}
}

func TestAnAppendWithoutAcknowledgementHasNoAnswer(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	p.send(p.session, appendOf(2, &wire.ClientAppend{Topic: "t", Records: batch(t, "a")}))
	p.send(p.session, appendOf(3, &wire.ClientAppend{Topic: "nope", Records: batch(t, "a")}))
	p.sync()
	if got := s.partition("t", 0).values(t); len(got) != 1 {
		t.Errorf("the log has %v", got)
	}
}

func TestAppendsThatCannotBeAreRefused(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 2)
	s.addTopic("__consumer_offsets", 1)
	s.apply(&messages.Delta{Topics: []*messages.Topic{{Name: "elsewhere", ID: messages.TopicID{9},
		Partitions: []messages.Partition{{Leader: 2, LeaderEpoch: 8}}}}})
	s.partition("t", 1).err = messages.ErrNotEnoughReplicas
	p := s.local()
	tx := record.NewBuilder(record.Compression{}).Producer(7, 0, 0).Transactional()
	tx.Append(1, nil, nil)
	transactional, err := tx.Build()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		q    *wire.ClientAppend
		want error
	}{
		"unknown topic": {&wire.ClientAppend{Topic: "x"}, messages.ErrUnknownTopicOrPartition},
		"unknown partition": {&wire.ClientAppend{Topic: "t", Partition: 2},
			messages.ErrUnknownTopicOrPartition},
		"internal topic": {&wire.ClientAppend{Topic: "__consumer_offsets"}, messages.ErrInvalidTopic},
		"other leader":   {&wire.ClientAppend{Topic: "elsewhere"}, messages.ErrNotLeader},
		"leader refuses": {&wire.ClientAppend{Topic: "t", Partition: 1},
			messages.ErrNotEnoughReplicas},
		"acks": {&wire.ClientAppend{Topic: "t", Acks: 2}, messages.ErrInvalidRequiredAcks},
		// They are -1, 0 and 1 in their last 16 bits.
		"acks cut to all": {&wire.ClientAppend{Topic: "t", Acks: 1<<16 - 1},
			messages.ErrInvalidRequiredAcks},
		"acks cut to none": {&wire.ClientAppend{Topic: "t", Acks: 1 << 16},
			messages.ErrInvalidRequiredAcks},
		"acks cut to leader": {&wire.ClientAppend{Topic: "t", Acks: 1<<16 + 1},
			messages.ErrInvalidRequiredAcks},
		"damaged": {&wire.ClientAppend{Topic: "t", Records: []byte("no batch")},
			messages.ErrInvalidRecord},
		"no transactional id": {&wire.ClientAppend{Topic: "t", Records: transactional.Bytes},
			messages.ErrInvalidRequest},
	} {
		if c.q.Records == nil {
			c.q.Records = batch(t, "a")
		}
		if c.q.Acks == 0 {
			c.q.Acks = -1
		}
		r := p.ask(p.session, appendOf(2, c.q))
		if !errors.Is(wire.ToError(r.GetError()), c.want) || r.GetAppended().GetBaseOffset() != -1 {
			t.Errorf("%s: answered %v", name, r)
		}
		hint := r.GetAppended().GetLeader()
		if told := hint.GetNodeId() == 2 && hint.GetLeaderEpoch() == 8; told != (name == "other leader") {
			t.Errorf("%s: leader %v", name, hint)
		}
	}
}

func TestABatchAboveTheWindowIsRefusedAndNothingIsAppended(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.farAway("far:1")
	s.partition("t", 0).hold = true
	big := batch(t, strings.Repeat("x", windowBytes-1000))
	small := batch(t, strings.Repeat("y", 2000))
	p.send(p.session, appendOf(2, &wire.ClientAppend{Topic: "t", Acks: -1, Records: big}))
	r := p.ask(p.session, appendOf(3, &wire.ClientAppend{Topic: "t", Acks: -1, Records: small}))
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrOverloaded) || r.GetRequestId() != 3 {
		t.Errorf("answered %v", r)
	}
	s.partition("t", 0).release()
	if r := p.answer(); r.GetRequestId() != 2 || r.GetError() != nil {
		t.Errorf("answered %v", r)
	}
	if r := p.ask(p.session, appendOf(4, &wire.ClientAppend{Topic: "t", Acks: -1, Records: small})); r.
		GetError() != nil {
		t.Errorf("there is room again, and it was answered %v", r)
	}
}

func TestSessionsTogetherHoldNoMoreThanTheyMay(t *testing.T) {
	s := newScene(t, func(c *Config) { c.QueuedMaxBytes = 8000 })
	s.addTopic("t", 1)
	a, b := s.farAway("a:1"), s.farAway("b:1")
	s.partition("t", 0).hold = true
	q := &wire.ClientAppend{Topic: "t", Acks: -1, Records: batch(t, strings.Repeat("x", 5000))}
	a.send(a.session, appendOf(2, q))
	testkit.Eventually(t, "it is under way", func() bool { return s.partition("t", 0).holding() == 1 })
	r := b.ask(b.session, appendOf(2, q))
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrOverloaded) {
		t.Errorf("answered %v", r)
	}
	s.partition("t", 0).release()
	a.answer()
}

func TestAnAppendThatTakesTooLongIsAnsweredAndItsMemoryStaysCounted(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	s.partition("t", 0).hold = true
	m := appendOf(2, &wire.ClientAppend{Topic: "t", Acks: -1, Records: batch(t, "a")})
	m.TimeoutMs = 1
	began := time.Now()
	r := p.ask(p.session, m)
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrRequestTimedOut) {
		t.Errorf("answered %v", r)
	}
	if took := time.Since(began); took < appendWaitMin {
		t.Errorf("it gave up after %v", took)
	}
	if used, _ := s.gateway.memory.stats(); used == 0 {
		t.Error("the leader has the batch still, and its memory is given away")
	}
	s.partition("t", 0).release()
	p.sync() // there is no second answer
}

func TestTheCoordinatorIsAskedAboutATransactionalBatch(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.partition("t", 0).asks = true
	p := s.local()
	tx := record.NewBuilder(record.Compression{}).Producer(7, 0, 0).Transactional()
	tx.Append(1, nil, []byte("v"))
	b, err := tx.Build()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.ClientAppend{Topic: "t", Acks: -1, TransactionalId: "mine", Records: b.Bytes}
	if r := p.ask(p.session, appendOf(2, q)); r.GetError() != nil {
		t.Errorf("answered %v", r)
	}
	s.mu.Lock()
	added := s.added
	s.addErr = txn.ErrAbortable
	s.mu.Unlock()
	if !s.partition("t", 0).fresh {
		t.Error("the leader does not know that each transaction has an epoch of its own")
	}
	if !slices.Equal(added, []string{"mine t-0"}) {
		t.Errorf("asked about %v", added)
	}
	r := p.ask(p.session, appendOf(3, q))
	if !errors.Is(wire.ToError(r.GetError()), txn.ErrAbortable) {
		t.Errorf("refused with %v", r)
	}
}
