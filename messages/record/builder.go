package record

import (
	"encoding/binary"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// Builder makes a batch record by record. Make one with NewBuilder. It is for
// batches that Troupe itself writes (markers, internal topics, compaction), for
// the producers of the SDK and for tests; the nodes get those of clients ready
// made. It is not safe for concurrent use.
type Builder struct {
	h           Header
	compression Compression
	body        []byte // room for a header, and the records so far, not compressed
}

// builderMin is the memory in bytes that a Builder begins with.
const builderMin = 256

// NewBuilder returns a Builder of a batch without a producer id that begins at
// offset 0 and has no leader epoch.
func NewBuilder(c Compression) *Builder {
	bu := &Builder{}
	bu.Reset(c)
	return bu
}

// Reset begins another batch as NewBuilder does, in the memory of the one before:
// what Seal returned of that must not be in use any more.
func (bu *Builder) Reset(c Compression) {
	if bu.body == nil {
		bu.body = make([]byte, 0, builderMin)
	}
	*bu = Builder{compression: c, body: bu.body[:HeaderSize], h: Header{
		LeaderEpoch: messages.NoEpoch, LastOffsetDelta: -1,
		BaseTimestamp: messages.NoTimestamp, MaxTimestamp: messages.NoTimestamp,
		ProducerID: messages.NoProducerID, ProducerEpoch: -1, BaseSequence: messages.NoSequence,
	}}
}

// Producer makes the batch one of an idempotent producer. It returns bu.
func (bu *Builder) Producer(id messages.ProducerID, epoch messages.ProducerEpoch,
	base messages.Sequence) *Builder {
	bu.h.ProducerID, bu.h.ProducerEpoch, bu.h.BaseSequence = id, epoch, base
	return bu
}

// Transactional makes the batch part of a transaction. It returns bu.
func (bu *Builder) Transactional() *Builder {
	bu.h.Attributes |= attrTransactional
	return bu
}

// control makes the batch a transaction marker.
func (bu *Builder) control() { bu.h.Attributes |= attrControl }

// BaseOffset sets the offset that deltas count from. It returns bu.
func (bu *Builder) BaseOffset(o messages.Offset) *Builder {
	bu.h.BaseOffset = o
	return bu
}

// Append adds a record at the offset after the last one. A nil key or value is
// null, an empty one is not.
func (bu *Builder) Append(t messages.Timestamp, key, value []byte, headers ...RecordHeader) {
	bu.AppendAt(bu.h.LastOffsetDelta+1, t, key, value, headers...)
}

// AppendAt adds a record with the given offset delta, which must be above that
// of the last one: compaction leaves gaps.
func (bu *Builder) AppendAt(delta int32, t messages.Timestamp, key, value []byte,
	headers ...RecordHeader) {
	invariant.That(delta > bu.h.LastOffsetDelta, "record at %d after %d",
		delta, bu.h.LastOffsetDelta)
	if bu.h.Count == 0 {
		bu.h.BaseTimestamp, bu.h.MaxTimestamp = t, t
	}
	bu.h.MaxTimestamp = max(bu.h.MaxTimestamp, t)
	bu.h.LastOffsetDelta = delta
	bu.h.Count++

	timestampDelta := int64(t - bu.h.BaseTimestamp)
	size := 0
	for _, h := range headers {
		size += bytesSize(h.Key) + bytesSize(h.Value)
	}
	size = bodySize(timestampDelta, delta, key, value, len(headers), size)
	b := binary.AppendVarint(bu.body, int64(size))
	b = append(b, 0) // attributes
	b = binary.AppendVarint(b, timestampDelta)
	b = binary.AppendVarint(b, int64(delta))
	b = appendBytes(appendBytes(b, key), value)
	b = binary.AppendVarint(b, int64(len(headers)))
	for _, h := range headers {
		b = appendBytes(appendBytes(b, h.Key), h.Value)
	}
	bu.body = b
}

// bodySize is the size of a record in bytes without the length before it; headers is
// that of its headers.
func bodySize(timestampDelta int64, delta int32, key, value []byte, count, headers int) int {
	return 1 + varintSize(timestampDelta) + varintSize(int64(delta)) +
		bytesSize(key) + bytesSize(value) + varintSize(int64(count)) + headers
}

// SizeOf is the size in bytes of a record that stands first in its batch, with so many
// headers of so many bytes in all. Further behind it has at most SizeSlack bytes more.
func SizeOf(key, value []byte, count, headers int) int {
	size := bodySize(0, 0, key, value, count, headers)
	return varintSize(int64(size)) + size
}

// HeaderSizeOf is the size in bytes of a header of a record, with a name of so many bytes.
func HeaderSizeOf(name int, value []byte) int {
	return varintSize(int64(name)) + name + bytesSize(value)
}

// SizeSlack is by how many bytes SizeOf may be wrong: nine of the timestamp, four of
// the offset, and one of the length of them all.
const SizeSlack = 14

// Count is how many records there are so far.
func (bu *Builder) Count() int { return int(bu.h.Count) }

// Size is the size of the batch in bytes if it were built now and not
// compressed.
func (bu *Builder) Size() int { return len(bu.body) }

// Build returns the batch. The Builder may go on: batches share no memory with
// it. Build fails with messages.ErrUnsupportedCompression for an unknown codec
// and with messages.ErrBatchTooLarge above 2 GiB.
func (bu *Builder) Build() (Batch, error) {
	return compressed(bu.h, bu.compression, bu.body[HeaderSize:])
}

// Seal is Build for who has memory to use again, and learns only later who sends the
// batch: it has no CRC yet, SetProducer must follow. The batch lies in into, which may be
// nil and is grown as needed, or in the Builder's own memory if it is not compressed,
// because it was not to be or would not have become smaller. The Builder must be Reset
// before it is used again.
func (bu *Builder) Seal(into []byte) (Batch, error) {
	h := bu.h
	if bu.compression.Codec != None {
		into = append(into[:0], bu.body[:HeaderSize]...)
		bytes, err := bu.compression.deflate(into, bu.body[HeaderSize:])
		if err != nil {
			return Batch{}, err
		}
		if len(bytes) < len(bu.body) {
			h.Attributes |= int16(bu.compression.Codec)
			return headed(h, bytes), nil
		}
	}
	if int64(len(bu.body)) > 1<<31-1 {
		return Batch{}, fmt.Errorf("batch has %d bytes: %w", len(bu.body), messages.ErrBatchTooLarge)
	}
	return headed(h, bu.body), nil
}

// compressed makes a batch of h and records that are not compressed yet.
func compressed(h Header, c Compression, body []byte) (Batch, error) {
	bytes, err := c.deflate(make([]byte, HeaderSize, HeaderSize+len(body)/c.guess()+64), body)
	if err != nil {
		return Batch{}, err
	}
	if int64(len(bytes)) > 1<<31-1 {
		return Batch{}, fmt.Errorf("batch has %d bytes: %w", len(bytes), messages.ErrBatchTooLarge)
	}
	h.Attributes = h.Attributes&^codecMask | int16(c.Codec)
	return sealed(h, bytes), nil
}

// Recompress returns b with its records compressed another way, in memory of
// its own: what compression.type demands of topics that do not keep the
// producer's codec. All of the header but codec, length and CRC stays. The
// caller checks the new size. limit bounds the decompressed records in bytes;
// errors are those of Records.
func Recompress(b *Batch, c Compression, limit int) (Batch, error) {
	body, err := inflate(b.Codec(), b.Bytes[HeaderSize:], limit)
	if err != nil {
		return Batch{}, err
	}
	defer body.release()
	return compressed(b.Header, c, body.bytes)
}

func varintSize(v int64) int {
	n := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}
