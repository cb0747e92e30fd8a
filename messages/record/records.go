package record

import (
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/troupelog/troupe/messages"
)

// Record is one record of a batch. Its slices alias the batch, or a buffer that
// is reused: they are valid until the iteration goes on.
type Record struct {
	Offset    messages.Offset
	Timestamp messages.Timestamp // the broker's when the batch is of LogAppendTime
	Key       []byte             // nil: null; empty: a key of no bytes
	Value     []byte             // nil: null, a tombstone in compacted topics
	// HeaderCount is how many headers there are; RecordHeaders reads them.
	HeaderCount int

	headers []byte
	raw     []byte // the whole record as it stands in its batch
}

// RecordHeader is one header of a record. Value is nil when it is null.
type RecordHeader struct {
	Key, Value []byte
}

// recordSizeMin is the size of the smallest record: seven fields of one byte.
const recordSizeMin = 7

// CheckCount returns an error if the records of b, which is not compressed, cannot be as
// many as its header says: for callers that make room for them before they iterate. It
// wraps messages.ErrCorruptBatch.
func CheckCount(b *Batch) error { return checkCount(&b.Header, b.Bytes[HeaderSize:]) }

func checkCount(h *Header, body []byte) error {
	if h.Count < 0 || int64(h.Count) > int64(len(body)/recordSizeMin) {
		return fmt.Errorf("%d bytes cannot hold the %d records they claim: %w",
			len(body), h.Count, messages.ErrCorruptBatch)
	}
	return nil
}

// Records iterates over the records of b in offset order, decompressing them
// into a buffer of at most limit bytes (InflateLimit is a sane one). The Record
// is the same at each step.
//
// The first error ends the iteration; the Record is nil then. An error names
// the record's index, counted from 0, and wraps messages.ErrCorruptBatch (the
// bytes are no records, or not those the header counts),
// messages.ErrUnsupportedCompression or ErrInflateLimit. Records that were
// yielded before it may be bad, too: sums are checked by Parse alone.
//
// The cost is that of decompressing the whole batch, even if the loop ends
// early. A batch that a compaction emptied has no records and no error.
func Records(b *Batch, limit int) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		body, err := inflate(b.Codec(), b.Bytes[HeaderSize:], limit)
		if err != nil {
			yield(nil, err)
			return
		}
		defer body.release()
		walk(&b.Header, body.bytes, yield)
	}
}

// walk yields the records in body, which are not compressed.
func walk(h *Header, body []byte, yield func(*Record, error) bool) {
	if err := checkCount(h, body); err != nil {
		yield(nil, err)
		return
	}
	var r Record
	previous := int64(-1)
	for i := range h.Count {
		rest, delta, err := r.parse(h, body)
		if err == nil && (delta <= previous || delta > int64(h.LastOffsetDelta)) {
			err = fmt.Errorf("offset delta %d after %d, the last is %d: %w",
				delta, previous, h.LastOffsetDelta, messages.ErrCorruptBatch)
		}
		if err != nil {
			yield(nil, fmt.Errorf("record %d: %w", i, err))
			return
		}
		r.raw = body[:len(body)-len(rest)]
		if !yield(&r, nil) {
			return
		}
		body, previous = rest, delta
	}
	if len(body) > 0 {
		yield(nil, fmt.Errorf("%d bytes follow the last of %d records: %w",
			len(body), h.Count, messages.ErrCorruptBatch))
	}
}

// parse reads the record at the start of b and returns what follows it and its
// offset delta.
func (r *Record) parse(h *Header, b []byte) (rest []byte, delta int64, err error) {
	size, n := binary.Varint(b)
	if n <= 0 || size < recordSizeMin-1 || size > int64(len(b)-n) {
		return nil, 0, fmt.Errorf("length %d, %d bytes are left: %w",
			size, len(b), messages.ErrCorruptBatch)
	}
	rest = b[n+int(size):]
	f := fields{b: b[n+1 : n+int(size)]} // without the attributes, which are unused
	timestampDelta := f.varint()
	delta = f.varint()
	r.Key = f.bytes()
	r.Value = f.bytes()
	r.HeaderCount = f.count()
	r.headers = f.b
	for range r.HeaderCount {
		f.header()
	}
	if f.bad || len(f.b) > 0 {
		return nil, 0, fmt.Errorf("its fields do not fill its %d bytes: %w",
			size, messages.ErrCorruptBatch)
	}
	r.Offset = h.BaseOffset + messages.Offset(delta)
	r.Timestamp = h.BaseTimestamp + messages.Timestamp(timestampDelta)
	if h.LogAppendTime() {
		r.Timestamp = h.MaxTimestamp
	}
	return rest, delta, nil
}

// RecordHeaders iterates over the record's headers in order. They were checked
// when the record was read. They are valid as long as the record is.
func (r *Record) RecordHeaders() iter.Seq[RecordHeader] {
	return func(yield func(RecordHeader) bool) {
		f := fields{b: r.headers}
		for range r.HeaderCount {
			if !yield(f.header()) {
				return
			}
		}
	}
}

// fields reads the fields of a record. After the first that does not fit, bad
// is set and all others are zero.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) varint() int64 {
	if len(f.b) > 0 && f.b[0] < 0x80 { // most are one byte
		u := f.b[0]
		f.b = f.b[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(f.b)
	if n <= 0 || f.bad {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

// bytes reads a length and as many bytes; -1 stands for null.
func (f *fields) bytes() []byte {
	n := f.varint()
	if f.bad || n == -1 {
		return nil
	}
	if n < -1 || n > int64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

// count reads how many headers follow: no more than can be there.
func (f *fields) count() int {
	const headerSizeMin = 2
	n := f.varint()
	if n < 0 || n > int64(len(f.b)/headerSizeMin) {
		f.bad, f.b = true, nil
		return 0
	}
	return int(n)
}

func (f *fields) header() RecordHeader {
	h := RecordHeader{Key: f.bytes()}
	if h.Key == nil {
		f.bad, f.b = true, nil // a header's key cannot be null
	}
	h.Value = f.bytes()
	return h
}

// FirstAtOrAfter returns offset and timestamp of the first record of b whose
// timestamp is t or later, as ListOffsets asks for it; ok is false if there is
// none. Errors are those of Records.
func FirstAtOrAfter(b *Batch, t messages.Timestamp, limit int) (
	offset messages.Offset, at messages.Timestamp, ok bool, err error,
) {
	if b.LogAppendTime() && b.MaxTimestamp < t {
		return 0, 0, false, nil
	}
	for r, err := range Records(b, limit) {
		if err != nil {
			return 0, 0, false, err
		}
		if r.Timestamp >= t {
			return r.Offset, r.Timestamp, true, nil
		}
	}
	return 0, 0, false, nil
}

// Latest returns offset and timestamp of the record of b with the greatest
// timestamp, the first of them if there are several (KIP-734); ok is false if b
// has no records. Errors are those of Records.
func Latest(b *Batch, limit int) (
	offset messages.Offset, at messages.Timestamp, ok bool, err error,
) {
	for r, err := range Records(b, limit) {
		if err != nil {
			return 0, 0, false, err
		}
		if !ok || r.Timestamp > at {
			offset, at, ok = r.Offset, r.Timestamp, true
		}
	}
	return offset, at, ok, nil
}
