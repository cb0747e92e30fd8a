package commitlog

import (
	"errors"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/persistence/segment"
)

// Cleaned is the offset up to which the log is compacted: of the records below it
// no key has two, but for what was too young. It is never too high, and after a
// crash it may be too low.
func (l *Log) Cleaned() messages.Offset { return messages.Offset(l.cleaned.Load()) }

// Sealed is the base of the active segment: what lies below it does not grow.
func (l *Log) Sealed() messages.Offset {
	st := l.state.Load()
	if n := len(st.segments); n > 0 {
		return st.segments[n-1].Base()
	}
	return st.end()
}

// PrepareCompaction looks whether a compaction is due. The active segment is never
// compacted; it is rolled when its time has come (SegmentAge). Owner only. It
// fails with an error of the disk.
func (l *Log) PrepareCompaction(o CompactOptions) (Outlook, error) {
	if err := l.writable(); err != nil {
		return Outlook{}, err
	}
	if l.rollDue(o.Now) {
		if err := l.Roll(o.Now); err != nil {
			return Outlook{}, err
		}
	}
	out := Outlook{Again: l.rollAt()}
	st := l.state.Load()
	if len(st.segments) < 2 {
		return out, nil
	}
	from := max(l.Cleaned(), st.start, st.segments[0].Base())
	end, young, err := l.cleanable(st, from, &o)
	if err != nil || end <= from {
		out.Again = sooner(out.Again, young)
		return out, err
	}
	if out.Dirty = dirtyShare(st, from, end); out.Dirty <= o.DirtyRatio {
		overdue, err := l.overdueAt(st, from, end, &o)
		if err != nil {
			return out, err
		}
		if overdue.IsZero() || o.Now.Before(overdue) {
			out.Again = sooner(sooner(out.Again, young), overdue)
			return out, nil
		}
	}
	c := &Compaction{log: l, o: o, cfg: l.cfg, generation: l.generation, from: from, end: end,
		all: st.segments}
	if o.Producers != nil {
		c.last = o.Producers()
	}
	out.Compaction = c
	return out, nil
}

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// rollAt is when the active segment is to be rolled, if nothing is appended.
func (l *Log) rollAt() time.Time {
	active := l.state.Load().active()
	if active == nil || active.Size() == 0 || l.cfg.SegmentAge <= 0 {
		return time.Time{}
	}
	since := l.rollAfter
	if since.IsZero() {
		if active.FirstTimestamp() == messages.NoTimestamp {
			return time.Time{}
		}
		since = time.UnixMilli(int64(active.FirstTimestamp()))
	}
	return since.Add(l.cfg.SegmentAge - l.jitter + 1)
}

// cleanable returns the offset below which records may be compacted, and when it
// goes up because records are old enough; zero: that is not what holds it back.
func (l *Log) cleanable(st *state, from messages.Offset, o *CompactOptions) (
	end messages.Offset, young time.Time, err error,
) {
	end = min(o.Stable, o.Watermark, st.segments[len(st.segments)-1].Base())
	for _, s := range st.segments {
		if s.Base() >= end || s.Next() > l.Durable() {
			// Gaps are allowed only in what no power cut can take.
			end = min(end, s.Base())
			break
		}
		if s.Next() <= from || o.MinLag <= 0 {
			continue
		}
		largest, err := s.LargestTimestamp()
		if err != nil {
			return end, young, err
		}
		old := time.UnixMilli(int64(largest.Timestamp)).Add(o.MinLag)
		if largest.Timestamp != messages.NoTimestamp && old.After(o.Now) {
			return max(from, s.Base()), old, nil
		}
	}
	return end, young, nil
}

// overdueAt is when the oldest record that is not compacted must be; zero: never.
func (l *Log) overdueAt(
	st *state, from, end messages.Offset, o *CompactOptions,
) (at time.Time, err error) {
	if o.MaxLag <= 0 {
		return at, nil
	}
	for _, s := range st.segments {
		if s.Next() <= from || s.Base() >= end {
			continue
		}
		first, err := s.FirstBatchTime()
		if err != nil {
			return at, err
		}
		if first != messages.NoTimestamp {
			at = sooner(at, time.UnixMilli(int64(first)).Add(o.MaxLag))
		}
	}
	return at, nil
}

// dirtyShare is the share of the bytes below end that lie behind from. Within a
// segment bytes are taken to be spread over its offsets evenly.
func dirtyShare(st *state, from, end messages.Offset) float64 {
	clean, dirty := 0.0, 0.0
	for _, s := range st.segments {
		if s.Base() >= end {
			break
		}
		size := float64(s.Size())
		offsets := float64(max(s.Next()-s.Base(), 1))
		below := func(o messages.Offset) float64 {
			return size * float64(min(max(o-s.Base(), 0), s.Next()-s.Base())) / offsets
		}
		clean += below(from)
		dirty += below(end) - below(from)
	}
	if dirty == 0 {
		return 0
	}
	return dirty / (clean + dirty)
}

// Swap takes what Clean made into the log, durably; with the last part the log
// counts as compacted up to there. Views that are out stay valid, and the files
// that are replaced go after FileDeleteDelay. Owner only.
//
// It fails with ErrStale when the log has been cut since, and with an
// *segment.IOError: then the log is as before, unless Failure says otherwise.
func (l *Log) Swap(c *Compaction) error {
	invariant.That(c.log == l, "%s: a compaction of %s", l.name, c.log.name)
	r := c.ready
	c.ready = nil
	err := l.writable()
	if err == nil && (c.generation != l.generation || r != nil && !l.holds(r.old)) {
		err = ErrStale
	}
	if err == nil && r != nil && r.with != nil && r.with.Next() > l.gaps.below {
		err = l.saveGaps(l.gaps.settled(r.with.Next()))
	}
	if err != nil {
		if r != nil && r.with != nil {
			r.with.Scrap()
		}
		return err
	}
	if r != nil {
		if err := l.swap(r, &c.stats); err != nil {
			return err
		}
	}
	if !c.More() {
		l.cleaned.Store(max(l.cleaned.Load(), int64(c.end)))
	}
	return nil
}

// swap puts what was cleaned in its place, if it is not what was there, and counts.
func (l *Log) swap(r *replacement, stats *CompactionStats) error {
	before := int64(0)
	for _, s := range r.old {
		before += s.Size()
	}
	after := before
	if r.with != nil {
		if err := l.replace(r); err != nil {
			return err
		}
		stats.Segments += len(r.old)
		after = r.with.Size()
	}
	stats.Before += before
	stats.After += after
	return nil
}

// holds reports whether segments stand in the log in a row, before the active one.
func (l *Log) holds(row []*segment.Segment) bool {
	all := l.state.Load().segments
	i := slices.Index(all, row[0])
	return i >= 0 && i+len(row) < len(all) && slices.Equal(all[i:i+len(row)], row)
}

// replace puts a cleaned segment in the place of others.
//
// The log file gets the suffix ".swap", durably: that decides it. Readers are
// shown the new segment, the files of the old ones get out of its way, durably,
// and it gets its name. Whatever a crash leaves of that, the next Open completes
// when it finds a ".swap".
//
// docs/flows/compaction.md: 6.
func (l *Log) replace(r *replacement) error {
	undone, err := r.with.Promote()
	if err != nil {
		if !undone {
			l.fail(err)
		}
		return err
	}
	l.update(func(st *state) {
		i := slices.Index(st.segments, r.old[0])
		st.segments = slices.Concat(st.segments[:i], []*segment.Segment{r.with},
			st.segments[i+len(r.old):])
	})
	for _, s := range r.old {
		if failed := s.Retire(l.cfg.FileDeleteDelay); failed != nil && err == nil {
			err = failed
		}
	}
	if err == nil {
		err = r.with.Settle()
	}
	if err != nil {
		l.fail(err) // the next Open completes it
	}
	return err
}

// finishSwaps completes the replacements that a crash interrupted. It reports
// whether there was one: the folder must be listed again then.
func (o *opening) finishSwaps(names []string) (bool, error) {
	l := o.log
	var swaps, logs []messages.Offset
	for _, name := range names {
		base, suffix, ok := segment.ParseFileName(name)
		switch {
		case ok && suffix == segment.LogSuffix:
			logs = append(logs, base)
		case ok && suffix == segment.LogSuffix+segment.SwapSuffix:
			swaps = append(swaps, base)
		}
	}
	for _, base := range swaps {
		gone, err := segment.FinishSwap(l.fsys, l.dir, base, logs)
		var damaged *CorruptError
		if errors.As(err, &damaged) {
			if err := o.setAsideSwap(base, damaged); err != nil {
				return true, err
			}
			continue
		}
		if err != nil {
			return true, err
		}
		logs = slices.DeleteFunc(logs, func(b messages.Offset) bool {
			return slices.Contains(gone, b)
		})
	}
	return len(swaps) > 0, nil
}

// setAsideSwap keeps a damaged replacement for the operator. It was whole once:
// the disk has failed, and what it replaced may be gone.
func (o *opening) setAsideSwap(base messages.Offset, damage error) error {
	name := segment.FileName(o.log.dir, base, segment.LogSuffix) + segment.SwapSuffix
	if err := o.log.fsys.Rename(name, name+damagedSuffix); err != nil {
		return &segment.IOError{Op: "rename", File: name, Err: err}
	}
	o.recovery.Damaged, o.recovery.Reason = true, damage.Error()
	o.recovery.TruncatedAt = base
	o.recovery.SetAside = append(o.recovery.SetAside, name+damagedSuffix)
	return nil
}
