package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/datadir"
)

// Messages to a log-dir actor.
type (
	spawnReplica struct {
		id     messages.ReplicaID
		topic  string
		folder string
		name   string
		done   func(*actor.PID, error)
	}
	checkpointDue struct{}
	retentionDue  struct{}
	dirFailed     struct{ err error }
	// saveLogStarts makes the log starts durable before reply is called.
	saveLogStarts struct{ reply func(error) }
	startsDue     struct{}
	// drain ends all replicas, writes the checkpoints and stops.
	drain struct{ done func(error) }
)

// errNotRecovered: the last process crashed, and the log was not opened since.
var errNotRecovered = errors.New("it was not opened after the last crash")

// logDir owns one data directory: it supervises the replicas in it, owns the
// flusher they share, and writes the checkpoint files. When the disk fails it takes all its
// replicas offline and the node lives on.
type logDir struct {
	env      *Env
	log      zerolog.Logger
	handle   *dirHandle
	faces    map[string]*Replica              // by the child's PID id
	names    map[messages.TopicPartition]bool // taken by a child
	starts   []func(error)                    // who waits for the log starts to be durable
	deferred []*spawnReplica                  // for an earlier replica of that name to be gone
	behind   bool                             // the last checkpoint failed
	retain   *time.Timer
	draining func(error) // set once it drains

	compactions compactor
}

func newLogDir(env *Env, handle *dirHandle) *actor.Props {
	log := env.Log.With().Str("dir", handle.dir.Path).Logger()
	handle.flusher.took = env.Metrics.LogFlushed
	l := &logDir{env: env, handle: handle, log: log,
		faces: map[string]*Replica{}, names: map[messages.TopicPartition]bool{}}
	strategy := newSupervisor(env, KindReplica, func(child *actor.PID, reason any) {
		// On the log dir's own goroutine: the child is one of its replicas.
		if face := l.faces[child.Id]; face != nil {
			err := fmt.Errorf(
				"%s-%d failed too often (%v): %w",
				face.topic,
				face.id.Partition,
				reason,
				messages.ErrStorage,
			)
			face.fault.Store(&err)
			env.tellNode(replicaOpened{face.id.PartitionID})
		}
	})
	// The state outlives a restart of the actor: its replicas do, too.
	return actor.PropsFromProducer(func() actor.Actor { return l },
		append(env.Props("log-dir"), actor.WithSupervisor(strategy))...)
}

func (l *logDir) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		l.armRetention(ctx)
		l.armCompaction(ctx)
	case *spawnReplica:
		l.spawn(ctx, m)
	case checkpointDue:
		l.checkpoint()
		l.spawnDeferred(ctx)
	case *saveLogStarts:
		l.starts = append(l.starts, m.reply)
		if len(l.starts) == 1 {
			ctx.Send(ctx.Self(), startsDue{}) // behind those that came with it
		}
	case startsDue:
		l.saveStarts()
	case retentionDue:
		l.retainAll(ctx)
	case compactionsDue:
		l.compactAll(ctx)
	case *compactionJob:
		l.compactions.add(m)
		l.startCompaction(ctx)
	case compactionDone:
		l.compactions.running = false
		l.startCompaction(ctx)
		l.drained(ctx)
	case dirFailed:
		l.fail(ctx, m.err)
	case *drain:
		l.drain(ctx, m)
	case *actor.Terminated:
		l.ended(ctx, m.Who)
	case *actor.Stopping:
		l.retain.Stop()
		l.compactions.end()
	}
}

func (l *logDir) spawn(ctx actor.Context, m *spawnReplica) {
	if l.draining != nil {
		m.done(nil, fmt.Errorf("the node is stopping: %w", messages.ErrUnavailable))
		return
	}
	tp := messages.TopicPartition{Topic: m.topic, Partition: m.id.Partition}
	if !l.names[tp] && l.handle.haunted(tp) {
		l.checkpoint()
	}
	if l.names[tp] || l.handle.haunted(tp) {
		l.deferred = append(l.deferred, m)
		return
	}
	face := newFace(l.env, m.id, m.topic)
	if err := l.handle.offline.Load(); err != nil {
		face.fault.Store(err)
	}
	// The face needs the PID before the actor runs, and readers must find the
	// face before the node counts the replica as open.
	face.pid = actor.NewPID(ctx.Self().Address, ctx.Self().Id+"/"+m.name)
	root, child := l.env.Root, face.pid
	face.send = func(m any) { root.Send(child, m) }
	l.env.replicas.Store(m.id.PartitionID, face)
	pid, err := ctx.SpawnNamed(replicaProps(l.env, face, l.handle, m.folder), m.name)
	if err != nil {
		l.env.replicas.CompareAndDelete(m.id.PartitionID, face)
		m.done(nil, err)
		return
	}
	l.faces[pid.Id], l.names[tp] = face, true
	m.done(pid, nil)
}

// ended cleans up after a replica and spawns what waited for its name.
func (l *logDir) ended(ctx actor.Context, who *actor.PID) {
	if face := l.faces[who.Id]; face != nil {
		delete(l.faces, who.Id)
		delete(l.names, messages.TopicPartition{Topic: face.topic, Partition: face.id.Partition})
		if face.deleted.Load() {
			l.handle.changed()
		}
	}
	l.spawnDeferred(ctx)
	l.drained(ctx)
}

func (l *logDir) spawnDeferred(ctx actor.Context) {
	waiting := l.deferred
	l.deferred = nil
	for _, m := range waiting {
		l.spawn(ctx, m)
	}
}

// checkpoint writes what is safely on disk and how far each partition is
// replicated. A failure costs recovery time only, and is tried again.
func (l *logDir) checkpoint() {
	l.handle.dirty.Store(false)
	err := l.writeCheckpoints()
	if err != nil {
		if !l.behind {
			l.log.Warn().Err(err).Msg("checkpoint could not be written, recovery would take longer")
		}
		l.handle.changed()
	}
	l.behind = err != nil
}

func (l *logDir) writeCheckpoints() error {
	var forgotten []any // before the bounds are collected: those have none of them
	l.handle.gone.Range(func(tp, _ any) bool {
		forgotten = append(forgotten, tp)
		return true
	})
	recovery := map[messages.TopicPartition]messages.Offset{}
	watermarks := map[messages.TopicPartition]messages.Offset{}
	cleaned := map[messages.TopicPartition]messages.Offset{}
	for tp, b := range l.bounds() {
		recovery[tp], watermarks[tp] = b.recovery, b.watermark
		if b.cleaned > 0 {
			cleaned[tp] = b.cleaned
		}
	}
	if err := l.handle.dir.WriteCheckpoint(datadir.RecoveryFile, recovery); err != nil {
		return err
	}
	if err := l.handle.dir.WriteCheckpoint(datadir.HighWatermarkFile, watermarks); err != nil {
		return err
	}
	if err := l.handle.dir.WriteCheckpoint(datadir.LogStartFile, l.logStarts()); err != nil {
		return err
	}
	if err := l.handle.dir.WriteCheckpoint(datadir.CleanerFile, cleaned); err != nil {
		return err
	}
	for _, tp := range forgotten {
		l.handle.gone.Delete(tp)
	}
	return nil
}

func (l *logDir) logStarts() map[messages.TopicPartition]messages.Offset {
	starts := map[messages.TopicPartition]messages.Offset{}
	for tp, b := range l.bounds() {
		if b.start > 0 {
			starts[tp] = b.start
		}
	}
	return starts
}

// saveStarts makes the log starts durable, once for all that wait for it: a
// DeleteRecords of a thousand partitions is one write.
func (l *logDir) saveStarts() {
	err := l.handle.dir.WriteCheckpoint(datadir.LogStartFile, l.logStarts())
	for _, reply := range l.starts {
		reply(err)
	}
	l.starts = nil
}

// bounds collects the checkpoint entries of open, closed and unopened logs: one
// that is offline keeps the entries it had.
func (l *logDir) bounds() map[messages.TopicPartition]logBounds {
	out := map[messages.TopicPartition]logBounds{}
	for _, face := range l.faces {
		tp := messages.TopicPartition{Topic: face.topic, Partition: face.id.Partition}
		out[tp] = l.handle.boundsOf(tp)
		if log := face.log.Load(); log != nil {
			out[tp] = logBounds{recovery: log.Durable(), start: log.Start(),
				cleaned: log.Cleaned(), watermark: min(messages.Offset(face.watermark.Load()), log.End())}
		}
	}
	l.handle.bounds.Range(func(tp, b any) bool {
		if _, open := out[tp.(messages.TopicPartition)]; !open {
			out[tp.(messages.TopicPartition)] = b.(logBounds)
		}
		return true
	})
	return out
}

func (l *logDir) armRetention(ctx actor.Context) {
	every := l.env.retentionInterval()
	self, root := ctx.Self(), l.env.Root
	if l.retain != nil {
		l.retain.Stop() // of before a restart of the actor
	}
	l.retain = time.AfterFunc(every, func() { root.Send(self, retentionDue{}) })
}

func (l *logDir) retainAll(ctx actor.Context) {
	for _, face := range l.faces {
		ctx.Send(face.pid, retain{})
	}
	l.armRetention(ctx)
}

// fail takes the directory and all its replicas offline.
func (l *logDir) fail(ctx actor.Context, err error) {
	if l.handle.offline.Load() != nil {
		return
	}
	err = fmt.Errorf(
		"data directory %s is offline, replace the disk and restart the node: %w",
		l.handle.dir.Path,
		err,
	)
	l.handle.offline.Store(&err)
	l.log.Error().Err(err).Msg("data directory failed and is offline")
	for _, face := range l.faces {
		ctx.Send(face.pid, goOffline{err})
	}
}

// drain asks every replica to leave; the last one's end ends the directory.
func (l *logDir) drain(ctx actor.Context, m *drain) {
	l.draining = m.done
	l.compactions.end()
	for _, face := range l.faces {
		ctx.Send(face.pid, Leave{})
	}
	l.drained(ctx)
}

// drained closes the directory once all replicas have left. The clean-shutdown
// marker is written only if every log was closed cleanly.
func (l *logDir) drained(ctx actor.Context) {
	if l.draining == nil || len(l.faces) > 0 || l.compactions.running {
		return
	}
	done := l.draining
	l.draining = func(error) {}
	done(l.closeDir())
	ctx.Stop(ctx.Self())
}

func (l *logDir) closeDir() error {
	l.handle.flusher.wait()
	if err := l.handle.offline.Load(); err != nil {
		return *err
	}
	for tp, b := range l.bounds() {
		if b.err != nil {
			return fmt.Errorf("%s was not closed cleanly: %w", tp, b.err)
		}
	}
	if err := l.writeCheckpoints(); err != nil {
		return err
	}
	return l.handle.dir.MarkClean()
}
