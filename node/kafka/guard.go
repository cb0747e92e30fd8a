package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The guard walks a request before kmsg decodes it. kmsg was written for
// clients, which trust their broker: it allocates an array on the word of its
// length, up to 64 bytes for each byte received, and a tag section that claims
// 2^32 entries keeps it busy for a minute after the bytes have run out. The
// guard knows the layout of every request served, checks every length, count
// and tag against the bytes that are there, and allocates nothing. Only what it
// accepted reaches kmsg.

// Bounds of one request.
const (
	// elementsMax bounds the elements of all arrays of a request together. The
	// largest requests of real clients are Fetch and Metadata of some ten
	// thousand partitions.
	elementsMax = 256 << 10
	// unknownTagsMax bounds tagged fields that the schema does not know: kmsg
	// keeps each in a map of its own.
	unknownTagsMax = 1024
	// elementMemory is what a decoded array element takes, in bytes, at most
	// on average.
	elementMemory = 128
	// textMax is Kafka's bound of strings, in bytes.
	textMax = 1<<15 - 1
)

// Errors of the guard; fmt.Errorf adds where.
var (
	errCutShort   = errors.New("bytes end before the field does")
	errNegative   = errors.New("negative length")
	errNull       = errors.New("null where the schema allows none")
	errTooLong    = errors.New("string is longer than 32767 bytes")
	errTooMany    = errors.New("more array elements than the bytes can hold")
	errElements   = fmt.Errorf("more than %d array elements", elementsMax)
	errTagCount   = errors.New("more tagged fields than the bytes can hold")
	errTagOrder   = errors.New("tagged fields are not in ascending order")
	errTagSize    = errors.New("tagged field is not as long as it says")
	errTags       = fmt.Errorf("more than %d unknown tagged fields", unknownTagsMax)
	errVarint     = errors.New("varint is longer than 32 bits")
	errPresence   = errors.New("presence byte is neither 1 nor -1")
	errBodyLength = errors.New("body is longer than 2 GiB")
)

// kind is how a field is laid out.
type kind uint8

const (
	kindFixed  kind = iota // a fixed number of bytes
	kindText               // string
	kindBytes              // bytes: records
	kindArray              // array of structs, or of one bare field
	kindStruct             // a byte that says whether it is there, then a struct
)

// shape is the layout of one struct in one version.
type shape struct {
	steps    []step
	tags     []tagStep // known tagged fields, ascending
	flexible bool
	bare     bool // an array element that is one field, without a tag section
	least    int  // bytes of the smallest encoding
}

// step is one field.
type step struct {
	kind     kind
	nullable bool
	size     int    // of kindFixed
	elem     *shape // of kindArray and kindStruct
}

// tagStep is one known tagged field.
type tagStep struct {
	tag   uint32
	shape *shape
}

// walker checks one request. It is a value on the caller's stack.
type walker struct {
	b        []byte
	elements int // so far
	unknown  int // tagged fields so far
}

// check walks a request body and returns how much memory its decoded form may
// take, in bytes. b begins behind the client id: with the header's tag section
// if the version is flexible.
func (s *shape) check(b []byte) (body []byte, memory int, err error) {
	if int64(len(b)) > 1<<31-1 {
		return nil, 0, errBodyLength
	}
	w := walker{b: b}
	if s.flexible {
		if err := w.tagged(nil); err != nil {
			return nil, 0, fmt.Errorf("request header, %d bytes before the end: %w", len(w.b), err)
		}
	}
	body = w.b
	if err := w.walk(s); err != nil {
		return nil, 0, fmt.Errorf("%d bytes before the end: %w", len(w.b), err)
	}
	// What follows the last field is ignored, as Kafka does: librdkafka 2.11
	// sends three bytes too many with Metadata v13.
	body = body[:len(body)-len(w.b)]
	return body, len(b) + (w.elements+w.unknown)*elementMemory, nil
}

func (w *walker) walk(s *shape) error {
	for i := range s.steps {
		if err := w.step(&s.steps[i], s.flexible); err != nil {
			return err
		}
	}
	if s.flexible && !s.bare {
		return w.tagged(s.tags)
	}
	return nil
}

func (w *walker) step(s *step, flexible bool) error {
	switch s.kind {
	case kindFixed:
		return w.skip(s.size)
	case kindText:
		return w.text(s, flexible)
	case kindBytes:
		n, err := w.length(s, flexible)
		if err != nil || n < 0 {
			return err
		}
		return w.skip(n)
	case kindArray:
		return w.array(s, flexible)
	default:
		return w.optional(s)
	}
}

func (w *walker) skip(n int) error {
	if n > len(w.b) {
		return errCutShort
	}
	w.b = w.b[n:]
	return nil
}

func (w *walker) text(s *step, flexible bool) error {
	if flexible {
		n, err := w.length(s, true)
		switch {
		case err != nil || n < 0:
			return err
		case n > textMax:
			return errTooLong
		}
		return w.skip(n)
	}
	if len(w.b) < 2 {
		return errCutShort
	}
	n := int(int16(binary.BigEndian.Uint16(w.b)))
	w.b = w.b[2:]
	if n < 0 {
		return null(s, n)
	}
	return w.skip(n)
}

// length reads the length of bytes or an array; -1 is null.
func (w *walker) length(s *step, flexible bool) (int, error) {
	var n int
	if flexible {
		u, err := w.uvarint()
		if err != nil {
			return 0, err
		}
		n = int(int64(u) - 1)
	} else {
		if len(w.b) < 4 {
			return 0, errCutShort
		}
		n = int(int32(binary.BigEndian.Uint32(w.b)))
		w.b = w.b[4:]
	}
	if n < 0 {
		return -1, null(s, n)
	}
	return n, nil
}

// null judges a negative length.
func null(s *step, n int) error {
	switch {
	case n < -1:
		return errNegative
	case !s.nullable:
		return errNull
	}
	return nil
}

func (w *walker) array(s *step, flexible bool) error {
	n, err := w.length(s, flexible)
	if err != nil || n <= 0 {
		return err
	}
	if int64(n)*int64(s.elem.least) > int64(len(w.b)) {
		return errTooMany
	}
	if w.elements += n; w.elements > elementsMax {
		return errElements
	}
	for range n {
		if err := w.walk(s.elem); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) optional(s *step) error {
	if len(w.b) < 1 {
		return errCutShort
	}
	present := int8(w.b[0])
	w.b = w.b[1:]
	switch present {
	case -1:
		return nil
	case 1:
		w.elements++
		return w.walk(s.elem)
	}
	return errPresence
}

// tagged walks a tag section (KIP-482): count, then tag, size and bytes of each.
func (w *walker) tagged(known []tagStep) error {
	count, err := w.uvarint()
	if err != nil {
		return err
	}
	if int64(count)*2 > int64(len(w.b)) {
		return errTagCount
	}
	last := int64(-1)
	for range count {
		tag, err := w.uvarint()
		if err != nil {
			return err
		}
		if int64(tag) <= last {
			return errTagOrder
		}
		last = int64(tag)
		if err := w.tag(tag, known); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) tag(tag uint32, known []tagStep) error {
	size, err := w.uvarint()
	if err != nil {
		return err
	}
	if int64(size) > int64(len(w.b)) {
		return errCutShort
	}
	for i := range known {
		if known[i].tag != tag {
			continue
		}
		rest := w.b[size:]
		w.b = w.b[:size:size]
		if err := w.walk(known[i].shape); err != nil {
			return err
		}
		if len(w.b) > 0 {
			return errTagSize
		}
		w.b = rest
		return nil
	}
	if w.unknown++; w.unknown > unknownTagsMax {
		return errTags
	}
	w.b = w.b[size:]
	return nil
}

// uvarint reads an unsigned varint of at most 32 bits.
func (w *walker) uvarint() (uint32, error) {
	var u uint64
	for i := range 5 {
		if i == len(w.b) {
			return 0, errCutShort
		}
		c := w.b[i]
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			w.b = w.b[i+1:]
			if u > 1<<32-1 {
				return 0, errVarint
			}
			return uint32(u), nil
		}
	}
	return 0, errVarint
}
