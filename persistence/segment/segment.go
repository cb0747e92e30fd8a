package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/persistence/vfs"
)

const (
	firstStep       = 4 << 10   // bytes reserved for a new segment: many get a record or two
	maxStep         = 64 << 20  // bytes reserved at once, at most
	gatherMax       = 256 << 10 // bytes of one gathered write, unless one batch has more
	gatherBuffers   = 64        // batches of one gathered write
	writeBehindStep = 1 << 20   // bytes whose write-out is started in one short call
	warmBytes       = 8 << 20   // bytes before the end taken to be in memory
)

var errShrunk = fmt.Errorf("%w: it is shorter than what was written to it", ErrFault)

// Limits are the settings of a segment its owner may change at any time.
type Limits struct {
	Bytes         int64 // the size the log rolls at: nothing is reserved beyond it
	IndexInterval int   // bytes between index entries, at least
	Preallocate   bool  // reserve all of Bytes at once
}

// Segment is one file of a partition's log with its indexes.
//
// One goroutine, the owner, calls Write, Commit, Seal, Cut and the like. Any
// goroutine may call Base, Next, Size, Largest and Acquire at any time.
//
// Invariants: base <= next; committed bytes never change; synced <= committed.
type Segment struct {
	fsys   vfs.FS
	dir    string
	base   messages.Offset
	handle *handle
	tail   atomic.Pointer[tail] // what readers see
	load   sync.Mutex           // held while the indexes of a sealed segment are loaded
	// warmFrom is where this process began to write: what is before may be cold.
	warmFrom atomic.Int64
	sealed   atomic.Bool // and its indexes are on disk, so that memory may forget them
	// aborted is the transaction index; nil: not loaded.
	aborted atomic.Pointer[[]data.EndedTxn]

	// The owner's.
	Limits
	reserved    int64 // size of the file; bytes from the committed end on are zeros
	dirtyTail   bool  // a failed write may have left bytes behind the committed end
	sinceIndex  int   // bytes committed since the last index entry
	sinceWrite  int64 // bytes committed since write-out was last started
	synced      int64 // bytes that survive a power cut
	cut         bool  // the file has bytes beyond the committed end which must stay there
	indexed     bool  // the index files hold what the indexes in memory do
	indexSynced bool
	sizeSynced  bool // the cut at the end of the committed bytes survives a power cut
	closed      bool // no more writes
	txnFile     bool // there may be a transaction index file
	txnStale    bool // and it is not what memory has
	txnSynced   bool // and it survives a power cut
	gather      [][]byte
}

// tail is what readers may see of a segment. It is immutable; slices grow only
// behind the lengths published here.
type tail struct {
	next    messages.Offset // after the last record
	size    int64           // committed bytes
	first   messages.Timestamp
	largest Stamp
	offsets []OffsetEntry
	times   []TimeEntry
	loaded  bool // offsets, times, first and largest are known
}

// Stamp is the largest timestamp of some records, and the last offset of the
// first batch that has it. Timestamp is NoTimestamp when there is none.
type Stamp struct {
	Timestamp messages.Timestamp
	Offset    messages.Offset
}

func newSegment(fsys vfs.FS, dir string, base messages.Offset, c *Cache) *Segment {
	s := &Segment{fsys: fsys, dir: dir, base: base}
	s.handle = &handle{cache: c, fsys: fsys, name: FileName(dir, base, LogSuffix)}
	s.handle.closed = s.unload
	s.txnFile, s.txnSynced = true, true // until it is known better
	return s
}

// Create makes the file of a new, empty segment, reserves its first bytes and
// makes file and folder entry durable, so that what is appended later cannot
// vanish with them. On an error nothing is left behind.
func Create(fsys vfs.FS, dir string, base messages.Offset, c *Cache, l Limits) (*Segment, error) {
	s := newSegment(fsys, dir, base, c)
	s.Limits, s.sizeSynced = l, true
	name := s.Name()
	f, err := fsys.Create(name)
	if err != nil {
		return nil, ioError("create", name, 0, err)
	}
	err = s.reserve(f, 1)
	if err == nil {
		err = ioError("sync", name, 0, f.Sync())
	}
	if err == nil {
		err = ioError("sync folder", dir, 0, fsys.SyncDir(dir))
	}
	if err != nil {
		_ = f.Close()
		_ = fsys.Remove(name) // the next attempt reports what is left, if any
		return nil, err
	}
	s.handle.adopt(f)
	s.tail.Store(emptyTail(base))
	s.aborted.Store(&[]data.EndedTxn{})
	s.txnFile = false
	return s, nil
}

func emptyTail(base messages.Offset) *tail {
	return &tail{next: base, first: messages.NoTimestamp, largest: noStamp(base), loaded: true}
}

func noStamp(base messages.Offset) Stamp {
	return Stamp{Timestamp: messages.NoTimestamp, Offset: base}
}

// OpenSealed takes up an existing file that will not be written again. Nothing
// is read: size is the file's and next the base of the following segment; the
// first reader checks both and loads the indexes.
func OpenSealed(
	fsys vfs.FS, dir string, base, next messages.Offset, size int64, c *Cache,
) *Segment {
	s := newSegment(fsys, dir, base, c)
	s.reserved, s.synced = size, size
	s.indexed, s.indexSynced, s.sizeSynced, s.closed = true, true, true, true
	s.sealed.Store(true)
	s.tail.Store(&tail{next: next, size: size, first: messages.NoTimestamp, largest: noStamp(base)})
	return s
}

// Base is the offset the segment is named by.
func (s *Segment) Base() messages.Offset { return s.base }

// Next is the offset after the last committed record; of a segment that is not
// the last one, the base of the next.
func (s *Segment) Next() messages.Offset { return s.tail.Load().next }

// Size is the number of committed bytes.
func (s *Segment) Size() int64 { return s.tail.Load().size }

// Name is the path of the log file.
func (s *Segment) Name() string { return FileName(s.dir, s.base, LogSuffix) }

// IndexEntries is how many entries the offset index has, in memory.
func (s *Segment) IndexEntries() int { return len(s.tail.Load().offsets) }

// FirstTimestamp is the largest timestamp of the segment's first batch, which
// stands for its age; NoTimestamp when it is empty or not known yet.
func (s *Segment) FirstTimestamp() messages.Timestamp { return s.tail.Load().first }

// Seal ends the writing: next is the base of the following segment. It cuts the
// reserved rest off the file and writes the indexes out. After an error the
// segment is sealed all the same; call Finish to try the rest again.
func (s *Segment) Seal(next messages.Offset) error {
	t := *s.tail.Load()
	invariant.That(next >= t.next, "%s: sealed at %d before its end %d", s.Name(), next, t.next)
	t.next = next
	s.noteTime(&t)
	s.tail.Store(&t)
	s.indexed, s.indexSynced, s.closed = false, false, true
	return s.Finish()
}

// Finish cuts the file to its committed bytes and writes the indexes, where
// that was not done: a clean log needs no scan. It is idempotent.
func (s *Segment) Finish() error {
	if err := s.trim(); err != nil {
		return err
	}
	if err := s.writeIndexes(); err != nil {
		return err
	}
	if err := s.writeAborted(); err != nil {
		return err
	}
	s.sealed.Store(s.closed)
	return nil
}

func (s *Segment) writeIndexes() error {
	if s.indexed {
		return nil
	}
	t := *s.tail.Load()
	s.noteTime(&t)
	s.tail.Store(&t)
	err := WriteFile(s.fsys, FileName(s.dir, s.base, IndexSuffix), EncodeOffsets(t.offsets), false)
	if err == nil {
		err = WriteFile(s.fsys, FileName(s.dir, s.base, TimeIndexSuffix), EncodeTimes(t.times), false)
	}
	s.indexed = err == nil
	return err
}

func (s *Segment) trim() error {
	size := s.Size()
	if s.cut || (s.reserved == size && !s.dirtyTail) {
		return nil
	}
	f, err := s.handle.pin()
	if err != nil {
		return err
	}
	defer s.handle.unpin(nil)
	if err := f.Truncate(size); err != nil {
		return ioError("truncate", s.Name(), size, err)
	}
	s.reserved, s.dirtyTail, s.sizeSynced = size, false, false
	return nil
}

// Cut makes at, where a batch ended at offset next, the committed end and seals
// the segment there. The bytes behind it stay in the file, because they may
// still be on their way to a reader, until the log is opened again: the next
// segment's base tells them from the log's.
func (s *Segment) Cut(at int64, next messages.Offset) error {
	p, err := s.Acquire()
	if err != nil {
		return err
	}
	defer p.Release()
	invariant.That(at <= p.t.size && next >= s.base, "%s: cut at %d of %d", s.Name(), at, p.t.size)
	t, err := s.rebuild(p, at, next)
	if err == nil {
		err = s.cutAborted(next)
	}
	if err != nil {
		return err
	}
	s.cut = s.cut || at < p.t.size
	s.synced = min(s.synced, at)
	s.sealed.Store(false)
	s.indexed, s.indexSynced, s.closed = false, false, true
	s.tail.Store(t)
	return s.Finish()
}

// Dirty reports whether the segment has bytes, or index files, that a power cut
// may take.
func (s *Segment) Dirty() bool {
	return s.synced < s.Size() || !s.sizeSynced || (s.indexed && !s.indexSynced) || s.txnsDirty()
}

// Retire deletes the segment's files: they get the suffix ".deleted" now and
// are removed in the background after delay, and not before the last reader let
// go.
func (s *Segment) Retire(delay time.Duration) error {
	// First of all, lest a reader opens another segment that gets the name next.
	s.handle.doom(s.Name() + DeletedSuffix)
	var doomed []string
	var failed error
	for _, suffix := range []string{LogSuffix, IndexSuffix, TimeIndexSuffix, TxnIndexSuffix} {
		from := FileName(s.dir, s.base, suffix)
		to := from + DeletedSuffix
		switch err := s.fsys.Rename(from, to); {
		case err == nil:
			doomed = append(doomed, to)
		case !errors.Is(err, fs.ErrNotExist) && failed == nil:
			failed = ioError("rename", from, 0, err)
		}
	}
	s.handle.cache.reaper.add(&deletion{
		handle: s.handle,
		due:    time.Now().Add(delay),
		remove: func() {
			s.handle.release()
			for _, name := range doomed {
				_ = s.fsys.Remove(name) // what stays is removed when the log is opened
			}
		},
	})
	return failed
}

// Idle closes the file and gives up its mapping, unless a reader uses them.
func (s *Segment) Idle() {
	s.handle.release()
	s.unloadAborted()
}

// Abandon refuses new readers and closes the file with the last one. Nothing is
// written.
func (s *Segment) Abandon() { s.handle.kill() }

// unload forgets the indexes of a sealed segment when its file was closed: they
// are loaded again with it.
func (s *Segment) unload() {
	s.unloadAborted()
	for {
		t := s.tail.Load()
		if t == nil || !t.loaded || !s.sealed.Load() {
			return
		}
		u := &tail{next: t.next, size: t.size, first: t.first, largest: t.largest}
		if s.tail.CompareAndSwap(t, u) {
			return
		}
	}
}
