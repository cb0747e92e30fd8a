package actors

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/commitlog"
)

// Messages to a replica actor, besides data.Append.
type (
	// assigned is the controller's newest decision about the partition.
	assigned struct {
		topic     *messages.Topic
		partition messages.Partition
		pauses    int64 // of the process, that this decision comes after
	}
	// writeQueued comes after the appends that were in the mailbox together.
	writeQueued struct{}
	// flushDue asks for a background flush; flushed is how a flush ended.
	flushDue struct{}
	flushed  struct {
		flush commitlog.Flush
		err   error
		life  int64
	}
	// nodesChanged says that a node registered, was fenced or came back. Fetches
	// wait at their leaders, so nothing else would make anybody look again.
	nodesChanged struct{}
	// deleteRecords raises the log start.
	deleteRecords struct {
		before messages.Offset
		reply  func(messages.Offset, error)
	}
	// retain applies the retention settings.
	retain struct{}
	// Leave asks the replica to answer what it owes, close its log and stop.
	Leave struct{}
	// deleteData is Leave for good: the topic was deleted.
	deleteData struct{}
	// goOffline tells the replica that its data directory failed.
	goOffline struct{ err error }
	// reopenDue asks a replica that met a full disk to try again.
	reopenDue struct{}
	// logFaulted tells the replica that a reader hit a fault in a log.
	logFaulted struct {
		log *commitlog.Log
		err error
	}
	// opening, abandoning and ending are what the library says at an actor's
	// start, before its restart, and after its last message.
	opening    struct{}
	abandoning struct{}
	ending     struct{}
)

// replica owns one partition's log on this node: its only writer. It gathers
// the appends that wait in its mailbox into one write, and answers them when
// they are as safe as their producers asked for.
//
// Roles: opening (no log yet), leading, following, leaderless, offline (the disk
// failed). While it does not lead, its face refuses appends and reads with a
// retriable error. A change of role never opens a file.
//
// It is the body of an actor: it knows no actor system, no clock and no
// goroutine, only its outbox.
type replica struct {
	env  *Env
	out  ReplicaOutbox
	log  zerolog.Logger
	face *Replica
	dir  directory
	path string // of its folder

	topic     *messages.Topic
	partition messages.Partition
	settings  *configs.TopicSettings
	store     *commitlog.Log     // nil while not open
	producers *producers.State   // of this log
	leader    *replicas.Leader   // nil unless leading
	follower  *replicas.Follower // nil unless following
	// unfinished is a truncation that failed half way; nothing is fetched, and the
	// log is not fit to lead, until it is done.
	unfinished *replicas.Step
	pauses     int64 // of the process, that the role comes after
	// epochStarted: the leader's epoch stands in the log's epoch cache.
	epochStarted bool

	queue      []*data.Append             // not decided yet, oldest first
	queued     int                        // bytes of queue
	writeDue   bool                       // a writeQueued is in the mailbox
	batches    []record.Batch             // decided, being written
	written    []parked                   // decided, not parked yet
	parked     []parked                   // written, not answered yet, oldest first
	fetches    []parkedFetch              // of followers, waiting for records; at most one each
	answering  func(*data.ReplicaFetched) // of the fetch that is being handled
	isrArmed   bool                       // an isrDue is on its way
	serveArmed bool                       // a serveDue is on its way
	tellArmed  bool                       // a tellDue is on its way
	told       map[messages.NodeID]told
	askedUnder messages.NodeEpoch // of the fetch under way
	fetching   bool               // a fetch is with the leader
	failures   int                // of fetches, one after the other
	follows    int64              // fetches so far, to tell an answer to an earlier one
	flushing   bool               // a flush is with the data directory
	flushArmed bool               // a flushDue is on its way
	compacting bool               // a compaction is with the data directory
	tooFull    bool               // for the last compaction
	size       int64              // of the log, as counted in dir.used
	life       int64              // of this instance, to tell what an earlier one began
	leaving    bool
	remove     bool // delete the data when leaving
	inside     bool // a message is being handled, or its handling panicked
	broken     bool // a message was not handled to its end: trust nothing but the disk

	// held are batches that wait for the coordinators of their transactions.
	held map[messages.ProducerID]*heldAppends
}

func newReplica(env *Env, face *Replica, dir directory, folder string) *replica {
	return &replica{env: env, face: face, dir: dir, path: folder, life: env.lives.Add(1),
		log: env.Log.Hook(named{face})}
}

// named puts the partition's name into log lines. Unlike fields that a logger
// holds, which take half a KiB, it costs nothing until there is a line.
type named struct{ face *Replica }

// Run implements zerolog.Hook.
func (n named) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str("topic", n.face.topic).Int32("partition", n.face.id.Partition)
}

func replicaProps(env *Env, face *Replica, dir directory, folder string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return newReplica(env, face, dir, folder) },
		env.Props(KindReplica)...)
}

// Receive is the actor around the body.
func (r *replica) Receive(ctx actor.Context) {
	// A fault in the mapping becomes a panic of this actor alone. The setting
	// holds for the goroutine, and every run of a mailbox has a new one.
	debug.SetPanicOnFault(true)
	if r.out == nil {
		r.out = replicaActor{r.env, ctx.Self()}
	}
	switch ctx.Message().(type) {
	case *actor.Started:
		r.receive(opening{})
	case *actor.Restarting:
		r.receive(abandoning{})
	case *actor.Stopped:
		r.receive(ending{})
	default:
		r.receive(ctx.Message())
	}
}

// receive handles one message; a panic in it leaves the replica broken.
func (r *replica) receive(m any) {
	r.broken = r.broken || r.inside
	r.inside = true
	r.handle(m)
	r.inside = false
}

func (r *replica) handle(message any) {
	switch m := message.(type) {
	case *data.Append:
		r.append(m)
	case writeQueued:
		r.write()
	case *writeMarker:
		r.writeMarker(m)
	case verified:
		r.verified(m)
	case *guardTxn:
		r.guardTxn(m)
	case *describeProducers:
		r.describeProducers(m)
	case *replicaFetch:
		r.replicaFetch(m)
	case fetchAnswered:
		r.fetchAnswered(m)
	case fetchDue:
		r.fetchDue(m)
	case fetcherGone:
		r.fetcherGone(m)
	case serveDue:
		r.serveDue()
	case tellDue:
		r.tellDue()
	case isrDue:
		r.isrDue()
	case nodesChanged:
		r.nodesChanged()
	case proposalAnswered:
		r.proposalAnswered(m)
	case proposalDue:
		r.proposalDue(m)
	case *assigned:
		r.pauses = max(r.pauses, m.pauses)
		r.assign(m.topic, m.partition)
	case flushDue:
		r.flushDue()
	case flushed:
		r.flushed(m)
	case *deleteRecords:
		r.deleteRecords(m)
	case retain:
		r.retain()
	case compactDue:
		r.compactDue()
	case swapDue:
		r.swapDue(m)
	case compactionEnded:
		r.compactionEnded(m)
	case opening:
		r.open()
	case Leave:
		r.leave(false)
	case deleteData:
		r.leave(true)
	case goOffline:
		r.fail(m.err)
	case reopenDue:
		r.reopen()
	case logFaulted:
		r.faulted(m)
	case abandoning:
		r.abandon()
	case ending:
		r.stopped()
	}
}

// configure takes over the settings in force for the topic.
func (r *replica) configure(t *messages.Topic) {
	s := configs.ForTopic(r.env.Settings, t.Configs)
	r.settings = &s
	r.lookForCompaction()
}

// assign takes over a decision of the controller.
func (r *replica) assign(t *messages.Topic, p messages.Partition) {
	r.topic = t
	if r.store == nil || r.leaving {
		return
	}
	r.configure(t)
	r.store.SetConfig(logConfig(r.settings))
	r.become(p)
}

// become takes the role that p gives this replica. A decision that is older than
// one heard of before changes nothing.
func (r *replica) become(p messages.Partition) {
	before := r.partition
	if p.LeaderEpoch < before.LeaderEpoch ||
		p.LeaderEpoch == before.LeaderEpoch && p.PartitionEpoch < before.PartitionEpoch {
		return
	}
	r.partition = p
	if p.LeaderEpoch != before.LeaderEpoch {
		r.face.leaderEnd.Store(int64(messages.NoOffset)) // until the leader tells
	}
	if by := len(p.ISR) - len(before.ISR); by != 0 && r.leader != nil &&
		before.Leader == r.env.Self && p.LeaderEpoch == before.LeaderEpoch {
		r.env.Metrics.ISRChanged(by)
	}
	r.face.hint.Store(&data.LeaderHint{Leader: p.Leader, Epoch: p.LeaderEpoch})
	switch {
	case p.Leader == r.env.Self:
		r.lead(&p)
	case p.Leader != messages.NoNode && slices.Contains(p.Replicas, r.env.Self):
		r.follow(&p)
	default:
		r.stopLeading()
		r.follower = nil
	}
}

// lead takes the leading role, or goes on in it under what changed.
//
// docs/flows/replication.md: leader 5.
func (r *replica) lead(p *messages.Partition) {
	now := r.env.Now()
	if err := r.finishCut(); err != nil {
		r.fail(fmt.Errorf("the log cannot lead before it is truncated: %w", err))
		return
	}
	if r.leader == nil || r.leader.Epoch() < p.LeaderEpoch {
		r.stopLeading()
		r.follower = nil
		r.leader = replicas.NewLeader(r.env.Self, p, r.settings.MinInsyncReplicas, replicas.Bounds{
			Start: r.store.Start(), HighWatermark: r.watermark(), End: r.store.End()}, now)
		r.epochStarted, r.told = false, nil
	} else {
		r.leader.SetMinISR(r.settings.MinInsyncReplicas)
		r.leader.SetPartition(p, now)
	}
	r.publish()
	r.proposeISR() // somebody may have caught up while another proposal was under way
	r.watchISR()
}

// stopLeading answers everybody who counted on this leadership.
//
// docs/flows/replication.md: leader 5.
func (r *replica) stopLeading() {
	if r.leader == nil {
		return
	}
	r.leader = nil
	r.refuseAll(messages.ErrNotLeader)
	r.refuseFetches(messages.ErrNotLeader)
	r.face.publish(nil)
}

// watermark is the highest high watermark that this replica knows of.
func (r *replica) watermark() messages.Offset {
	return messages.Offset(r.face.watermark.Load())
}

func (r *replica) tp() messages.TopicPartition {
	return messages.TopicPartition{Topic: r.face.topic, Partition: r.face.id.Partition}
}

// publish shows the leader's watermarks to readers and answers the producers
// whose records are as safe as they asked.
func (r *replica) publish() {
	hw := r.leader.HighWatermark()
	r.face.watermark.Store(int64(hw))
	r.producers.AdvanceHighWatermark(hw)
	r.account(r.store.Size())
	r.face.publish(&leadership{
		settled: r.leader.Settled(),
		offsets: data.Offsets{
			LogStart: r.store.Start(), HighWatermark: hw, LogEnd: r.leader.LogEnd(),
			LastStable: r.lastStable(hw), Epoch: r.leader.Epoch(),
		},
		settings: r.settings,
	})
	r.answerParked()
	r.serveFetches()
}

// account keeps the data directory's sum right.
func (r *replica) account(size int64) {
	r.dir.grew(size - r.size)
	r.size = size
}
