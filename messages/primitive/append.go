// Package primitive writes and reads the primitives that Kafka's records are made
// of: numbers, texts, bytes, arrays, tagged fields.
//
// It is for the keys and values of internal topics and for what clients put into
// opaque fields, where the bytes must be Kafka's; requests and responses have a
// codec of their own. All numbers are big endian. Texts, bytes and arrays say
// first how long they are, in one of two encodings: Classic or Flexible.
//
// It owns the rules that make a primitive damaged, not what a record means: which
// fields there are, and which values they may have, is its callers' knowledge.
// It is pure and keeps nothing between calls. Anything may import it.
package primitive

import (
	"encoding/binary"
	"math"

	"github.com/troupelog/troupe/messages/invariant"
)

// Encoding is how a version of a record writes lengths. A record's schema says
// from which version on it is flexible; primitive.Encoding(version >= n) turns that
// into an Encoding.
type Encoding bool

const (
	// Classic lengths have 2 bytes for a text, else 4, and are -1 for null.
	Classic Encoding = false
	// Flexible lengths are varints and count from 1, with 0 for null. Each structure
	// ends in its tagged fields (KIP-482).
	Flexible Encoding = true
)

// MaxText is how long a text may be, in bytes; Kafka's bound in both encodings.
const MaxText = math.MaxInt16

// AppendInt16 appends a number of 2 bytes.
func AppendInt16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }

// AppendInt32 appends a number of 4 bytes.
func AppendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

// AppendInt64 appends a number of 8 bytes.
func AppendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// AppendText appends a text of at most MaxText bytes.
func (e Encoding) AppendText(b []byte, s string) []byte {
	invariant.That(len(s) <= MaxText, "a text of %d bytes is in a record", len(s))
	if e == Flexible {
		b = appendLength(b, len(s))
	} else {
		b = AppendInt16(b, int16(len(s)))
	}
	return append(b, s...)
}

// AppendNullableText appends a text that is null when it is empty.
func (e Encoding) AppendNullableText(b []byte, s string) []byte {
	switch {
	case s != "":
		return e.AppendText(b, s)
	case e == Flexible:
		return append(b, 0)
	}
	return AppendInt16(b, -1)
}

// AppendTexts appends an array of texts.
func (e Encoding) AppendTexts(b []byte, list []string) []byte {
	b = e.AppendCount(b, len(list))
	for _, s := range list {
		b = e.AppendText(b, s)
	}
	return b
}

// AppendBytes appends bytes, of which nil are none, not null.
func (e Encoding) AppendBytes(b, v []byte) []byte { return append(e.AppendCount(b, len(v)), v...) }

// AppendCount appends how many elements of an array follow; -1: it is null.
func (e Encoding) AppendCount(b []byte, n int) []byte {
	invariant.That(n >= -1 && n < math.MaxInt32, "an array of %d is in a record", n)
	if e == Flexible {
		return appendLength(b, n)
	}
	return AppendInt32(b, int32(n))
}

func appendLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n+1)) }

// AppendTags begins the tagged fields that end a structure: n of them follow, each
// begun by AppendTag, in ascending order. Classic structures have none.
func (e Encoding) AppendTags(b []byte, n int) []byte {
	if e == Flexible {
		return binary.AppendUvarint(b, uint64(n))
	}
	invariant.That(n == 0, "%d tagged fields are in a record that is not flexible", n)
	return b
}

// AppendTag begins a tagged field, of whose value this many bytes follow.
func AppendTag(b []byte, tag, size int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(tag)), uint64(size))
}
