package commitlog

import (
	"errors"
	"fmt"
	"sort"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
)

// fileExtentMin is the size from which an extent of a View is a range of the
// file: below it copying beats sendfile.
const fileExtentMin = 8 << 10 // bytes

// readRetries bounds how often a read begins again because the owner deleted or
// truncated a segment under it; each time takes another such change.
const readRetries = 16

// Read returns the batches from the one that holds the offset from up to those
// that end at or below limit, in at most maxBytes bytes: whole batches, as they
// were appended. With minOne the first batch is returned even if it is larger
// (KIP-74). The View is empty if from is at limit. The caller must Release it.
//
// It fails with messages.ErrOffsetOutOfRange if from is below Start or above
// End, and with an error of the disk. CRCs are not checked again.
func (l *Log) Read(from, limit messages.Offset, maxBytes int, minOne bool) (messages.View, error) {
	var view messages.View
	err := l.retrying(func(st *state) (err error) {
		v := &lease{}
		view, err = l.read(v, st, from, limit, int64(maxBytes), minOne)
		return err
	})
	return view, err
}

// retrying calls f with the current state, again when a segment of it was
// retired meanwhile.
func (l *Log) retrying(f func(st *state) error) error {
	for range readRetries {
		st := l.state.Load()
		err := f(st)
		if !errors.Is(err, segment.ErrRetired) {
			return err
		}
		if failed := l.failure.Load(); failed != nil && errors.Is(*failed, ErrClosed) {
			return *failed
		}
	}
	return fmt.Errorf("%s changes faster than it can be read: %w", l.name, messages.ErrUnavailable)
}

func (l *Log) read(
	v *lease, st *state, from, limit messages.Offset, maxBytes int64, minOne bool,
) (messages.View, error) {
	end := st.end()
	if from < st.start || from > end {
		return messages.View{}, fmt.Errorf("%s: offset %d, log has %d to %d: %w", l.name, from,
			st.start, end, messages.ErrOffsetOutOfRange)
	}
	limit = min(limit, end)
	if from >= limit {
		return messages.View{}, nil
	}
	for i := st.holding(from); i < len(st.segments); i++ {
		s := st.segments[i]
		if s.Base() >= limit {
			break
		}
		n, whole, err := v.take(s, from, limit, maxBytes, minOne)
		if err != nil {
			v.release()
			return messages.View{}, err
		}
		maxBytes -= n
		minOne = minOne && n == 0
		if !whole {
			break
		}
	}
	return v.view(), nil
}

// holding returns the index of the segment that holds offset.
func (s *state) holding(offset messages.Offset) int {
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].Base() > offset })
	return max(i-1, 0)
}

// lease is the segments a View uses, and its extents. Most Views have one.
type lease struct {
	first   [1]messages.Extent
	one     [1]*segment.Reader
	extents []messages.Extent
	readers []*segment.Reader
	bytes   int
	more    bool            // maxBytes left something out
	bounded bool            // next is wanted
	next    messages.Offset // after the last batch
}

// take adds what s has of the range. whole is true if that reaches the
// segment's end, so that the range may go on in the next one.
func (v *lease) take(
	s *segment.Segment, from, limit messages.Offset, maxBytes int64, minOne bool,
) (n int64, whole bool, err error) {
	r, err := s.Acquire()
	if err != nil {
		return 0, false, err
	}
	start, end, full, err := r.Range(from, limit, maxBytes, minOne)
	v.more = v.more || end < full
	if err != nil || start == end {
		atEnd := err == nil && start == r.Size()
		r.Release()
		return 0, atEnd, err
	}
	if v.bounded {
		if v.next, err = offsetAt(r, end); err != nil {
			r.Release()
			return 0, false, err
		}
	}
	n = end - start
	x := messages.Extent{Pos: start, Len: int(n)}
	if n < fileExtentMin {
		if x.Mem, err = r.Bytes(start, n); err != nil {
			r.Release()
			return 0, false, err
		}
	} else {
		x.File = r.File()
	}
	if v.extents == nil {
		v.extents, v.readers = v.first[:0], v.one[:0]
	}
	v.extents = append(v.extents, x)
	v.readers = append(v.readers, r)
	v.bytes += int(n)
	return n, end == r.Size(), nil
}

func (v *lease) view() messages.View {
	if v.bytes == 0 {
		return messages.View{More: v.more}
	}
	return messages.View{Extents: v.extents, Bytes: v.bytes, More: v.more, Done: v.release}
}

func (v *lease) release() {
	for _, r := range v.readers {
		r.Release()
	}
	v.readers = nil
}
