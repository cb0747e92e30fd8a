package segment

import (
	"errors"
	"io/fs"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Suffixes that the files of a segment have on their way into the log, behind
// their own: while a compaction writes them, and once they are to replace others.
const (
	CleanedSuffix = ".cleaned"
	SwapSuffix    = ".swap"
)

// sideSuffixes are those of the files beside the log file.
var sideSuffixes = []string{IndexSuffix, TimeIndexSuffix, TxnIndexSuffix}

// CreateCleaned makes a segment that is going to replace others of which the
// first has the same base. Its files have the suffix ".cleaned"; readers know
// nothing of it. The caller owns it, on whatever goroutine, and calls Write and
// Commit, then FinishCleaned, or Scrap.
func CreateCleaned(
	fsys vfs.FS, dir string, base messages.Offset, c *Cache, l Limits,
) (*Segment, error) {
	s := newSegment(fsys, dir, base, c)
	s.Limits = l
	name := s.Name() + CleanedSuffix
	s.handle.name = name
	f, err := fsys.Create(name)
	if errors.Is(err, fs.ErrExist) { // of a compaction that could not clean up
		if err = fsys.Remove(name); err == nil {
			f, err = fsys.Create(name)
		}
	}
	if err != nil {
		return nil, ioError("create", name, 0, err)
	}
	s.handle.adopt(f)
	s.tail.Store(emptyTail(base))
	return s, nil
}

// FinishCleaned ends the writing: next is the base of the segment that will
// follow. All of it, with its indexes, is durable when FinishCleaned returns.
func (s *Segment) FinishCleaned(next messages.Offset) error {
	t := *s.tail.Load()
	t.next = next
	s.noteTime(&t)
	s.tail.Store(&t)
	if err := s.trim(); err != nil {
		return err
	}
	f, err := s.handle.pin()
	if err != nil {
		return err
	}
	err = f.Sync()
	s.handle.unpin(nil)
	if err != nil {
		return ioError("sync", s.Name()+CleanedSuffix, 0, err)
	}
	index := FileName(s.dir, s.base, IndexSuffix) + CleanedSuffix
	if err := WriteFile(s.fsys, index, EncodeOffsets(t.offsets), true); err != nil {
		return err
	}
	index = FileName(s.dir, s.base, TimeIndexSuffix) + CleanedSuffix
	if err := WriteFile(s.fsys, index, EncodeTimes(t.times), true); err != nil {
		return err
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return ioError("sync folder", s.dir, 0, err)
	}
	s.synced, s.sizeSynced, s.closed = t.size, true, true
	s.indexed, s.indexSynced = true, true
	return nil
}

// Promote gives the log file the suffix ".swap", durably: from here on the
// segment counts, and those it replaces do not, whatever happens. After an error
// nothing is changed, unless undone is false: then only the next Open can tell.
func (s *Segment) Promote() (undone bool, err error) {
	err = s.handle.rename(s.Name() + SwapSuffix)
	if err == nil {
		if err = s.fsys.SyncDir(s.dir); err == nil {
			return true, nil
		}
		err = ioError("sync folder", s.dir, 0, err)
	}
	s.Scrap()
	_, left := s.fsys.Stat(s.Name() + SwapSuffix)
	undone = errors.Is(left, fs.ErrNotExist) && s.fsys.SyncDir(s.dir) == nil
	return undone, err
}

// Settle gives the files of a promoted segment their names. Those it replaces are
// retired. A crash in it is made up for by FinishSwap.
func (s *Segment) Settle() error {
	if err := settleSides(s.fsys, s.dir, s.base); err != nil {
		return err
	}
	if err := s.handle.rename(s.Name()); err != nil {
		return err
	}
	s.sealed.Store(true)
	return nil
}

// settleSides gives the files beside a log their names, durably, so that none of
// them can be of another log than the one that gets its name next.
func settleSides(fsys vfs.FS, dir string, base messages.Offset) error {
	for _, suffix := range sideSuffixes {
		name := FileName(dir, base, suffix)
		err := fsys.Rename(name+CleanedSuffix, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ioError("rename", name+CleanedSuffix, 0, err)
		}
	}
	return ioError("sync folder", dir, 0, fsys.SyncDir(dir))
}

// Scrap removes a segment that is not going to replace any. What it cannot
// remove is by the next Open.
func (s *Segment) Scrap() {
	s.handle.kill()
	for _, suffix := range append([]string{LogSuffix}, sideSuffixes...) {
		_ = s.fsys.Remove(FileName(s.dir, s.base, suffix) + CleanedSuffix)
	}
	_ = s.fsys.Remove(s.Name() + SwapSuffix)
}

// FinishSwap completes a replacement that a crash interrupted: base is that of a
// log file with the suffix ".swap", and logs are the bases of the log files in
// the folder. It returns which of them are gone. A file that is no whole segment
// is a *CorruptError, and nothing has changed.
func FinishSwap(
	fsys vfs.FS, dir string, base messages.Offset, logs []messages.Offset,
) (gone []messages.Offset, err error) {
	name := FileName(dir, base, LogSuffix)
	next := base
	for found, err := range Batches(fsys, name+SwapSuffix) {
		if err == nil && found.Bad != nil {
			err = &CorruptError{File: name + SwapSuffix, At: found.Position,
				Offset: found.Batch.BaseOffset, Err: found.Bad}
		}
		if err != nil {
			return nil, err
		}
		next = found.Batch.NextOffset()
	}
	for _, old := range logs {
		if old <= base || old >= next {
			continue
		}
		for _, suffix := range append([]string{LogSuffix}, sideSuffixes...) {
			file := FileName(dir, old, suffix)
			if err := fsys.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, ioError("remove", file, 0, err)
			}
		}
		gone = append(gone, old)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return nil, ioError("sync folder", dir, 0, err)
	}
	if err := settleSides(fsys, dir, base); err != nil {
		return nil, err
	}
	if err := fsys.Rename(name+SwapSuffix, name); err != nil {
		return nil, ioError("rename", name+SwapSuffix, 0, err)
	}
	return gone, ioError("sync folder", dir, 0, fsys.SyncDir(dir))
}

// TakeAborted gives a cleaned segment its transaction index. It is in memory before
// any reader knows of the segment: on the disk there is that of the segment which
// it replaces, until it is settled.
func (s *Segment) TakeAborted(entries []data.EndedTxn) error {
	s.txnFile = len(entries) > 0
	s.aborted.Store(&entries)
	if len(entries) == 0 {
		return nil
	}
	name := FileName(s.dir, s.base, TxnIndexSuffix) + CleanedSuffix
	return WriteFile(s.fsys, name, EncodeAborted(entries), true)
}

// Scan calls f for each batch from position pos on, in order, until the end or an
// error. The bytes are valid until the Reader is released.
func (r *Reader) Scan(pos int64, f func(pos int64, b *record.Batch) error) error {
	r.window = walkWindow
	var failed error
	err := r.Walk(pos, func(pos int64, h record.Header) bool {
		var bytes []byte
		if bytes, failed = r.Bytes(pos, int64(h.Size())); failed == nil {
			failed = f(pos, &record.Batch{Header: h, Bytes: bytes})
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

// Headers is Walk for who reads all of a segment.
func (r *Reader) Headers(pos int64, f func(pos int64, h record.Header) bool) error {
	r.window = walkWindow
	return r.Walk(pos, f)
}

// FirstBatchTime is FirstTimestamp, for which the segment is opened when need be.
func (s *Segment) FirstBatchTime() (messages.Timestamp, error) {
	if t := s.tail.Load(); t.loaded || t.first != messages.NoTimestamp || t.size == 0 {
		return t.first, nil
	}
	r, err := s.Acquire()
	if err != nil {
		return messages.NoTimestamp, err
	}
	defer r.Release()
	return r.t.first, nil
}
