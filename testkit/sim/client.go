package sim

import (
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
)

// client is a process outside of the cluster. It can die, and it can stand still and
// go on as if nothing had happened.
type client struct {
	w      *World
	name   string
	life   int
	paused bool
	// late: now and then a request takes so long that the client has given it up, and
	// it is carried out all the same. Not for those whose protocol does not stand that:
	// transactions that share an epoch, and commits without one.
	late   bool
	frozen []func() // what waits for the end of the pause
}

// do has the client do something after a while, unless it has died by then.
func (c *client) do(d time.Duration, f func()) {
	life := c.life
	c.w.after(d, func() { c.run(life, f) })
}

func (c *client) run(life int, f func()) {
	switch {
	case c.life != life:
	case c.paused:
		c.frozen = append(c.frozen, func() { c.run(life, f) })
	default:
		f()
	}
}

func (c *client) pause() {
	c.w.note("client %s is paused", c.name)
	c.paused = true
}

func (c *client) resume() {
	if !c.paused {
		return
	}
	c.w.note("client %s goes on", c.name)
	c.paused = false
	waited := c.frozen
	c.frozen = nil
	for i, f := range waited {
		c.w.after(time.Duration(i)*time.Microsecond, f)
	}
}

// call has a node answer a client: do runs there. done is called once, with the
// answer or with why there is none, unless the client dies first; an answer that
// comes later is lost.
func call[A any](c *client, at *node, patience time.Duration,
	do func(reply func(A)), done func(A, error),
) {
	w, settled, life := c.w, false, c.life
	finish := func(a A, err error) {
		if !settled {
			settled = true
			done(a, err)
		}
	}
	fail := func(err error) func() {
		return func() {
			c.run(life, func() {
				var none A
				finish(none, err)
			})
		}
	}
	if at == nil || !at.up {
		w.after(w.between(time.Millisecond, 100*time.Millisecond), fail(errReset))
		return
	}
	w.after(patience, fail(errNoAnswer))
	at.requests = waiting(at.requests, func() { w.after(w.soon(), fail(errReset)) },
		func() bool { return settled || c.life != life })
	there, way := at.life, w.between(20*time.Microsecond, time.Millisecond)
	if c.late && w.rng.IntN(30) == 0 {
		way = w.between(0, 3*requestTimeout)
	}
	w.after(way, func() {
		at.run(there, func() {
			do(func(a A) {
				w.after(w.between(20*time.Microsecond, time.Millisecond), func() {
					c.run(life, func() { finish(a, nil) })
				})
			})
		})
	})
}

// coordinatorOf is the node that a client takes for the coordinator of a key: it asks
// any node that answers, whose metadata may be old. nil: nobody knows.
func (w *World) coordinatorOf(kind coord.Kind, key string) *node {
	ask := w.nodes[w.rng.IntN(len(w.nodes))]
	if !ask.alive() {
		return nil
	}
	t := ask.image.Topic(kind.Topic())
	if t == nil {
		return nil
	}
	leader := t.Partitions[coord.Partition(key, len(t.Partitions))].Leader
	if leader == messages.NoNode {
		return nil
	}
	return w.node(leader)
}

// home is the partition of an internal topic that keeps a key, by the metadata as it is
// committed.
func (w *World) home(kind coord.Kind, key string) messages.TopicPartition {
	t := w.meta().Topic(kind.Topic())
	return messages.TopicPartition{Topic: t.Name, Partition: coord.Partition(key, len(t.Partitions))}
}

// Coordinator is the node that coordinates a key, as the controller has it.
func (w *World) Coordinator(kind coord.Kind, key string) messages.NodeID {
	tp := w.home(kind, key)
	return w.Leader(tp.Topic, tp.Partition)
}
