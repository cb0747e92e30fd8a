package actors

import (
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/vfs"
)

// maxFlushes is how many fdatasyncs one data directory runs at the same time:
// enough for a group commit over many partitions, few enough to bound threads.
const maxFlushes = 8

// checkpointDelay is how long after a change the checkpoint files are written.
// A crash within it costs a longer recovery scan, nothing else.
const checkpointDelay = 5 * time.Second

// Messages to a log-dir actor.
type (
	spawnReplica struct {
		id     messages.ReplicaID
		topic  string
		folder string
		name   string
		done   func(*actor.PID, error)
	}
	flushJob struct {
		flush commitlog.Flush
		reply func(error)
	}
	flushDone     struct{}
	checkpointDue struct{}
	retentionDue  struct{}
	dirFailed     struct{ err error }
	// saveLogStarts makes the log starts durable before reply is called.
	saveLogStarts struct{ reply func(error) }
	startsDue     struct{}
	// drain ends all replicas, writes the checkpoints and stops.
	drain struct{ done func(error) }
)

// dirHandle is what replicas know of their data directory. It does not change
// but for what its atomics hold; the actor's PID is set before any replica runs.
type dirHandle struct {
	dir     *datadir.Dir
	clean   bool
	root    *actor.RootContext
	pid     *actor.PID
	offline atomic.Pointer[error]
	full    atomic.Bool  // an append found no space, and none went well since
	dirty   atomic.Bool  // something changed since the last checkpoint
	used    atomic.Int64 // bytes of all its logs
	most    int64        // bound of used (log.dir.max.bytes); negative: none
	bounds  sync.Map     // messages.TopicPartition -> logBounds, of logs that are not open
	gone    sync.Map     // messages.TopicPartition: in the checkpoint files, but no more here
}

// logBounds are a log's entries in the checkpoint files.
type logBounds struct {
	recovery, start, watermark messages.Offset
	err                        error // it was not closed cleanly
}

// errNotRecovered: the last process crashed, and the log was not opened since.
var errNotRecovered = errors.New("it was not opened after the last crash")

// newDirHandle starts with the bounds that the last process checkpointed, for
// the partitions that are there.
func newDirHandle(dir *datadir.Dir, root *actor.RootContext, most int64) *dirHandle {
	h := &dirHandle{dir: dir, clean: dir.Clean, root: root, most: most}
	for _, p := range dir.Partitions {
		tp := messages.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		b := logBounds{
			recovery: dir.Recovery[tp], start: dir.LogStarts[tp], watermark: dir.Watermarks[tp]}
		if !dir.Clean {
			b.err = errNotRecovered
		}
		h.bounds.Store(tp, b)
	}
	for _, entries := range []map[messages.TopicPartition]messages.Offset{
		dir.Recovery, dir.LogStarts, dir.Watermarks,
	} {
		for tp := range entries {
			if _, here := h.bounds.Load(tp); !here {
				h.gone.Store(tp, nil)
			}
		}
	}
	return h
}

// boundsOf returns what was last recorded of a log that is not open; zeros for a new one.
func (d *dirHandle) boundsOf(tp messages.TopicPartition) logBounds {
	if b, ok := d.bounds.Load(tp); ok {
		return b.(logBounds)
	}
	return logBounds{}
}

// closed records the bounds of a log that is open no more.
func (d *dirHandle) closed(tp messages.TopicPartition, b logBounds) { d.bounds.Store(tp, b) }

func (d *dirHandle) wasClean() bool { return d.clean }

func (d *dirHandle) isOffline() bool { return d.offline.Load() != nil }

func (d *dirHandle) grew(bytes int64) { d.used.Add(bytes) }

// unopened records that a log could not be opened: whatever its state, it was
// not closed cleanly.
func (d *dirHandle) unopened(tp messages.TopicPartition, err error) {
	b := d.boundsOf(tp)
	b.err = err
	d.bounds.Store(tp, b)
}

// removed forgets a partition that was deleted or set aside: a new topic of the
// same name must not inherit its bounds, neither now nor after a crash.
func (d *dirHandle) removed(tp messages.TopicPartition) {
	d.bounds.Delete(tp)
	d.gone.Store(tp, nil)
}

// haunted reports whether a checkpoint file may have an entry of an earlier
// partition of that name.
func (d *dirHandle) haunted(tp messages.TopicPartition) bool {
	_, ok := d.gone.Load(tp)
	return ok
}

// passes reports whether an error of the disk goes away without a new disk: when
// there is space again, or when fewer files are open.
func passes(err error) bool {
	return errors.Is(err, messages.ErrDiskFull) || errors.Is(err, vfs.ErrTooManyFiles)
}

// wrote notes how a write to one of the logs went, and tells the operator when
// the disk is full and when it is not any more.
func (d *dirHandle) wrote(log *zerolog.Logger, err error) {
	switch full := passes(err); {
	case full == d.full.Load() || err != nil && !full || d.full.Swap(full) == full:
	case full && errors.Is(err, vfs.ErrTooManyFiles):
		log.Warn().Err(err).Msg("too many files are open, records are refused; " +
			"raise the limit of the process (ulimit -n)")
	case full:
		log.Warn().Err(err).Str("dir", d.dir.Path).Msg("data directory is full, records are refused; " +
			"free some space on its disk, or shorten the retention of topics")
	default:
		log.Info().Str("dir", d.dir.Path).Msg("data directory takes records again")
	}
}

// room says whether the directory's budget lets more in.
func (d *dirHandle) room() error {
	if used := d.used.Load(); d.most >= 0 && used >= d.most {
		return fmt.Errorf("logs in %s take %d bytes and log.dir.max.bytes is %d; raise it or shorten "+
			"the retention of topics: %w", d.dir.Path, used, d.most, messages.ErrDiskFull)
	}
	return nil
}

// changed asks for a checkpoint some time soon.
func (d *dirHandle) changed() {
	if !d.dirty.Swap(true) {
		root, pid := d.root, d.pid
		time.AfterFunc(checkpointDelay, func() { root.Send(pid, checkpointDue{}) })
	}
}

// flush runs a flush with bounded concurrency and calls reply when it ended.
func (d *dirHandle) flush(f commitlog.Flush, reply func(error)) {
	d.root.Send(d.pid, flushJob{f, reply})
}

// saveStarts makes the log starts of the directory durable, then calls reply.
func (d *dirHandle) saveStarts(reply func(error)) { d.root.Send(d.pid, &saveLogStarts{reply}) }

// failed reports an error of the disk itself.
func (d *dirHandle) failed(err error) { d.root.Send(d.pid, dirFailed{err}) }

// logDir owns one data directory: it supervises the replicas in it, runs their
// flushes, and writes the checkpoint files. When the disk fails it takes all its
// replicas offline and the node lives on.
type logDir struct {
	env      *Env
	log      zerolog.Logger
	handle   *dirHandle
	faces    map[string]*Replica              // by the child's PID id
	names    map[messages.TopicPartition]bool // taken by a child
	flushes  []flushJob                       // waiting for a free slot; at most two per replica
	running  int
	starts   []func(error)   // who waits for the log starts to be durable
	deferred []*spawnReplica // wait for an earlier replica of the same name to be gone
	behind   bool            // the last checkpoint failed
	retain   *time.Timer
	draining func(error) // set once it drains
}

func newLogDir(env *Env, handle *dirHandle) *actor.Props {
	log := env.Log.With().Str("dir", handle.dir.Path).Logger()
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
		append(env.props("log-dir"), actor.WithSupervisor(strategy))...)
}

func (l *logDir) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		l.armRetention(ctx)
	case *spawnReplica:
		l.spawn(ctx, m)
	case flushJob:
		l.flushes = append(l.flushes, m)
		l.startFlushes(ctx)
	case flushDone:
		l.running--
		l.startFlushes(ctx)
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
	case dirFailed:
		l.fail(ctx, m.err)
	case *drain:
		l.drain(ctx, m)
	case *actor.Terminated:
		l.ended(ctx, m.Who)
	case *actor.Stopping:
		l.retain.Stop()
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
	face := newFace(m.id, m.topic)
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

// startFlushes hands waiting flushes to goroutines of their own, each of which
// ends with its fdatasync and reports back.
func (l *logDir) startFlushes(ctx actor.Context) {
	self, root, metrics := ctx.Self(), l.env.Root, l.env.Metrics
	for l.running < maxFlushes && len(l.flushes) > 0 {
		job := l.flushes[0]
		l.flushes = l.flushes[1:]
		l.running++
		go func() {
			began := time.Now()
			err := job.flush.Run()
			metrics.LogFlushed(time.Since(began))
			job.reply(err)
			root.Send(self, flushDone{})
		}()
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
	for tp, b := range l.bounds() {
		recovery[tp], watermarks[tp] = b.recovery, b.watermark
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
				watermark: min(messages.Offset(face.watermark.Load()), log.End())}
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
	for _, face := range l.faces {
		ctx.Send(face.pid, Leave{})
	}
	l.drained(ctx)
}

// drained closes the directory once all replicas have left. The clean-shutdown
// marker is written only if every log was closed cleanly.
func (l *logDir) drained(ctx actor.Context) {
	if l.draining == nil || len(l.faces) > 0 {
		return
	}
	done := l.draining
	l.draining = func(error) {}
	done(l.closeDir())
	ctx.Stop(ctx.Self())
}

func (l *logDir) closeDir() error {
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

// folderOf is where a new replica's log goes in this directory.
func (d *dirHandle) folderOf(topic string, partition int32) string {
	return path.Join(d.dir.Path, messages.TopicPartition{Topic: topic, Partition: partition}.String())
}
