package gateway

import (
	"errors"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func subscribeOf(q *wire.ClientSubscribe) *wire.ClientRequest {
	return &wire.ClientRequest{RequestId: 2,
		Command: &wire.ClientRequest_Subscribe{Subscribe: q}}
}

// topicFake makes an actor for a topic that answers what answer returns.
func (s *scene) topicFake(name string, answer func(*wire.ClientSubscribe) error) {
	pid := s.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*wire.ClientRequest); ok {
			resp := &wire.ClientResponse{RequestId: m.GetRequestId()}
			if err := answer(m.GetSubscribe()); err != nil {
				resp.Error = wire.FromError(err)
			}
			ctx.Respond(resp)
		}
	}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics[name] = pid
}

func TestASubscriptionReachesTheActorOfTheTopicWithItsSubscriber(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.farAway("far:1")
	got := make(chan *wire.ClientSubscribe, 1)
	s.topicFake("t", func(q *wire.ClientSubscribe) error { got <- q; return nil })
	r := p.ask(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "t", LeaseMs: 5,
		SubscriberAddress: "someone", Subscriber: "else"}))
	if r.GetError() != nil || r.GetRequestId() != 2 {
		t.Errorf("answered %v", r)
	}
	if q := <-got; q.GetTopic() != "t" || q.GetLeaseMs() != 5 || q.GetSubscriberAddress() != "far:1" ||
		q.GetSubscriber() != "client" {
		t.Errorf("the topic was told %v", q)
	}
}

func TestASubscriptionGoesOnLookingForTheActorOfItsTopic(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	s.topics["t"] = actor.NewPID(s.system.Address(), "gone") // a dead letter
	tries := 0
	p.send(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "t"}))
	s.topicFake("t", func(*wire.ClientSubscribe) error {
		if tries++; tries == 1 { // its node does not know the topic yet
			return messages.ErrUnknownTopicOrPartition
		}
		return nil
	})
	if r := p.answer(); r.GetError() != nil {
		t.Errorf("answered %v", r)
	}
}

func TestASubscriptionWithoutAnActorEndsInTime(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	m := subscribeOf(&wire.ClientSubscribe{Topic: "t"})
	m.TimeoutMs = 1
	if r := p.ask(p.session, m); !errors.Is(wire.ToError(r.GetError()), messages.ErrUnavailable) {
		t.Errorf("answered %v", r)
	}
}

func TestATopicIsMadeIfClientAndClusterWantItSo(t *testing.T) {
	s := newScene(t)
	p := s.local()
	s.topicFake("new", func(*wire.ClientSubscribe) error { return nil })
	ask := func(q *wire.ClientSubscribe) error {
		return wire.ToError(p.ask(p.session, subscribeOf(q)).GetError())
	}
	for _, name := range []string{"__consumer_offsets", "new"} {
		if err := ask(&wire.ClientSubscribe{Topic: name, Create: name != "new"}); !errors.Is(err,
			messages.ErrUnknownTopicOrPartition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.settings["auto.create.topics.enable"] = "false"
	if err := ask(&wire.ClientSubscribe{Topic: "new", Create: true}); !errors.Is(err,
		messages.ErrUnknownTopicOrPartition) {
		t.Errorf("the cluster does not allow it: %v", err)
	}
	s.settings["auto.create.topics.enable"] = "true"
	if err := ask(&wire.ClientSubscribe{Topic: "new", Create: true}); err != nil {
		t.Error(err)
	}
	if len(s.created) != 1 || s.created[0] != "new" {
		t.Errorf("made %v", s.created)
	}
}

func TestOffsetsAreLookedUpForEachPartitionByItself(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 2)
	s.fill("t", "a", "b")
	p := s.local()
	times := []*wire.ClientTimeOf{{Timestamp: -1}, {Timestamp: -2}, {Partition: 5, Timestamp: -1},
		{Timestamp: -6}, {Partition: 1, Timestamp: -1}}
	ask := func(topic string) []*wire.ClientOffset {
		r := p.ask(p.session, &wire.ClientRequest{Command: &wire.ClientRequest_ListOffsets{
			ListOffsets: &wire.ClientListOffsets{Topic: topic, Partitions: times}}})
		return r.GetOffsets().GetPartitions()
	}
	got := ask("t")
	for i, want := range []int64{2, 0, -1, -1, 0} {
		if got[i].GetOffset() != want || (got[i].GetError() != nil) != (want < 0) {
			t.Errorf("%v: %v", times[i], got[i])
		}
	}
	for i, o := range ask("unknown") {
		want := messages.ErrUnknownTopicOrPartition
		if times[i].GetTimestamp() == -6 {
			want = messages.ErrInvalidRequest
		}
		if !errors.Is(wire.ToError(o.GetError()), want) || o.GetOffset() != -1 {
			t.Errorf("%v of an unknown topic: %v", times[i], o)
		}
	}
}

func TestAnAnswerThatIsLargerThanAMessageMayBeIsNotSent(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	q := &wire.ClientListOffsets{Topic: "t"}
	for i := range int32(60_000) { // most do not exist, and each answer says so
		q.Partitions = append(q.Partitions, &wire.ClientTimeOf{Partition: i, Timestamp: -1})
	}
	r := p.ask(p.session, &wire.ClientRequest{RequestId: 8,
		Command: &wire.ClientRequest_ListOffsets{ListOffsets: q}})
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrInvalidRequest) || r.GetRequestId() != 8 ||
		r.GetOffsets() != nil {
		t.Errorf("answered %d with %v and %d bytes", r.GetRequestId(), r.GetError(), r.Size())
	}
}

func TestNoActorIsLookedForToEndASubscriptionToATopicThatIsNot(t *testing.T) {
	looked := 0
	s := newScene(t, func(c *Config) {
		c.Topic = func(string) *actor.PID {
			looked++
			return nil
		}
	})
	p := s.local()
	r := p.ask(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "../made up", Cancel: true}))
	if r.GetError() != nil || looked > 0 {
		t.Errorf("answered %v, it was looked for %d times", r, looked)
	}
}

func TestRecordsAreDeletedWhereTheTopicAllowsIt(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 2)
	s.fill("t", "a", "b")
	s.partition("t", 1).settings.CleanupDelete = false
	p := s.local()
	ask := func(q *wire.ClientDeleteRecords) *wire.ClientResponse {
		return p.ask(p.session, &wire.ClientRequest{
			Command: &wire.ClientRequest_DeleteRecords{DeleteRecords: q}})
	}
	if r := ask(&wire.ClientDeleteRecords{Topic: "t", Before: 1}); r.GetError() != nil ||
		r.GetRecordsDeleted().GetLogStart() != 1 {
		t.Errorf("answered %v", r)
	}
	for want, q := range map[error]*wire.ClientDeleteRecords{
		messages.ErrUnknownTopicOrPartition: {Topic: "x"},
		messages.ErrInvalidTopic:            {Topic: "__transaction_state"},
		messages.ErrPolicyViolation:         {Topic: "t", Partition: 1},
		messages.ErrOffsetOutOfRange:        {Topic: "t", Before: -2},
	} {
		if want == messages.ErrInvalidTopic {
			s.addTopic("__transaction_state", 1)
		}
		if r := ask(q); !errors.Is(wire.ToError(r.GetError()), want) || r.GetRecordsDeleted() != nil {
			t.Errorf("%v: answered %v", q, r)
		}
	}
}

func TestRequestsThatWaitEndWithTheirSession(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local() // there is no actor of the topic, so this waits
	p.send(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "t"}))
	p.sync()
	p.send(p.session, &wire.ClientRequest{
		Command: &wire.ClientRequest_Goodbye{Goodbye: &wire.ClientGoodbye{}}})
	testkit.Eventually(t, "the session has ended", func() bool { return s.metrics.open() == 0 })
	if err := s.stop(testPatience); err != nil {
		t.Error(err)
	}
	p.quiet()
}

func TestRequestsThatMayWaitAreBounded(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	for range callsMax {
		p.send(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "t"}))
	}
	r := p.ask(p.session, subscribeOf(&wire.ClientSubscribe{Topic: "t"}))
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrOverloaded) {
		t.Errorf("answered %v", r)
	}
}
