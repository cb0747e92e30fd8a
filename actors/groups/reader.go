package groups

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// reader takes Kafka's primitives off a record. Once something is missing or
// impossible it stays failed and gives zeros, so that callers check once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrDamaged)
	}
}

// take returns the next n bytes, nil if there are fewer.
func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.fail("%d bytes are announced, %d are there", n, len(r.b))
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
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

// uvarint reads an unsigned varint of at most 32 bits.
func (r *reader) uvarint() int {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt32 {
		r.fail("varint is cut short or too large")
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// length reads how many things follow; -1: null.
func (r *reader) length(flexible, short bool) int {
	switch {
	case flexible:
		return r.uvarint() - 1
	case short:
		return int(r.int16())
	}
	return int(r.int32())
}

func (r *reader) nullableString(flexible bool) (s string, null bool) {
	n := r.length(flexible, true)
	if n == -1 {
		return "", true
	}
	return string(r.take(n)), false
}

func (r *reader) string(flexible bool) string {
	s, null := r.nullableString(flexible)
	if null {
		r.fail("string is null")
	}
	return s
}

// bytes returns a copy: what is read may belong to a buffer that is used again.
func (r *reader) bytes(flexible bool) []byte {
	return slices.Clone(r.take(r.length(flexible, false)))
}

// tags hands the tagged fields at the end of a flexible structure to f.
func (r *reader) tags(flexible bool, f func(tag int, value *reader)) {
	if !flexible {
		return
	}
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		tag := r.uvarint()
		value := &reader{b: r.take(r.uvarint())}
		if r.err == nil && f != nil {
			f(tag, value)
			r.err = value.err
		}
	}
}

// end returns the error of the whole record.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes are left over", len(r.b))
	}
	return r.err
}
