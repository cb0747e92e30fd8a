package commitlog

import (
	"errors"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
)

// Flush is the work of making a log durable up to an offset: the owner prepares
// it, any goroutine runs it, the owner is told. The owner appends on meanwhile.
type Flush struct {
	log        *Log
	end        messages.Offset
	generation int
	points     []segment.SyncPoint
	segments   []*segment.Segment
}

// End is the offset the log is durable up to when Run succeeds.
func (f *Flush) End() messages.Offset { return f.end }

// Run syncs the files, on any goroutine. After a failure, an *segment.IOError,
// the log takes no more appends: the kernel may have dropped what it could not
// write, and a second sync would succeed without it.
//
// Flushes of a log wait for each other, and fail with messages.ErrStorage after
// one that failed: the kernel reports a failed write-out to one sync of an open
// file only, and that of another flush would not hear of it.
func (f *Flush) Run() error {
	f.log.syncing.Lock()
	defer f.log.syncing.Unlock()
	if err := f.log.writable(); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	if err := f.run(); err != nil {
		f.log.fail(err)
		return err
	}
	return nil
}

func (f *Flush) run() error {
	names := false
	for _, p := range f.points {
		if err := p.Run(); err != nil {
			return err
		}
		names = names || p.NewNames()
	}
	if !names {
		return nil
	}
	if err := f.log.fsys.SyncDir(f.log.dir); err != nil {
		return &segment.IOError{Op: "sync folder", File: f.log.dir, Err: err}
	}
	return nil
}

// PrepareFlush captures what is not durable now; false if there is nothing.
// Owner only.
func (l *Log) PrepareFlush() (Flush, bool) {
	if !l.touched {
		return Flush{}, false
	}
	st := l.state.Load()
	f := Flush{log: l, end: l.finishedTo(st), generation: l.generation}
	for _, s := range st.segments {
		if s.Dirty() {
			f.points = append(f.points, s.Prepare())
			f.segments = append(f.segments, s)
		}
	}
	if len(f.points) == 0 {
		if l.settleGaps(f.end) != nil {
			return Flush{}, false // a recovery that starts there must know its gaps
		}
		l.touched = f.end < st.end()
		l.durable.Store(max(l.durable.Load(), int64(f.end)))
		return Flush{}, false
	}
	return f, true
}

// Flushed takes note that f.Run succeeded. Owner only.
func (l *Log) Flushed(f Flush) {
	if f.generation != l.generation {
		return // the log was truncated meanwhile: its end may lie elsewhere now
	}
	for i, s := range f.segments {
		s.Synced(f.points[i])
	}
	if int64(f.end) > l.durable.Load() {
		if l.settleGaps(f.end) != nil {
			return // a recovery that starts there must know its gaps; the next one tries again
		}
		l.durable.Store(int64(f.end))
	}
	if f.end >= l.truncated.until {
		// The file is only in the way of a shorter recovery.
		_ = l.clearTruncation()
	}
}
