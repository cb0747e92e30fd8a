package commitlog

import (
	"bytes"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// snapshotsKept is how many snapshots of the producers' state are kept: the
// newest may lie above the end a recovery finds.
const snapshotsKept = 3

// noProducers is a snapshot file in Kafka's format without an entry: version 1
// (2 bytes), CRC-32C of what follows it, no entries (4 bytes). It says that
// nothing before its offset needs to be looked at.
var noProducers = []byte{0, 1, 0x48, 0x67, 0x4b, 0xc7, 0, 0, 0, 0}

func (l *Log) snapshotName(at messages.Offset) string {
	return segment.FileName(l.dir, at, segment.SnapshotSuffix)
}

// writeSnapshot saves the producers' state, which is that of the log end, at.
func (l *Log) writeSnapshot(at messages.Offset, durable bool) error {
	if l.producers == nil {
		return nil
	}
	content := l.producers.Snapshot()
	if content == nil {
		content = noProducers
	}
	if err := segment.WriteFile(l.fsys, l.snapshotName(at), content, durable); err != nil {
		return err
	}
	if durable {
		if err := l.fsys.SyncDir(l.dir); err != nil {
			return &segment.IOError{Op: "sync folder", File: l.dir, Err: err}
		}
	}
	if i, found := slices.BinarySearch(l.snapshots, at); !found {
		l.snapshots = slices.Insert(l.snapshots, i, at)
	}
	if extra := len(l.snapshots) - snapshotsKept; extra > 0 {
		oldest := l.snapshots[extra]
		l.dropSnapshots(func(at messages.Offset) bool { return at < oldest })
	}
	return nil
}

// dropSnapshots deletes the snapshot files at the given offsets.
func (l *Log) dropSnapshots(drop func(at messages.Offset) bool) {
	l.snapshots = slices.DeleteFunc(l.snapshots, func(at messages.Offset) bool {
		if drop(at) {
			// One that stays is ignored, or deleted, by the next Open.
			_ = l.fsys.Remove(l.snapshotName(at))
			return true
		}
		return false
	})
}

// rebuildState brings the producers' state to the log end: the newest snapshot
// that is readable, then every batch after it.
func (l *Log) rebuildState() error {
	if l.producers == nil {
		return nil
	}
	if err := l.dropFutureSnapshots(); err != nil {
		return err
	}
	from := l.restoreSnapshot()
	st := l.state.Load()
	for _, s := range st.segments {
		if s.Next() <= from {
			continue
		}
		if err := l.observe(s, from); err != nil {
			return err
		}
	}
	return nil
}

// dropFutureSnapshots deletes, durably, the snapshots above the log end: once
// other records stand there, one that comes back would be taken for theirs.
func (l *Log) dropFutureSnapshots() error {
	end, n := l.End(), len(l.snapshots)
	l.dropSnapshots(func(at messages.Offset) bool { return at > end })
	if len(l.snapshots) == n {
		return nil
	}
	if err := l.fsys.SyncDir(l.dir); err != nil {
		return &segment.IOError{Op: "sync folder", File: l.dir, Err: err}
	}
	return nil
}

// restoreSnapshot loads the newest good snapshot at or below the log end and
// returns its offset, or that of the first record if there is none.
func (l *Log) restoreSnapshot() messages.Offset {
	for len(l.snapshots) > 0 {
		newest := l.snapshots[len(l.snapshots)-1]
		l.producers.Reset()
		b, err := vfs.ReadFile(l.fsys, l.snapshotName(newest))
		if err == nil && (bytes.Equal(b, noProducers) || l.producers.Restore(b) == nil) {
			return newest
		}
		l.dropSnapshots(func(at messages.Offset) bool { return at == newest })
	}
	l.producers.Reset()
	return 0
}

func (l *Log) observe(s *segment.Segment, from messages.Offset) error {
	r, err := s.Acquire()
	if err != nil {
		return err
	}
	defer r.Release()
	at, err := r.Find(from)
	if err != nil {
		return err
	}
	var failed error
	err = r.Walk(at, func(pos int64, h record.Header) bool {
		if h.Control() {
			failed = l.observeMarker(r, pos)
		} else {
			failed = l.producers.Observe(h)
		}
		if failed != nil {
			failed = &CorruptError{File: s.Name(), At: pos, Offset: h.BaseOffset, Err: failed}
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}

func (l *Log) observeMarker(r *segment.Reader, pos int64) error {
	b, err := r.Batch(pos)
	if err != nil {
		return err
	}
	m, ok, err := record.ParseMarker(&b)
	if err != nil || !ok {
		return err
	}
	return l.producers.ObserveMarker(b.Header, m.Commit, m.CoordinatorEpoch)
}
