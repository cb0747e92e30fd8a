package actors

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/persistence/commitlog"
)

// Messages to a replica actor, about compaction.
type (
	// compactDue asks to look whether a compaction is due.
	compactDue struct{}
	// swapDue brings what was cleaned; done is called once it is in the log.
	swapDue struct {
		run  *commitlog.Compaction
		done func(error)
	}
	// compactionEnded says how a compaction ended.
	compactionEnded struct {
		run   *commitlog.Compaction
		began time.Time
		err   error
	}
)

// compactionFace is what the log dir, and whoever counts, sees of a replica's
// compaction.
type compactionFace struct {
	wanted atomic.Bool   // the topic is compacted, and this log can be
	looked atomic.Int64  // the base of the active segment at the last look; -1: look
	again  atomic.Int64  // in Unix milliseconds: look in any case
	dirty  atomic.Uint64 // bits of a float64: the share to compact at the last look
	failed atomic.Bool   // the log cannot be compacted
}

// mayCompact reports whether it is worth asking the replica. Any goroutine calls it.
func (r *Replica) mayCompact(now time.Time) bool {
	log, c := r.log.Load(), &r.compaction
	return log != nil && c.wanted.Load() &&
		(int64(log.Sealed()) != c.looked.Load() || now.UnixMilli() >= c.again.Load())
}

// Compaction tells how much of the log could be compacted, from 0 to 1, and
// whether it cannot be. Any goroutine calls it.
func (r *Replica) Compaction() (dirty float64, uncleanable bool) {
	c := &r.compaction
	if !c.wanted.Load() && !c.failed.Load() {
		return 0, false
	}
	return math.Float64frombits(c.dirty.Load()), c.failed.Load()
}

// lookForCompaction has the log dir ask at its next round.
func (r *replica) lookForCompaction() {
	c := &r.face.compaction
	c.looked.Store(-1)
	c.wanted.Store(r.settings.CleanupCompact && !c.failed.Load())
}

// compactDue looks whether a compaction is due, and hands it to the log dir.
//
// docs/flows/compaction.md: 2.
func (r *replica) compactDue() {
	face := &r.face.compaction
	if r.store == nil || r.leaving || r.compacting || !face.wanted.Load() || r.unfinished != nil {
		return
	}
	if !r.flushing && r.store.Durable() < r.store.Sealed() {
		r.flush() // what is not on disk is not compacted
	}
	now, hw := r.env.Now(), r.watermark()
	stable := r.producers.LastStable(hw)
	out, err := r.store.PrepareCompaction(commitlog.CompactOptions{
		Now: now, Stable: stable, Watermark: hw,
		MinLag: milliseconds(r.settings.MinCompactionLagMs), MaxLag: r.maxLag(),
		DirtyRatio: r.settings.MinCleanableDirtyRatio,
		Retention:  milliseconds(r.settings.DeleteRetentionMs),
		MapBytes:   r.env.number("log.cleaner.dedupe.buffer.size"),
		Producers:  r.producers.LastBatches,
	})
	if err != nil {
		r.failUnlessFull(err)
		return
	}
	face.dirty.Store(math.Float64bits(out.Dirty))
	face.looked.Store(int64(r.store.Sealed()))
	again := int64(math.MaxInt64)
	if !out.Again.IsZero() {
		again = out.Again.UnixMilli()
	}
	if stable < r.store.Sealed() || r.store.Durable() < r.store.Sealed() {
		again = 0 // they go up without a sign
	}
	face.again.Store(again)
	if out.Compaction == nil {
		return
	}
	r.compacting = true
	r.beginCompaction(out)
}

func (r *replica) beginCompaction(o commitlog.Outlook) {
	run, self, began := o.Compaction, r.out, r.env.Now()
	r.dir.compact(&compactionJob{
		run: run, dirty: o.Dirty,
		swap: func(done func(error)) { self.Self(swapDue{run, done}) },
		end:  func(err error) { self.Self(compactionEnded{run, began, err}) },
	})
}

// maxLag is max.compaction.lag.ms; 0 if it is further away than anything.
func (r *replica) maxLag() time.Duration {
	if lag := milliseconds(r.settings.MaxCompactionLagMs); lag < maxTimer {
		return lag
	}
	return 0
}

// swapDue takes what was cleaned into the log.
//
// docs/flows/compaction.md: 6.
func (r *replica) swapDue(m swapDue) {
	if r.store == nil || m.run.Log() != r.store {
		m.done(commitlog.ErrClosed) // of a log that was given up meanwhile
		return
	}
	err := r.store.Swap(m.run)
	r.account(r.store.Size())
	m.done(err)
}

// compactionEnded takes note of a compaction that is over, one way or the other.
func (r *replica) compactionEnded(m compactionEnded) {
	r.compacting = false
	if r.store == nil || m.run.Log() != r.store {
		return
	}
	face, stats := &r.face.compaction, m.run.Stats()
	face.looked.Store(-1) // there may be more
	switch err := m.err; {
	case err == nil:
		r.tooFull = false
		r.dir.changed()
		r.env.Metrics.Compacted(r.env.Now().Sub(m.began), stats.Read, stats.Before-stats.After)
		r.log.Info().Int64("bytes_before", stats.Before).Int64("bytes_after", stats.After).
			Int64("up_to", int64(r.store.Cleaned())).Int("segments", stats.Segments).
			Msg("log was compacted")
	case errors.Is(err, commitlog.ErrCannotCompact):
		face.failed.Store(true)
		face.wanted.Store(false)
		r.log.Warn().Err(err).Msg("log cannot be compacted and grows; troupe log check says what " +
			"is wrong with it, a restart tries again")
	case errors.Is(err, errCompactionStopped), errors.Is(err, errNoCompaction),
		errors.Is(err, commitlog.ErrStale), errors.Is(err, commitlog.ErrClosed):
		r.log.Debug().Err(err).Msg("compaction was given up")
	case passes(err) && r.store.Failure() == nil:
		if !r.tooFull {
			r.log.Warn().Err(err).Msg("log cannot be compacted for want of space; it is tried again")
		}
		r.tooFull = true
	default:
		r.failUnlessFull(err)
	}
}
