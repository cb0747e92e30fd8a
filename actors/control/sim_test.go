package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// delay is how long a message takes; probeWait is how long a probe waits.
const (
	delay     = time.Millisecond
	probeWait = 500 * time.Millisecond
)

// sim is a cluster of controllers and agents under virtual time. All they say to
// each other crosses the wire.
type sim struct {
	t        *testing.T
	now      time.Time
	events   []event
	store    *registry.Memory
	settings map[string]string
	nodes    []*simNode
	active   messages.NodeID // where agents look for the controller
	pushes   int
	commits  int
	chance   *rand.Rand // nil: the network is perfect
	stepped  func()     // after everything that happens
}

type event struct {
	at time.Time
	do func()
}

// simNode is one node: an agent, and a controller that may be active.
type simNode struct {
	*sim
	id         messages.NodeID
	agent      *Agent
	controller *Controller
	lives      int
	replicas   map[messages.PartitionID]messages.Partition // as last assigned
	lost       []messages.PartitionID                      // what it says when it registers
	told       string                                      // which incarnation said so
	deleted    []messages.PartitionID
	retired    []messages.PartitionID
	strays     int
	applied    messages.MetadataVersion
	slowOpen   bool // replicas never open

	dead, paused bool
	cut          bool // from the controller, not from probes
	deaf         bool // pushes get lost
	dropped      bool // by the membership
	backlog      []event
}

func newSim(t *testing.T, nodes int) *sim {
	s := &sim{t: t, now: time.Unix(1_700_000_000, 0), store: registry.NewMemory(),
		settings: map[string]string{}, active: 1}
	for i := range nodes {
		s.add(messages.NodeID(i + 1))
	}
	s.nodes[0].controller.Load(s.now)
	for _, n := range s.nodes {
		n.agent.Start(s.now)
	}
	s.run(100 * time.Millisecond)
	for _, n := range s.nodes {
		if !n.agent.registered() {
			t.Fatalf("node %d is not registered", n.id)
		}
	}
	return s
}

func (s *sim) add(id messages.NodeID) *simNode {
	n := &simNode{sim: s, id: id, replicas: map[messages.PartitionID]messages.Partition{}}
	n.newController()
	n.boot()
	s.nodes = append(s.nodes, n)
	return n
}

func (n *simNode) newController() {
	s := n.sim
	n.controller = NewController(ControllerConfig{
		Self: n.id, Store: counted{s.store.Connect(), s}, Settings: s.setting, Log: zerolog.Nop(),
		ClusterID: func() string { return "sim" },
		Members:   s.members,
		Defaults: func() topics.Defaults {
			return topics.Defaults{Partitions: 1, ReplicationFactor: 3, DeleteTopics: true}
		},
	}, n)
}

// boot gives a node a new process.
func (n *simNode) boot() {
	n.agent = NewAgent(AgentConfig{
		Node:     messages.Node{ID: n.id, Host: "h", Port: 9092, Directory: fmt.Sprint("dir", n.id)},
		Settings: n.setting, Log: zerolog.Nop(),
		Lost: func() (bool, []messages.PartitionID) { return false, n.lost },
		Told: func(ids []messages.PartitionID) {
			n.lost = slices.DeleteFunc(n.lost, func(id messages.PartitionID) bool {
				return slices.Contains(ids, id)
			})
		},
		Incarnation: func() string {
			n.lives++
			return fmt.Sprint("life", n.lives)
		},
	}, n)
}

// counted counts the transactions of a store.
type counted struct {
	*registry.Memory
	s *sim
}

func (s *sim) setting(name string) string {
	if v, ok := s.settings[name]; ok {
		return v
	}
	d, ok := configs.Broker(name)
	if !ok {
		s.t.Fatalf("there is no setting %s", name)
	}
	return d.Default
}

func (s *sim) members() (out []messages.NodeID) {
	for _, n := range s.nodes {
		if !n.dropped {
			out = append(out, n.id)
		}
	}
	return out
}

func (s *sim) node(id messages.NodeID) *simNode { return s.nodes[id-1] }

func (s *sim) after(d time.Duration, do func()) {
	s.events = append(s.events, event{s.now.Add(d), do})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 100_000 {
			s.t.Fatal("time does not move on: a body is always due")
		}
		at, do := s.next()
		if do == nil || at.After(end) {
			break
		}
		if at.After(s.now) {
			s.now = at
		}
		do()
		if s.stepped != nil {
			s.stepped()
		}
	}
	s.now = end
}

// next is what happens first.
func (s *sim) next() (at time.Time, do func()) {
	consider := func(t time.Time, f func()) {
		if !t.IsZero() && (do == nil || t.Before(at)) {
			at, do = t, f
		}
	}
	for i, e := range s.events {
		consider(e.at, func() {
			s.events = slices.Delete(s.events, i, i+1)
			e.do()
		})
	}
	for _, n := range s.nodes {
		if n.dead || n.paused {
			continue
		}
		consider(n.agent.Due(), func() { n.agent.Tick(s.now) })
		consider(n.controller.Due(), func() { n.controller.Tick(s.now) })
	}
	return at, do
}

// deliver runs f on a node after a delay: never if it is dead, later if it is
// paused.
func (n *simNode) deliver(f func()) {
	d := delay
	if n.chance != nil {
		d += time.Duration(n.chance.ExpFloat64() * float64(5*time.Millisecond))
	}
	n.after(d, func() {
		switch {
		case n.dead:
		case n.paused:
			n.backlog = append(n.backlog, event{n.now, f})
		default:
			f()
		}
	})
}

// loses decides whether a message gets lost.
func (s *sim) loses() bool { return s.chance != nil && s.chance.IntN(20) == 0 }

func (n *simNode) kill() { n.dead = true }

// restart gives a dead node a new process.
func (n *simNode) restart() {
	n.dead, n.paused, n.backlog = false, false, nil
	n.boot()
	n.newController()
	clear(n.replicas)
	n.applied = 0
	n.agent.Start(n.now)
}

func (n *simNode) resume() {
	n.paused = false
	for _, e := range n.backlog {
		e.do()
	}
	n.backlog = nil
}

// crossed returns m after a trip over the network.
func crossed[M proto.Message](t *testing.T, m M) M {
	b, err := proto.Marshal(m)
	out := m.ProtoReflect().New().Interface().(M)
	if err = errors.Join(err, proto.Unmarshal(b, out)); err != nil {
		t.Fatal(err)
	}
	return out
}

// tell has the active controller carry out a command.
func (s *sim) tell(c Command) *Answer {
	s.t.Helper()
	return s.node(s.active).controller.Handle(s.now, c)
}

func (n *simNode) Ask(id uint64, c Command) {
	if r, ok := c.(*Register); ok && len(r.Lost) > 0 {
		n.told = r.Node.Incarnation
	}
	q := crossed(n.t, EncodeCommand(id, c, time.Second))
	if n.cut || n.loses() {
		return
	}
	to, agent := n.node(n.active), n.agent
	to.deliver(func() {
		command, err := DecodeCommand(q)
		if err != nil {
			n.t.Fatal(err)
		}
		a := crossed(n.t, EncodeAnswer(id, to.controller.Handle(n.now, command)))
		if n.cut || n.loses() {
			return
		}
		n.deliver(func() {
			if n.agent == agent {
				agent.Answered(n.now, a.GetRequestId(), DecodeAnswer(a))
			}
		})
	})
}

func (n *simNode) Push(to messages.NodeID, d *messages.Delta) {
	n.pushes++
	target := n.node(to)
	if target.deaf || target.cut || n.loses() {
		return
	}
	w := crossed(n.t, wire.FromDelta(d))
	target.deliver(func() {
		got, err := wire.ToDelta(w)
		if err != nil {
			n.t.Fatal(err)
		}
		target.agent.Delta(n.now, got)
	})
}

func (n *simNode) Probe(to messages.NodeID, epoch messages.NodeEpoch) {
	wait, outcome := delay, Alive
	switch target := n.node(to); {
	case target.dead:
		outcome = Refused
	case target.paused:
		wait, outcome = probeWait, Silent
	}
	n.after(wait, func() {
		n.deliver(func() { n.controller.Probed(n.now, to, epoch, outcome) })
	})
}

func (n *simNode) Image(*messages.Image) {}

func (n *simNode) Applied(v messages.MetadataVersion) { n.applied = v }

func (n *simNode) Runs(id messages.PartitionID) bool { _, ok := n.replicas[id]; return ok }

func (n *simNode) Replicas() (ids []messages.PartitionID) {
	for id := range n.replicas {
		ids = append(ids, id)
	}
	return ids
}

func (n *simNode) Assign(id messages.PartitionID, _ *messages.Topic, p messages.Partition) {
	n.replicas[id] = p
}

func (n *simNode) Start(ids []messages.PartitionID) {
	if n.slowOpen {
		return
	}
	for _, id := range ids {
		n.deliver(func() {
			if p := n.agent.image.Partition(id); p != nil {
				n.replicas[id] = *p
			}
			n.agent.Opened(id)
		})
	}
}

func (n *simNode) Retire(ids []messages.PartitionID) {
	n.retired = append(n.retired, ids...)
	for _, id := range ids {
		delete(n.replicas, id)
	}
}

func (n *simNode) Delete(ids []messages.PartitionID) {
	n.deleted = append(n.deleted, ids...)
	for _, id := range ids {
		delete(n.replicas, id)
	}
}

func (n *simNode) Moved(messages.TopicPartition) {}

func (n *simNode) Dropped(string) {}

func (n *simNode) Strays(*messages.Image) { n.strays++ }

// leads is how many partitions a node believes it leads.
func (n *simNode) leads() (count int) {
	for _, p := range n.replicas {
		if p.Leader == n.id {
			count++
		}
	}
	return count
}

// create makes a topic of replicas on these nodes.
func (s *sim) create(name string, partitions int32, replicas ...messages.NodeID) *messages.Topic {
	s.t.Helper()
	c := messages.CreateTopic{Name: name, Partitions: -1, ReplicationFactor: -1,
		Assignment: map[int32][]messages.NodeID{}}
	for i := range partitions {
		c.Assignment[i] = replicas
	}
	id := messages.TopicID{1, byte(len(name))}
	copy(id[2:], name)
	a := s.tell(&CreateTopics{Topics: []messages.CreateTopic{c}, IDs: []messages.TopicID{id}})
	if err := errors.Join(a.Err, a.Topics[0].Err); err != nil {
		s.t.Fatalf("creating %s: %v", name, err)
	}
	s.run(10 * time.Millisecond)
	return s.image().TopicByID(id)
}

// image is the metadata of the active controller.
func (s *sim) image() *messages.Image { return s.node(s.active).controller.state.Image() }

func (s *sim) fenced(id messages.NodeID) bool {
	n := s.image().Node(id)
	return n == nil || n.Fenced
}

// until lets time pass until ok, and returns how much did.
func (s *sim) until(what string, ok func() bool) time.Duration {
	s.t.Helper()
	began := s.now
	for !ok() {
		if s.now.Sub(began) > time.Minute {
			s.t.Fatalf("did not happen within a minute: %s", what)
		}
		s.run(delay)
	}
	return s.now.Sub(began)
}

func (c counted) Commit(
	ctx context.Context, l registry.Lease, ops []registry.Op,
) (messages.MetadataVersion, error) {
	c.s.commits++
	return c.Memory.Commit(ctx, l, ops)
}

// drain has a node emptied, or ends that.
func drain(n messages.NodeID, on bool) Command {
	return &AlterConfigs{Reqs: []messages.AlterConfigs{{
		Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: fmt.Sprint(n)},
		Changes: []messages.ConfigChange{{Op: messages.ConfigSet,
			Key: "node.drain", Value: fmt.Sprint(on)}},
	}}}
}
