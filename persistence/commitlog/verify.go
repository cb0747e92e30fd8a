package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// problemsMax bounds the problems one report lists.
const problemsMax = 1000

// Problem is something wrong in a partition's folder.
type Problem struct {
	File   string
	At     int64           // byte position, 0 if none applies
	Offset messages.Offset // NoOffset if none applies
	Text   string
	// Tail: it is the end of the last segment, as a crash leaves it. The next
	// start cuts it off; nothing acknowledged as durable is there.
	Tail bool
}

// Report is what Verify found in a partition's folder.
type Report struct {
	Dir      string
	TopicID  messages.TopicID // zero if there is no partition.metadata
	Segments int
	Batches  int64
	Records  int64 // as the batch headers count them
	Bytes    int64
	Start    messages.Offset // of the first segment
	End      messages.Offset // after the last good batch in a row
	Problems []Problem       // at most 1,000
}

// Verify checks a partition's folder without changing it: every CRC, that
// offsets follow one another and leader epochs do not fall, and that the
// indexes point where they say. The partition must not be in use; of a log
// that was not closed cleanly it reports the torn tail, if there is one.
//
// The error is one of the disk; what is wrong with the content is in the report.
func Verify(fsys vfs.FS, dir string) (Report, error) {
	v := &verifier{fsys: fsys, report: Report{Dir: dir}, epoch: messages.NoEpoch}
	if err := v.run(); err != nil {
		return v.report, err
	}
	return v.report, nil
}

type verifier struct {
	fsys   vfs.FS
	report Report
	gaps   gapList
	epoch  messages.LeaderEpoch
	next   messages.Offset // that must follow
	broken bool            // behind damage: offsets begin anew
}

func (v *verifier) problem(p Problem) {
	if len(v.report.Problems) < problemsMax {
		v.report.Problems = append(v.report.Problems, p)
	}
}

func (v *verifier) run() error {
	dir := v.report.Dir
	bases, err := v.list()
	if err != nil {
		return err
	}
	v.report.Segments = len(bases)
	if len(bases) > 0 {
		v.report.Start, v.report.End, v.next = bases[0], bases[0], bases[0]
	}
	if v.report.TopicID, err = ReadMetadata(v.fsys, dir); errors.Is(err, ErrBadMetadata) {
		v.problem(Problem{File: path.Join(dir, MetadataFile), Offset: -1, Text: err.Error()})
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.epochFile(); err != nil {
		return err
	}
	for i, base := range bases {
		limit := segment.NoLimit
		if i+1 < len(bases) {
			limit = bases[i+1]
		}
		if err := v.segment(base, limit); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) list() ([]messages.Offset, error) {
	entries, err := v.fsys.ReadDir(v.report.Dir)
	if err != nil {
		return nil, &segment.IOError{Op: "list", File: v.report.Dir, Err: err}
	}
	var bases []messages.Offset
	for _, e := range entries {
		base, suffix, ok := segment.ParseFileName(e.Name())
		if ok && suffix == segment.LogSuffix {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	v.gaps, err = readGaps(v.fsys, v.report.Dir)
	return bases, err
}

func (v *verifier) epochFile() error {
	name := path.Join(v.report.Dir, epochFile)
	b, err := vfs.ReadFile(v.fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &segment.IOError{Op: "read", File: name, Err: err}
	}
	if _, err := decodeEpochs(b); err != nil {
		v.problem(Problem{File: name, Offset: -1, Text: err.Error()})
	}
	return nil
}

// segment checks one segment; its batches end where the next one's begin.
func (v *verifier) segment(base, limit messages.Offset) error {
	name := segment.FileName(v.report.Dir, base, segment.LogSuffix)
	if base != v.next && !v.gaps.allow(v.next, base) && !v.broken {
		v.problem(Problem{File: name, Offset: v.next,
			Text: fmt.Sprintf("records %d to %d are missing before it", v.next, base-1)})
	}
	v.next, v.broken = base, false
	last := limit == segment.NoLimit
	index, err := v.index(base)
	if err != nil {
		return err
	}
	for found, err := range segment.Batches(v.fsys, name) {
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			if !last && v.next == limit {
				break // the rest was truncated away
			}
			v.problem(Problem{File: name, At: corrupt.At, Offset: v.next, Text: corrupt.Err.Error(),
				Tail: last})
			v.broken = true
			break
		}
		if err != nil {
			return err
		}
		if found.Batch.BaseOffset >= limit {
			break // truncated away: the next segment begins here
		}
		if len(index) > 0 && int64(index[0].Position) == found.Position &&
			base+messages.Offset(index[0].Offset) == found.Batch.LastOffset() {
			index = index[1:]
		}
		v.batch(name, &found, last)
	}
	if !last && v.next < limit && !v.gaps.allow(v.next, limit) && !v.broken {
		v.problem(Problem{File: name, Offset: v.next,
			Text: fmt.Sprintf("records %d to %d are missing at its end", v.next, limit-1)})
		v.broken = true
	}
	if len(index) > 0 && !v.broken {
		v.problem(Problem{File: segment.FileName(v.report.Dir, base, segment.IndexSuffix),
			Offset: base + messages.Offset(index[0].Offset),
			Text: fmt.Sprintf("no batch ending at that offset begins at byte %d",
				index[0].Position)})
	}
	return nil
}

func (v *verifier) batch(name string, found *segment.Found, last bool) {
	b := &found.Batch
	p := Problem{File: name, At: found.Position, Offset: b.BaseOffset}
	switch {
	case found.Bad != nil:
		p.Text, p.Tail = found.Bad.Error(), last
		v.problem(p)
		v.broken = true
	case b.BaseOffset < v.next ||
		b.BaseOffset > v.next && !v.gaps.allow(v.next, b.BaseOffset) && !v.broken:
		p.Text = fmt.Sprintf("offset %d where %d is due", b.BaseOffset, v.next)
		v.problem(p)
		v.broken = true
		return // its offsets say nothing of the next batch's
	case b.LeaderEpoch < v.epoch:
		p.Text = fmt.Sprintf("leader epoch falls from %d to %d", v.epoch, b.LeaderEpoch)
		v.problem(p)
	}
	if found.Bad == nil {
		v.next, v.epoch, v.broken = b.NextOffset(), max(v.epoch, b.LeaderEpoch), false
	}
	r := &v.report
	r.Batches++
	r.Records += int64(b.Count)
	r.Bytes += int64(len(b.Bytes))
	if len(r.Problems) == 0 {
		r.End = v.next
	}
}

// index reads the offset index of a segment. That none is there is no problem:
// an active segment has none, and it is built anew for a sealed one.
func (v *verifier) index(base messages.Offset) ([]segment.OffsetEntry, error) {
	name := segment.FileName(v.report.Dir, base, segment.IndexSuffix)
	b, err := vfs.ReadFile(v.fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &segment.IOError{Op: "read", File: name, Err: err}
	}
	entries, err := segment.DecodeOffsets(b, segmentBytesMax, segmentBytesMax)
	if err != nil {
		v.problem(Problem{File: name, Offset: messages.NoOffset, Text: err.Error()})
	}
	return entries, nil
}
