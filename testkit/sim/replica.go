package sim

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// replica is a body with its mailbox.
type replica struct {
	n       *node
	id      messages.PartitionID
	life    int // of the node
	body    *actors.ReplicaBody
	truth   *partition
	mailbox []any
	running bool // an event that handles the next message is planned
	gone    bool
	opened  bool
	// found is where the log ended when it was opened.
	found messages.Offset
}

// poison ends a replica.
type poison struct{}

func (n *node) spawn(t *messages.Topic, id messages.PartitionID) {
	r := &replica{n: n, id: id, life: n.life, truth: n.w.truth.of(t, id.Partition)}
	var recorded *actors.Recorded
	if rec, ok := n.recorded[id]; ok {
		recorded = &rec
	}
	clean := n.clean[id]
	delete(n.clean, id)
	r.body = actors.NewReplicaBody(n.env, actors.ReplicaBodyConfig{
		ID: messages.ReplicaID{PartitionID: id, Node: n.id}, Topic: t.Name,
		Folder: fmt.Sprintf("data/%x-%d", t.ID[8:], id.Partition),
		Out:    r, Send: r.send, Recorded: recorded, Clean: clean, Flush: r.flush,
		Compact: r.compactStep,
		Closed: func(rec actors.Recorded) {
			n.recorded[id], n.clean[id] = rec, true
		},
		Failed: func(err error) { n.do(0, func() { n.diskFailed(err) }) },
	})
	n.replicas[id] = r
	n.order = append(n.order, r)
	r.send(actors.Begin)
}

// diskFailed ends the process: its one disk is not to be trusted.
func (n *node) diskFailed(err error) {
	n.w.note("disk of node %d failed: %v", n.id, err)
	n.w.Crash(n.id, KeepingAll)
}

// send puts m into the mailbox.
func (r *replica) send(m any) {
	if r.gone || !r.n.up || r.life != r.n.life {
		return
	}
	r.mailbox = append(r.mailbox, m)
	r.run()
}

func (r *replica) run() {
	if r.running {
		return
	}
	r.running = true
	r.n.do(r.n.w.soon(), func() {
		r.running = false
		if r.gone || len(r.mailbox) == 0 {
			return
		}
		m := r.mailbox[0]
		r.mailbox = r.mailbox[1:]
		r.n.w.truth.touched = append(r.n.w.truth.touched, r.truth)
		if _, ok := m.(poison); ok {
			r.body.Receive(actors.End)
			r.n.drop(r)
			return
		}
		r.body.Receive(m)
		if log := r.body.Log(); log != nil && !r.opened {
			r.opened, r.found = true, log.End()
		}
		if len(r.mailbox) > 0 {
			r.run()
		}
	})
}

// Self implements actors.ReplicaOutbox.
func (r *replica) Self(m any) { r.send(m) }

// After implements actors.ReplicaOutbox.
func (r *replica) After(d time.Duration, m any) { r.n.do(d, func() { r.send(m) }) }

// Opened implements actors.ReplicaOutbox.
func (r *replica) Opened(id messages.PartitionID) {
	r.n.do(r.n.w.soon(), func() {
		r.n.agentDo(func(time.Time) { r.n.agent.Opened(id) })
	})
}

// Lost implements actors.ReplicaOutbox.
func (r *replica) Lost(id messages.PartitionID) {
	n := r.n
	n.w.note("node %d lost records of %d that were durable", n.id, id.Partition)
	n.lost[id] = true
	n.do(n.w.soon(), func() { n.agentDo(n.agent.Lapsed) })
}

// Removed implements actors.ReplicaOutbox.
func (r *replica) Removed(messages.PartitionID) {
	delete(r.n.recorded, r.id)
	delete(r.n.clean, r.id)
}

// Stop implements actors.ReplicaOutbox.
func (r *replica) Stop() { r.send(poison{}) }

func (r *replica) flush(run func() error, reply func(error)) {
	r.n.do(r.n.w.between(50*time.Microsecond, 20*time.Millisecond), func() { reply(run()) })
}

// Fetch implements actors.ReplicaOutbox.
func (r *replica) Fetch(
	leader messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched),
) {
	w, from := r.n.w, r.n.id
	answered := false
	once := func(res *data.ReplicaFetched) {
		if !answered {
			answered = true
			reply(res)
		}
	}
	lost := func() { once(&data.ReplicaFetched{Err: messages.ErrUnavailable}) }
	c := w.net.connect(from, leader)
	if c == nil {
		r.n.do(w.between(time.Millisecond, 500*time.Millisecond), lost)
		return
	}
	c.waits(func() { r.n.run(r.life, lost) }, func() bool { return answered })
	w.net.send(c, from, leader, func() {
		peer := w.node(leader)
		peer.run(peer.life, func() {
			peer.env.FetchReplica(q, func(res *data.ReplicaFetched) {
				onWire := *res
				if res.Err == nil {
					onWire.Records, onWire.Err = res.View.AppendTo(nil)
				}
				res.View.Release()
				onWire.View = messages.View{}
				w.net.send(c, leader, from, func() { r.n.run(r.life, func() { once(&onWire) }) })
			})
		})
	})
}

// Propose implements actors.ReplicaOutbox.
func (r *replica) Propose(
	a messages.AlterPartition, reply func(messages.AlterPartitionResult),
) {
	r.n.do(r.n.w.soon(), func() {
		r.n.agentDo(func(now time.Time) { r.n.agent.Propose(now, a, reply) })
	})
}
