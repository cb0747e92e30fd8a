package commitlog

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
)

// AdvanceStart moves the log start offset up to an offset (DeleteRecords, or a
// follower of a leader that did so): records below it cannot be read any more.
// Segments wholly below it are deleted; it returns how many. The owner saves
// the new Start in its checkpoint. An offset above End is
// messages.ErrOffsetOutOfRange; one below Start changes nothing.
func (l *Log) AdvanceStart(to messages.Offset) (deleted int, err error) {
	if err := l.writable(); err != nil {
		return 0, err
	}
	st := l.state.Load()
	if to > st.end() {
		return 0, fmt.Errorf("%s: log start %d, log ends at %d: %w", l.name, to, st.end(),
			messages.ErrOffsetOutOfRange)
	}
	n := 0
	for n < len(st.segments)-1 && st.segments[n].Next() <= to {
		n++
	}
	return l.deleteOldest(n, to), nil
}

// Retain deletes the oldest segments that the settings say to: those whose
// newest record is older than RetentionAge, then those beyond RetentionBytes.
// Only whole segments below the high watermark go. The active segment is never
// deleted; it is rolled first when its time has come. It returns how many were
// deleted, also when it could not roll: on a full disk the rest makes room.
func (l *Log) Retain(now time.Time, highWatermark messages.Offset) (deleted int, err error) {
	if err := l.writable(); err != nil {
		return 0, err
	}
	var unrolled error
	if l.rollDue(now) {
		unrolled = l.Roll(now)
	}
	st := l.state.Load()
	n, err := l.expired(st, now, highWatermark)
	if err != nil {
		return 0, err
	}
	if n == len(st.segments) && n > 0 {
		if unrolled == nil {
			unrolled = l.Roll(now)
		}
		if unrolled != nil {
			n--
		}
		st = l.state.Load()
	}
	n = l.oversized(st, n, highWatermark)
	n = max(n, belowStart(st))
	if n == 0 {
		return 0, unrolled
	}
	return l.deleteOldest(n, st.segments[n].Base()), unrolled
}

// rollDue reports whether the active segment is older than SegmentAge although
// nothing is appended that would roll it.
func (l *Log) rollDue(now time.Time) bool {
	active := l.state.Load().active()
	if active == nil || active.Size() == 0 || l.cfg.SegmentAge <= 0 {
		return false
	}
	since := l.rollAfter
	if since.IsZero() {
		first := active.FirstTimestamp()
		if first == messages.NoTimestamp {
			return false
		}
		since = time.UnixMilli(int64(first))
	}
	return now.Sub(since) > l.cfg.SegmentAge-l.jitter
}

// expired counts the segments, oldest first, whose newest record is too old.
// All of them may be, the active one included if it has records.
func (l *Log) expired(st *state, now time.Time, highWatermark messages.Offset) (int, error) {
	if l.cfg.RetentionAge < 0 {
		return 0, nil
	}
	for i, s := range st.segments {
		if s.Next() > highWatermark || s.Size() == 0 {
			return i, nil
		}
		age, known, err := l.age(s, now)
		if err != nil {
			return 0, err
		}
		if !known || age <= l.cfg.RetentionAge {
			return i, nil
		}
	}
	return len(st.segments), nil
}

// age is the time since the newest record of a segment, by the file's own time
// when its records have none.
func (l *Log) age(s *segment.Segment, now time.Time) (age time.Duration, known bool, err error) {
	largest, err := s.LargestTimestamp()
	if err != nil {
		return 0, false, err
	}
	if largest.Timestamp != messages.NoTimestamp {
		return now.Sub(time.UnixMilli(int64(largest.Timestamp))), true, nil
	}
	info, err := l.fsys.Stat(s.Name())
	if err != nil {
		return 0, false, &segment.IOError{Op: "stat", File: s.Name(), Err: err}
	}
	return now.Sub(info.ModTime()), !info.ModTime().IsZero(), nil
}

// oversized counts the segments, oldest first and after the n that go anyway,
// without which the log still has RetentionBytes.
func (l *Log) oversized(st *state, n int, highWatermark messages.Offset) int {
	if l.cfg.RetentionBytes < 0 {
		return n
	}
	surplus := -l.cfg.RetentionBytes
	for _, s := range st.segments[n:] {
		surplus += s.Size()
	}
	for n < len(st.segments)-1 {
		s := st.segments[n]
		surplus -= s.Size()
		if surplus < 0 || s.Next() > highWatermark {
			break
		}
		n++
	}
	return n
}

// belowStart counts the segments wholly below the log start, which an earlier
// run had no time to delete.
func belowStart(st *state) int {
	n := 0
	for n < len(st.segments)-1 && st.segments[n].Next() <= st.start {
		n++
	}
	return n
}

// deleteMax bounds how many segments one call deletes: each costs a sync of the
// folder. Later calls of Retain delete the rest.
const deleteMax = 64

// deleteOldest deletes the first n segments and moves the log start, which is
// not below any of them. It returns how many of them it has deleted already.
func (l *Log) deleteOldest(n int, start messages.Offset) int {
	st := l.state.Load()
	start = max(start, st.start)
	epochs := st.epochs.truncateStart(start)
	l.epochsStale = l.epochsStale || len(epochs) != len(st.epochs) ||
		(len(epochs) > 0 && epochs[0] != st.epochs[0])
	n = min(n, deleteMax)
	gone := st.segments[:n]
	l.update(func(st *state) {
		st.segments = append([]*segment.Segment(nil), st.segments[n:]...)
		st.start, st.epochs = start, epochs
	})
	for _, s := range gone {
		l.discard(s)
		// One after the other: a power cut must not take the middle of the log
		// and bring back what was before it.
		_ = l.fsys.SyncDir(l.dir)
	}
	if n > 0 {
		first := l.state.Load().segments[0].Base()
		l.dropSnapshots(func(at messages.Offset) bool { return at < first })
	}
	return n
}
