package segment

import (
	"errors"
	"fmt"
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Fits reports whether a batch can be stored: its offsets and position are kept
// in 31 bits.
func (s *Segment) Fits(b *record.Batch) bool {
	return b.LastOffset()-s.base <= math.MaxInt32 && s.Size()+int64(len(b.Bytes)) <= math.MaxInt32
}

// Write stores batches behind the committed end, in one or more gathered
// writes. They become visible with Commit. It returns an *IOError, and then the
// segment is as before: what part reached the file is cut off again, now or
// before the next Write.
func (s *Segment) Write(batches []record.Batch) error {
	at := s.Size()
	end := at
	for i := range batches {
		end += int64(len(batches[i].Bytes))
	}
	if end > math.MaxInt32 {
		return fmt.Errorf("%s: %w", s.Name(), ErrOffsetSpace)
	}
	f, err := s.handle.pin()
	if err != nil {
		return err
	}
	defer s.handle.unpin(nil)
	if err := s.clean(f, at); err != nil {
		return err
	}
	if err := s.reserve(f, end); err != nil {
		return err
	}
	if err := s.writev(f, batches, at); err != nil {
		s.dirtyTail = true
		_ = s.clean(f, at) // else before the next write, which reports it
		return err
	}
	return nil
}

// Discard takes back a Write that is not going to be committed.
func (s *Segment) Discard() {
	s.dirtyTail = true
	if f, err := s.handle.pin(); err == nil {
		_ = s.clean(f, s.Size()) // else before the next write, which reports it
		s.handle.unpin(nil)
	}
}

// Closed reports whether the segment takes no more writes. Owner only.
func (s *Segment) Closed() bool { return s.closed }

// clean cuts off what a failed write left behind the committed end. No reader
// was ever given those bytes.
func (s *Segment) clean(f vfs.File, at int64) error {
	if !s.dirtyTail {
		return nil
	}
	if err := f.Truncate(at); err != nil {
		return ioError("truncate", s.Name(), at, err)
	}
	s.reserved, s.dirtyTail = at, false
	return nil
}

func (s *Segment) writev(f vfs.File, batches []record.Batch, at int64) error {
	for len(batches) > 0 {
		size := 0
		bufs := s.gather[:0]
		for len(batches) > 0 && len(bufs) < gatherBuffers {
			b := batches[0].Bytes
			if len(bufs) > 0 && size+len(b) > gatherMax {
				break
			}
			bufs, size, batches = append(bufs, b), size+len(b), batches[1:]
		}
		n, err := f.Writev(bufs, at)
		clear(bufs)
		s.gather = bufs[:0]
		if err != nil {
			return ioError("append", s.Name(), at+n, err)
		}
		at += int64(size)
	}
	return nil
}

// reserve makes the file at least need bytes long, in growing steps. When the
// disk cannot give a whole step the bytes needed now are tried alone.
func (s *Segment) reserve(f vfs.File, need int64) error {
	if need <= s.reserved {
		return nil
	}
	want := s.reserved + min(max(s.reserved, firstStep), maxStep)
	if s.Preallocate {
		want = s.Bytes
	}
	want = max(need, min(max(want, (need+firstStep-1)/firstStep*firstStep), s.Bytes))
	err := f.Allocate(want)
	if errors.Is(err, vfs.ErrNoSpace) && want > need {
		want = need
		err = f.Allocate(want)
	}
	if err != nil {
		return ioError("allocate", s.Name(), want, err)
	}
	s.reserved = want
	return nil
}

// Commit makes the batches of the last Write visible. It cannot fail.
func (s *Segment) Commit(batches []record.Batch) {
	t := *s.tail.Load()
	from := t.size
	for i := range batches {
		s.note(&t, &batches[i].Header, t.size)
	}
	if t.size > s.reserved { // not in the call: its arguments would be allocated each time
		invariant.That(false, "%s: committed %d of %d bytes", s.Name(), t.size, s.reserved)
	}
	s.indexed, s.indexSynced = false, false
	s.sinceWrite += t.size - from
	s.tail.Store(&t)
	s.writeBehind(t.size)
}

// note adds a batch at the end of t, whose slices only grow.
func (s *Segment) note(t *tail, h *record.Header, at int64) {
	if h.BaseOffset < t.next {
		invariant.That(false, "%s: batch at offset %d after %d", s.Name(), h.BaseOffset, t.next)
	}
	if at == 0 {
		t.first = h.MaxTimestamp
	}
	if h.MaxTimestamp > t.largest.Timestamp && h.Count > 0 {
		t.largest = Stamp{h.MaxTimestamp, h.LastOffset()}
	}
	if s.sinceIndex > s.IndexInterval {
		last := int32(h.LastOffset() - s.base)
		t.offsets = append(t.offsets, OffsetEntry{Offset: last, Position: int32(at)})
		s.noteTime(t)
		s.sinceIndex = 0
	}
	s.sinceIndex += h.Size()
	t.size = at + int64(h.Size())
	t.next = h.NextOffset()
}

func (s *Segment) noteTime(t *tail) {
	last := messages.NoTimestamp
	if n := len(t.times); n > 0 {
		last = t.times[n-1].Timestamp
	}
	if t.largest.Timestamp > last {
		e := TimeEntry{Timestamp: t.largest.Timestamp, Offset: int32(t.largest.Offset - s.base)}
		t.times = append(t.times, e)
	}
}

// writeBehind has what was appended written out, every MiB, so that a later Sync is short.
func (s *Segment) writeBehind(end int64) {
	if s.sinceWrite >= writeBehindStep {
		s.handle.cache.outs.add(s.handle, end-s.sinceWrite, s.sinceWrite)
		s.sinceWrite = 0
	}
}
