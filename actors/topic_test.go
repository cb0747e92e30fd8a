package actors

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// listener is a client that subscribes to topics.
type listener struct {
	w      *world
	pid    *actor.PID
	routes chan *wire.ClientRoute
}

// listen makes a client in this process.
func (w *world) listen() *listener {
	l := &listener{w: w, routes: make(chan *wire.ClientRoute, 1000)}
	l.pid = w.env.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*wire.ClientPush); ok {
			l.routes <- m.GetRoute()
		}
	}))
	return l
}

// SendUserMessage implements actor.Process, for a client elsewhere.
func (l *listener) SendUserMessage(_ *actor.PID, m any) {
	_, m, _ = actor.UnwrapEnvelope(m)
	l.routes <- m.(*wire.ClientPush).GetRoute()
}
func (l *listener) SendSystemMessage(*actor.PID, any) {}
func (l *listener) Stop(*actor.PID)                   {}

// listenFar makes a client in another process.
func (w *world) listenFar(address string) *listener {
	l := &listener{w: w, pid: actor.NewPID(address, "client"),
		routes: make(chan *wire.ClientRoute, 1000)}
	w.env.Root.ActorSystem().ProcessRegistry.RegisterAddressResolver(
		func(pid *actor.PID) (actor.Process, bool) { return l, pid.Address == address })
	return l
}

func (l *listener) request(q *wire.ClientSubscribe) *wire.ClientRequest {
	q.SubscriberAddress, q.Subscriber = l.pid.Address, l.pid.Id
	return &wire.ClientRequest{RequestId: 5,
		Command: &wire.ClientRequest_Subscribe{Subscribe: q}}
}

// subscribe asks the actor of a topic and returns what it answers.
func (l *listener) subscribe(q *wire.ClientSubscribe) error {
	l.w.t.Helper()
	return l.w.askTopic(q.GetTopic(), l.request(q))
}

func (w *world) askTopic(name string, m *wire.ClientRequest) error {
	w.t.Helper()
	pid := w.env.IDs.Resolve(KindTopic, name)
	answer, err := w.env.Root.RequestFuture(pid, m, patience).Result()
	if err != nil {
		w.t.Fatal(err)
	}
	resp := answer.(*wire.ClientResponse)
	if resp.GetRequestId() != m.GetRequestId() {
		w.t.Errorf("answered %v", resp)
	}
	return wire.ToError(resp.GetError())
}

func (l *listener) next() *wire.ClientRoute {
	l.w.t.Helper()
	return receive(l.w.t, "a route", l.routes)
}

func (l *listener) quiet() {
	l.w.t.Helper()
	if len(l.routes) > 0 {
		l.w.t.Errorf("the client was told %v", l.next())
	}
}

// subscribedTopics counts the topics that have subscribers.
func (w *world) subscribedTopics() (n int) {
	w.env.subscribed.actors.Range(func(any, any) bool { n++; return true })
	return n
}

func TestASubscriberIsToldTheRouteAndWhatChangesInIt(t *testing.T) {
	w := start(t, plan{})
	topic := w.create("t", 2)
	w.create("other", 1)
	near, far := w.listen(), w.listenFar("far:1")
	for _, l := range []*listener{near, far} {
		if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
			t.Fatal(err)
		}
		r := l.next()
		if r.GetTopic() != "t" || string(r.GetTopicId()) != string(topic.ID[:]) || r.GetGone() ||
			r.GetMaxMessageBytes() != 1048588 || len(r.GetPartitions()) != 2 {
			t.Errorf("told %v", r)
		}
		if p := r.GetPartitions()[1]; p.GetNodeId() != int32(self) {
			t.Errorf("partition 1 is led by %v", p)
		}
	}
	// Neither another topic nor what is not in a route is news.
	w.create("third", 1)
	w.alter("t", "retention.ms", "1000")
	before := w.client.Image().Version
	_, err := w.client.CreatePartitions(t.Context(),
		[]messages.CreatePartitions{{Topic: "t", Count: 3}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*listener{near, far} {
		if r := l.next(); len(r.GetPartitions()) != 3 || r.GetVersion() <= int64(before) {
			t.Errorf("told %v after version %d", r, before)
		}
	}
	w.alter("t", "max.message.bytes", "5000")
	for _, l := range []*listener{near, far} {
		if r := l.next(); r.GetMaxMessageBytes() != 5000 {
			t.Errorf("told %v", r)
		}
		l.quiet()
	}
}

func TestASubscriberIsToldWhatATopicInheritsFromTheNodes(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	l := w.listen()
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	before := l.next()
	w.configure(messages.ConfigBroker, strconv.Itoa(int(self)), "log.retention.ms", "1000")
	w.configure(messages.ConfigBroker, strconv.Itoa(int(self)), "message.max.bytes", "5000")
	if r := l.next(); r.GetMaxMessageBytes() != 5000 || r.GetVersion() <= before.GetVersion() {
		t.Errorf("told %v after %v", r, before)
	}
	l.quiet()
}

func (w *world) alter(topic, name, value string) {
	w.t.Helper()
	w.configure(messages.ConfigTopic, topic, name, value)
}

func (w *world) configure(of messages.ConfigResourceType, resource, name, value string) {
	w.t.Helper()
	errs, err := w.client.AlterConfigs(w.t.Context(), []messages.AlterConfigs{{
		Resource: messages.ConfigResource{Type: of, Name: resource},
		Changes:  []messages.ConfigChange{{Key: name, Op: messages.ConfigSet, Value: value}}}}, false)
	if err := errors.Join(append(errs, err)...); err != nil {
		w.t.Fatal(err)
	}
}

func TestASubscriptionEndsWithItsTopicAndIsRefusedWithoutOne(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	l := w.listen()
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	l.next()
	w.delete("t")
	if r := l.next(); !r.GetGone() || len(r.GetPartitions()) != 0 || r.GetTopic() != "t" {
		t.Errorf("told %v", r)
	}
	w.eventually("nobody is listed", func() bool { return w.subscribedTopics() == 0 })
	err := l.subscribe(&wire.ClientSubscribe{Topic: "t"})
	if !errors.Is(err, messages.ErrUnknownTopicOrPartition) {
		t.Errorf("subscribing answered %v", err)
	}
	if n := w.subscribedTopics(); n != 0 {
		t.Errorf("%d topics are listed", n)
	}
	l.quiet()
}

func TestSubscribersThatAreGoneAreDropped(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	near, far, calm := w.listen(), w.listenFar("far:1"), w.listen()
	for _, l := range []*listener{near, far, calm} {
		if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
			t.Fatal(err)
		}
		l.next()
	}
	if err := calm.subscribe(&wire.ClientSubscribe{Topic: "t", Cancel: true}); err != nil {
		t.Fatal(err)
	}
	w.env.Root.ActorSystem().EventStream.Publish(&remote.EndpointTerminatedEvent{Address: "far:1"})
	_ = w.env.Root.StopFuture(near.pid).Wait()
	w.eventually("nobody is listed", func() bool { return w.subscribedTopics() == 0 })
	w.alter("t", "max.message.bytes", "5000")
	if r := far.next(); !r.GetGone() { // it may live all the same
		t.Errorf("told %v", r)
	}
	for _, l := range []*listener{near, far, calm} {
		l.quiet()
	}
}

func TestASubscriberHearsWhenTheActorOfItsTopicGoes(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	l := w.listen()
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	l.next()
	w.lookup.Retire(KindTopic, []string{"t"}) // it moved away
	if r := l.next(); !r.GetGone() {
		t.Errorf("told %v", r)
	}
}

func TestAnActorWithSubscribersDoesNotIdleOut(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	l := w.listen()
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	l.next()
	pid := w.env.IDs.Resolve(KindTopic, "t")
	w.env.Root.Send(pid, topicIdled{1})
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t"}); err != nil { // it is there
		t.Fatal(err)
	}
	l.next()
	if err := l.subscribe(&wire.ClientSubscribe{Topic: "t", Cancel: true}); err != nil {
		t.Fatal(err)
	}
	w.env.Root.Send(pid, topicIdled{3})
	w.eventually("the actor has gone", func() bool {
		_, there := w.env.Root.ActorSystem().ProcessRegistry.GetLocal(pid.Id)
		return !there
	})
	l.quiet()
}

func TestSubscriptionsThatCannotBeAreRefused(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	for want, m := range map[error]*wire.ClientRequest{
		wire.ErrUnsupported: {RequestId: 1},
		messages.ErrInvalidRequest: {RequestId: 1, Command: &wire.ClientRequest_Subscribe{
			Subscribe: &wire.ClientSubscribe{Topic: "t"}}},
	} {
		if err := w.askTopic("t", m); !errors.Is(err, want) {
			t.Errorf("%v was answered %v", m, err)
		}
	}
}

// at is a request to subscribers at some time; expireAt one to drop those whose lease is
// over.
type (
	at struct {
		now time.Time
		q   *wire.ClientSubscribe
	}
	expireAt struct{ now time.Time }
)

// holder is an actor that has subscribers and what else a test asks of it. What it found
// goes to errs.
func (w *world) holder(s *subscribers, errs chan error) *actor.PID {
	return w.env.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case at:
			errs <- s.subscribe(ctx, m.now, m.q)
		case expireAt:
			s.expire(m.now)
			errs <- nil
		}
	}))
}

func TestASubscriptionLastsAsLongAsItsLease(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	s, errs := newSubscribers(w.env, "t"), make(chan error, 1)
	pid := w.holder(&s, errs)
	do := func(m any) error {
		w.env.Root.Send(pid, m)
		return receive(t, "the subscribers", errs)
	}
	begin := time.Now()
	for i, ms := range []uint32{0, 1, 20_000, 1 << 31} { // 60, 10, 20 and 600 s
		q := &wire.ClientSubscribe{LeaseMs: ms, SubscriberAddress: "x:1", Subscriber: fmt.Sprint(i)}
		if err := do(at{begin, q}); err != nil {
			t.Fatal(err)
		}
	}
	renewed := &wire.ClientSubscribe{LeaseMs: 1, SubscriberAddress: "x:1", Subscriber: "1"}
	if err := do(at{begin.Add(8 * time.Second), renewed}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ seconds, left int }{
		{17, 4}, {18, 3}, {19, 3}, {20, 2}, {59, 2}, {60, 1}, {599, 1}, {600, 0},
	} {
		now := begin.Add(time.Duration(c.seconds) * time.Second)
		_ = do(expireAt{now})
		if n := len(s.all); n != c.left {
			t.Errorf("%d are left after %d s, want %d", n, c.seconds, c.left)
		}
		next := s.expiry()
		if next.IsZero() != (c.left == 0) || !next.IsZero() && !next.After(now) {
			t.Errorf("after %d s the next one ends at %v", c.seconds, next)
		}
	}
	if listed := w.subscribedTopics(); listed != 0 {
		t.Errorf("%d topics are listed", listed)
	}
}

func TestTheNumberOfSubscribersIsBounded(t *testing.T) {
	w := start(t, plan{})
	w.create("t", 1)
	s, errs := newSubscribers(w.env, "t"), make(chan error, 1)
	pid := w.holder(&s, errs)
	var err error
	for i := range subscribersMax + 1 {
		if err != nil {
			t.Fatalf("subscriber %d: %v", i-1, err)
		}
		w.env.Root.Send(pid, at{time.Now(), &wire.ClientSubscribe{SubscriberAddress: "x:1",
			Subscriber: fmt.Sprint(i)}})
		err = receive(t, "the subscribers", errs)
	}
	if !errors.Is(err, messages.ErrOverloaded) {
		t.Errorf("one too many was answered %v", err)
	}
}

func TestTheEndOfATopicsActorEndsTheCreationThatItWaitsFor(t *testing.T) {
	w := start(t, plan{})
	for range maxOpening { // no replica can be opened, so that the topic is never ready
		w.env.opening <- struct{}{}
	}
	created := make(chan error, 1)
	w.env.Root.Send(w.env.IDs.Resolve(KindTopic, "t"),
		&ensureTopic{func(err error) { created <- err }})
	w.eventually("the topic is made", func() bool { return w.client.Image().Topic("t") != nil })
	w.lookup.Retire(KindTopic, []string{"t"})
	if err := receive(t, "an answer", created); !errors.Is(err, messages.ErrUnavailable) {
		t.Errorf("answered %v", err)
	}
	ended := make(chan error, 1)
	began := time.Now()
	go func() {
		w.env.asking.Wait()
		ended <- nil
	}()
	_ = receive(t, "the end of the creation", ended)
	if took := time.Since(began); took > 5*time.Second { // it would be 10 s at least
		t.Errorf("it took %v", took)
	}
	for range maxOpening {
		<-w.env.opening
	}
}
