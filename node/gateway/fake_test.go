package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

func TestMain(m *testing.M) {
	// The library counts dead letters in a goroutine that ends after a second.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		"github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// testPatience bounds every wait of a test: far more than anything takes.
const testPatience = 30 * time.Second

// metricsCount counts what the gateway tells its metrics.
type metricsCount struct {
	mu                               sync.Mutex
	sessions                         int
	produced, produceFailed          int
	fetched, fetchedBytes, fetchFail int
}

func (c *metricsCount) add(n *int, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n += by
}

func (c *metricsCount) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions
}

func (c *metricsCount) SessionOpened()            { c.add(&c.sessions, 1) }
func (c *metricsCount) SessionClosed()            { c.add(&c.sessions, -1) }
func (c *metricsCount) Topic(string) TopicMetrics { return c }
func (c *metricsCount) Produced(records, _ int)   { c.add(&c.produced, records) }
func (c *metricsCount) ProduceFailed()            { c.add(&c.produceFailed, 1) }
func (c *metricsCount) FetchFailed()              { c.add(&c.fetchFail, 1) }

func (c *metricsCount) Fetched(n int) {
	c.add(&c.fetched, 1)
	c.add(&c.fetchedBytes, n)
}

// scene is a gateway before partitions in memory.
type scene struct {
	door.Cluster // what a test does not need

	t       *testing.T
	system  *actor.ActorSystem
	gateway *Gateway
	metrics metricsCount
	stopped bool

	mu         sync.Mutex
	image      *messages.Image
	partitions map[messages.TopicPartition]*fakePartition
	addresses  map[messages.NodeID]string
	settings   map[string]string
	topics     map[string]*actor.PID // their actors
	created    []string
	added      []string // transactional ids that a partition was added for
	addErr     error
	far        map[string]chan any // what was sent to other processes, by address
}

const sceneNode messages.NodeID = 1

func newScene(t *testing.T, change ...func(*Config)) *scene {
	t.Helper()
	s := &scene{t: t, image: messages.NewImage(),
		partitions: map[messages.TopicPartition]*fakePartition{},
		addresses:  map[messages.NodeID]string{}, topics: map[string]*actor.PID{},
		far:      map[string]chan any{},
		settings: map[string]string{"auto.create.topics.enable": "true"}}
	s.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}), actor.WithDeadLetterThrottleCount(0))
	s.system.ProcessRegistry.RegisterAddressResolver(func(pid *actor.PID) (actor.Process, bool) {
		return farProcess{s.mailbox(pid.Address)}, true
	})
	s.addresses[sceneNode] = s.system.Address()
	s.apply(&messages.Delta{ClusterID: "scene",
		Nodes: []messages.Node{{ID: sceneNode, Host: "kafka", Port: 9092}}})
	cfg := Config{
		Root:     s.system.Root,
		Props:    func(string) []actor.PropsOption { return nil },
		Guardian: actor.RestartingSupervisorStrategy(), Partitions: s, Cluster: s,
		Coordinators: coordinators{s: s}, Settings: s, Topic: s.topicActor,
		ForgetTopic: func(string) {}, Address: s.address,
		MaxSessions: 3, QueuedMaxBytes: 256 << 20, FetchMaxBytes: 50 << 20, MessageBytes: 2 << 20,
		Buffer: func(n int) []byte { return make([]byte, n) },
		// The memory of a batch is somebody else's as soon as it was appended.
		Free:    func(records []byte) { clear(records) },
		Metrics: &s.metrics, Log: slog.New(slog.DiscardHandler), Failed: func(string) {},
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if s.gateway, err = Start(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.stopped {
			s.stop(testPatience)
		}
		s.system.Shutdown()
		if n := s.metrics.open(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if used, _ := s.gateway.memory.stats(); used != 0 {
			t.Errorf("%d bytes of memory were not given back", used)
		}
	})
	return s
}

func (s *scene) stop(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s.stopped = true
	return s.gateway.Stop(ctx)
}

// apply takes the image one version on.
func (s *scene) apply(d *messages.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.From, d.To, d.Controller = s.image.Version, s.image.Version+1, sceneNode
	d.ClusterID = "scene"
	next, ok := s.image.Apply(d)
	if !ok {
		panic("delta does not follow the image")
	}
	s.image = next
}

// addTopic makes a topic of partitions that this node leads.
func (s *scene) addTopic(name string, partitions int) *messages.Topic {
	t := &messages.Topic{ID: messages.TopicID{0: 7, 15: byte(len(name))}, Name: name}
	for i := range partitions {
		t.Partitions = append(t.Partitions, messages.Partition{Leader: sceneNode, LeaderEpoch: 3,
			Replicas: []messages.NodeID{sceneNode}, ISR: []messages.NodeID{sceneNode}})
		s.mu.Lock()
		s.partitions[messages.TopicPartition{Topic: name, Partition: int32(i)}] = newFakePartition()
		s.mu.Unlock()
	}
	s.apply(&messages.Delta{Topics: []*messages.Topic{t}})
	return t
}

func (s *scene) partition(name string, i int32) *fakePartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[messages.TopicPartition{Topic: name, Partition: i}]
}

// Partition implements door.Partitions.
func (s *scene) Partition(t *messages.Topic, i int32) (door.Partition, error) {
	if i < 0 || int(i) >= len(t.Partitions) {
		return nil, messages.ErrUnknownTopicOrPartition
	}
	if t.Partitions[i].Leader != sceneNode {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, i, messages.ErrNotLeader)
	}
	return s.partition(t.Name, i), nil
}

func (s *scene) Image() *messages.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.image
}

func (s *scene) Self() messages.NodeID    { return sceneNode }
func (s *scene) Broker() []door.Setting   { return nil }
func (s *scene) Value(name string) string { return s.settings[name] }

func (s *scene) AutoCreate(_ context.Context, name string) error {
	s.addTopic(name, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created = append(s.created, name)
	return nil
}

func (s *scene) topicActor(name string) *actor.PID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[name]
}

func (s *scene) address(n messages.NodeID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[n]
}

// coordinators let every partition into every transaction, or none while the scene's
// addErr is set.
type coordinators struct {
	door.Coordinators // what a test does not need
	s                 *scene
}

func (c coordinators) AddToTxn(_ context.Context, id string, a txn.Add) txn.Added {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, p := range a.Partitions {
		c.s.added = append(c.s.added, id+" "+p.String())
	}
	return txn.Added{Err: c.s.addErr}
}

// farProcess takes what is sent to another process.
type farProcess struct{ got chan any }

func (p farProcess) SendUserMessage(_ *actor.PID, m any) {
	_, m, _ = actor.UnwrapEnvelope(m)
	p.got <- m
}
func (p farProcess) SendSystemMessage(*actor.PID, any) {}
func (p farProcess) Stop(*actor.PID)                   {}

func (s *scene) mailbox(address string) chan any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.far[address] == nil {
		s.far[address] = make(chan any, 10_000)
	}
	return s.far[address]
}

// program is a client of the gateway.
type program struct {
	s       *scene
	pid     *actor.PID
	session *actor.PID
	got     chan any
	welcome *wire.ClientWelcome
}

// local makes a client in this process and says hello for it; far one in another.
func (s *scene) local() *program {
	s.t.Helper()
	p := &program{s: s, got: make(chan any, 10_000)}
	p.pid = s.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		switch m := ctx.Message().(type) {
		case *wire.ClientResponse, *wire.ClientPush, *actor.DeadLetterResponse:
			p.got <- m
		}
	}))
	s.t.Cleanup(func() { _ = s.system.Root.StopFuture(p.pid).Wait() })
	p.hello()
	return p
}

func (s *scene) farAway(address string) *program {
	s.t.Helper()
	p := &program{s: s, got: s.mailbox(address), pid: actor.NewPID(address, "client")}
	p.hello()
	return p
}

func (p *program) hello() {
	p.s.t.Helper()
	r := p.ask(actor.NewPID(p.s.system.Address(), Name), &wire.ClientRequest{RequestId: 1,
		Command: &wire.ClientRequest_Hello{Hello: &wire.ClientHello{ClientId: "program"}}})
	if r.GetError() != nil {
		p.s.t.Fatalf("no session: %v", r.GetError())
	}
	p.welcome = r.GetWelcome()
	p.session = actor.NewPID(p.s.system.Address(), p.welcome.GetSession())
}

func (p *program) send(to *actor.PID, m *wire.ClientRequest) {
	p.s.system.Root.RequestWithCustomSender(to, m, p.pid)
}

// next is what the client gets next. An answer leaves its connection only then.
func (p *program) next() any {
	p.s.t.Helper()
	select {
	case m := <-p.got:
		if o, ok := m.(*outgoing); ok {
			leaving, err := remote.RootSerializable(o).Serialize()
			if err != nil {
				p.s.t.Fatal(err)
			}
			b, name, err := remote.Serialize(leaving, 0)
			if err != nil {
				p.s.t.Fatal(err)
			}
			if m, err = remote.Deserialize(b, name, 0); err != nil {
				p.s.t.Fatal(err)
			}
		}
		return m
	case <-time.After(testPatience):
		p.s.t.Fatal("the client got nothing")
		return nil
	}
}

func (p *program) answer() *wire.ClientResponse {
	p.s.t.Helper()
	m, ok := p.next().(*wire.ClientResponse)
	if !ok {
		p.s.t.Fatalf("the client got %v", m)
	}
	return m
}

func (p *program) ask(to *actor.PID, m *wire.ClientRequest) *wire.ClientResponse {
	p.s.t.Helper()
	p.send(to, m)
	return p.answer()
}

func (p *program) quiet() {
	p.s.t.Helper()
	if len(p.got) > 0 {
		p.s.t.Errorf("the client got %v", p.next())
	}
}

func appendOf(id uint64, q *wire.ClientAppend) *wire.ClientRequest {
	return &wire.ClientRequest{RequestId: id, Command: &wire.ClientRequest_Append{Append: q}}
}

func fetchOf(id uint64, q *wire.ClientFetch) *wire.ClientRequest {
	q.LeaderEpoch, q.LastEpoch = -1, -1
	return &wire.ClientRequest{RequestId: id, Command: &wire.ClientRequest_Fetch{Fetch: q}}
}

// sync waits until the session has handled what was sent before.
func (p *program) sync() {
	p.s.t.Helper()
	if r := p.ask(p.session, &wire.ClientRequest{RequestId: 99}); r.GetRequestId() != 99 {
		p.s.t.Fatalf("the client got %v", r)
	}
}
