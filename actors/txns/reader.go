package txns

import (
	"encoding/binary"
	"fmt"

	"github.com/troupelog/troupe/messages"
)

// reader takes the fields of a record off its bytes. After the first error, which
// wraps ErrDamaged, every field is zero.
type reader struct {
	b   []byte
	err error
}

// fail notes what is wrong.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrDamaged)
	}
	r.b = nil
}

// end makes sure that there is nothing more.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

var zeros [8]byte

// take returns the next n bytes, at most 8 of which may be missing.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("%d bytes are missing", n-len(r.b))
		return zeros[:min(n, len(zeros))]
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) int8() int8   { return int8(r.take(1)[0]) }
func (r *reader) int16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) int32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *reader) int64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("no varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads the length of an array whose elements have at least size bytes
// each; null is -1.
func (r *reader) count(compact bool, size int) int {
	var n int64
	if compact {
		n = int64(min(r.uvarint(), 1<<32)) - 1
	} else {
		n = int64(r.int32())
	}
	if n < -1 || n*int64(size) > int64(len(r.b)) {
		r.fail("an array of %d in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) text(compact bool) string {
	var n int64
	if compact {
		n = int64(min(r.uvarint(), 1<<32)) - 1
	} else {
		n = int64(r.int16())
	}
	if n < 0 || n > int64(len(r.b)) {
		r.fail("a string of %d in %d bytes", n, len(r.b))
		return ""
	}
	return string(r.take(int(n)))
}

// partitions reads the partitions of a transaction.
func (r *reader) partitions(compact bool) []messages.TopicPartition {
	var all []messages.TopicPartition
	for range r.count(compact, 2) {
		topic := r.text(compact)
		for range r.count(compact, 4) {
			p := messages.TopicPartition{Topic: topic, Partition: r.int32()}
			if p.Partition < 0 {
				r.fail("partition %d of topic %q", p.Partition, topic)
			}
			all = append(all, p)
		}
		if compact {
			r.tags(func(_ uint64, field *reader) { field.b = nil })
		}
		if r.err != nil {
			return nil
		}
	}
	return sortedSet(all)
}

// tags reads tagged fields; f takes all of the field it is handed.
func (r *reader) tags(f func(tag uint64, field *reader)) {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail("%d tagged fields in %d bytes", n, len(r.b))
	}
	for range min(n, uint64(len(r.b))) {
		tag, size := r.uvarint(), r.uvarint()
		if size > uint64(len(r.b)) {
			r.fail("a tagged field of %d in %d bytes", size, len(r.b))
		}
		if r.err != nil {
			return
		}
		field := reader{b: r.take(int(size))}
		f(tag, &field)
		if err := field.end(); err != nil {
			r.fail("tagged field %d: %v", tag, err)
			return
		}
	}
}
