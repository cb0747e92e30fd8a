package commitlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// damagedSuffix is given to segment files behind damage: they are kept for the
// operator, and belong to the log no more.
const damagedSuffix = ".damaged"

// Recovery says what Open found and did.
type Recovery struct {
	ScannedBytes   int64           // whose CRC was checked
	TruncatedBytes int64           // of files that were cut off, with what was reserved there
	TruncatedAt    messages.Offset // the log end after that; NoOffset: nothing was cut off
	Reason         string          // why the tail was cut off, "" if it was not
	// Damaged: the tail that was lost had been durable. This is no crash's
	// doing but a failing disk's, or someone's who changed the files.
	Damaged bool
	// SetAside are the files behind damage, which were renamed and kept.
	SetAside []string
}

// Open opens the log in a folder, which it creates if need be; the folder's
// entry, and the topic id in it, are then durable. A new log has no segment
// until its first append.
//
// After a clean shutdown (o.Clean) the files are trusted. Otherwise everything
// from the recovery point on is checked, and the log ends before the first
// batch that is not whole: what follows it, whatever it looks like, is cut off,
// durably. No other goroutine may use the folder meanwhile.
//
// It fails with ErrWrongTopic, ErrBadMetadata, an *segment.IOError, or a
// *CorruptError when it met damage in what it was told to trust: opened again
// with Clean false and a RecoveryPoint of 0 the log ends before the damage.
func Open(fsys vfs.FS, dir string, o Options) (*Log, Recovery, error) {
	rec := Recovery{TruncatedAt: messages.NoOffset}
	if err := prepareFolder(fsys, dir, o.TopicID); err != nil {
		return nil, rec, err
	}
	l := &Log{fsys: fsys, dir: dir, files: o.Files, producers: o.State}
	l.name = messages.TopicPartition{Topic: o.Topic, Partition: o.Partition}.String()
	if l.files == nil {
		l.files, l.ownFiles = segment.NewCache(0), true
	}
	l.SetConfig(o.Config)
	opening := &opening{log: l, options: o, recovery: &rec, missing: nothingMissing,
		txns: map[messages.Offset]bool{}}
	if err := opening.run(); err != nil {
		for _, s := range opening.segments {
			s.Abandon()
		}
		if l.ownFiles {
			l.files.Close()
		}
		return nil, rec, err
	}
	return l, rec, nil
}

// opening is an Open under way.
type opening struct {
	log       *Log
	options   Options
	recovery  *Recovery
	clean     bool
	truncated bool            // since the recovery point was saved
	point     messages.Offset // the recovery point
	epochs    epochList
	trusted   bool // epochs were read, not guessed
	found     []foundSegment
	segments  []*segment.Segment
	missing   messages.Offset          // the segments from here on have no transaction index
	txns      map[messages.Offset]bool // segments with a transaction index file
}

// foundSegment is a log file found in the folder.
type foundSegment struct {
	base messages.Offset
	size int64
}

func (o *opening) run() error {
	l := o.log
	if err := o.list(); err != nil {
		return err
	}
	if err := o.readSmallFiles(); err != nil {
		return err
	}
	if err := o.openSegments(); err != nil {
		return err
	}
	st := &state{segments: o.segments, start: o.options.LogStart, origin: o.options.LogStart}
	if len(o.found) > 0 {
		st.start = max(st.start, o.found[0].base)
	}
	st.sum()
	l.state.Store(st)
	if l.End() < st.start {
		// What is left lies below the log start: nobody may read it.
		if err := l.TruncateFullyAndStartAt(st.start); err != nil {
			return err
		}
		l.epochsStale = true // the file has none now; the latest must be in it again
	}
	l.cleaned.Store(int64(max(0, min(o.options.Cleaned, l.End()))))
	if err := o.settleEpochs(); err != nil {
		return err
	}
	if err := o.settleDurable(); err != nil {
		return err
	}
	return l.rebuildState(o.missing)
}

// list reads the folder. Leftovers of deletions and of files half written are
// removed; index files without a log too, since the name may be used again.
func (o *opening) list() error {
	l := o.log
	entries, err := o.entries()
	if err != nil {
		return err
	}
	logs := map[messages.Offset]bool{}
	var indexes []messages.Offset
	for _, e := range entries {
		name := e.Name()
		if leftover(name) {
			_ = l.fsys.Remove(path.Join(l.dir, name)) // it is in nobody's way
			continue
		}
		base, suffix, ok := segment.ParseFileName(name)
		if !ok || e.IsDir() {
			continue
		}
		switch suffix {
		case segment.LogSuffix:
			info, err := e.Info()
			if err != nil {
				return &segment.IOError{Op: "stat", File: path.Join(l.dir, name), Err: err}
			}
			logs[base] = true
			o.found = append(o.found, foundSegment{base, info.Size()})
		case segment.SnapshotSuffix:
			l.snapshots = append(l.snapshots, base)
		case segment.TxnIndexSuffix:
			o.txns[base] = true
			indexes = append(indexes, base)
		case segment.IndexSuffix, segment.TimeIndexSuffix:
			indexes = append(indexes, base)
		}
	}
	slices.SortFunc(o.found, func(a, b foundSegment) int { return cmp.Compare(a.base, b.base) })
	slices.Sort(l.snapshots)
	for _, base := range indexes {
		if !logs[base] {
			o.removeIndexes(base)
		}
	}
	return nil
}

// entries reads the folder, after it has completed what a crash had interrupted.
func (o *opening) entries() ([]fs.DirEntry, error) {
	for again := false; ; again = true {
		entries, err := o.log.fsys.ReadDir(o.log.dir)
		if err != nil {
			return nil, &segment.IOError{Op: "list", File: o.log.dir, Err: err}
		}
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.Name()
		}
		if swapped, err := o.finishSwaps(names); err != nil || !swapped || again {
			return entries, err
		}
	}
}

// leftover reports whether a file is half a replacement, or on its way out. Only
// names that are ours count: what somebody put there is not ours to remove.
func leftover(name string) bool {
	ours := []string{epochFile, MetadataFile, gapsFile, truncationFile}
	for _, suffix := range []string{".tmp", segment.CleanedSuffix, segment.DeletedSuffix} {
		if rest, found := strings.CutSuffix(name, suffix); found {
			_, _, ok := segment.ParseFileName(rest)
			return ok || slices.Contains(ours, rest)
		}
	}
	return false
}

func (o *opening) removeIndexes(base messages.Offset) {
	for _, suffix := range []string{
		segment.IndexSuffix, segment.TimeIndexSuffix, segment.TxnIndexSuffix,
	} {
		_ = o.log.fsys.Remove(segment.FileName(o.log.dir, base, suffix))
	}
}

func (o *opening) readSmallFiles() error {
	l := o.log
	o.clean, o.point = o.options.Clean, o.options.RecoveryPoint
	at, truncated, err := readTruncation(l.fsys, l.dir)
	if err != nil {
		return err
	}
	if truncated {
		// A clean shutdown removes the file: this was none.
		o.clean, o.point = false, min(o.point, at)
		o.truncated = true
	}
	if l.gaps, err = readGaps(l.fsys, l.dir); err != nil {
		return err
	}
	name := path.Join(l.dir, epochFile)
	b, err := vfs.ReadFile(l.fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return &segment.IOError{Op: "read", File: name, Err: err}
	default:
		o.epochs, err = decodeEpochs(b)
		o.trusted = err == nil
	}
	return nil
}

// openSegments opens what lies below the recovery point on trust and checks the
// rest.
func (o *opening) openSegments() error {
	if len(o.found) == 0 {
		return nil
	}
	last := len(o.found) - 1
	check := 0 // the first one to check
	for check < last && (o.clean || o.found[check+1].base <= o.point) {
		check++
	}
	for i := range check {
		o.trust(i)
	}
	if err := o.checkAborted(); err != nil {
		return err
	}
	if o.clean {
		f := o.found[last]
		s, err := segment.OpenActive(o.log.fsys, o.log.dir, f.base, f.size, o.log.files,
			o.log.cfg.limits())
		if err == nil {
			o.segments = append(o.segments, s)
			return o.checkAborted()
		}
		// The shutdown was not as clean as it seemed.
		o.clean, o.point = false, min(o.point, f.base)
	}
	return o.recover(check)
}

func (o *opening) trust(i int) {
	l := o.log
	s := segment.OpenSealed(l.fsys, l.dir, o.found[i].base, o.found[i+1].base, o.found[i].size,
		l.files)
	s.Limits = l.cfg.limits()
	o.segments = append(o.segments, s)
}

// recover checks the segments from index i on, in order, up to the first batch
// that is not good.
func (o *opening) recover(i int) error {
	l := o.log
	o.forgetAborted(i)
	check := segment.Check{
		From:     o.point,
		Gap:      l.gaps.allow,
		MinEpoch: messages.NoEpoch,
		MaxEpoch: messages.NoEpoch,
		Observe:  o.observe,
		Pause:    o.options.Pause,
	}
	if o.trusted {
		check.MaxEpoch, check.EpochAt = o.epochs.latest(), o.epochs.at
	}
	for ; i < len(o.found); i++ {
		f := o.found[i]
		check.Limit = segment.NoLimit
		if i+1 < len(o.found) {
			check.Limit = o.found[i+1].base
		}
		s, result, err := segment.Recover(l.fsys, l.dir, f.base, f.size, l.files, l.cfg.limits(), check)
		if err != nil {
			return err
		}
		o.segments = append(o.segments, s)
		o.recovery.ScannedBytes += result.Scanned
		check.MinEpoch = result.Epoch
		if o.ends(i, &result) {
			return o.cutBehind(i)
		}
		if err := s.Repair(); err != nil {
			return err
		}
		if i+1 < len(o.found) {
			_ = s.Seal(check.Limit) // without index files it is scanned again
		}
	}
	return nil
}

// observe fills in epochs that the epoch file does not have.
func (o *opening) observe(h *segment.Header) {
	if h.LeaderEpoch > o.epochs.latest() {
		o.epochs = o.epochs.assign(EpochStart{h.LeaderEpoch, h.BaseOffset})
		o.log.epochsStale = true
	}
}

// ends decides whether the log ends in segment i, and notes why.
func (o *opening) ends(i int, found *segment.Checked) bool {
	r := o.recovery
	last := i == len(o.found)-1
	switch {
	case found.Reason != nil:
		r.Reason = fmt.Sprintf("%s at byte %d: %v", segment.FileName("", o.found[i].base,
			segment.LogSuffix), found.Size, found.Reason)
	case !last && found.Next < o.found[i+1].base &&
		!o.log.gaps.allow(found.Next, o.found[i+1].base):
		r.Reason = fmt.Sprintf("records %d to %d are missing", found.Next, o.found[i+1].base-1)
	case last && found.Next < o.point:
		r.Reason = fmt.Sprintf("records from %d on are missing", found.Next)
	default:
		return last
	}
	r.Damaged = found.Next < o.point
	r.TruncatedAt = found.Next
	r.TruncatedBytes = found.File - found.Size
	return true
}

// cutBehind makes segment i, which was cut, the last one. Segments behind it are
// deleted, or set aside if they had been durable.
func (o *opening) cutBehind(i int) error {
	l := o.log
	for k := len(o.found) - 1; k > i; k-- {
		f := o.found[k]
		o.recovery.TruncatedBytes += f.size
		name := segment.FileName(l.dir, f.base, segment.LogSuffix)
		if !o.recovery.Damaged {
			if err := l.fsys.Remove(name); err != nil {
				return &segment.IOError{Op: "remove", File: name, Err: err}
			}
		} else if err := l.fsys.Rename(name, name+damagedSuffix); err != nil {
			return &segment.IOError{Op: "rename", File: name, Err: err}
		} else {
			o.recovery.SetAside = append(o.recovery.SetAside, name+damagedSuffix)
		}
		o.removeIndexes(f.base)
	}
	if i < len(o.found)-1 {
		if err := l.fsys.SyncDir(l.dir); err != nil {
			return &segment.IOError{Op: "sync folder", File: l.dir, Err: err}
		}
	}
	o.found = o.found[:i+1]
	return o.segments[i].Repair()
}

// settleEpochs brings the epochs in line with the log. Without a readable file
// they are taken from the batches.
func (o *opening) settleEpochs() error {
	l := o.log
	st := l.state.Load()
	if !o.trusted {
		o.epochs = nil
		if err := o.epochsFromBatches(st); err != nil {
			return err
		}
		l.epochsStale = len(o.epochs) > 0
	}
	// An epoch that begins at the end was assigned and has no record yet: it
	// must not be given to another leader.
	epochs := o.epochs.truncateEnd(st.end() + 1).truncateStart(st.start)
	l.epochsStale = l.epochsStale || !slices.Equal(epochs, o.epochs)
	l.update(func(s *state) { s.epochs = epochs })
	if l.epochsStale {
		return l.saveEpochs(epochs)
	}
	return nil
}

func (o *opening) epochsFromBatches(st *state) error {
	for _, s := range st.segments {
		r, err := s.Acquire()
		if err != nil {
			return err
		}
		err = r.Walk(0, func(_ int64, h segment.Header) bool {
			o.observe(&h)
			return true
		})
		r.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// settleDurable notes what survives a power cut: what was synced before.
func (o *opening) settleDurable() error {
	l := o.log
	end := l.End()
	point := min(o.point, end)
	if o.clean || len(l.state.Load().segments) == 0 {
		point = end
	}
	l.durable.Store(int64(max(point, 0)))
	for _, s := range l.state.Load().segments {
		if err := s.MarkSynced(point); err != nil {
			return err
		}
	}
	l.touched = point < end
	l.changed = !o.clean && len(o.segments) > 0
	if o.truncated || end < o.point {
		return l.noteTruncation(point, max(o.options.RecoveryPoint, end))
	}
	return nil
}
