package commitlog

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// snapshotsKept is how many snapshots of the producers' state are kept besides
// those of the places where segments begin: the newest may lie above the end a
// recovery finds.
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
	l.dropExtraSnapshots()
	return nil
}

// dropExtraSnapshots deletes what shutdowns left behind. The snapshot at the base of
// a segment stays as long as the segment: its transaction index is made from it.
func (l *Log) dropExtraSnapshots() {
	extra := len(l.snapshots) - snapshotsKept
	if extra <= 0 {
		return
	}
	oldest, segments := l.snapshots[extra], l.state.Load().segments
	l.dropSnapshots(func(at messages.Offset) bool {
		_, base := slices.BinarySearchFunc(segments, at,
			func(s *segment.Segment, at messages.Offset) int { return cmp.Compare(s.Base(), at) })
		return at < oldest && !base
	})
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

// nothingMissing says to rebuildState that the transaction indexes are there.
const nothingMissing = messages.Offset(math.MaxInt64)

// rebuildState brings the producers' state to the log end: the newest snapshot
// that is readable, then every batch after it. The transaction indexes of the
// segments from the one that begins at missing on are made again on the way.
func (l *Log) rebuildState(missing messages.Offset) error {
	if l.producers == nil {
		return nil
	}
	if err := l.dropFutureSnapshots(); err != nil {
		return err
	}
	l.changed = l.changed || missing < l.End()
	from, found := l.restoreSnapshot(missing)
	err := l.replay(from, missing)
	n := len(l.snapshots)
	if err != nil || n == 0 || found && from == l.snapshots[n-1] {
		return err
	}
	// So the indexes have what readers can see. The state may lack what was deleted,
	// or know transactions whose ends were compacted away; the newest snapshot does not.
	from, _ = l.restoreSnapshot(nothingMissing)
	return l.replay(from, nothingMissing)
}

// replay tells the producers' state of every batch from an offset on, and puts what
// was aborted into the segments from the one that begins at missing on.
func (l *Log) replay(from, missing messages.Offset) error {
	// Before anything else: the next transaction of such a producer is another one.
	if err := l.endVanished(from); err != nil {
		return err
	}
	for _, s := range l.state.Load().segments {
		if s.Next() <= from {
			continue
		}
		if err := l.observe(s, from); err != nil {
			return err
		}
		aborted := l.producers.TakeAborted()
		if s.Base() < missing || len(aborted) == 0 {
			continue
		}
		if err := s.AddAborted(aborted); err != nil {
			return err
		}
		if s.Closed() {
			_ = s.Finish() // what is not finished does not become durable
		}
		l.touched = true
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

// restoreSnapshot loads the newest good snapshot at or below the log end, and not
// above most, and returns its offset. If there is none the state is empty, and the
// offset 0. A snapshot from before the first segment is none: what happened since
// then is not in the log any more, transactions that ended among it.
func (l *Log) restoreSnapshot(most messages.Offset) (at messages.Offset, found bool) {
	first := l.Start()
	if segments := l.state.Load().segments; len(segments) > 0 {
		first = segments[0].Base()
	}
	for i := len(l.snapshots) - 1; i >= 0 && l.snapshots[i] >= first; i-- {
		at := l.snapshots[i]
		if at > most {
			continue
		}
		l.producers.Reset()
		b, err := vfs.ReadFile(l.fsys, l.snapshotName(at))
		if err == nil && (bytes.Equal(b, noProducers) || l.producers.Restore(b) == nil) {
			return at, true
		}
		l.dropSnapshots(func(o messages.Offset) bool { return o == at })
	}
	l.producers.Reset()
	return 0, false
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
