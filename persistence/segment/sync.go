package segment

import (
	"errors"

	"github.com/troupelog/troupe/messages/invariant"
)

// SyncPoint is how much of a segment a sync is going to make durable.
type SyncPoint struct {
	s       *Segment
	size    int64
	cut     bool // the file's size, too
	indexes bool
	txns    bool // the transaction index, too
}

// Prepare returns what Run is to make durable: all that is committed now. Owner only.
func (s *Segment) Prepare() SyncPoint {
	return SyncPoint{s: s, size: s.Size(), cut: !s.sizeSynced,
		indexes: s.indexed && !s.indexSynced, txns: s.txnsDirty()}
}

// NewNames reports whether files were created whose names in the folder the
// caller must sync after Run.
func (p SyncPoint) NewNames() bool { return p.indexes || p.txns }

// Run makes the bytes durable, on any goroutine. A segment that was retired
// meanwhile is no error: nothing of it counts any more.
func (p SyncPoint) Run() error {
	s := p.s
	f, err := s.handle.pin()
	if err == nil {
		err = ioError("sync", s.Name(), 0, f.Sync())
		s.handle.unpin(nil)
	}
	if err == nil && p.indexes {
		err = s.syncIndexes()
	}
	if err == nil && p.txns {
		err = s.syncAborted()
	}
	if errors.Is(err, ErrRetired) || s.handle.retired() {
		return nil
	}
	return err
}

func (s *Segment) syncIndexes() error {
	for _, suffix := range []string{IndexSuffix, TimeIndexSuffix} {
		if err := s.syncFile(suffix); err != nil {
			return err
		}
	}
	return nil
}

func (s *Segment) syncFile(suffix string) error {
	name := FileName(s.dir, s.base, suffix)
	f, err := s.fsys.OpenWrite(name)
	if err != nil {
		return ioError("open", name, 0, err)
	}
	err = f.Sync()
	_ = f.Close()
	return ioError("sync", name, 0, err)
}

// Synced notes that Run succeeded. Owner only.
func (s *Segment) Synced(p SyncPoint) {
	invariant.That(p.s == s, "sync point of %s used for %s", p.s.Name(), s.Name())
	s.synced = max(s.synced, min(p.size, s.Size()))
	s.sizeSynced = s.sizeSynced || p.cut
	s.indexSynced = s.indexSynced || (p.indexes && s.indexed)
	s.txnSynced = s.txnSynced || (p.txns && !s.txnStale)
}

// Sync is Prepare, Run and Synced in one, for when nothing else waits.
func (s *Segment) Sync() error {
	p := s.Prepare()
	if err := p.Run(); err != nil {
		return err
	}
	s.Synced(p)
	return nil
}
