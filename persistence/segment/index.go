package segment

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/troupelog/troupe/messages"
)

// Sizes of index entries on disk, in bytes.
const (
	OffsetEntrySize = 8
	TimeEntrySize   = 12
)

// OffsetEntry says where a batch starts.
type OffsetEntry struct {
	Offset   int32 // last offset of the batch, relative to the segment's base
	Position int32 // of the batch's first byte in the log file
}

// TimeEntry says that no record up to and including Offset is later than Timestamp.
type TimeEntry struct {
	Timestamp messages.Timestamp
	Offset    int32 // relative to the segment's base
}

// EncodeOffsets returns the content of an offset index file.
func EncodeOffsets(entries []OffsetEntry) []byte {
	b := make([]byte, 0, len(entries)*OffsetEntrySize)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Offset))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Position))
	}
	return b
}

// DecodeOffsets reads an offset index file of a segment of size bytes whose
// offsets lie below next (relative to its base). Offsets and positions must
// grow and stay inside the segment.
func DecodeOffsets(b []byte, next, size int64) ([]OffsetEntry, error) {
	if len(b)%OffsetEntrySize != 0 {
		return nil, fmt.Errorf("offset index has %d bytes, not a multiple of %d", len(b), OffsetEntrySize)
	}
	entries := make([]OffsetEntry, 0, len(b)/OffsetEntrySize)
	last := OffsetEntry{Offset: -1, Position: -1}
	for i := 0; i < len(b); i += OffsetEntrySize {
		e := OffsetEntry{
			Offset:   int32(binary.BigEndian.Uint32(b[i:])),
			Position: int32(binary.BigEndian.Uint32(b[i+4:])),
		}
		if e.Offset <= last.Offset || e.Position <= last.Position ||
			int64(e.Offset) >= next || int64(e.Position) >= size {
			return nil, fmt.Errorf("offset index entry %d (%d at byte %d) is out of order or range",
				len(entries), e.Offset, e.Position)
		}
		entries = append(entries, e)
		last = e
	}
	return entries, nil
}

// EncodeTimes returns the content of a time index file.
func EncodeTimes(entries []TimeEntry) []byte {
	b := make([]byte, 0, len(entries)*TimeEntrySize)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Timestamp))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Offset))
	}
	return b
}

// DecodeTimes reads a time index file of a segment whose offsets lie below next
// (relative to its base). Timestamps must grow; offsets must not fall.
func DecodeTimes(b []byte, next int64) ([]TimeEntry, error) {
	if len(b)%TimeEntrySize != 0 {
		return nil, fmt.Errorf("time index has %d bytes, not a multiple of %d", len(b), TimeEntrySize)
	}
	entries := make([]TimeEntry, 0, len(b)/TimeEntrySize)
	last := TimeEntry{Timestamp: messages.NoTimestamp}
	for i := 0; i < len(b); i += TimeEntrySize {
		e := TimeEntry{
			Timestamp: messages.Timestamp(binary.BigEndian.Uint64(b[i:])),
			Offset:    int32(binary.BigEndian.Uint32(b[i+8:])),
		}
		if e.Timestamp <= last.Timestamp || e.Offset < last.Offset || int64(e.Offset) >= next {
			return nil, fmt.Errorf("time index entry %d (%d for offset %d) is out of order or range",
				len(entries), e.Timestamp, e.Offset)
		}
		entries = append(entries, e)
		last = e
	}
	return entries, nil
}

// entryFor returns the entry to start a walk from to find the batch that holds
// the relative offset: the last one at or below it; false if there is none.
func entryFor(entries []OffsetEntry, offset int64) (OffsetEntry, bool) {
	i := sort.Search(len(entries), func(i int) bool { return int64(entries[i].Offset) > offset })
	if i == 0 {
		return OffsetEntry{}, false
	}
	return entries[i-1], true
}

// entryBelow returns the last entry at or below position pos; false if there is
// none.
func entryBelow(entries []OffsetEntry, pos int64) (OffsetEntry, bool) {
	i := sort.Search(len(entries), func(i int) bool { return int64(entries[i].Position) > pos })
	if i == 0 {
		return OffsetEntry{}, false
	}
	return entries[i-1], true
}

// offsetFor returns the relative offset to start from to find a record as late
// as t: that of the last entry at or below it, 0 if none.
func offsetFor(entries []TimeEntry, t messages.Timestamp) int64 {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].Timestamp > t })
	if i == 0 {
		return 0
	}
	return int64(entries[i-1].Offset)
}
