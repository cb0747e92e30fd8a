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

// checkpointDelay is how long after a change the checkpoint files are written.
// A crash within it costs a longer recovery scan, nothing else.
const checkpointDelay = 5 * time.Second

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
	flusher flusher
}

// logBounds are a log's entries in the checkpoint files.
type logBounds struct {
	recovery, start, watermark, cleaned messages.Offset

	err error // it was not closed cleanly
}

// newDirHandle starts with the bounds that the last process checkpointed, for
// the partitions that are there.
func newDirHandle(dir *datadir.Dir, root *actor.RootContext, most int64) *dirHandle {
	h := &dirHandle{dir: dir, clean: dir.Clean, root: root, most: most}
	for _, p := range dir.Partitions {
		tp := messages.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		b := logBounds{
			recovery: dir.Recovery[tp], start: dir.LogStarts[tp], watermark: dir.Watermarks[tp],
			cleaned: dir.Cleaned[tp]}
		if !dir.Clean {
			b.err = errNotRecovered
		}
		h.bounds.Store(tp, b)
	}
	for _, entries := range []map[messages.TopicPartition]messages.Offset{
		dir.Recovery, dir.LogStarts, dir.Watermarks, dir.Cleaned,
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
	d.flusher.run(flushJob{f.Run, reply})
}

// checkpoint writes the checkpoint files at once.
func (d *dirHandle) checkpoint() { d.root.Send(d.pid, checkpointDue{}) }

// compact runs a compaction when it is its turn.
func (d *dirHandle) compact(job *compactionJob) { d.root.Send(d.pid, job) }

// saveStarts makes the log starts of the directory durable, then calls reply.
func (d *dirHandle) saveStarts(reply func(error)) { d.root.Send(d.pid, &saveLogStarts{reply}) }

// failed reports an error of the disk itself.
func (d *dirHandle) failed(err error) { d.root.Send(d.pid, dirFailed{err}) }

// folderOf is where a new replica's log goes in this directory.
func (d *dirHandle) folderOf(topic string, partition int32) string {
	return path.Join(d.dir.Path, messages.TopicPartition{Topic: topic, Partition: partition}.String())
}
