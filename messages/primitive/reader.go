package primitive

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/troupelog/troupe/messages/invariant"
)

// Reader takes the primitives off a record, one after the other. The first thing
// that is missing or impossible makes it fail; from then on it gives zeros, so
// callers may check once, with End. It makes no room for more than its bytes can
// hold. One goroutine at a time may use it.
type Reader struct {
	b       []byte
	enc     Encoding
	damaged error
	err     error
}

// NewReader reads b, which it neither changes nor copies. Its errors wrap damaged,
// the caller's word for a record that nobody has written. The encoding is Classic
// until SetEncoding.
func NewReader(b []byte, damaged error) *Reader { return &Reader{b: b, damaged: damaged} }

// SetEncoding says how what follows is encoded. It is for after the version of the
// record, which reads alike in both.
func (r *Reader) SetEncoding(e Encoding) { r.enc = e }

// Fail makes the Reader fail, unless it has: what was read has an impossible value.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), r.damaged)
	}
	r.b = nil // so that there is no need to look at err before each read
}

// Err returns what has made the Reader fail, nil if nothing has.
func (r *Reader) Err() error { return r.err }

// End returns Err, and an error, too, if there is something left to read.
func (r *Reader) End() error {
	if len(r.b) > 0 {
		r.Fail("%d bytes are left over", len(r.b))
	}
	return r.err
}

// Take returns the next n bytes as they are, without a copy: they live as long as
// the record. It fails and returns nil if there are fewer.
func (r *Reader) Take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.Fail("%d bytes are announced, %d are there", n, len(r.b))
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// Rest takes all that is left.
func (r *Reader) Rest() []byte { return r.Take(len(r.b)) }

// Int8 reads a number of 1 byte.
func (r *Reader) Int8() int8 {
	if b := r.Take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

// Int16 reads a number of 2 bytes.
func (r *Reader) Int16() int16 {
	if b := r.Take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

// Int32 reads a number of 4 bytes.
func (r *Reader) Int32() int32 {
	if b := r.Take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// Int64 reads a number of 8 bytes.
func (r *Reader) Int64() int64 {
	if b := r.Take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// uvarint reads a varint of 0 to 2^31-1, which is all that a length, a tag or a
// count can be.
func (r *Reader) uvarint() int {
	// A number of 32 bits has at most 5 bytes of 7 bits; Kafka reads no more.
	v, n := binary.Uvarint(r.b[:min(len(r.b), binary.MaxVarintLen32)])
	if n <= 0 || v > math.MaxInt32 {
		r.Fail("varint is cut short or too large")
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// length reads the length of bytes or an array, -1 for null.
func (r *Reader) length() int {
	if r.enc == Flexible {
		return r.uvarint() - 1
	}
	return int(r.Int32())
}

// NullableText reads a text of at most MaxText bytes; null is "".
func (r *Reader) NullableText() string {
	s, _ := r.text()
	return s
}

// Text reads a text of at most MaxText bytes. It fails if the text is null.
func (r *Reader) Text() string {
	s, null := r.text()
	if null {
		r.Fail("text is null")
	}
	return s
}

func (r *Reader) text() (s string, null bool) {
	var n int
	if r.enc == Flexible {
		n = r.length()
	} else {
		n = int(r.Int16())
	}
	switch {
	case n == -1:
		return "", r.err == nil
	case n > MaxText:
		r.Fail("text has %d bytes, more than %d", n, MaxText)
	}
	return string(r.Take(n)), false
}

// Texts reads an array of texts, none of them null. A null array is nil.
func (r *Reader) Texts() []string {
	least := 2
	if r.enc == Flexible {
		least = 1
	}
	var list []string
	for range r.Count(least) {
		s := r.Text()
		if r.err != nil {
			return nil
		}
		list = append(list, s)
	}
	return list
}

// Bytes reads bytes into a copy. It fails if they are null.
func (r *Reader) Bytes() []byte { return slices.Clone(r.Take(r.length())) }

// Count reads how many elements an array has, 0 if it is null. It fails if they
// cannot all be there: each has at least this many bytes, and no fewer than 1.
// What is left to read bounds what a caller allocates for them.
func (r *Reader) Count(least int) int {
	invariant.That(least > 0, "an array of elements of %d bytes is read", least)
	n := r.length()
	if n < -1 || n > len(r.b)/least {
		r.Fail("an array of %d is announced, %d bytes are there", n, len(r.b))
		return 0
	}
	return max(n, 0)
}

// Tags reads the tagged fields that end a structure; a Classic one has none. Each
// field is handed to f, if that is not nil, with a Reader of its own. A field that
// f leaves alone is dropped, as those of later versions are; one that f begins
// to read it must read to the end.
func (r *Reader) Tags(f func(tag int, field *Reader)) {
	if r.enc != Flexible {
		return
	}
	n := r.uvarint()
	if n > len(r.b)/2 { // a tag and a size
		r.Fail("%d tagged fields are announced, %d bytes are there", n, len(r.b))
		return
	}
	for range n {
		tag := r.uvarint()
		value := r.Take(r.uvarint())
		if r.err != nil {
			return
		}
		if f != nil {
			r.tag(tag, value, f)
		}
	}
}

func (r *Reader) tag(tag int, value []byte, f func(tag int, field *Reader)) {
	field := &Reader{b: value, enc: r.enc, damaged: r.damaged}
	f(tag, field)
	if field.err == nil && len(field.b) == len(value) {
		return
	}
	if err := field.End(); err != nil {
		r.b, r.err = nil, fmt.Errorf("tagged field %d: %w", tag, err)
	}
}
