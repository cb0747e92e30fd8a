package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// fill appends a batch for each value.
func (s *scene) fill(topic string, values ...string) {
	s.t.Helper()
	for _, v := range values {
		b := batch(s.t, v)
		done := make(chan error, 1)
		parsed, err := record.ParseOnly(b)
		if err != nil {
			s.t.Fatal(err)
		}
		s.partition(topic, 0).Append(&data.Append{Batch: parsed,
			Done: func(r data.AppendResult) { done <- r.Err }})
		if err := <-done; err != nil {
			s.t.Fatal(err)
		}
	}
}

// fetched collects the parts of an answer.
func (p *program) fetched() (r *wire.ClientResponse, records []byte, parts int) {
	p.s.t.Helper()
	for {
		r = p.answer()
		if n := r.GetFetched().GetPart(); int(n) != parts {
			p.s.t.Fatalf("part %d came as number %d", n, parts)
		}
		parts++
		records = append(records, r.GetFetched().GetRecords()...)
		if !r.GetFetched().GetMore() {
			return r, records, parts
		}
	}
}

func TestAFetchReturnsWhatThereIs(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", "a", "b", "c")
	s.partition("t", 0).aborted = []data.AbortedTxn{{Producer: 4, FirstOffset: 1}}
	for _, p := range []*program{s.local(), s.farAway("far:1")} {
		p.send(p.session, fetchOf(7, &wire.ClientFetch{Topic: "t", Offset: 1, MaxBytes: 1 << 20,
			ReadCommitted: true}))
		r, records, parts := p.fetched()
		f := r.GetFetched()
		if r.GetError() != nil || r.GetRequestId() != 7 || f.GetHighWatermark() != 3 || parts != 1 {
			t.Errorf("answered %v in %d parts", r, parts)
		}
		if got := valuesOf(t, records); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("got %v", got)
		}
		if a := f.GetAborted(); len(a) != 1 || a[0].GetProducerId() != 4 || a[0].GetFirstOffset() != 1 {
			t.Errorf("aborted %v", a)
		}
	}
	if s.metrics.fetched != 2 || s.metrics.fetchedBytes == 0 {
		t.Errorf("%d fetches with %d bytes are counted", s.metrics.fetched, s.metrics.fetchedBytes)
	}
}

func TestAFetchIsParkedUntilThereIsSomethingToRead(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t", WaitMs: 300_000, MaxBytes: 1000}))
	testkit.Eventually(t, "it is parked", func() bool { return s.partition("t", 0).waiting() == 1 })
	p.quiet()
	p.ask(p.session, appendOf(3, &wire.ClientAppend{Topic: "t", Acks: 1, Records: batch(t, "a")}))
	if r, records, _ := p.fetched(); r.GetRequestId() != 2 || len(valuesOf(t, records)) != 1 {
		t.Errorf("answered %v", r)
	}
}

func TestAFetchOfCommittedRecordsIsParkedUntilTheyAre(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", "a", "b")
	s.partition("t", 0).undecided = 1
	p := s.local()
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t", Offset: 1, MaxBytes: 1000,
		WaitMs: 60_000, ReadCommitted: true}))
	testkit.Eventually(t, "it is parked", func() bool { return s.partition("t", 0).waiting() == 1 })
	p.quiet()
	s.partition("t", 0).decide()
	if _, records, _ := p.fetched(); len(valuesOf(t, records)) != 1 {
		t.Errorf("read %v", valuesOf(t, records))
	}
}

func TestAFetchThatFindsNothingWhileTheNodeStopsIsNotParked(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	block := make(chan struct{})
	s.partition("t", 0).block = block
	p := s.local()
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t", MaxBytes: 1000, WaitMs: 240_000}))
	testkit.Eventually(t, "it is read", s.partition("t", 0).isReading)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(testPatience) }()
	if m, ok := p.next().(*wire.ClientPush); !ok || m.GetDraining() == nil {
		t.Errorf("told %v", m)
	}
	close(block)
	if r := p.answer(); r.GetRequestId() != 2 || r.GetError() != nil {
		t.Errorf("answered %v", r)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAParkedFetchIsAnsweredWhenItHasWaitedLongEnough(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", "a")
	p := s.local()
	began := time.Now()
	// In any order: they have to be answered by their time.
	for _, ms := range []uint32{90, 30, 60} {
		p.send(p.session, fetchOf(uint64(ms), &wire.ClientFetch{Topic: "t", Offset: 1, WaitMs: ms}))
	}
	for _, ms := range []uint64{30, 60, 90} {
		r := p.answer()
		if r.GetRequestId() != ms || r.GetError() != nil || r.GetFetched().GetHighWatermark() != 1 {
			t.Errorf("answered %v", r)
		}
		if took := time.Since(began); took < time.Duration(ms)*time.Millisecond {
			t.Errorf("the fetch of %d ms was answered after %v", ms, took)
		}
	}
	if n := s.partition("t", 0).waiting(); n != 0 {
		t.Errorf("%d readers wait still", n)
	}
}

func TestALargeAnswerComesInParts(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	var want []string
	for i := range 5 {
		want = append(want, strings.Repeat(fmt.Sprint(i), 700_000))
	}
	s.fill("t", want...)
	p := s.farAway("far:1")
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t", MaxBytes: 10 << 20}))
	_, records, parts := p.fetched()
	if got := valuesOf(t, records); !slices.Equal(got, want) || parts != 4 {
		t.Errorf("got %d values in %d parts", len(got), parts)
	}
	near := s.local()
	near.send(near.session, fetchOf(2, &wire.ClientFetch{Topic: "t", MaxBytes: 10 << 20}))
	if _, records, parts := near.fetched(); len(valuesOf(t, records)) != 5 || parts != 1 {
		t.Errorf("a client in this process got %d bytes in %d parts", len(records), parts)
	}
}

func TestFetchesThatCannotBeAreRefused(t *testing.T) {
	s := newScene(t)
	topic := s.addTopic("t", 1)
	s.apply(&messages.Delta{Topics: []*messages.Topic{{Name: "elsewhere", ID: messages.TopicID{9},
		Partitions: []messages.Partition{{Leader: 2, LeaderEpoch: 8}}}}})
	p := s.local()
	for name, c := range map[string]struct {
		q    *wire.ClientFetch
		want error
	}{
		"unknown topic": {&wire.ClientFetch{Topic: "x"}, messages.ErrUnknownTopicOrPartition},
		"other topic": {&wire.ClientFetch{Topic: "t", TopicId: make([]byte, 16)},
			messages.ErrUnknownTopicID},
		"gone topic": {&wire.ClientFetch{Topic: "x", TopicId: topic.ID[:]},
			messages.ErrUnknownTopicID},
		"partition": {&wire.ClientFetch{Topic: "t", Partition: -1},
			messages.ErrUnknownTopicOrPartition},
		"other leader": {&wire.ClientFetch{Topic: "elsewhere"}, messages.ErrNotLeader},
		"offset": {&wire.ClientFetch{Topic: "t", Offset: 9, WaitMs: 300_000, TopicId: topic.ID[:]},
			messages.ErrOffsetOutOfRange},
	} {
		r := p.ask(p.session, fetchOf(2, c.q))
		if !errors.Is(wire.ToError(r.GetError()), c.want) || r.GetFetched() == nil {
			t.Errorf("%s: answered %v", name, r)
		}
		hint := r.GetFetched().GetLeader()
		if told := hint.GetNodeId() == 2 && hint.GetLeaderEpoch() == 8; told != (name == "other leader") {
			t.Errorf("%s: leader %v", name, hint)
		}
		if name == "offset" && r.GetFetched().GetLogStart() != 0 {
			t.Errorf("told of the log start %d", r.GetFetched().GetLogStart())
		}
	}
}

func TestAppendsGoOnWhileAReadWaitsForTheDisk(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", "a")
	block := make(chan struct{})
	s.partition("t", 0).block = block
	p := s.local()
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t"}))
	if r := p.ask(p.session, appendOf(3, &wire.ClientAppend{Topic: "t", Acks: -1,
		Records: batch(t, "b")})); r.GetRequestId() != 3 || r.GetError() != nil {
		t.Errorf("answered %v", r)
	}
	close(block)
	if r := p.answer(); r.GetRequestId() != 2 {
		t.Errorf("answered %v", r)
	}
}

func TestRecordsWaitUntilThoseBeforeHaveLeft(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", strings.Repeat("x", 9<<20))
	p := s.farAway("slow:1")
	const n = 3
	for id := range uint64(n) {
		p.send(p.session, fetchOf(id, &wire.ClientFetch{Topic: "t", MaxBytes: 10 << 20}))
	}
	other := s.local()
	other.send(other.session, fetchOf(5, &wire.ClientFetch{Topic: "t", MaxBytes: 10 << 20}))
	if r, _, _ := other.fetched(); r.GetError() != nil {
		t.Errorf("another client was answered %v", r)
	}
	testkit.Eventually(t, "the first answer is on its way", func() bool { return len(p.got) == 10 })
	if used, _ := s.gateway.memory.stats(); used > windowBytes {
		t.Errorf("%d bytes are in memory for a client that takes nothing", used)
	}
	for id := range uint64(n) {
		if r, records, _ := p.fetched(); r.GetRequestId() != id || len(records) < 9<<20 {
			t.Errorf("fetch %d was answered %v", id, r.GetError())
		}
	}
}

func TestWhatIsOnItsWayToAClientThatIsGoneIsGivenBack(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	s.fill("t", strings.Repeat("x", 9<<20))
	p := s.farAway("slow:1")
	for id := range uint64(5) {
		p.send(p.session, fetchOf(id, &wire.ClientFetch{Topic: "t", MaxBytes: 10 << 20}))
	}
	testkit.Eventually(t, "the first answer is on its way", func() bool { return len(p.got) == 10 })
	s.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: "slow:1"})
	testkit.Eventually(t, "the memory is free", func() bool {
		used, _ := s.gateway.memory.stats()
		return used == 0 && s.metrics.open() == 0
	})
	p.next() // an answer that leaves all the same gives nothing back twice
	if used, _ := s.gateway.memory.stats(); used != 0 {
		t.Errorf("%d bytes are in use", used)
	}
}
