package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
)

// Append stores batches at the log end with one gathered write (more when they
// are many), all or nothing: after an error the log is as before. The batches
// are stamped; the first begins at End, or above it in a follower of a log with
// gaps. The bytes may be reused when Append returns. A batch larger than
// SegmentBytes gets a segment to itself: it may have been acknowledged, elsewhere
// or before the setting was lowered. Whether a producer's is taken is for the
// caller to say.
//
// It fails with messages.ErrFencedLeaderEpoch (a batch of an epoch before the
// latest), an *segment.IOError, and after a failed sync always with
// messages.ErrStorage.
func (l *Log) Append(now time.Time, batches []record.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.admit(batches); err != nil {
		return err
	}
	if err := l.forgetNames(); err != nil {
		return err
	}
	l.touched, l.changed = true, true
	st := l.state.Load()
	active := st.active()
	if active == nil || l.fitting(active, batches) < len(batches) {
		if err := l.appendRolling(active, batches); err != nil {
			return err
		}
		l.rollAfter = now
		return nil
	}
	if active.Size() == 0 {
		l.rollAfter = now
	}
	if err := active.Write(batches); err != nil {
		return err
	}
	active.Commit(batches)
	return nil
}

// admit checks the batches and prepares for epochs and gaps that are new.
func (l *Log) admit(batches []record.Batch) error {
	st := l.state.Load()
	end, epochs := st.end(), st.epochs
	var gaps []gap
	for i := range batches {
		b := &batches[i]
		if b.BaseOffset < end || b.LastOffsetDelta < 0 || b.Size() != len(b.Bytes) {
			invariant.That(false, "%s: append of offsets %d to %d in %d bytes of %d, log ends at %d",
				l.name, b.BaseOffset, b.LastOffset(), len(b.Bytes), b.Size(), end)
		}
		if latest := epochs.latest(); b.LeaderEpoch > latest {
			epochs = epochs.assign(EpochStart{b.LeaderEpoch, b.BaseOffset})
		} else if b.LeaderEpoch < latest {
			return fmt.Errorf("%s: batch of epoch %d after %d: %w", l.name, b.LeaderEpoch, latest,
				messages.ErrFencedLeaderEpoch)
		}
		if b.BaseOffset > end {
			gaps = append(gaps, gap{end, b.BaseOffset})
		}
		end = b.NextOffset()
	}
	if len(gaps) > 0 {
		if err := l.noteGaps(gaps); err != nil {
			return err
		}
	}
	if len(epochs) > 0 && epochs.latest() != st.epochs.latest() {
		return l.saveEpochs(epochs)
	}
	return nil
}

// fitting returns how many of the batches, from the first on, go into s before
// the log must roll.
func (l *Log) fitting(s *segment.Segment, batches []record.Batch) int {
	size := s.Size()
	if l.indexFull(s) {
		return 0
	}
	first := s.FirstTimestamp()
	for i := range batches {
		b := &batches[i]
		alone := size == 0
		size += int64(len(b.Bytes))
		if size > l.cfg.SegmentBytes && !alone || !s.Fits(b) {
			return i
		}
		if size > int64(len(b.Bytes)) && l.tooOld(first, b.MaxTimestamp) {
			return i
		}
	}
	return len(batches)
}

// tooOld reports whether a segment that begins at the time first must not take
// records of the time last. As in Kafka the records' own times count, so that
// a copied or backfilled log rolls like its original.
func (l *Log) tooOld(first, last messages.Timestamp) bool {
	if l.cfg.SegmentAge <= 0 || first == messages.NoTimestamp {
		return false
	}
	return int64(last-first) > (l.cfg.SegmentAge - l.jitter).Milliseconds()
}

// indexFull reports whether an index could outgrow its bound with a few entries more.
func (l *Log) indexFull(s *segment.Segment) bool {
	entries := int64(s.IndexEntries()) + 2
	return entries*segment.TimeEntrySize > l.cfg.IndexMaxBytes && entries > 2 ||
		int64(s.AbortedEntries())*segment.TxnEntrySize > l.cfg.IndexMaxBytes
}

// piece is what one segment takes of an append.
type piece struct {
	segment *segment.Segment
	batches []record.Batch
	fresh   bool // the segment was created for it
}

// appendRolling is Append across one or more rolls. Nothing is visible before
// all of it is written.
func (l *Log) appendRolling(active *segment.Segment, batches []record.Batch) error {
	var pieces []piece
	err := func() error {
		if active != nil {
			if n := l.fitting(active, batches); n > 0 {
				pieces = append(pieces, piece{segment: active, batches: batches[:n]})
				batches = batches[n:]
				if err := active.Write(pieces[0].batches); err != nil {
					pieces = nil
					return err
				}
			}
		}
		for len(batches) > 0 {
			s, err := l.create(l.baseFor(&batches[0], len(pieces) == 0))
			if err != nil {
				return err
			}
			n := l.fitting(s, batches)
			invariant.That(n > 0, "%s: a new segment takes no batch", l.name)
			pieces = append(pieces, piece{segment: s, batches: batches[:n], fresh: true})
			batches = batches[n:]
			if err := s.Write(pieces[len(pieces)-1].batches); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		l.undo(pieces)
		return err
	}
	if pieces[0].fresh && l.Segments() > 0 {
		// The producers' state is that of the log end, which is this base.
		_ = l.writeSnapshot(pieces[0].segment.Base(), false) // a recovery without it takes longer
	}
	l.publish(active, pieces)
	return nil
}

// baseFor is the base of a segment that begins with a batch. The first segment of a
// log says where that starts, even if a compaction left nothing there for a
// follower to copy.
func (l *Log) baseFor(b *record.Batch, first bool) messages.Offset {
	st := l.state.Load()
	if first && len(st.segments) == 0 && b.LastOffset()-st.end() <= segmentBytesMax {
		return st.end()
	}
	return b.BaseOffset
}

// create makes the file of a new segment. One that fails must leave no name
// behind: it would say that the segment before it ends there.
func (l *Log) create(base messages.Offset) (*segment.Segment, error) {
	s, err := segment.Create(l.fsys, l.dir, base, l.files, l.cfg.limits())
	if err != nil {
		l.ghosts = true
		name := segment.FileName(l.dir, base, segment.LogSuffix)
		if _, gone := l.fsys.Stat(name); !errors.Is(gone, fs.ErrNotExist) {
			l.fail(err)
		}
	}
	return s, err
}

// forgetNames makes the removal of files whose roll failed durable, before
// records are stored where their names say that there are none.
func (l *Log) forgetNames() error {
	if !l.ghosts {
		return nil
	}
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return &segment.IOError{Op: "sync folder", File: l.dir, Err: err}
	}
	l.ghosts = false
	return nil
}

// undo takes back the writes of an append that failed.
func (l *Log) undo(pieces []piece) {
	for _, p := range pieces {
		if p.fresh {
			l.ghosts = true
			if err := p.segment.Retire(0); err != nil {
				l.fail(err)
			}
		} else {
			p.segment.Discard()
		}
	}
}

// publish makes the pieces visible and seals all segments but the last.
func (l *Log) publish(active *segment.Segment, pieces []piece) {
	var fresh []*segment.Segment
	for _, p := range pieces {
		p.segment.Commit(p.batches)
		if p.fresh {
			fresh = append(fresh, p.segment)
		}
	}
	l.addSegments(active, fresh)
}

// addSegments makes new segments visible behind the active one, if there is one.
// A segment that cannot be finished now, on a full disk, is by Close or, from
// its log, by the next Open: nothing of it is lost.
func (l *Log) addSegments(active *segment.Segment, fresh []*segment.Segment) {
	for i, s := range fresh {
		if i > 0 {
			active = fresh[i-1]
		}
		if active != nil {
			_ = active.Seal(s.Base())
		}
	}
	l.update(func(st *state) {
		n := len(st.segments)
		st.segments = append(st.segments[:n:n], fresh...)
	})
}

// Roll begins a new segment, unless the active one is empty.
func (l *Log) Roll(now time.Time) error {
	if err := l.writable(); err != nil {
		return err
	}
	st := l.state.Load()
	if active := st.active(); active != nil && active.Size() == 0 {
		return nil
	}
	if err := l.roll(st.end()); err != nil {
		return err
	}
	l.rollAfter = now
	return nil
}

// roll creates a segment at base, at or above the log end, and makes it the
// active one.
func (l *Log) roll(base messages.Offset) error {
	s, err := l.create(base)
	if err != nil {
		return err
	}
	l.touched, l.changed = true, true
	_ = l.writeSnapshot(base, false) // a recovery without it takes longer
	l.addSegments(l.state.Load().active(), []*segment.Segment{s})
	return nil
}
