// Package record reads and writes record batches of Kafka's format v2.
//
// A batch is a header of 61 bytes and its records, compressed as one blob or
// not at all. The broker stores batches as the producer sent them: Parse looks
// at the header alone, Stamp changes the two fields the CRC does not cover, and
// only the few places that need single records iterate them.
//
//	 0  base offset        8   may be stamped
//	 8  batch length       4   bytes after this field
//	12  leader epoch       4   may be stamped
//	16  magic              1   2
//	17  crc                4   CRC-32C of the bytes from 21 to the end
//	21  attributes         2
//	23  last offset delta  4
//	27  base timestamp     8
//	35  max timestamp      8
//	43  producer id        8   -1: none
//	51  producer epoch     2
//	53  base sequence      4
//	57  record count       4
//	61  records
//
// Everything here is pure but for the pools of the codecs. Functions are safe
// for concurrent use on different batches.
package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/troupelog/troupe/messages"
)

// HeaderSize is the size of a batch header in bytes.
const HeaderSize = 61

// prefixSize is how many bytes come before those that batch length counts.
const prefixSize = 12

// Magic is the only record format there is here: v2, of Kafka 0.11.
const Magic = 2

// Codec is a compression type as it stands in a batch's attributes.
type Codec uint8

// The codecs, as numbered in the attributes.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// String returns Kafka's name of the codec.
func (c Codec) String() string {
	names := [...]string{None: "none", Gzip: "gzip", Snappy: "snappy", LZ4: "lz4", Zstd: "zstd"}
	if int(c) >= len(names) {
		return fmt.Sprintf("codec %d", uint8(c))
	}
	return names[c]
}

// Attribute bits of a batch.
const (
	codecMask         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Errors of Parse. All of them wrap messages.ErrCorruptBatch or
// messages.ErrInvalidRecord, which say what the client is told.
var (
	// ErrTruncated: the bytes end before the batch does.
	ErrTruncated = fmt.Errorf("batch is cut short: %w", messages.ErrCorruptBatch)
	// ErrBadMagic: the batch has another format than v2.
	ErrBadMagic = fmt.Errorf("record format is not v2: %w", messages.ErrInvalidRecord)
	// ErrBadCRC: the bytes are not those the producer summed.
	ErrBadCRC = fmt.Errorf("crc does not match: %w", messages.ErrCorruptBatch)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the fixed part of a batch, decoded.
type Header struct {
	BaseOffset      messages.Offset
	Length          int32 // bytes after the length field; the batch has Length+12
	LeaderEpoch     messages.LeaderEpoch
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	BaseTimestamp   messages.Timestamp
	MaxTimestamp    messages.Timestamp
	ProducerID      messages.ProducerID
	ProducerEpoch   messages.ProducerEpoch
	BaseSequence    messages.Sequence
	Count           int32
}

// Batch is one record batch: its bytes and what its header says. Only Stamp and
// SetLogAppendTime change the bytes, and they keep the header equal to them.
type Batch struct {
	Header
	Bytes []byte // the whole batch, header included
}

// ParseHeader decodes the header at the start of b. It checks that b is long
// enough for the header (ErrTruncated), the magic byte (ErrBadMagic) and that
// the length field is possible (messages.ErrCorruptBatch); it does not need the
// records to be there.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < prefixSize+5 {
		return Header{}, ErrTruncated
	}
	if b[16] != Magic {
		return Header{}, fmt.Errorf("magic %d: %w", b[16], ErrBadMagic)
	}
	if len(b) < HeaderSize {
		return Header{}, ErrTruncated
	}
	h := Header{
		BaseOffset:      messages.Offset(binary.BigEndian.Uint64(b[0:])),
		Length:          int32(binary.BigEndian.Uint32(b[8:])),
		LeaderEpoch:     messages.LeaderEpoch(binary.BigEndian.Uint32(b[12:])),
		CRC:             binary.BigEndian.Uint32(b[17:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[21:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[23:])),
		BaseTimestamp:   messages.Timestamp(binary.BigEndian.Uint64(b[27:])),
		MaxTimestamp:    messages.Timestamp(binary.BigEndian.Uint64(b[35:])),
		ProducerID:      messages.ProducerID(binary.BigEndian.Uint64(b[43:])),
		ProducerEpoch:   messages.ProducerEpoch(binary.BigEndian.Uint16(b[51:])),
		BaseSequence:    messages.Sequence(binary.BigEndian.Uint32(b[53:])),
		Count:           int32(binary.BigEndian.Uint32(b[57:])),
	}
	if h.Length < HeaderSize-prefixSize {
		return Header{}, fmt.Errorf("batch length %d is less than a header: %w",
			h.Length, messages.ErrCorruptBatch)
	}
	return h, nil
}

// Size is the number of bytes of the whole batch.
func (h *Header) Size() int { return int(h.Length) + prefixSize }

// LastOffset is the offset of the batch's last record.
func (h *Header) LastOffset() messages.Offset {
	return h.BaseOffset + messages.Offset(h.LastOffsetDelta)
}

// NextOffset is the offset after the batch.
func (h *Header) NextOffset() messages.Offset { return h.LastOffset() + 1 }

// LastSequence is the sequence of the batch's last record, wrapped as Kafka does.
func (h *Header) LastSequence() messages.Sequence {
	if h.BaseSequence < 0 {
		return messages.NoSequence
	}
	const max = int64(1<<31 - 1)
	n := int64(h.BaseSequence) + int64(h.LastOffsetDelta)
	if n > max {
		n -= max + 1
	}
	return messages.Sequence(n)
}

// Codec is how the records are compressed.
func (h *Header) Codec() Codec { return Codec(h.Attributes & codecMask) }

// LogAppendTime reports whether MaxTimestamp is the broker's time and holds for
// every record.
func (h *Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// Transactional reports whether the batch is part of a transaction.
func (h *Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// Control reports whether the batch is a transaction marker.
func (h *Header) Control() bool { return h.Attributes&attrControl != 0 }

// Idempotent reports whether the batch has a producer id.
func (h *Header) Idempotent() bool { return h.ProducerID != messages.NoProducerID }

// Parse takes the first batch off b, checks its framing and its CRC, and returns
// it and what follows. The batch aliases b. The rules for what producers may
// send are Validate's.
func Parse(b []byte) (batch Batch, rest []byte, err error) {
	batch, rest, err = Split(b)
	if err != nil {
		return Batch{}, nil, err
	}
	if err := batch.CheckCRC(); err != nil {
		return Batch{}, nil, err
	}
	return batch, rest, nil
}

// CheckCRC returns ErrBadCRC unless the batch is, but for its stamp, as it was
// built.
func (b *Batch) CheckCRC() error {
	if sum := crc32.Checksum(b.Bytes[21:], castagnoli); sum != b.CRC {
		return fmt.Errorf("sum %08x, header says %08x: %w", sum, b.CRC, ErrBadCRC)
	}
	return nil
}

// Split is Parse without the CRC, for bytes that were checked before.
func Split(b []byte) (batch Batch, rest []byte, err error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Batch{}, nil, err
	}
	if h.Size() > len(b) {
		return Batch{}, nil, fmt.Errorf("%d of %d bytes: %w", len(b), h.Size(), ErrTruncated)
	}
	return Batch{Header: h, Bytes: b[:h.Size():h.Size()]}, b[h.Size():], nil
}

// lengthMin is the smallest batch length of any format: that of a record of v0.
const lengthMin = 14

// ParseOnly takes the one batch that a producer may send off b, and judges b as
// Kafka does, which answers differently when it cannot find a batch (nothing a
// client should repeat) and when a batch is damaged (repeat it):
//
//	messages.ErrInvalidRecord  no whole batch, two of them, an old format
//	messages.ErrCorruptBatch   an impossible length, an unknown format, the CRC
//
// What follows the batch is ignored if it could be the start of another.
func ParseOnly(b []byte) (Batch, error) {
	switch whole, err := begins(b); {
	case err != nil:
		return Batch{}, err
	case !whole:
		return Batch{}, fmt.Errorf("no whole record batch in %d bytes: %w",
			len(b), messages.ErrInvalidRecord)
	}
	batch, rest, err := Split(b)
	if err != nil {
		return Batch{}, err
	}
	switch more, err := begins(rest); {
	case err != nil:
		return Batch{}, fmt.Errorf("behind the first batch: %w", err)
	case more:
		return Batch{}, fmt.Errorf("more than one record batch: %w", messages.ErrInvalidRecord)
	}
	if err := batch.CheckCRC(); err != nil {
		return Batch{}, err
	}
	return batch, nil
}

// begins reports whether a whole batch of any format stands at the start of b.
func begins(b []byte) (whole bool, err error) {
	if len(b) < prefixSize {
		return false, nil
	}
	length := int32(binary.BigEndian.Uint32(b[8:]))
	switch {
	case length < lengthMin:
		return false, fmt.Errorf("batch length is %d: %w", length, messages.ErrCorruptBatch)
	case len(b) < prefixSize+5:
		return false, nil
	case b[16] > Magic:
		return false, fmt.Errorf("magic %d: %w", int8(b[16]), messages.ErrCorruptBatch)
	}
	return int64(len(b)) >= int64(length)+prefixSize, nil
}

// Stamp writes the base offset and leader epoch the leader gave. Neither is
// covered by the CRC.
func (b *Batch) Stamp(base messages.Offset, epoch messages.LeaderEpoch) {
	b.BaseOffset, b.LeaderEpoch = base, epoch
	binary.BigEndian.PutUint64(b.Bytes[0:], uint64(base))
	binary.BigEndian.PutUint32(b.Bytes[12:], uint32(epoch))
}

// SetLogAppendTime gives every record the broker's time: it sets the timestamp
// type and the maximum, and sums the batch anew.
func (b *Batch) SetLogAppendTime(now messages.Timestamp) {
	b.Attributes |= attrLogAppendTime
	b.MaxTimestamp = now
	binary.BigEndian.PutUint16(b.Bytes[21:], uint16(b.Attributes))
	binary.BigEndian.PutUint64(b.Bytes[35:], uint64(now))
	b.resum()
}

func (b *Batch) resum() {
	b.CRC = crc32.Checksum(b.Bytes[21:], castagnoli)
	binary.BigEndian.PutUint32(b.Bytes[17:], b.CRC)
}

// SetMaxTimestamp corrects the maximum and sums the batch anew.
func (b *Batch) SetMaxTimestamp(t messages.Timestamp) {
	b.MaxTimestamp = t
	binary.BigEndian.PutUint64(b.Bytes[35:], uint64(t))
	b.resum()
}

// SetProducer makes the batch one of a producer, from a sequence on, and sums it anew:
// what is known only when it is sent.
func (b *Batch) SetProducer(id messages.ProducerID, epoch messages.ProducerEpoch,
	base messages.Sequence) {
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, epoch, base
	binary.BigEndian.PutUint64(b.Bytes[43:], uint64(id))
	binary.BigEndian.PutUint16(b.Bytes[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b.Bytes[53:], uint32(base))
	b.resum()
}

// sealed is the end of every building of a batch: it writes the header before
// the records that stand in bytes from HeaderSize on, sets length and sum, and
// returns the batch.
func sealed(h Header, bytes []byte) Batch {
	b := headed(h, bytes)
	b.resum()
	return b
}

// headed is sealed without the sum.
func headed(h Header, bytes []byte) Batch {
	h.Length = int32(len(bytes) - prefixSize)
	binary.BigEndian.PutUint64(bytes[0:], uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(bytes[8:], uint32(h.Length))
	binary.BigEndian.PutUint32(bytes[12:], uint32(h.LeaderEpoch))
	bytes[16] = Magic
	binary.BigEndian.PutUint16(bytes[21:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(bytes[23:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(bytes[27:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(bytes[35:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(bytes[43:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(bytes[51:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(bytes[53:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(bytes[57:], uint32(h.Count))
	return Batch{Header: h, Bytes: bytes}
}
