package gateway

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func TestAClientThatSaysHelloGetsASessionAndLearnsTheNodes(t *testing.T) {
	s := newScene(t)
	p := s.local()
	w := p.welcome
	if w.GetClusterId() != "scene" || w.GetNodeId() != 1 || w.GetWindowBytes() != windowBytes ||
		w.GetMessageBytes() != 2<<20 {
		t.Errorf("welcomed with %v", w)
	}
	nodes := w.GetNodes().GetNodes()
	if len(nodes) != 1 || nodes[0].GetKafka() != "kafka:9092" ||
		nodes[0].GetAddress() != s.system.Address() {
		t.Errorf("told of the nodes %v", nodes)
	}
	if other := s.local(); other.welcome.GetSession() == w.GetSession() {
		t.Error("two clients share a session")
	}
	if s.metrics.open() != 2 {
		t.Errorf("%d sessions are counted", s.metrics.open())
	}
}

func TestTheGatewayAndASessionRefuseWhatTheyDoNotKnow(t *testing.T) {
	s := newScene(t)
	p := s.local()
	for _, to := range []*actor.PID{p.session, actor.NewPID(s.system.Address(), Name)} {
		r := p.ask(to, &wire.ClientRequest{RequestId: 5})
		if !errors.Is(wire.ToError(r.GetError()), wire.ErrUnsupported) || r.GetRequestId() != 5 {
			t.Errorf("%s answered %v", to.Id, r)
		}
	}
}

func TestTheNumberOfSessionsIsBounded(t *testing.T) {
	s := newScene(t)
	first := s.local()
	s.local()
	s.local()
	hello := &wire.ClientRequest{RequestId: 2,
		Command: &wire.ClientRequest_Hello{Hello: &wire.ClientHello{}}}
	far := &program{s: s, got: s.mailbox("far:1"), pid: actor.NewPID("far:1", "client")}
	gateway := actor.NewPID(s.system.Address(), Name)
	r := far.ask(gateway, hello)
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrOverloaded) {
		t.Fatalf("the fourth client of three was answered %v", r)
	}
	first.send(first.session, &wire.ClientRequest{
		Command: &wire.ClientRequest_Goodbye{Goodbye: &wire.ClientGoodbye{}}})
	testkit.Eventually(t, "the session has ended", func() bool { return s.metrics.open() == 2 })
	if r := far.ask(gateway, hello); r.GetError() != nil {
		t.Errorf("there is room again and the client was answered %v", r)
	}
}

func TestAnotherHelloOfAClientEndsItsSession(t *testing.T) {
	s := newScene(t)
	p := s.local()
	before := p.session
	p.hello()
	testkit.Eventually(t, "there is one session", func() bool { return s.metrics.open() == 1 })
	p.send(before, &wire.ClientRequest{RequestId: 3})
	if _, dead := p.next().(*actor.DeadLetterResponse); !dead {
		t.Error("the session that was replaced answers")
	}
	p.sync()
}

func TestASessionEndsWithTheConnectionToItsClient(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	a, b := s.farAway("a:1"), s.farAway("b:1")
	a.send(a.session, fetchOf(2, &wire.ClientFetch{Topic: "t", WaitMs: 60_000}))
	testkit.Eventually(t, "the fetch is parked",
		func() bool { return s.partition("t", 0).waiting() == 1 })
	s.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: "a:1"})
	testkit.Eventually(t, "one session is left", func() bool { return s.metrics.open() == 1 })
	testkit.Eventually(t, "nothing waits for the client",
		func() bool { return s.partition("t", 0).waiting() == 0 })
	b.sync()
	// It may be there still, waiting.
	if m, ok := a.next().(*actor.DeadLetterResponse); !ok || m.GetTarget().GetId() != a.session.Id {
		t.Errorf("the client was told %v", m)
	}
	a.quiet()
}

func TestASessionEndsWithAClientInThisProcess(t *testing.T) {
	s := newScene(t)
	p := s.local()
	_ = s.system.Root.StopFuture(p.pid).Wait()
	testkit.Eventually(t, "the session has ended", func() bool { return s.metrics.open() == 0 })
}

func TestClientsAreToldWhenTheNodesChange(t *testing.T) {
	s := newScene(t)
	p := s.local()
	s.gateway.Changed() // nothing has
	p.sync()
	s.apply(&messages.Delta{Nodes: []messages.Node{{ID: 1, Host: "kafka", Port: 9092},
		{ID: 2, Host: "two", Port: 9092}, {ID: 3, Host: "three", Port: 9092, Fenced: true},
		{ID: 4, Host: "unknown", Port: 9092}}})
	s.mu.Lock()
	s.addresses[2], s.addresses[3] = "two:1", "three:1"
	s.mu.Unlock()
	s.gateway.Changed()
	told := p.next().(*wire.ClientPush).GetNodes()
	if n := told.GetNodes(); len(n) != 2 || n[1].GetAddress() != "two:1" {
		t.Errorf("told of %v: it should be the live nodes whose address is known", told)
	}
	if told.GetVersion() <= p.welcome.GetNodes().GetVersion() {
		t.Errorf("version %d after %d", told.GetVersion(), p.welcome.GetNodes().GetVersion())
	}
	s.mu.Lock()
	s.addresses[2] = "two:2"
	s.mu.Unlock()
	s.gateway.Changed()
	if again := p.next().(*wire.ClientPush).GetNodes(); again.GetVersion() <= told.GetVersion() {
		t.Errorf("version %d of another address after %d", again.GetVersion(), told.GetVersion())
	}
	p.quiet()
}

func TestAGatewayThatStopsTellsItsClientsAndAnswersWhatTheyAsked(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 2)
	p := s.local()
	s.partition("t", 0).hold = true
	p.send(p.session, appendOf(2, &wire.ClientAppend{Topic: "t", Acks: -1, Records: batch(t, "a")}))
	p.send(p.session, fetchOf(3, &wire.ClientFetch{Topic: "t", Partition: 1, WaitMs: 60_000}))
	testkit.Eventually(t, "both are under way", func() bool {
		return s.partition("t", 0).holding() == 1 && s.partition("t", 1).waiting() == 1
	})
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(testPatience) }()
	if d := p.next().(*wire.ClientPush).GetDraining(); d.GetNodeId() != 1 {
		t.Errorf("told %v", d)
	}
	if r := p.answer(); r.GetRequestId() != 3 || r.GetError() != nil {
		t.Errorf("the parked fetch was answered %v", r)
	}
	r := p.ask(p.session,
		appendOf(4, &wire.ClientAppend{Topic: "t", Acks: -1, Records: batch(t, "b")}))
	if !errors.Is(wire.ToError(r.GetError()), messages.ErrUnavailable) {
		t.Errorf("a new append was answered %v", r)
	}
	select {
	case err := <-stopped:
		t.Fatalf("it stopped (%v) before an append was answered", err)
	default:
	}
	s.partition("t", 0).release()
	if r := p.answer(); r.GetRequestId() != 2 || r.GetError() != nil {
		t.Errorf("the append was answered %v", r)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestAGatewayThatStopsWaitsForALeaderOnlySoLong(t *testing.T) {
	s := newScene(t)
	s.addTopic("t", 1)
	p := s.local()
	s.partition("t", 0).hold = true
	p.send(p.session, appendOf(2, &wire.ClientAppend{Topic: "t", Acks: -1, Records: batch(t, "a")}))
	testkit.Eventually(t, "it is under way", func() bool { return s.partition("t", 0).holding() == 1 })
	if err := s.stop(20 * time.Millisecond); err == nil {
		t.Error("it stopped as if everything was answered")
	}
	s.partition("t", 0).release() // the leader is done with it later
}

func TestASessionThatFailsEndsAlone(t *testing.T) {
	s := newScene(t)
	p, other := s.local(), s.local()
	s.addTopic("t", 1)
	s.partition("t", 0).err = errPanic
	p.send(p.session, fetchOf(2, &wire.ClientFetch{Topic: "t"}))
	testkit.Eventually(t, "the session has ended", func() bool { return s.metrics.open() == 1 })
	other.sync()
}

func TestSessionNamesCannotBeGuessed(t *testing.T) {
	s := newScene(t)
	name := strings.TrimPrefix(s.local().welcome.GetSession(), Name+"/")
	if len(name) != 32 {
		t.Errorf("a session is named %q", name)
	}
}
