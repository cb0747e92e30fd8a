//go:build !race

// The library sets a global logger of gRPC at each start of a remote, which the
// race detector rightly reports when one process has two.

package actors

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// peer is a node with a network and nothing else: an agent, a client, and
// perhaps the controller.
type peer struct {
	t      *testing.T
	env    *Env
	client *Client
	system *actor.ActorSystem
	remote *remote.Remote
	home   atomic.Pointer[actor.PID] // of the controller
	ended  bool
}

func startPeer(t *testing.T, id messages.NodeID) *peer {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	p := &peer{t: t, system: cluster.NewSystem(quiet)}
	cfg := remote.Configure("127.0.0.1", 0)
	cfg.MaxRetryCount = 1
	p.remote = remote.NewRemote(p.system, cfg)
	p.remote.Start()
	p.env = &Env{Self: id, Log: zerolog.Nop(), Now: time.Now, Root: p.system.Root,
		Metrics: &counts{}, IDs: p, Settings: func(name string) string {
			d, _ := configs.Broker(name)
			return d.Default
		}}
	p.client = NewClient(p.env)
	p.env.Init(1)
	t.Cleanup(p.stop)
	return p
}

func (p *peer) stop() {
	if !p.ended {
		p.ended = true
		p.remote.Shutdown(true)
		p.system.Shutdown()
		p.env.Close()
	}
}

// control makes p the controller, and join has it be a node.
func (p *peer) control(store registry.Store, live ...messages.NodeID) {
	pid, err := p.system.Root.SpawnNamed(NewController(p.env, ControllerConfig{
		Store:     store,
		ClusterID: func() string { return "test" },
		Defaults: func() topics.Defaults {
			return topics.Defaults{Partitions: 1, ReplicationFactor: 2, DeleteTopics: true}
		},
		Members: func() []messages.NodeID { return live },
		Probe:   func(context.Context, messages.NodeID) control.Outcome { return control.Alive },
	}), KindController)
	if err != nil {
		p.t.Fatal(err)
	}
	p.home.Store(pid)
}

func (p *peer) join(controller *peer) {
	p.home.Store(controller.home.Load())
	_, err := p.system.Root.SpawnNamed(NewNode(p.env, NodeConfig{
		Node: messages.Node{ID: p.env.Self, Host: "localhost", Port: 9092}}), KindNode)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if err := p.client.AwaitVersion(ctx, 1); err != nil {
		p.t.Fatalf("node %d: %v", p.env.Self, err)
	}
}

func (p *peer) Resolve(string, string) *actor.PID { return p.home.Load() }
func (p *peer) SetImage(*messages.Image)          {}
func (p *peer) Ensure(_ string, identities []string) {
	for _, identity := range identities {
		id, _ := messages.ParseReplicaIdentity(identity)
		p.env.tellNode(replicaOpened{id.PartitionID})
	}
}
func (p *peer) Retire(string, []string) {}
func (p *peer) Forget(string, string)   {}

func TestEveryNodeServesWhatIsTheControllersToDecide(t *testing.T) {
	one, two := startPeer(t, 1), startPeer(t, 2)
	one.control(registry.NewMemory(), 1, 2)
	one.join(one)
	two.join(one)

	results, err := two.client.CreateTopics(t.Context(), []messages.CreateTopic{
		{Name: "orders", Partitions: 3, ReplicationFactor: -1}}, false)
	if err != nil || results[0].Err != nil {
		t.Fatalf("%v, %+v", err, results)
	}
	topic := two.client.Image().Topic("orders")
	if topic == nil || len(topic.Partitions[0].Replicas) != 2 {
		t.Fatalf("the node that was asked shows %+v", topic)
	}
	first, err := two.client.NewProducerID(t.Context())
	second, err2 := one.client.NewProducerID(t.Context())
	if err := errors.Join(err, err2); err != nil || second != first+topics.ProducerIDBlock {
		t.Errorf("producer ids %d and %d: %v", first, second, err)
	}
	ids := []messages.PartitionID{{Topic: topic.ID}}
	errs, err := two.client.ElectLeaders(t.Context(), messages.ElectPreferred, ids)
	if err != nil || !errors.Is(errs[0], messages.ErrElectionNotNeeded) {
		t.Errorf("an election: %v, %v", err, errs)
	}
	errs, err = two.client.AlterConfigs(t.Context(), []messages.AlterConfigs{{
		Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: "2"},
		Changes:  []messages.ConfigChange{{Key: "node.drain", Value: "true"}}}}, false)
	if err := errors.Join(append(errs, err)...); err != nil || !two.client.Image().Node(2).Draining {
		t.Errorf("draining node 2: %v", err)
	}
	results, err = two.client.DeleteTopics(t.Context(), []messages.TopicRef{{Name: "orders"}})
	if err != nil || results[0].Err != nil || two.client.Image().Topic("orders") != nil {
		t.Errorf("deleting: %v, %+v", err, results)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !two.client.Leave(ctx) {
		t.Error("the node may not stop")
	}
}

func TestACommandOfANewerVersionIsAnsweredAsUnsupported(t *testing.T) {
	one, two := startPeer(t, 1), startPeer(t, 2)
	one.control(registry.NewMemory(), 1, 2)
	one.join(one)
	answers := make(chan *control.Answer, 1)
	id := two.client.calls().pending.Begin(one.home.Load(), patience,
		func(a *control.Answer) { answers <- a })
	two.env.Root.RequestWithCustomSender(one.home.Load(), &wire.ControllerRequest{RequestId: id},
		two.client.calls().replies)
	if a := receive(t, "an answer", answers); !errors.Is(a.Err, wire.ErrUnsupported) {
		t.Errorf("answered %v", a.Err)
	}
}

func TestCallsEndAtOnceWhenTheControllersNodeDies(t *testing.T) {
	one, two := startPeer(t, 1), startPeer(t, 2)
	reached := make(chan struct{})
	pid, err := one.system.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		if _, ok := ctx.Message().(*wire.ControllerRequest); ok {
			close(reached) // and no answer
		}
	}), KindController)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan *control.Answer, 1)
	two.client.calls().send(pid, &control.AllocateProducerIDs{}, patience,
		func(a *control.Answer) { answers <- a })
	receive(t, "the command", reached)
	one.stop()
	if a := receive(t, "the end of the call", answers); !errors.Is(a.Err, messages.ErrUnavailable) {
		t.Errorf("answered %v", a.Err)
	}
}

func TestACallToAnActorThatIsGoneEndsAtOnce(t *testing.T) {
	one, two := startPeer(t, 1), startPeer(t, 2)
	for name, to := range map[string]*actor.PID{
		"here": actor.NewPID(two.system.Address(), "nobody"),
		"away": actor.NewPID(one.system.Address(), "nobody"),
	} {
		answers := make(chan *control.Answer, 1)
		two.client.calls().send(to, &control.AllocateProducerIDs{}, patience,
			func(a *control.Answer) { answers <- a })
		if a := receive(t, name, answers); !errors.Is(a.Err, messages.ErrUnavailable) {
			t.Errorf("%s: answered %v", name, a.Err)
		}
	}
}

func TestACallThatIsNotAnsweredEndsAtItsDeadline(t *testing.T) {
	one := startPeer(t, 1)
	mute := one.system.Root.Spawn(actor.PropsFromFunc(func(actor.Context) {}))
	answers := make(chan *control.Answer, 1)
	one.client.calls().send(mute, &control.AllocateProducerIDs{}, time.Millisecond,
		func(a *control.Answer) { answers <- a })
	if a := receive(t, "the end", answers); !errors.Is(a.Err, messages.ErrUnavailable) {
		t.Errorf("answered %v", a.Err)
	}
	if n := one.client.calls().pending.Len(); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

func TestAClientFindsTheControllerThatComesAfterAnother(t *testing.T) {
	store := registry.NewMemory()
	one, two, three := startPeer(t, 1), startPeer(t, 2), startPeer(t, 3)
	one.control(store, 1, 2, 3)
	two.join(one)
	three.join(one)
	one.stop()
	store.Expire()
	begun := make(chan error, 1)
	go func() {
		results, err := three.client.CreateTopics(t.Context(), []messages.CreateTopic{
			{Name: "orders", Partitions: 1, ReplicationFactor: 1}}, false)
		if err == nil {
			err = results[0].Err
		}
		begun <- err
	}()
	three.home.Store(nil) // nobody is controller
	two.control(store.Connect(), 1, 2, 3)
	three.home.Store(two.home.Load())
	if err := receive(t, "the outcome", begun); err != nil {
		t.Error(err)
	}
	if three.client.Image().Topic("orders") == nil {
		t.Error("the topic is not there")
	}
}
