package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Windows of bytes brought into memory in one system call before they are
// touched: a page fault would stop a whole scheduler processor for the time of
// a disk read, a system call does not.
const (
	pointWindow = 8 << 10 // for a search from an index entry
	walkWindow  = 1 << 20 // for a walk through all headers
)

// Reader is one use of a segment: the file open and mapped, and what was
// committed when it was acquired. It has one user at a time.
type Reader struct {
	s      *Segment
	t      *tail
	file   vfs.File
	m      *mapping
	lo, hi int64 // touched range: in memory
	hot    int64 // from here on bytes were written lately: in memory
	window int64
}

// Acquire gives a Reader, which must be released. It fails with ErrRetired, an
// *IOError or a *CorruptError.
func (s *Segment) Acquire() (*Reader, error) {
	t := s.tail.Load()
	file, m, err := s.handle.pinMapped(t.size)
	if err != nil {
		return nil, err
	}
	r := &Reader{s: s, t: t, file: file, m: m, window: pointWindow, hot: math.MaxInt64}
	if !t.loaded {
		if r.t, err = s.loadIndexes(r); err != nil {
			r.Release()
			return nil, err
		}
		return r, nil
	}
	r.hot = max(s.warmFrom.Load(), t.size-warmBytes)
	return r, nil
}

// Release ends the use. The Reader's bytes must not be touched after it.
func (r *Reader) Release() {
	r.s.handle.unpin(r.m)
	r.m = nil
}

// File is the open file, for reads by system call until Release.
func (r *Reader) File() vfs.File { return r.file }

// Size is the number of bytes the Reader may read.
func (r *Reader) Size() int64 { return r.t.size }

// Next is the offset after the last record the Reader may read.
func (r *Reader) Next() messages.Offset { return r.t.next }

// Bytes returns a range of the mapping, in memory when it returns. It is valid
// until Release.
func (r *Reader) Bytes(pos, n int64) ([]byte, error) {
	if pos < 0 || n < 0 || pos+n > r.t.size {
		return nil, r.corrupt(pos, fmt.Errorf("%d bytes reach beyond the end at %d", n, r.t.size))
	}
	if err := r.touch(pos, n); err != nil {
		return nil, err
	}
	return r.m.bytes[pos : pos+n : pos+n], nil
}

// touch brings a range into memory.
func (r *Reader) touch(pos, n int64) error {
	if pos >= r.hot || (pos >= r.lo && pos+n <= r.hi) {
		return nil
	}
	n = min(max(n, r.window), r.t.size-pos)
	if err := r.m.Populate(pos, n); err != nil {
		return ioError("read", r.s.Name(), pos, err)
	}
	r.lo, r.hi = pos, pos+n
	return nil
}

func (r *Reader) corrupt(pos int64, err error) error {
	return &CorruptError{File: r.s.Name(), At: pos, Offset: messages.NoOffset, Err: err}
}

// Header parses the batch header at pos, which must be where a batch starts and
// below Size.
func (r *Reader) Header(pos int64) (record.Header, error) {
	b, err := r.Bytes(pos, record.HeaderSize)
	if err != nil {
		return record.Header{}, err
	}
	h, err := record.ParseHeader(b)
	switch {
	case err != nil:
		return h, r.corrupt(pos, err)
	case pos+int64(h.Size()) > r.t.size:
		return h, r.corrupt(pos, fmt.Errorf("a batch of %d bytes reaches beyond the end at %d",
			h.Size(), r.t.size))
	case h.BaseOffset < r.s.base || h.LastOffsetDelta < 0:
		return h, r.corrupt(pos, fmt.Errorf("batch of offsets %d to %d", h.BaseOffset, h.LastOffset()))
	}
	return h, nil
}

// Batch returns the batch at pos, aliasing the mapping. Its CRC is not checked.
func (r *Reader) Batch(pos int64) (record.Batch, error) {
	h, err := r.Header(pos)
	if err != nil {
		return record.Batch{}, err
	}
	b, err := r.Bytes(pos, int64(h.Size()))
	return record.Batch{Header: h, Bytes: b}, err
}

// Walk calls f for the header of each batch from pos on until f returns false
// or the end is reached.
func (r *Reader) Walk(pos int64, f func(pos int64, h record.Header) bool) error {
	return guard(r, func() error {
		for pos < r.t.size {
			h, err := r.Header(pos)
			if err != nil {
				return err
			}
			if !f(pos, h) {
				return nil
			}
			pos += int64(h.Size())
		}
		return nil
	})
}

// Find returns the position of the first batch whose last offset is at or above
// offset; Size when there is none.
func (r *Reader) Find(offset messages.Offset) (int64, error) {
	if offset >= r.t.next {
		return r.t.size, nil
	}
	from, err := r.start(offset)
	if err != nil {
		return 0, err
	}
	found := r.t.size
	err = r.Walk(from, func(pos int64, h record.Header) bool {
		if h.LastOffset() >= offset {
			found = pos
			return false
		}
		return true
	})
	return found, err
}

// start returns where to begin a walk to the batch that holds offset.
func (r *Reader) start(offset messages.Offset) (int64, error) {
	return r.indexed(func(t *tail) (OffsetEntry, bool) {
		return entryFor(t.offsets, int64(offset-r.s.base))
	})
}

// indexed looks up an index entry and returns its position, 0 if there is none.
// An index file is believed only where the log agrees: if another batch stands
// at the entry's position, the indexes are built anew.
func (r *Reader) indexed(lookup func(*tail) (OffsetEntry, bool)) (int64, error) {
	e, ok := lookup(r.t)
	if !ok {
		return 0, nil
	}
	if r.agrees(e) {
		return int64(e.Position), nil
	}
	fresh, err := r.s.rebuild(r, r.t.size, r.t.next)
	if err != nil {
		return 0, err
	}
	// If the owner has changed the segment meanwhile, the new indexes serve
	// this Reader alone.
	r.s.tail.CompareAndSwap(r.t, fresh)
	r.t = fresh
	e, _ = lookup(fresh)
	return int64(e.Position), nil
}

func (r *Reader) agrees(e OffsetEntry) (ok bool) {
	err := guard(r, func() error {
		h, err := r.Header(int64(e.Position))
		ok = err == nil && h.LastOffset() == r.s.base+messages.Offset(e.Offset)
		return nil
	})
	return ok && err == nil
}

// Range returns the positions of the whole batches from the one that holds from
// up to those that end at or below limit, at most maxBytes long; the first
// batch is included even when it is longer if minOne is set. full is where the
// range would end without maxBytes.
func (r *Reader) Range(from, limit messages.Offset, maxBytes int64, minOne bool) (
	start, end, full int64, err error,
) {
	if start, err = r.Find(from); err != nil {
		return 0, 0, 0, err
	}
	if full, err = r.Find(limit); err != nil {
		return 0, 0, 0, err
	}
	full = max(start, full)
	if full-start <= maxBytes {
		return start, full, full, nil
	}
	top := start + maxBytes
	near, err := r.indexed(func(t *tail) (OffsetEntry, bool) { return entryBelow(t.offsets, top) })
	if err != nil {
		return 0, 0, 0, err
	}
	end = start
	err = r.Walk(max(start, near), func(pos int64, h record.Header) bool {
		end = pos
		if after := pos + int64(h.Size()); after <= top && after <= full {
			end = after
			return true
		}
		return false
	})
	if err == nil && end == start && minOne {
		var h record.Header
		h, err = r.Header(start)
		end = start + int64(h.Size())
	}
	return start, end, full, err
}

// After returns the position from which a search for a record as late as t, and
// at or above offset from, must start.
func (r *Reader) After(t messages.Timestamp, from messages.Offset) (int64, error) {
	return r.start(max(r.s.base+messages.Offset(offsetFor(r.t.times, t)), from))
}

// loadIndexes reads the index files of a sealed segment, or builds the indexes
// anew from the log when a file is missing or wrong. It also finds the end: the
// file may go on with what was truncated away, where the base of the next
// segment is reached.
func (s *Segment) loadIndexes(r *Reader) (*tail, error) {
	s.load.Lock()
	defer s.load.Unlock()
	t := s.tail.Load()
	if t.loaded {
		return t, nil
	}
	full, err := s.readIndexes(r, t)
	if err != nil {
		full, err = s.rebuild(r, t.size, t.next)
	}
	if err != nil {
		return nil, err
	}
	full.next = t.next // there may be a gap before the next segment
	if !s.tail.CompareAndSwap(t, full) {
		return nil, ErrRetired // the owner has changed the segment: begin again
	}
	return full, nil
}

// readIndexes checks the index files against each other and the batches behind
// the last entry.
func (s *Segment) readIndexes(r *Reader, t *tail) (*tail, error) {
	next := int64(t.next - s.base)
	b, err := vfs.ReadFile(s.fsys, FileName(s.dir, s.base, IndexSuffix))
	if err != nil {
		return nil, err
	}
	full := &tail{next: t.next, size: t.size, loaded: true, largest: noStamp(s.base)}
	if full.offsets, err = DecodeOffsets(b, next, t.size); err != nil {
		return nil, err
	}
	if b, err = vfs.ReadFile(s.fsys, FileName(s.dir, s.base, TimeIndexSuffix)); err != nil {
		return nil, err
	}
	if full.times, err = DecodeTimes(b, next); err != nil {
		return nil, err
	}
	if n := len(full.times); n > 0 {
		last := full.times[n-1]
		full.largest = Stamp{last.Timestamp, s.base + messages.Offset(last.Offset)}
	}
	if t.size == 0 {
		return full, nil
	}
	if h, err := r.Header(0); err != nil {
		return nil, err
	} else {
		full.first = h.MaxTimestamp
	}
	return full, s.checkTail(r, full)
}

// checkTail walks from the last index entry to the end.
func (s *Segment) checkTail(r *Reader, t *tail) error {
	from := int64(0)
	if n := len(t.offsets); n > 0 {
		last := t.offsets[n-1]
		from = int64(last.Position)
		h, err := r.Header(from)
		if err != nil {
			return err
		}
		if h.LastOffset() != s.base+messages.Offset(last.Offset) {
			return r.corrupt(from, errors.New("the offset index points to another batch"))
		}
	}
	next := t.next
	err := r.Walk(from, func(pos int64, h record.Header) bool {
		t.size, t.next = pos+int64(h.Size()), h.NextOffset()
		if h.MaxTimestamp > t.largest.Timestamp && h.Count > 0 {
			t.largest = Stamp{h.MaxTimestamp, h.LastOffset()}
		}
		return t.next < next // what follows was truncated away
	})
	if err == nil && t.next > next {
		err = r.corrupt(t.size, fmt.Errorf("batches end at offset %d, beyond %d", t.next, next))
	}
	return err
}

// rebuild makes the indexes from the batches in the first size bytes, up to the
// one that ends at next. The state of the running segment is not touched.
func (s *Segment) rebuild(r *Reader, size int64, next messages.Offset) (*tail, error) {
	walk := &Reader{s: s, m: r.m, t: &tail{size: size, next: next}, window: walkWindow,
		hot: math.MaxInt64}
	scratch := &Segment{base: s.base, Limits: s.Limits, dir: s.dir}
	t := emptyTail(s.base)
	disorder := false
	err := walk.Walk(0, func(pos int64, h record.Header) bool {
		disorder = h.BaseOffset < t.next || h.NextOffset() > next
		if !disorder {
			scratch.note(t, &h, pos)
		}
		return !disorder && t.next < next // what follows was truncated away
	})
	if err == nil && disorder {
		err = r.corrupt(t.size, fmt.Errorf("offset %d is not followed by the next", t.next))
	}
	if err != nil {
		return nil, err
	}
	scratch.noteTime(t)
	t.next = next
	return t, nil
}

// LargestTimestamp is the largest timestamp of the committed records. Of a
// segment whose indexes are not loaded it reads the time index's last entry.
func (s *Segment) LargestTimestamp() (Stamp, error) {
	t := s.tail.Load()
	if t.loaded || t.largest.Timestamp != messages.NoTimestamp || t.size == 0 {
		return t.largest, nil
	}
	r, err := s.Acquire()
	if err != nil {
		return Stamp{}, err
	}
	defer r.Release()
	return r.t.largest, nil
}

// HasIndexFiles reports whether both index files are there.
func (s *Segment) HasIndexFiles() bool {
	for _, suffix := range []string{IndexSuffix, TimeIndexSuffix} {
		_, err := s.fsys.Stat(FileName(s.dir, s.base, suffix))
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}
