package actors

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/vfs"
)

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
	r.configure(r.topic)
	r.producers = producers.New()
	tp := messages.TopicPartition{Topic: r.face.topic, Partition: r.face.id.Partition}
	bounds := r.dir.boundsOf(tp)
	r.pauses = max(r.pauses, r.env.pauses.agreed.Load())
	started := time.Now()
	log, found, err := commitlog.Open(r.env.FS, r.path, commitlog.Options{
		Topic: tp.Topic, Partition: tp.Partition, TopicID: r.face.id.Topic,
		Config: logConfig(r.settings), State: r.producers, Files: r.env.Files,
		Clean:         r.dir.wasClean() && bounds.err == nil,
		RecoveryPoint: bounds.recovery, LogStart: bounds.start, Cleaned: bounds.cleaned,
		Pause: slot.pause,
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

// logConfig takes the log's settings out of the topic's.
func logConfig(s *configs.TopicSettings) commitlog.Config {
	return commitlog.Config{
		SegmentBytes: s.SegmentBytes, SegmentAge: segmentAge(s),
		SegmentJitter: milliseconds(s.SegmentJitterMs), IndexInterval: s.IndexIntervalBytes,
		IndexMaxBytes: int64(s.SegmentIndexBytes), RetentionAge: retentionAge(s),
		RetentionBytes: retentionBytes(s), FileDeleteDelay: milliseconds(s.FileDeleteDelayMs),
		Preallocate: s.Preallocate,
	}
}

// segmentAge is how old an active segment gets. That of a compacted topic must be
// rolled in time for its records to be compacted in time.
func segmentAge(s *configs.TopicSettings) time.Duration {
	if s.CleanupCompact {
		return milliseconds(min(s.SegmentMs, s.MaxCompactionLagMs))
	}
	return milliseconds(s.SegmentMs)
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
	if was := r.face.fault.Load(); was != nil && (!errors.Is(err, vfs.ErrIO) || !passes(*was)) {
		return // that is no news, unless the disk was full before and fails now
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
		cleaned: r.store.Cleaned(), watermark: min(r.watermark(), r.store.End()), err: err}
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
