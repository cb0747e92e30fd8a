package transport

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// program is an actor system with a Peer, and an actor "echo" that answers requests.
type program struct {
	*Peer
	system *actor.ActorSystem
	broke  chan string // addresses
	got    chan any    // what its actor "inbox" gets
	inbox  *actor.PID
}

func quietSystem() *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(slog.DiscardHandler)
		}), actor.WithDeadLetterThrottleInterval(time.Millisecond))
}

func startProgram(t *testing.T) *program {
	t.Helper()
	p := &program{broke: make(chan string, 16), got: make(chan any, 1<<10)}
	p.system = quietSystem()
	var err error
	p.Peer, err = Endpoint{Bind: "127.0.0.1:0"}.Attach(p.system,
		func(address string, _ error) { p.broke <- address })
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.system.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*wire.ClientRequest); ok && ctx.Sender() != nil {
			ctx.Respond(&wire.ClientResponse{RequestId: m.RequestId})
		}
	}), "echo")
	if err != nil {
		t.Fatal(err)
	}
	p.inbox = p.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *wire.ClientResponse, *actor.Terminated, *actor.DeadLetterResponse:
			p.got <- m
		}
	}))
	return p
}

func (p *program) stop() {
	p.Close()
	_ = p.system.Root.StopFuture(p.inbox).Wait()
	p.system.Shutdown()
}

func receive[T any](t *testing.T, c chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes")
	}
	return v
}

func TestPeersExchangeTheLargestMessagesInOrderAndLeaveNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, b := startProgram(t), startProgram(t)
	echo := actor.NewPID(b.system.Address(), "echo")
	large := strings.Repeat("x", MessageMax-1024)
	for id := range uint64(2 * Batch) {
		a.system.Root.RequestWithCustomSender(echo, &wire.ClientRequest{RequestId: id,
			Command: &wire.ClientRequest_FindCoordinator{
				FindCoordinator: &wire.ClientFindCoordinator{Key: large}}}, a.inbox)
	}
	for id := range uint64(2 * Batch) {
		if m := receive(t, a.got).(*wire.ClientResponse); m.RequestId != id {
			t.Fatalf("answer %d came in the place of %d", m.RequestId, id)
		}
	}
	address := b.system.Address()
	b.stop()
	if got := receive(t, a.broke); got != address {
		t.Errorf("the connection to %s broke, not %s", got, address)
	}
	a.system.Root.RequestWithCustomSender(echo, &wire.ClientRequest{}, a.inbox)
	if got := receive(t, a.broke); got != address {
		t.Errorf("nobody listens at %s, not %s", got, address)
	}
	a.stop()
	goleak.VerifyNone(t, before)
}

func TestTheEndOfAWatchedActorIsTold(t *testing.T) {
	a, b := startProgram(t), startProgram(t)
	defer a.stop()
	defer b.stop()
	victim := b.system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	seen := actor.NewPID(b.system.Address(), victim.Id)
	to, _ := a.system.ProcessRegistry.Get(seen)
	to.SendSystemMessage(seen, &actor.Watch{Watcher: a.inbox})
	a.system.Root.RequestWithCustomSender(actor.NewPID(b.system.Address(), "echo"),
		&wire.ClientRequest{}, a.inbox)
	receive(t, a.got) // the other one is watched by now
	b.system.Root.Stop(victim)
	if m, ok := receive(t, a.got).(*actor.Terminated); !ok || m.Who.Id != victim.Id {
		t.Errorf("it was told of %v", m)
	}
	a.system.Root.RequestWithCustomSender(seen, &wire.ClientRequest{}, a.inbox)
	if m, ok := receive(t, a.got).(*actor.DeadLetterResponse); !ok || m.Target.Id != victim.Id {
		t.Errorf("a message to an actor that is gone was answered with %v", m)
	}
}

func TestNobodyElseCanStopAnActorOfAProgram(t *testing.T) {
	a, b := startProgram(t), startProgram(t)
	defer a.stop()
	defer b.stop()
	echo := actor.NewPID(b.system.Address(), "echo")
	to, _ := a.system.ProcessRegistry.Get(echo)
	to.SendSystemMessage(echo, &actor.Stop{})
	a.system.Root.Send(echo, &actor.PoisonPill{})
	a.system.Root.RequestWithCustomSender(echo, &wire.ClientRequest{RequestId: 7}, a.inbox)
	if m, ok := receive(t, a.got).(*wire.ClientResponse); !ok || m.RequestId != 7 {
		t.Errorf("the actor answered %v", m)
	}
}

func TestNobodyElseCanStopAnActorOfANode(t *testing.T) {
	node, a := end(t, true), startProgram(t)
	defer a.stop()
	if _, err := node.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*wire.ClientRequest); ok && ctx.Sender() != nil {
			ctx.Respond(&wire.ClientResponse{RequestId: m.RequestId})
		}
	}), "gateway"); err != nil {
		t.Fatal(err)
	}
	gateway := actor.NewPID(node.Address(), "gateway")
	to, _ := a.system.ProcessRegistry.Get(gateway)
	to.SendSystemMessage(gateway, &actor.Stop{})
	a.system.Root.Send(gateway, &actor.PoisonPill{})
	a.system.Root.RequestWithCustomSender(gateway, &wire.ClientRequest{RequestId: 7}, a.inbox)
	if m, ok := receive(t, a.got).(*wire.ClientResponse); !ok || m.RequestId != 7 {
		t.Errorf("the actor answered %v", m)
	}
}

func TestADamagedBatchEndsItsConnectionOnly(t *testing.T) {
	a := startProgram(t)
	defer a.stop()
	conn, err := grpc.NewClient(a.system.Address(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, bad := range map[string]*remote.MessageEnvelope{
		"type":   {TypeId: 99},
		"target": {Target: -1},
		"sender": {Sender: 5},
		"data":   {MessageData: []byte{0xff}},
	} {
		stream, err := remote.NewRemotingClient(conn).Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{
			MessageBatch: &remote.MessageBatch{TypeNames: []string{"troupe.wire.v1.ClientRequest"},
				Targets: []string{"echo"}, Envelopes: []*remote.MessageEnvelope{bad}}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Errorf("%s: the connection did not end", name)
		}
	}
	b := startProgram(t)
	defer b.stop()
	b.system.Root.RequestWithCustomSender(actor.NewPID(a.system.Address(), "echo"),
		&wire.ClientRequest{}, b.inbox)
	receive(t, b.got)
}

func TestAPeerOfAnAddressThatCannotBeIsRefused(t *testing.T) {
	taken := startProgram(t)
	defer taken.stop()
	for _, e := range []Endpoint{{Bind: "x"}, {Bind: "0.0.0.0:0"}, {Bind: taken.system.Address()}} {
		p, err := e.Attach(quietSystem(), func(string, error) {})
		if err == nil {
			p.Close()
			t.Errorf("it listens at %s", e.Bind)
		}
	}
}

func TestMain(m *testing.M) { testkit.Main(m) }
