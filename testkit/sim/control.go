package sim

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// Times of the shells around the bodies, as those of a node.
const (
	agentWait    = 3 * time.Second
	probeTimeout = 500 * time.Millisecond
)

// activate makes the controller of this node: the lock is the node's.
func (n *node) activate() {
	n.w.note("node %d runs a controller", n.id)
	n.controllerLife++
	n.controllerAlarm = alarm{}
	n.controller = control.NewController(control.ControllerConfig{
		Self: n.id, Store: n.store, Settings: n.w.setting,
		ClusterID: func() string { return "world" },
		Members:   n.members,
		Defaults: func() topics.Defaults {
			return topics.Defaults{Partitions: 1, ReplicationFactor: 1, DeleteTopics: true,
				Setting: n.w.setting}
		},
	}, &controllerOutbox{n, n.controllerLife})
	n.controllerDo(n.controller.Load)
}

// members are those that this node sees: what it saw last while the registry is away.
func (n *node) members() []messages.NodeID {
	if n.w.service.reachable(n.id) {
		n.seen = n.w.service.live()
	}
	return n.seen
}

// controllerDo has the controller do something, if there is one.
func (n *node) controllerDo(f func(now time.Time)) {
	c := n.controller
	if c == nil {
		return
	}
	f(n.w.now)
	life := n.controllerLife
	n.controllerAlarm.set(n, c.Due(), func() {
		if n.controllerLife == life && n.controller == c {
			n.controllerDo(c.Tick)
		}
	})
}

// agentDo has the node's agent do something.
func (n *node) agentDo(f func(now time.Time)) {
	f(n.w.now)
	n.agentAlarm.set(n, n.agent.Due(), func() { n.agentDo(n.agent.Tick) })
}

// alarm calls a body at a time, one call at a time.
type alarm struct {
	at     time.Time // zero: it is not set
	number int
}

func (a *alarm) set(n *node, at time.Time, ring func()) {
	if at.IsZero() || !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	a.at = at
	a.number++
	number := a.number
	n.do(max(0, at.Sub(n.w.now)), func() {
		if number == a.number {
			a.at = time.Time{}
			ring()
		}
	})
}

// crossed returns m after a trip over the network.
func crossed[M proto.Message](w *World, m M) M {
	b, err := proto.Marshal(m)
	out := m.ProtoReflect().New().Interface().(M)
	if err = errors.Join(err, proto.Unmarshal(b, out)); err != nil {
		w.t.Fatalf("a message does not survive the wire: %v", err)
	}
	return out
}

// call carries a command to where the controller is believed to be, and the
// answer back, or tells after a while that none came.
func (n *node) call(id uint64, c control.Command, done func(*control.Answer)) {
	w, to, answered := n.w, n.holder.Node, false
	once := func(a *control.Answer) {
		if !answered {
			answered = true
			done(a)
		}
	}
	lost := func() {
		once(&control.Answer{Err: fmt.Errorf("no answer: %w", messages.ErrUnavailable)})
	}
	if to == messages.NoNode {
		n.do(w.soon(), lost)
		return
	}
	n.do(agentWait, lost)
	q := crossed(w, control.EncodeCommand(id, c, agentWait))
	deliver := func() {
		command, err := control.DecodeCommand(q)
		if err != nil {
			w.t.Fatalf("command %T: %v", c, err)
		}
		a := crossed(w, control.EncodeAnswer(id, w.node(to).handle(command)))
		w.net.datagram(to, n.id, func() { once(control.DecodeAnswer(a)) })
	}
	w.net.datagram(n.id, to, deliver)
	if w.net.loses(n.id, to) { // a retry of the transport: the same twice
		n.do(w.between(0, agentWait), func() { w.net.datagram(n.id, to, deliver) })
	}
}

func (n *node) handle(c control.Command) *control.Answer {
	if n.controller == nil {
		return &control.Answer{FirstID: messages.NoProducerID, Err: messages.ErrNotController}
	}
	var a *control.Answer
	n.controllerDo(func(now time.Time) { a = n.controller.Handle(now, c) })
	return a
}

// controllerOutbox is one controller's way to the world.
type controllerOutbox struct {
	n    *node
	life int
}

// Push implements control.Outbox.
func (o *controllerOutbox) Push(to messages.NodeID, d *messages.Delta) {
	w, target := o.n.w, o.n.w.node(to)
	if !target.up {
		return
	}
	m := crossed(w, wire.FromDelta(d))
	w.net.datagram(o.n.id, to, func() {
		got, err := wire.ToDelta(m)
		if err != nil {
			w.t.Fatalf("a delta does not survive the wire: %v", err)
		}
		target.agentDo(func(now time.Time) { target.agent.Delta(now, got) })
	})
}

// Probe implements control.Outbox.
func (o *controllerOutbox) Probe(id messages.NodeID, epoch messages.NodeEpoch) {
	n := o.n
	n.pinged(id, func(outcome control.Outcome) {
		if n.controllerLife == o.life {
			n.controllerDo(func(now time.Time) { n.controller.Probed(now, id, epoch, outcome) })
		}
	})
}

// pinged asks a node's process directly whether it is alive.
func (n *node) pinged(id messages.NodeID, done func(control.Outcome)) {
	w, target := n.w, n.w.node(id)
	if n.id != id && !w.net.reachable(n.id, id) {
		n.do(probeTimeout, func() { done(control.Silent) })
		return
	}
	n.do(w.between(50*time.Microsecond, 3*time.Millisecond)+w.net.slow[link{n.id, id}], func() {
		switch {
		case !target.up:
			done(control.Refused)
		case target.paused:
			n.do(probeTimeout, func() { done(control.Silent) })
		default:
			done(control.Alive)
		}
	})
}

func (n *node) ping(id messages.NodeID, done func(alive bool)) {
	n.pinged(id, func(o control.Outcome) { done(o == control.Alive) })
}

// suspect is what a node does when a connection to another broke.
func (n *node) suspect(id messages.NodeID) {
	n.do(n.w.soon(), func() {
		n.agentDo(func(now time.Time) { n.agent.Suspect(now, id) })
		n.suspectController(id)
	})
}
