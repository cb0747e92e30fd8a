package commitlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"sort"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// gapsFile says where the offsets of a log may have gaps, because it was compacted
// or copied from a log that was. Recovery could not tell a gap from lost records
// otherwise. The file is a row of entries:
//
//	0   from  8   the offset after the record before the gap
//	8   to    8   that of the record behind it
//	16  crc   4   CRC-32C of the 16 bytes before it
//
// The first entry, from 0, says that there may be any gaps below an offset: what
// is there was made durable. The others are gaps behind it, one by one. They are
// written before the records behind them, and not synced: when a power cut takes
// records, what it leaves is another gap. Without a file there are none.
const gapsFile = "offset-gaps"

const gapSize = 20

var gapSum = crc32.MakeTable(crc32.Castagnoli)

// gap is a stretch of offsets without records.
type gap struct{ from, to messages.Offset }

// gapList is what the gaps file says. The zero value stands for none.
type gapList struct {
	below messages.Offset
	known []gap // behind below, ascending
}

// allow reports whether the offsets from from up to to may be missing.
func (g *gapList) allow(from, to messages.Offset) bool {
	if to <= g.below {
		return true
	}
	i := sort.Search(len(g.known), func(i int) bool { return g.known[i].from >= from })
	return i < len(g.known) && g.known[i] == gap{from, to}
}

// settled is the list once everything below an offset is durable.
func (g *gapList) settled(end messages.Offset) gapList {
	next := gapList{below: max(g.below, end)}
	for _, k := range g.known {
		if k.to > next.below {
			next.known = append(next.known, k)
		}
	}
	return next
}

// with is the list with gaps that the next append makes. What an append that failed
// had listed goes.
func (g *gapList) with(fresh []gap) []gap {
	n := sort.Search(len(g.known), func(i int) bool { return g.known[i].to > fresh[0].from })
	if n == len(g.known) {
		return append(g.known, fresh...)
	}
	return slices.Concat(g.known[:n], fresh)
}

// cut is the list of a log that is truncated.
func (g *gapList) cut(end messages.Offset) gapList {
	next := gapList{below: min(g.below, end)}
	for _, k := range g.known {
		if k.to <= end {
			next.known = append(next.known, k)
		}
	}
	return next
}

func (g *gapList) none() bool { return g.below == 0 && len(g.known) == 0 }

func (g *gapList) encode() []byte {
	return appendGaps(appendGaps(nil, gap{0, g.below}), g.known...)
}

func appendGaps(b []byte, gaps ...gap) []byte {
	for _, k := range gaps {
		b = binary.BigEndian.AppendUint64(b, uint64(k.from))
		b = binary.BigEndian.AppendUint64(b, uint64(k.to))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[len(b)-16:], gapSum))
	}
	return b
}

// decodeGaps reads entries up to the first that is not whole: it was being
// written when the machine stopped.
func decodeGaps(b []byte) (g gapList) {
	for i := 0; len(b) >= gapSize; i++ {
		if crc32.Checksum(b[:16], gapSum) != binary.BigEndian.Uint32(b[16:]) {
			return g
		}
		k := gap{messages.Offset(binary.BigEndian.Uint64(b)),
			messages.Offset(binary.BigEndian.Uint64(b[8:]))}
		switch {
		case i == 0:
			g.below = k.to
		case k.from < k.to && (len(g.known) == 0 || g.known[len(g.known)-1].to <= k.from):
			g.known = append(g.known, k)
		default:
			return g // of an append that failed, behind what took its place
		}
		b = b[gapSize:]
	}
	return g
}

// readGaps returns what the gaps file of a folder says.
func readGaps(fsys vfs.FS, dir string) (gapList, error) {
	name := path.Join(dir, gapsFile)
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return gapList{}, nil
	}
	if err != nil {
		return gapList{}, &segment.IOError{Op: "read", File: name, Err: err}
	}
	return decodeGaps(b), nil
}

// saveGaps makes another list of gaps durable.
func (l *Log) saveGaps(g gapList) error {
	if err := segment.ReplaceFile(l.fsys, path.Join(l.dir, gapsFile), g.encode()); err != nil {
		return err
	}
	l.gaps = g
	return nil
}

// noteGaps lists gaps that the next append is going to make.
func (l *Log) noteGaps(fresh []gap) error {
	if l.gaps.none() { // there is no file yet
		return l.saveGaps(gapList{known: fresh})
	}
	name := path.Join(l.dir, gapsFile)
	f, err := l.fsys.OpenWrite(name)
	if err != nil {
		return &segment.IOError{Op: "open", File: name, Err: err}
	}
	next := l.gaps.with(fresh)
	at := int64(1+len(next)-len(fresh)) * gapSize
	_, err = f.WriteAt(appendGaps(nil, fresh...), at)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return &segment.IOError{Op: "write", File: name, At: at, Err: err}
	}
	l.gaps.known = next
	return nil
}

// settleGaps forgets which gaps there are below an offset up to which everything
// is durable: any may be there.
func (l *Log) settleGaps(end messages.Offset) error {
	if len(l.gaps.known) == 0 {
		return nil
	}
	return l.saveGaps(l.gaps.settled(end))
}

// cutGaps makes the list one of a log that ends at end, before it does.
func (l *Log) cutGaps(end messages.Offset) error {
	n := len(l.gaps.known)
	if l.gaps.below <= end && (n == 0 || l.gaps.known[n-1].to <= end) {
		return nil
	}
	return l.saveGaps(l.gaps.cut(end))
}
