package consumer

import (
	"encoding/binary"
	"math"

	"github.com/troupelog/troupe/messages/group"
)

func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

func appendLen(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)+1) }

func appendString(b []byte, s string) []byte { return append(appendLen(b, len(s)), s...) }

func appendNullable(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return appendString(b, s)
}

func appendStrings(b []byte, list []string) []byte {
	b = appendLen(b, len(list))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func appendPartitions(b []byte, s set) []byte {
	b = appendLen(b, len(s))
	for _, t := range s {
		b = append(b, t.Topic[:]...)
		b = appendLen(b, len(t.Partitions))
		for _, p := range t.Partitions {
			b = appendInt32(b, p)
		}
		b = append(b, 0)
	}
	return b
}

// reader takes a record apart. The first thing that is wrong makes it bad, and
// all it returns after that is zero. It never makes room for more than the bytes
// it has can hold.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) rest() []byte { return r.take(uint64(len(r.b))) }

func (r *reader) int8() int8 {
	if b := r.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) int64() int64 {
	if b := r.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > math.MaxUint32 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string16() string {
	n := r.int16()
	if n < 0 {
		r.bad = true
		return ""
	}
	return string(r.take(uint64(n)))
}

// string reads a text; null is "".
func (r *reader) string() string {
	n := r.uvarint()
	if n == 0 {
		return ""
	}
	return string(r.take(n - 1))
}

// count reads the length of an array whose elements have at least this many
// bytes; null is 0.
func (r *reader) count(least int) int {
	n := r.uvarint()
	if n == 0 {
		return 0
	}
	if n--; n > uint64(len(r.b)/least) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) strings() []string {
	var list []string
	for range r.count(1) {
		list = append(list, r.string())
	}
	return list
}

// partitions reads topics with their partitions, which may stand in any order.
func (r *reader) partitions() set {
	const least = 16 + 1 + 1 // id, length, tags
	n := r.count(least)
	listed := make([]group.TopicPartitions, 0, n)
	for range n {
		var t group.TopicPartitions
		copy(t.Topic[:], r.take(uint64(len(t.Topic))))
		for range r.count(4) {
			p := r.int32()
			r.bad = r.bad || p < 0 || p > maxPartition
			t.Partitions = append(t.Partitions, p)
		}
		r.tags(nil)
		listed = append(listed, t)
	}
	if r.bad || len(listed) == 0 {
		return nil
	}
	return normal(listed)
}

// maxPartition bounds what a record can make the table of owners grow to. A topic
// has far fewer partitions.
const maxPartition = 1 << 20

// tags reads tagged fields: each is handed to f, which reads of it what it knows.
func (r *reader) tags(f func(tag uint64, r *reader)) {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		tag := r.uvarint()
		field := reader{b: r.take(r.uvarint())}
		if f != nil && !r.bad {
			f(tag, &field)
			r.bad = field.bad
		}
	}
}
