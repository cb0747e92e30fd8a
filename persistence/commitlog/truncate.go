package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// truncationFile lowers the recovery point after a truncation. The node's own
// checkpoint may still name an offset above the new end; once other records
// stand there, a recovery that believed it would not check them.
const truncationFile = "truncation-point"

// truncation is the content of the truncation file: the log was truncated to at
// when records below until were durable. The zero value stands for none.
type truncation struct{ at, until messages.Offset }

// noteTruncation lowers the recovery point to at; what the node has saved may
// be as high as until.
func (l *Log) noteTruncation(at, until messages.Offset) error {
	t := truncation{at: at, until: max(until, l.truncated.until)}
	if l.truncated.until > 0 {
		t.at = min(at, l.truncated.at)
	}
	if t.at >= t.until {
		return nil
	}
	name := path.Join(l.dir, truncationFile)
	content := fmt.Appendf(nil, "0\n1\n%d\n", t.at)
	if err := segment.ReplaceFile(l.fsys, name, content); err != nil {
		return err
	}
	l.truncated = t
	return nil
}

func (l *Log) clearTruncation() error {
	if l.truncated.until == 0 {
		return nil
	}
	name := path.Join(l.dir, truncationFile)
	if err := l.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &segment.IOError{Op: "remove", File: name, Err: err}
	}
	l.truncated = truncation{}
	return nil
}

// readTruncation returns the offset of the truncation file; found is false if
// there is none. An unreadable one stands for the start of the log.
func readTruncation(fsys vfs.FS, dir string) (at messages.Offset, found bool, err error) {
	b, err := vfs.ReadFile(fsys, path.Join(dir, truncationFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, &segment.IOError{Op: "read", File: path.Join(dir, truncationFile), Err: err}
	}
	lines, err := checkpointLines(b)
	if err != nil || len(lines) != 1 {
		return 0, true, nil //nolint:nilerr // it cannot be read
	}
	n, err := strconv.ParseInt(lines[0], 10, 64)
	if err != nil || n < 0 {
		return 0, true, nil //nolint:nilerr // it cannot be read
	}
	return messages.Offset(n), true, nil
}

// TruncateTo removes the records from end on, whole batches: when end lies
// inside a batch that batch goes too, so that End may come out lower, but not
// below Start. It is durable when TruncateTo returns. Views of the removed records stay valid.
//
// An end at or above End changes nothing; one below Start empties the log and
// starts it there. After an error the log may end anywhere
// between; call it again, or open the log anew.
func (l *Log) TruncateTo(end messages.Offset) error {
	if err := l.writable(); err != nil {
		return err
	}
	st := l.state.Load()
	if end >= st.end() && (len(st.segments) == 0 || st.active() != nil) {
		return nil
	}
	if len(st.segments) == 0 || end <= st.start {
		return l.restartAt(end)
	}
	i := st.holding(min(end, st.end()))
	at, end, err := cutPoint(st.segments[i], end)
	if err != nil {
		return err
	}
	if end <= st.start {
		// Nothing readable is left. A segment that holds only what lies below
		// the start would look like one that lost its records.
		return l.restartAt(st.start)
	}
	if err := l.noteTruncation(end, l.Durable()); err != nil {
		return err
	}
	if err := l.cutGaps(end); err != nil {
		return err
	}
	l.truncating(end)
	l.retire(i + 1)
	last := l.state.Load().segments[i]
	if at == 0 {
		l.retire(i)
	} else if err := last.Cut(at, end); err != nil {
		return err
	}
	l.update(func(st *state) { st.origin = end })
	return l.truncatedTo(end)
}

// cutPoint returns where in s the batches that end at or below end end, and the
// offset after the last of them.
func cutPoint(s *segment.Segment, end messages.Offset) (at int64, next messages.Offset, err error) {
	r, err := s.Acquire()
	if err != nil {
		return 0, 0, err
	}
	defer r.Release()
	next = s.Base()
	err = r.Walk(0, func(pos int64, h segment.Header) bool {
		if h.NextOffset() > end {
			return false
		}
		at, next = pos+int64(h.Size()), h.NextOffset()
		return true
	})
	return at, next, err
}

// truncating lowers what is claimed to be durable.
func (l *Log) truncating(end messages.Offset) {
	l.touched, l.changed = true, true
	l.generation++
	l.durable.Store(min(l.durable.Load(), int64(end)))
	l.cleaned.Store(min(l.cleaned.Load(), int64(end)))
}

// retire deletes the segments from index i on, the last first: whenever it is
// interrupted, what is left has no hole.
func (l *Log) retire(i int) {
	gone := l.state.Load().segments[i:]
	l.update(func(st *state) { st.segments = st.segments[:i:i] })
	for k := len(gone) - 1; k >= 0; k-- {
		l.discard(gone[k])
	}
}

// discard deletes one segment that is in the state no more.
func (l *Log) discard(s *segment.Segment) {
	// A file that cannot be renamed is found by the next Open, which decides
	// by the log's start and end what to do with it.
	_ = s.Retire(l.cfg.FileDeleteDelay)
}

// truncatedTo begins a segment at the new end, which makes the truncation
// durable, and brings epochs and producers in line.
func (l *Log) truncatedTo(end messages.Offset) error {
	l.dropSnapshots(func(at messages.Offset) bool { return at > end })
	s, err := l.create(end)
	if err != nil {
		return err
	}
	l.update(func(st *state) {
		n := len(st.segments)
		st.segments = append(st.segments[:n:n], s)
	})
	st := l.state.Load()
	if epochs := st.epochs.truncateEnd(end); len(epochs) != len(st.epochs) {
		if err := l.saveEpochs(epochs); err != nil {
			return err
		}
	}
	return l.rebuildState(nothingMissing)
}

// TruncateFullyAndStartAt removes all records and begins anew at start: a
// follower whose log lies wholly outside its leader's. It is durable when
// it returns.
func (l *Log) TruncateFullyAndStartAt(start messages.Offset) error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.restartAt(start)
}

// restartAt empties the log and begins it anew at an offset.
func (l *Log) restartAt(start messages.Offset) error {
	if err := l.noteTruncation(min(start, l.Durable()), l.Durable()); err != nil {
		return err
	}
	if err := l.cutGaps(start); err != nil {
		return err
	}
	l.truncating(start)
	l.retire(0)
	l.update(func(st *state) { st.origin, st.start = start, start })
	l.dropSnapshots(func(messages.Offset) bool { return true })
	if err := l.saveEpochs(nil); err != nil {
		return err
	}
	if err := l.truncatedTo(start); err != nil {
		return err
	}
	l.durable.Store(int64(start))
	return nil
}
