package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/commitlog"
)

// ReplicaOutbox is all that the body of a replica does to the world around it.
// In a node it is the actor's; in the simulated World it is an event heap's, and
// the same body runs under virtual time.
//
// Messages handed to Self and After come back through the body's Receive, one at
// a time; what they are is nobody else's business. Replies may come from any
// goroutine.
type ReplicaOutbox interface {
	// Self puts m behind what waits already.
	Self(m any)
	// After is Self after a while. There is no way to take it back: a message
	// that comes too late says what it was for.
	After(d time.Duration, m any)
	// Fetch asks the replica on another node for records; reply is called once.
	Fetch(leader messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched))
	// Propose asks the controller for another in-sync set; reply is called once.
	Propose(a messages.AlterPartition, reply func(messages.AlterPartitionResult))
	// Opened tells the node that the log is open, or failed to be for good.
	Opened(id messages.PartitionID)
	// Lost tells the node that records which were durable are gone: it registers
	// again, and the controller takes the replica for one that lacks them.
	Lost(id messages.PartitionID)
	// Removed tells the node that the data was deleted.
	Removed(id messages.PartitionID)
	// Stop ends the replica after what waits already.
	Stop()
}

// directory is what a replica needs of its data directory. *dirHandle is it.
type directory interface {
	// boundsOf returns what was last recorded of a log that is not open.
	boundsOf(tp messages.TopicPartition) logBounds
	// wasClean reports whether the last process left the directory in good order.
	wasClean() bool
	// closed records the bounds of a log that is open no more.
	closed(tp messages.TopicPartition, b logBounds)
	removed(tp messages.TopicPartition)
	// unopened records that a log could not be opened.
	unopened(tp messages.TopicPartition, err error)
	// isOffline reports whether the disk failed; nothing is tried again then.
	isOffline() bool
	// wrote notes how a write to a log went.
	wrote(log *zerolog.Logger, err error)
	// grew counts bytes of logs; room says whether the budget lets more in.
	grew(bytes int64)
	room() error
	// changed asks for a checkpoint some time soon, checkpoint for one at once.
	changed()
	checkpoint()
	// compact runs a compaction, when it is its turn.
	compact(job *compactionJob)
	flush(f commitlog.Flush, reply func(error))
	saveStarts(reply func(error))
	failed(err error)
}

// replicaActor is the outbox of a replica that is an actor.
type replicaActor struct {
	env  *Env
	self *actor.PID
}

func (o replicaActor) Self(m any) { o.env.Root.Send(o.self, m) }

func (o replicaActor) After(d time.Duration, m any) {
	time.AfterFunc(d, func() { o.env.Root.Send(o.self, m) })
}

func (o replicaActor) Fetch(
	leader messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched),
) {
	if o.env.Peers == nil {
		reply(&data.ReplicaFetched{Err: messages.ErrUnavailable})
		return
	}
	o.env.Peers.Fetch(leader, q, reply)
}

func (o replicaActor) Propose(
	a messages.AlterPartition, reply func(messages.AlterPartitionResult),
) {
	if pid := o.env.nodeAgent.Load(); pid != nil {
		o.env.Root.Send(pid, &propose{a, reply})
		return
	}
	reply(messages.AlterPartitionResult{Err: messages.ErrUnavailable})
}

func (o replicaActor) Opened(id messages.PartitionID) { o.env.tellNode(replicaOpened{id}) }

func (o replicaActor) Lost(id messages.PartitionID) { o.env.lose(id) }

func (o replicaActor) Removed(id messages.PartitionID) {
	if pid := o.env.storage.Load(); pid != nil {
		o.env.Root.Send(pid, replicaRemoved{id})
	}
}

func (o replicaActor) Stop() { o.env.Root.Poison(o.self) }

// propose hands a replica's proposal to the node's agent.
type propose struct {
	proposal messages.AlterPartition
	reply    func(messages.AlterPartitionResult)
}
