package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
)

// control is the controller: topics.State behind a network of its own, which
// loses what goes to or comes from a node that is cut off from it.
type control struct {
	w        *World
	state    *topics.State
	cut      map[messages.NodeID]bool
	lastBeat map[messages.NodeID]time.Time
	ids      uint64
}

// Times of the controller.
const (
	beatEvery      = 500 * time.Millisecond
	sessionTimeout = 3 * time.Second
	probeTimeout   = 500 * time.Millisecond
	retryEvery     = 200 * time.Millisecond
)

// controllerNode stands in the metadata for a controller that is no broker.
const controllerNode messages.NodeID = 99

func newControl(w *World) *control {
	image, ok := messages.NewImage().Apply(&messages.Delta{
		To: 1, ControllerEpoch: 1, Controller: controllerNode, ClusterID: "world",
		Snapshot: true, Nodes: []messages.Node{}, NodeConfigs: map[messages.NodeID]messages.Config{},
	})
	if !ok {
		w.t.Fatal("an empty image cannot be made")
	}
	c := &control{w: w, cut: map[messages.NodeID]bool{}, lastBeat: map[messages.NodeID]time.Time{},
		state: topics.New(image, 0, topics.Defaults{
			Partitions: 1, ReplicationFactor: 1, DeleteTopics: true,
			Setting: w.setting,
		})}
	w.after(sessionTimeout, c.tick)
	return c
}

func (c *control) image() *messages.Image { return c.state.Image() }

// hop is how long a message to or from the controller takes.
func (c *control) hop() time.Duration {
	return c.w.between(50*time.Microsecond, 3*time.Millisecond)
}

// commit makes a plan the state and tells every node.
func (c *control) commit(p *topics.Plan) {
	if p.Empty() {
		return
	}
	d := p.Delta(c.image().Version+1, controllerNode, 1, "world")
	c.state.Adopt(p, d)
	for _, t := range d.Topics {
		for i := range t.Partitions {
			c.w.truth.decided(t, int32(i))
		}
	}
	for _, n := range c.w.nodes {
		c.tell(n, d)
	}
}

func (c *control) tell(n *node, d *messages.Delta) {
	life := n.life
	c.w.after(c.hop(), func() {
		if !c.cut[n.id] {
			n.run(life, func() { n.apply(d) })
		}
	})
}

// ask carries a node's request to the controller.
func (c *control) ask(n *node, f func()) {
	c.w.after(c.hop(), func() {
		if !c.cut[n.id] {
			f()
		}
	})
}

// snapshot sends a node that missed something everything.
func (c *control) snapshot(n *node) {
	life := n.life
	c.ask(n, func() {
		if n.life != life {
			return
		}
		im := c.image()
		c.tell(n, &messages.Delta{To: im.Version, ControllerEpoch: im.ControllerEpoch,
			Controller: im.Controller, ClusterID: im.ClusterID, Topics: im.Topics(),
			Nodes: im.Nodes, NodeConfigs: map[messages.NodeID]messages.Config{}, Snapshot: true})
	})
}

// register repeats until the node is taken in.
func (n *node) register() {
	c := n.w.control
	life, incarnation := n.life, fmt.Sprintf("%d.%d", n.id, n.life)
	unclean := n.unclean
	c.ask(n, func() {
		if n.life != life || !n.up {
			return
		}
		old := c.image().Node(n.id)
		if old == nil || old.Incarnation != incarnation || old.Fenced {
			p := c.state.Plan()
			err := p.Register(messages.Registration{Unclean: unclean, Node: messages.Node{
				ID: n.id, Host: "localhost", Port: 9092, Incarnation: incarnation,
				Directory: fmt.Sprintf("disk-%d", n.id),
			}}, messages.NodeEpoch(c.image().Version+1))
			if err != nil {
				return
			}
			n.unclean = false
			c.w.note("node %d is registered as %s, unclean: %v", n.id, incarnation, unclean)
			c.commit(p)
		}
		c.lastBeat[n.id] = c.w.now
		c.snapshot(n)
	})
	n.do(retryEvery, func() {
		if !n.registered {
			n.register()
		}
	})
	if n.life == life {
		n.do(beatEvery, func() { n.beat(life) })
	}
}

// beat says that the node is alive, and finds out whether it is still a member.
func (n *node) beat(life int) {
	if n.life != life {
		return
	}
	c := n.w.control
	version := n.image.Version
	c.ask(n, func() {
		self := c.image().Node(n.id)
		if self == nil {
			return
		}
		c.lastBeat[n.id] = c.w.now
		if version < c.image().Version {
			c.snapshot(n)
		}
		if self.Fenced && n.life == life {
			// It finds out that it was fenced and registers again.
			n.run(life, func() {
				n.registered = false
				n.register()
			})
		}
	})
	if n.registered {
		n.do(beatEvery, func() { n.beat(life) })
	}
}

// tick fences who was not heard of for too long.
func (c *control) tick() {
	for _, n := range c.w.nodes {
		self := c.image().Node(n.id)
		if self != nil && !self.Fenced && c.w.now.Sub(c.lastBeat[n.id]) > sessionTimeout {
			c.fence(n.id, "it was silent for too long")
		}
	}
	if !c.w.stopped {
		c.balance()
	}
	c.w.after(beatEvery, c.tick)
}

func (c *control) balance() {
	p := c.state.Plan()
	p.Balance(5)
	c.commit(p)
}

// suspect is a node's word that another may be dead; it is probed.
func (c *control) suspect(by, suspect messages.NodeID) {
	n := c.w.node(by)
	if !n.alive() {
		return
	}
	c.ask(n, func() {
		c.w.after(c.w.between(0, probeTimeout), func() {
			if peer := c.w.node(suspect); !peer.alive() || c.cut[suspect] {
				c.fence(suspect, "it does not answer")
			}
		})
	})
}

func (c *control) fence(id messages.NodeID, why string) {
	self := c.image().Node(id)
	if self == nil || self.Fenced {
		return
	}
	c.w.note("node %d is fenced: %s", id, why)
	p := c.state.Plan()
	p.Fence(id)
	c.commit(p)
}

// propose carries a leader's proposal and its answer.
func (c *control) propose(
	n *node, a messages.AlterPartition, reply func(messages.AlterPartitionResult),
) {
	answered := false
	once := func(res messages.AlterPartitionResult) {
		if !answered {
			answered = true
			reply(res)
		}
	}
	life := n.life
	n.do(2*time.Second, func() { once(messages.AlterPartitionResult{Err: messages.ErrUnavailable}) })
	c.ask(n, func() {
		p := c.state.Plan()
		res := p.AlterPartition(n.id, a)
		if res.Err == nil {
			c.w.note("node %d has in-sync set %v of %d, partition epoch %d", n.id,
				res.Partition.ISR, a.ID.Partition, res.Partition.PartitionEpoch)
		}
		c.commit(p)
		c.w.after(c.hop(), func() {
			if !c.cut[n.id] {
				n.run(life, func() { once(res) })
			}
		})
	})
}

// Topic says how a topic is made.
type Topic struct {
	Partitions int32
	Replicas   int16
	MinInSync  int
	Configs    messages.Config
}

// CreateTopic makes a topic and returns when its leaders lead.
func (w *World) CreateTopic(name string, t Topic) {
	w.t.Helper()
	c := w.control
	c.ids++
	var id messages.TopicID
	binary.BigEndian.PutUint64(id[8:], c.ids)
	cfg := messages.Config{"min.insync.replicas": fmt.Sprint(t.MinInSync)}
	for k, v := range t.Configs {
		cfg[k] = v
	}
	p := c.state.Plan()
	res := p.CreateTopic(messages.CreateTopic{Name: name, Partitions: t.Partitions,
		ReplicationFactor: t.Replicas, Configs: cfg}, id)
	if res.Err != nil {
		w.t.Fatalf("creating %s: %v", name, res.Err)
	}
	c.commit(p)
	w.RunUntil(name+" has its leaders", func() bool { return w.led(name) })
}

// led reports whether every partition of a topic has a leader that leads.
func (w *World) led(name string) bool {
	t := w.control.image().Topic(name)
	for i := range t.Partitions {
		if _, b := w.leading(name, int32(i)); b == nil {
			return false
		}
	}
	return true
}
