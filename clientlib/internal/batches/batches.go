// Package batches reads what a leader answered to a fetch, batch by batch: it checks and
// decompresses them, and leaves out what readers do not see: transaction markers and, for
// those that read what is committed, records of aborted transactions.
//
// It has no state but that of a Reader, no clock and no goroutine. Package clientlib makes
// records of the batches, and is alone to use it.
package batches

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// Aborted is an aborted transaction.
type Aborted struct {
	Producer messages.ProducerID
	First    messages.Offset
}

// Span looks at the headers of the batches in b and returns how many bytes are whole
// batches, the offset after the last one and its leader epoch. What is behind the last
// whole batch is cut, as an answer may be. It fails with messages.ErrCorruptBatch or
// messages.ErrInvalidRecord if the first is not one; later ones fail once they are first.
// If their offsets do not rise it fails, too: no checksum covers those, and any of them may
// be wrong.
func Span(b []byte) (size int, next messages.Offset, epoch messages.LeaderEpoch, err error) {
	for size < len(b) {
		h, err := record.ParseHeader(b[size:])
		if err == nil && h.Size() > len(b)-size {
			err = record.ErrTruncated
		}
		if err != nil {
			if size > 0 {
				return size, next, epoch, nil
			}
			return 0, 0, 0, fmt.Errorf("answer of %d bytes: %w", len(b), err)
		}
		if h.BaseOffset < next || h.NextOffset() <= h.BaseOffset {
			return 0, 0, 0, fmt.Errorf("a batch at offset %d behind one that ends at %d: %w",
				h.BaseOffset, next, messages.ErrCorruptBatch)
		}
		size += h.Size()
		next, epoch = h.NextOffset(), h.LeaderEpoch
	}
	return size, next, epoch, nil
}

// Reader goes through an answer. One goroutine at a time uses it.
type Reader struct {
	rest    []byte
	aborted []Aborted // by first offset; those that were reached are taken off
	aborts  map[messages.ProducerID]struct{}
	limit   int
}

// NewReader returns a Reader of the batches in b. aborted are the transactions that the
// leader named; none for readers of everything. limit bounds, in bytes, what the records
// of one batch may be once decompressed.
func NewReader(b []byte, aborted []Aborted, limit int) *Reader {
	slices.SortFunc(aborted, func(x, y Aborted) int { return cmp.Compare(x.First, y.First) })
	return &Reader{rest: b, aborted: aborted, limit: limit}
}

// Next returns the next batch with records for the reader, not compressed and with as many
// records as it claims at most; its slices may be kept. ok is false after the last one.
// from is the first offset that the reader wants: batches before it are skipped. Errors
// name the batch and wrap messages.ErrCorruptBatch, messages.ErrInvalidRecord or
// messages.ErrUnsupportedCompression; the Reader is of no use after one.
func (r *Reader) Next(from messages.Offset) (b record.Batch, ok bool, err error) {
	for len(r.rest) > 0 {
		b, rest, err := record.Parse(r.rest)
		if err != nil {
			return record.Batch{}, false, r.damaged(err)
		}
		if !r.shown(&b) || b.LastOffset() < from || b.Count == 0 {
			r.rest = rest
			continue
		}
		base := b.BaseOffset
		if b, err = record.Inflate(&b, r.limit); err == nil {
			err = record.CheckCount(&b)
		}
		if err != nil {
			return record.Batch{}, false, fmt.Errorf("batch at offset %d: %w", base, err)
		}
		r.rest = rest
		return b, true, nil
	}
	return record.Batch{}, false, nil
}

func (r *Reader) damaged(err error) error {
	if h, bad := record.ParseHeader(r.rest); bad == nil {
		return fmt.Errorf("batch at offset %d: %w", h.BaseOffset, err)
	}
	return err
}

// shown reports whether the reader sees a batch, and keeps account of the transactions
// that were aborted.
func (r *Reader) shown(b *record.Batch) bool {
	for len(r.aborted) > 0 && r.aborted[0].First <= b.LastOffset() {
		if r.aborts == nil {
			r.aborts = map[messages.ProducerID]struct{}{}
		}
		r.aborts[r.aborted[0].Producer] = struct{}{}
		r.aborted = r.aborted[1:]
	}
	if b.Control() {
		if len(r.aborts) > 0 {
			if m, ok, err := record.ParseMarker(b); err == nil && ok && !m.Commit {
				delete(r.aborts, b.ProducerID)
			}
		}
		return false
	}
	if !b.Transactional() || len(r.aborts) == 0 {
		return true
	}
	_, aborted := r.aborts[b.ProducerID]
	return !aborted
}
