package actors

import (
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/vfs"
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

	queue      []*data.Append     // not decided yet, oldest first
	queued     int                // bytes of queue
	writeDue   bool               // a writeQueued is in the mailbox
	batches    []record.Batch     // decided, being written
	written    []parked           // decided, not parked yet
	parked     []parked           // written, not answered yet, oldest first
	fetches    []parkedFetch      // of followers, waiting for records; at most one each
	isrArmed   bool               // an isrDue is on its way
	serveArmed bool               // a serveDue is on its way
	askedUnder messages.NodeEpoch // of the fetch under way
	fetching   bool               // a fetch is with the leader
	follows    int64              // fetches so far, to tell an answer to an earlier one
	flushing   bool               // a flush is with the data directory
	flushArmed bool               // a flushDue is on its way
	size       int64              // of the log, as counted in dir.used
	life       int64              // of this instance, to tell what an earlier one began
	leaving    bool
	remove     bool // delete the data when leaving
	inside     bool // a message is being handled, or its handling panicked
	broken     bool // a message was not handled to its end: trust nothing but the disk
}

func newReplica(env *Env, face *Replica, dir directory, folder string) *replica {
	return &replica{env: env, face: face, dir: dir, path: folder, life: env.lives.Add(1),
		log: env.Log.With().Str("topic", face.topic).Int32("partition", face.id.Partition).Logger()}
}

func replicaProps(env *Env, face *Replica, dir directory, folder string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return newReplica(env, face, dir, folder) },
		env.props(KindReplica)...)
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

// open opens the log and takes the role the metadata gives. It never panics: a
// log that cannot be opened leaves the replica offline, with the reason.
func (r *replica) open() {
	defer r.out.Opened(r.face.id.PartitionID)
	slot := r.env.openSlot(r.face.id.PartitionID)
	defer slot.release()
	image := r.env.Client.Image()
	r.topic = image.TopicByID(r.face.id.Topic)
	part := image.Partition(r.face.id.PartitionID)
	if part == nil {
		return // deleted while it was started; the order to leave is on its way
	}
	r.settings = r.topicSettings(r.topic)
	r.producers = producers.New()
	tp := messages.TopicPartition{Topic: r.face.topic, Partition: r.face.id.Partition}
	bounds := r.dir.boundsOf(tp)
	r.pauses = max(r.pauses, r.env.pauses.agreed.Load())
	started := time.Now()
	log, found, err := commitlog.Open(r.env.FS, r.path, commitlog.Options{
		Topic: tp.Topic, Partition: tp.Partition, TopicID: r.face.id.Topic,
		Config: logConfig(r.settings), State: r.producers, Files: r.env.Files,
		Clean:         r.dir.wasClean() && bounds.err == nil,
		RecoveryPoint: bounds.recovery, LogStart: bounds.start, Pause: slot.pause,
	})
	if err != nil {
		r.dir.unopened(tp, err)
		r.fail(fmt.Errorf("opening the log: %w", err))
		return
	}
	r.report(found, time.Since(started))
	if end := log.End(); end < bounds.watermark {
		r.log.Error().Int64("from", int64(end)).Int64("to", int64(bounds.watermark)-1).
			Msg("acknowledged records are gone: a power cut before their flush, or a damaged file")
		r.out.Lost(r.face.id.PartitionID)
	}
	if found.ScannedBytes > 0 {
		r.env.Metrics.PartitionRecovered(time.Since(started), found.TruncatedBytes)
	}
	r.store = log
	r.face.log.Store(log)
	if r.face.fault.Swap(nil) != nil {
		r.log.Info().Msg("replica is back")
	}
	r.face.watermark.Store(int64(max(log.Start(), min(bounds.watermark, log.End()))))
	r.become(*part)
	log.Idle() // a recovery has the whole log mapped; nobody may ever ask for it
}

// reopenDelay is how long a replica that is offline because the disk is full
// waits before it looks whether there is space.
const reopenDelay = time.Second

// reopen opens the log again after the disk was full.
func (r *replica) reopen() {
	if r.store == nil && !r.leaving && !r.dir.isOffline() {
		r.open()
	}
}

// reopenLater has the replica try again when its log is closed for want of space,
// or of descriptors, alone: what is on the disk is whole, or recovery makes it so.
func (r *replica) reopenLater(err error) {
	if passes(err) && !r.leaving {
		r.out.After(reopenDelay, reopenDue{})
	}
}

// report logs what recovery did, if it did anything worth knowing.
func (r *replica) report(found commitlog.Recovery, took time.Duration) {
	switch {
	case found.Damaged:
		r.log.Error().Int64("offset", int64(found.TruncatedAt)).Int64("bytes", found.TruncatedBytes).
			Str("reason", found.Reason).Msg("log was damaged below its recovery point and is cut there")
	case found.TruncatedBytes > 0:
		r.log.Warn().Int64("offset", int64(found.TruncatedAt)).Int64("bytes", found.TruncatedBytes).
			Str("reason", found.Reason).Msg("log had a torn tail, which is cut off")
	case found.ScannedBytes > 64<<20:
		r.log.Info().Int64("bytes", found.ScannedBytes).Dur("took", took).Msg("log recovered")
	}
}

func (r *replica) topicSettings(t *messages.Topic) *configs.TopicSettings {
	s := configs.ForTopic(r.env.Settings, t.Configs)
	return &s
}

// assign takes over a decision of the controller.
func (r *replica) assign(t *messages.Topic, p messages.Partition) {
	r.topic = t
	if r.store == nil || r.leaving {
		return
	}
	r.settings = r.topicSettings(t)
	r.store.SetConfig(logConfig(r.settings))
	r.become(p)
}

// become takes the role that p gives this replica. A decision that is older than
// one heard of before changes nothing.
func (r *replica) become(p messages.Partition) {
	if p.LeaderEpoch < r.partition.LeaderEpoch {
		return
	}
	r.partition = p
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
		r.epochStarted = false
	} else {
		r.leader.SetMinISR(r.settings.MinInsyncReplicas)
		r.leader.SetPartition(p, now)
	}
	r.publish()
	r.proposeISR() // somebody may have caught up while another proposal was under way
	r.watchISR()
}

// stopLeading answers everybody who counted on this leadership.
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
			LastStable: r.producers.LastStable(hw), Epoch: r.leader.Epoch(),
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

// logConfig takes the log's settings out of the topic's.
func logConfig(s *configs.TopicSettings) commitlog.Config {
	return commitlog.Config{
		SegmentBytes: s.SegmentBytes, SegmentAge: milliseconds(s.SegmentMs),
		SegmentJitter: milliseconds(s.SegmentJitterMs), IndexInterval: s.IndexIntervalBytes,
		IndexMaxBytes: int64(s.SegmentIndexBytes), RetentionAge: retentionAge(s),
		RetentionBytes: retentionBytes(s), FileDeleteDelay: milliseconds(s.FileDeleteDelayMs),
		Preallocate: s.Preallocate,
	}
}

// retentionAge and retentionBytes keep everything of a topic that is not
// cleaned by deletion.
func retentionAge(s *configs.TopicSettings) time.Duration {
	if !s.CleanupDelete || s.RetentionMs < 0 {
		return -1
	}
	return milliseconds(s.RetentionMs)
}

func retentionBytes(s *configs.TopicSettings) int64 {
	if !s.CleanupDelete {
		return -1
	}
	return s.RetentionBytes
}

// milliseconds converts a setting; what a Duration cannot hold is as good as never.
func milliseconds(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	if ms > most {
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(ms) * time.Millisecond
}

// faulted ends this instance, so that the next one recovers the log. Many readers
// may have hit the same fault; what they say of an earlier log is known.
func (r *replica) faulted(m logFaulted) {
	if r.store != nil && m.log == r.store {
		panic(fmt.Sprintf("a file of the log is damaged: %v", m.err))
	}
}

// fail takes the replica offline: it answers everybody with the reason and
// keeps the log as it is. The data directory decides what that means for the rest.
func (r *replica) fail(err error) {
	defer r.reopenLater(err)
	if r.face.fault.Load() != nil {
		return
	}
	err = fmt.Errorf("%s: %w", r.tp(), err)
	if !errors.Is(err, messages.ErrStorage) {
		err = fmt.Errorf("%w: %w", messages.ErrStorage, err)
	}
	r.face.fault.Store(&err)
	r.log.Error().Err(err).Msg("replica is offline")
	r.abandon()
	if errors.Is(err, vfs.ErrIO) {
		r.dir.failed(err)
	}
}

// abandon gives up the log without writing anything, and answers everybody.
func (r *replica) abandon() {
	r.quit()
	if r.store != nil {
		r.dir.closed(r.tp(), r.bounds(errAbandoned))
		r.store.Abandon()
		r.store = nil
	}
	r.account(0)
}

// quit ends every role and answers everybody.
func (r *replica) quit() {
	r.leader, r.follower = nil, nil
	r.face.publish(nil)
	r.face.log.Store(nil)
	r.refuseAll(r.face.notLeading())
	r.refuseFetches(r.face.notLeading())
}

// bounds are the log's entries in the checkpoint files (err: it is not closed
// cleanly).
func (r *replica) bounds(err error) logBounds {
	return logBounds{recovery: r.store.Durable(), start: r.store.Start(),
		watermark: min(r.watermark(), r.store.End()), err: err}
}

var errAbandoned = errors.New("the log was given up after a failure")

// leave closes the door, answers everybody, and stops after what is in the
// mailbox before this moment.
func (r *replica) leave(remove bool) {
	r.remove = r.remove || remove
	if r.leaving {
		return
	}
	r.leaving = true
	r.face.gate.Lock()
	r.face.closed = true
	r.face.gate.Unlock()
	r.write()
	r.out.Stop()
}

// stopped closes or deletes the log after the last message. The log of an
// instance that failed is left as it is, for the next start to recover.
func (r *replica) stopped() {
	if r.broken || r.unfinished != nil {
		r.abandon()
	}
	r.quit()
	if r.store != nil {
		var err error
		if r.remove {
			r.store.Abandon()
		} else if err = r.env.closeLog(r.store); err != nil {
			r.log.Error().Err(err).Msg("log could not be closed cleanly")
		}
		r.dir.closed(r.tp(), r.bounds(err))
		r.store = nil
	}
	r.account(0)
	if r.remove {
		if err := commitlog.Delete(r.env.FS, r.path); err != nil {
			r.log.Error().Err(err).Str("folder", path.Base(r.path)).
				Msg("data of a deleted topic could not be removed")
		}
		r.dir.removed(r.tp())
		r.face.deleted.Store(true)
		r.out.Removed(r.face.id.PartitionID)
	}
	r.env.replicas.CompareAndDelete(r.face.id.PartitionID, r.face)
}
