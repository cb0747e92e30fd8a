package sim

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/actors/coordinator"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
)

// peerWait is how long a coordinator waits for one of another node, as in a node.
const peerWait = 10 * time.Second

// coordinatorSkew is by how much less the clocks of coordinators are off than those of
// their nodes: a transaction is given up by the clock of whoever coordinates it then.
const coordinatorSkew = 200

// coordinators is the coordinators' body of one process with its mailbox.
type coordinators struct {
	n       *node
	life    int // of the node
	body    *coordinator.Body
	mailbox []any
	running bool
	// ids are producer ids that the node has reserved.
	nextID  messages.ProducerID
	idsLeft int
}

func (n *node) startCoordinators() {
	c := &coordinators{n: n, life: n.life}
	// Nodes measure how long they wait by a clock that nobody sets, and a World has only
	// one time: so the clock is off by as much as when the process began.
	skew := n.skew / coordinatorSkew
	c.body = coordinator.NewBody(coordinator.BodyConfig{
		Self: n.id, Settings: n.w.setting, Out: c,
		Now:   func() time.Time { return n.w.now.Add(skew) },
		Image: func() *messages.Image { return n.image },
		Leading: func(t *messages.Topic, p int32) (coordinator.Partition, error) {
			r := n.replicas[messages.PartitionID{Topic: t.ID, Partition: p}]
			if r == nil {
				return nil, fmt.Errorf("%s-%d: %w", t.Name, p, messages.ErrNotLeader)
			}
			return r.body.Face, nil
		},
	})
	n.coord = c
	n.env.Led = c.body.Led
}

// CreateInternalTopics makes the topics that keep groups and transactions, with few
// partitions, and with so small segments that they are compacted all the time.
func (w *World) CreateInternalTopics(partitions int32) {
	w.t.Helper()
	for _, kind := range []coord.Kind{coord.Group, coord.Txn} {
		w.CreateTopic(kind.Topic(), Topic{Partitions: partitions, Replicas: 3, MinInSync: 2,
			Configs: Compacted()})
	}
}

// Self implements coordinator.BodyOutbox.
func (c *coordinators) Self(m any) {
	if !c.n.up || c.life != c.n.life {
		return
	}
	c.mailbox = append(c.mailbox, m)
	c.run()
}

func (c *coordinators) run() {
	if c.running {
		return
	}
	c.running = true
	c.n.do(c.n.w.soon(), func() {
		c.running = false
		m := c.mailbox[0]
		c.mailbox = c.mailbox[1:]
		c.body.Receive(m)
		if len(c.mailbox) > 0 {
			c.run()
		}
	})
}

// After implements coordinator.BodyOutbox.
func (c *coordinators) After(d time.Duration, m any) { c.n.do(d, func() { c.Self(m) }) }

// NewProducerID implements coordinator.BodyOutbox.
func (c *coordinators) NewProducerID(reply func(messages.ProducerID, error)) {
	take := func() {
		c.nextID++
		c.idsLeft--
		reply(c.nextID-1, nil)
	}
	if c.idsLeft > 0 {
		c.n.do(c.n.w.soon(), take)
		return
	}
	c.n.call(adminID, &control.AllocateProducerIDs{Node: c.n.id}, func(a *control.Answer) {
		if a.Err != nil {
			reply(messages.NoProducerID, a.Err)
			return
		}
		c.nextID, c.idsLeft = a.FirstID, topics.ProducerIDBlock
		take()
	})
}

// AddToTxn implements coordinator.BodyOutbox.
func (c *coordinators) AddToTxn(to messages.NodeID, id string, a *txn.Add) {
	if to == c.n.id {
		c.body.Txn(id, a)
		return
	}
	c.ask(to, &wire.CoordinatorRequest{
		Command: &wire.CoordinatorRequest_AddToTxn{AddToTxn: wire.FromAdd(id, a)},
	}, func(errs []error, err error) { a.Reply(txn.Added{Err: err, Errs: errs}) })
}

// WriteMarkers implements coordinator.BodyOutbox.
func (c *coordinators) WriteMarkers(
	to messages.NodeID, m txn.Markers, reply func(errs []error, err error),
) {
	if to == c.n.id {
		c.n.do(c.n.w.soon(), func() {
			c.body.WriteMarkers(&m, func(errs []error) { reply(errs, nil) })
		})
		return
	}
	c.ask(to, &wire.CoordinatorRequest{
		Command: &wire.CoordinatorRequest_WriteMarkers{WriteMarkers: wire.FromMarkers(&m)},
	}, reply)
}

// ask carries a request to the coordinators of another node and the answer back, or
// tells that none came.
func (c *coordinators) ask(
	to messages.NodeID, q *wire.CoordinatorRequest, done func(errs []error, err error),
) {
	n, w, answered := c.n, c.n.w, false
	once := func(errs []error, err error) {
		if !answered {
			answered = true
			done(errs, err)
		}
	}
	lost := func() { once(nil, fmt.Errorf("no answer: %w", messages.ErrUnavailable)) }
	conn := w.net.connect(n.id, to)
	if conn == nil || n.id == w.net.mute && q.GetWriteMarkers() != nil {
		n.do(w.between(time.Millisecond, 500*time.Millisecond), lost)
		return
	}
	conn.waits(func() { n.run(c.life, lost) }, func() bool { return answered })
	n.do(peerWait, lost)
	q = crossed(w, q)
	w.net.datagram(n.id, to, func() {
		peer := w.node(to)
		peer.coord.serve(q, func(err error, errs []error) {
			a := crossed(w, wire.FromOutcome(0, err, errs))
			w.net.datagram(to, n.id, func() { once(wire.ToOutcome(a)) })
		})
	})
}

// serve answers what came from another node.
func (c *coordinators) serve(m *wire.CoordinatorRequest, answer func(err error, errs []error)) {
	switch q := m.GetCommand().(type) {
	case *wire.CoordinatorRequest_AddToTxn:
		id, add := wire.ToAdd(q.AddToTxn)
		add.Reply = func(r txn.Added) { answer(r.Err, r.Errs) }
		c.body.Txn(id, add)
	case *wire.CoordinatorRequest_WriteMarkers:
		c.body.WriteMarkers(wire.ToMarkers(q.WriteMarkers), func(errs []error) { answer(nil, errs) })
	}
}
