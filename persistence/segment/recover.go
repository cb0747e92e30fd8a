package segment

import (
	"fmt"
	"math"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// pauseBytes is how much Recover scans between two calls of Check.Pause.
const pauseBytes = 4 << 20

// smallTail is how much behind the last batch Recover reads to see that it is but
// reserved space.
const smallTail = 64 << 10

// NoLimit is the Check.Limit of the last segment of a log.
const NoLimit = messages.Offset(math.MaxInt64)

// Header is the header of a record batch.
type Header = record.Header

// Check says what Recover expects of the batches of a segment.
type Check struct {
	From  messages.Offset // CRCs are checked from the batch that holds it on
	Limit messages.Offset // base of the next segment: batches from there on do not count
	// Gap, if not nil, reports whether the offsets from from up to to may be missing.
	Gap      func(from, to messages.Offset) bool
	MinEpoch messages.LeaderEpoch // of the batch before; epochs do not fall
	MaxEpoch messages.LeaderEpoch // the latest one ever assigned; NoEpoch: not known
	// EpochAt, if not nil, is the epoch that the records at an offset were last
	// said to be of. A batch of an earlier one was to be truncated.
	EpochAt func(messages.Offset) messages.LeaderEpoch
	Observe func(h *record.Header)
	Pause   func() // nil, or called every few MiB
}

// Checked is what Recover found.
type Checked struct {
	Size    int64           // bytes of good batches
	Next    messages.Offset // after the last of them
	File    int64           // size of the file
	Scanned int64           // bytes whose CRC was checked
	Epoch   messages.LeaderEpoch
	Reason  error // why the batch at Size is not good; nil: the file ends or is zero there

	unused bool // what is behind Size is nothing but zeros
}

// OpenActive takes up the last segment of a log that was closed cleanly: its
// files are complete, so only the batches behind the last index entry are
// looked at. It fails when anything is not as it should be; use Recover then.
func OpenActive(
	fsys vfs.FS, dir string, base messages.Offset, size int64, c *Cache, l Limits,
) (*Segment, error) {
	s := newSegment(fsys, dir, base, c)
	s.Limits = l
	s.reserved, s.synced = size, size
	s.indexed, s.indexSynced, s.sizeSynced = true, true, true
	t := &tail{next: base + math.MaxInt32, size: size}
	if size > 0 {
		_, m, err := s.handle.pinMapped(size)
		if err != nil {
			return nil, err
		}
		r := &Reader{s: s, t: t, m: m, window: pointWindow, hot: math.MaxInt64}
		full, err := s.readIndexes(r, t)
		r.Release()
		if err != nil {
			s.handle.release()
			return nil, err
		}
		t = full
		last, _ := entryBelow(t.offsets, size)
		s.sinceIndex = int(size) - int(last.Position)
	} else {
		t = emptyTail(base)
	}
	s.warmFrom.Store(t.size)
	s.tail.Store(t)
	return s, nil
}

// Recover takes up a segment whose end is not known, after a crash: it walks
// the batches from the start, checks them as c says, stops at the first that is
// not good and rebuilds the indexes of those before. Nothing behind a bad batch
// counts, whatever it looks like. The file is not changed; see Repair.
//
// The segment is open for writing. An error means the disk failed.
func Recover(
	fsys vfs.FS, dir string, base messages.Offset, size int64, cache *Cache, l Limits, c Check,
) (*Segment, Checked, error) {
	s := newSegment(fsys, dir, base, cache)
	s.Limits = l
	s.reserved, s.sizeSynced = size, true
	s.ForgetAborted() // the owner reads the markers again
	t := emptyTail(base)
	found := Checked{Next: base, File: size, Epoch: c.MinEpoch}
	if size > 0 {
		_, m, err := s.handle.pinMapped(size)
		if err != nil {
			return nil, found, err
		}
		r := &Reader{s: s, m: m, window: walkWindow, hot: math.MaxInt64,
			t: &tail{size: min(size, math.MaxInt32)}}
		err = guard(r, func() error {
			if err := s.scan(r, t, &c, &found); err != nil || found.Reason != nil {
				return err
			}
			if c.Limit != NoLimit {
				return nil // no appends will use what is reserved there
			}
			return found.look(r, t.size)
		})
		r.Release()
		if err != nil {
			return nil, found, err
		}
	}
	found.Size, found.Next = t.size, t.next
	s.dirtyTail = t.size < size && !found.unused
	s.warmFrom.Store(t.size)
	s.tail.Store(t)
	return s, found, nil
}

// look sees whether what is behind the batches was never written, if it is little.
// A partition that had a few records, as most have where there are thousands,
// then needs no cut, and no fdatasync, before it opens.
func (c *Checked) look(r *Reader, from int64) error {
	if from == r.t.size || r.t.size-from > smallTail || r.t.size != c.File {
		return nil
	}
	b, err := r.Bytes(from, r.t.size-from)
	c.unused = err == nil && allZero(b)
	return err
}

func (s *Segment) scan(r *Reader, t *tail, c *Check, found *Checked) error {
	paused := int64(0)
	for t.size < r.t.size {
		h, bad, err := s.checkBatch(r, t, c, found)
		if err != nil {
			return err
		}
		if h == nil {
			found.Reason = bad
			return nil
		}
		found.Epoch = h.LeaderEpoch
		s.note(t, h, t.size)
		if c.Observe != nil {
			c.Observe(h)
		}
		if c.Pause != nil && t.size-paused >= pauseBytes {
			paused = t.size
			c.Pause()
		}
	}
	return nil
}

// checkBatch examines the batch at the end of t. The header is nil at the end
// of the good batches, and bad then says what is wrong (nil: nothing more). err
// is a failure of the disk.
func (s *Segment) checkBatch(r *Reader, t *tail, c *Check, found *Checked) (
	h *record.Header, bad, err error,
) {
	left := r.t.size - t.size
	b, err := r.Bytes(t.size, min(left, record.HeaderSize))
	if err != nil {
		return nil, nil, err
	}
	if allZero(b) {
		return nil, nil, nil
	}
	head, err := record.ParseHeader(b)
	if err != nil {
		return nil, err, nil
	}
	switch {
	case head.BaseOffset >= c.Limit:
		return nil, nil, nil // truncated away: the next segment begins here
	case int64(head.Size()) > left:
		return nil, fmt.Errorf("a batch of %d bytes where %d are left", head.Size(), left), nil
	case head.BaseOffset < t.next || head.BaseOffset > t.next &&
		(c.Gap == nil || !c.Gap(t.next, head.BaseOffset)):
		return nil, fmt.Errorf("offset %d where %d is due", head.BaseOffset, t.next), nil
	case head.LastOffsetDelta < 0 || head.LastOffset()-s.base > math.MaxInt32 ||
		head.NextOffset() > c.Limit:
		return nil, fmt.Errorf("last offset delta %d is out of range", head.LastOffsetDelta), nil
	case head.LeaderEpoch < found.Epoch:
		return nil, fmt.Errorf("leader epoch falls from %d to %d", found.Epoch, head.LeaderEpoch), nil
	case c.EpochAt != nil && head.LeaderEpoch < c.EpochAt(head.BaseOffset):
		return nil, fmt.Errorf("epoch %d where epoch %d stood: a truncation was not finished",
			head.LeaderEpoch, c.EpochAt(head.BaseOffset)), nil
	case c.MaxEpoch != messages.NoEpoch && head.LeaderEpoch > c.MaxEpoch:
		return nil, fmt.Errorf("leader epoch %d was never assigned", head.LeaderEpoch), nil
	}
	if head.LastOffset() < c.From {
		return &head, nil, nil
	}
	if b, err = r.Bytes(t.size, int64(head.Size())); err != nil {
		return nil, nil, err
	}
	found.Scanned += int64(head.Size())
	if _, _, err := record.Parse(b); err != nil {
		return nil, err, nil
	}
	return &head, nil, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// Repair cuts the file of a recovered segment to its good batches and makes the
// cut durable, so that bytes behind it can never come back as batches. It does
// nothing when the file ends with them, or with a little reserved space, which the
// next appends use. Only for segments no reader has seen.
func (s *Segment) Repair() error {
	if !s.dirtyTail {
		return nil
	}
	if err := s.trim(); err != nil {
		return err
	}
	return s.Sync()
}

// MarkSynced notes what is known to survive a power cut from an earlier life:
// the batches that end at or below offset.
func (s *Segment) MarkSynced(offset messages.Offset) error {
	if offset >= s.Next() {
		s.synced = s.Size()
		return nil
	}
	r, err := s.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	s.synced, err = r.Find(offset)
	return err
}
