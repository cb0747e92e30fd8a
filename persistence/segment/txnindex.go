package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/vfs"
)

// TxnEntrySize is the size of an entry of a transaction index on disk, in bytes:
//
//	0  version             2   0
//	2  producer id         8
//	10 first offset        8   of the transaction
//	18 last offset         8   of its abort marker, which lies in this segment
//	26 last stable offset  8   when the marker was written
const TxnEntrySize = 34

// txnVersion is the only version of an entry there is.
const txnVersion = 0

// EncodeAborted returns the content of a transaction index file.
func EncodeAborted(entries []data.EndedTxn) []byte {
	b := make([]byte, 0, len(entries)*TxnEntrySize)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, txnVersion)
		b = binary.BigEndian.AppendUint64(b, uint64(e.Producer))
		b = binary.BigEndian.AppendUint64(b, uint64(e.First))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Marker))
		b = binary.BigEndian.AppendUint64(b, uint64(e.LastStable))
	}
	return b
}

// DecodeAborted reads the transaction index file of a segment whose offsets lie
// from base up to next. Markers must grow. Entries whose markers lie at or above
// next are left out: they were truncated away.
func DecodeAborted(b []byte, base, next messages.Offset) ([]data.EndedTxn, error) {
	if len(b)%TxnEntrySize != 0 {
		return nil, fmt.Errorf("transaction index has %d bytes, not a multiple of %d",
			len(b), TxnEntrySize)
	}
	entries := make([]data.EndedTxn, 0, len(b)/TxnEntrySize)
	last := base - 1
	for i := 0; len(b) > 0; i, b = i+1, b[TxnEntrySize:] {
		if v := binary.BigEndian.Uint16(b); v != txnVersion {
			return nil, fmt.Errorf("transaction index entry %d has version %d, %d is known",
				i, v, txnVersion)
		}
		e := data.EndedTxn{
			Producer:   messages.ProducerID(binary.BigEndian.Uint64(b[2:])),
			First:      messages.Offset(binary.BigEndian.Uint64(b[10:])),
			Marker:     messages.Offset(binary.BigEndian.Uint64(b[18:])),
			LastStable: messages.Offset(binary.BigEndian.Uint64(b[26:])),
		}
		// One beyond the marker, but without the overflow of a damaged one.
		late := e.LastStable < 0 || e.LastStable-1 > e.Marker
		if e.Producer < 0 || e.First < 0 || e.First >= e.Marker || e.Marker <= last || late {
			return nil, fmt.Errorf("transaction index entry %d (offsets %d to %d, last stable %d) "+
				"is out of order or range", i, e.First, e.Marker, e.LastStable)
		}
		last = e.Marker
		if e.Marker < next {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Aborted returns the transactions whose abort markers the segment holds, by
// marker; nobody may change them. Of a sealed segment they are read from the
// transaction index file; none means that there is none. Any goroutine may call
// it. It fails with ErrRetired, an *IOError or a *CorruptError.
func (s *Segment) Aborted() ([]data.EndedTxn, error) {
	if known := s.aborted.Load(); known != nil {
		return *known, nil
	}
	s.load.Lock()
	defer s.load.Unlock()
	if known := s.aborted.Load(); known != nil {
		return *known, nil
	}
	name := FileName(s.dir, s.base, TxnIndexSuffix)
	b, err := vfs.ReadFile(s.fsys, name)
	if s.handle.retired() {
		return nil, ErrRetired // the file is gone with the segment, or is another's
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, ioError("read", name, 0, err)
	}
	entries, err := DecodeAborted(b, s.base, s.Next())
	if err != nil {
		// A fault: the log makes the file again when it is opened anew.
		return nil, &CorruptError{File: name, Offset: messages.NoOffset,
			Err: fmt.Errorf("%w: %w", ErrFault, err)}
	}
	s.aborted.CompareAndSwap(nil, &entries)
	return entries, nil
}

// AbortedOver returns the transactions of the segment that were aborted and have
// records in [from, upTo). whole is false if those after upTo may go on in the
// next segment.
func (s *Segment) AbortedOver(from, upTo messages.Offset) (found []data.EndedTxn, whole bool,
	err error,
) {
	all, err := s.Aborted()
	if err != nil {
		return nil, false, err
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].Marker >= from })
	for _, e := range all[i:] {
		if e.First < upTo {
			found = append(found, e)
		}
		if e.LastStable >= upTo {
			return found, true, nil // what ends later began later
		}
	}
	return found, false, nil
}

// AddAborted adds transactions whose abort markers the segment holds; those that
// it has already, because the log is read again, are left out. The index file of
// a sealed segment is to be written again: call Finish. Owner only.
func (s *Segment) AddAborted(entries []data.EndedTxn) error {
	known, err := s.Aborted()
	if err != nil {
		return err
	}
	if n := len(known); n > 0 {
		last := known[n-1].Marker
		entries = slices.DeleteFunc(slices.Clone(entries),
			func(e data.EndedTxn) bool { return e.Marker <= last })
	}
	if len(entries) == 0 {
		return nil
	}
	s.setAborted(append(known, entries...)) // readers see no more than they were given
	return nil
}

// ForgetAborted makes the transaction index empty: the log is going to be read
// again. Owner only.
func (s *Segment) ForgetAborted() { s.setAborted([]data.EndedTxn{}) }

func (s *Segment) setAborted(entries []data.EndedTxn) {
	s.sealed.Store(false)
	s.txnStale, s.txnSynced = true, false
	s.aborted.Store(&entries)
}

// cutAborted forgets the transactions whose markers lie at or above end.
func (s *Segment) cutAborted(end messages.Offset) error {
	known, err := s.Aborted()
	if err != nil {
		return err
	}
	n := sort.Search(len(known), func(i int) bool { return known[i].Marker >= end })
	s.setAborted(known[:n:n])
	return nil
}

// writeAborted makes the transaction index file what memory has. There is none when
// there is nothing in it.
func (s *Segment) writeAborted() error {
	if !s.txnStale {
		return nil
	}
	known := *s.aborted.Load() // not forgotten while the file lacks it
	name := FileName(s.dir, s.base, TxnIndexSuffix)
	if len(known) > 0 {
		s.txnFile = true
		if err := WriteFile(s.fsys, name, EncodeAborted(known), false); err != nil {
			return err
		}
	} else if s.txnFile {
		if err := s.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ioError("remove", name, 0, err)
		}
		s.txnFile = false
	}
	s.txnStale = false
	return nil
}

// txnsDirty reports whether a power cut may undo what happened to the transaction
// index file.
func (s *Segment) txnsDirty() bool { return !s.txnStale && !s.txnSynced }

// Unfinished reports whether the segment is sealed and its transaction index file
// is not what it should be, because the disk was full: without the file nobody
// could tell, so the records do not count as durable before Finish succeeds.
// Owner only.
func (s *Segment) Unfinished() bool {
	return s.closed && s.txnStale && (s.txnFile || len(*s.aborted.Load()) > 0)
}

// AbortedEntries is how many entries the transaction index has, in memory.
func (s *Segment) AbortedEntries() int {
	if known := s.aborted.Load(); known != nil {
		return len(*known)
	}
	return 0
}

// unloadAborted forgets the entries of a sealed segment: its file has them. No
// entries are kept, so that nobody looks for the file again.
func (s *Segment) unloadAborted() {
	known := s.aborted.Load()
	if known != nil && len(*known) > 0 && s.sealed.Load() {
		s.aborted.CompareAndSwap(known, nil)
	}
}

// syncAborted makes the transaction index file durable, if there is one.
func (s *Segment) syncAborted() error {
	err := s.syncFile(TxnIndexSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the segment was cut meanwhile
	}
	return err
}
