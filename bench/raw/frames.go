//go:build linux

// Package raw is the driver that costs next to nothing: it sends Kafka frames that were
// encoded before the clock starts, with a fixed number under way or at a fixed rate, and
// throws answers away, so that what is measured is the broker. The ideal broker knows no
// other frames. A Load says what to do, and Dial makes a Driver that does it; offset
// commits have a load of their own, Commits. The commands of bench may call it.
package raw

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// The requests have the oldest layout that all brokers speak, without tagged fields:
// Produce v7, Fetch v4 and OffsetCommit v7. The ideal broker relies on what this file
// writes: one topic and one partition, and the variable parts at the same places.
const (
	ProduceKey, produceVersion = 0, 7
	FetchKey, fetchVersion     = 1, 4
	commitKey, commitVersion   = 8, 7

	ClientID       = "bench"
	fetchMaxBytes  = 1 << 20 // of an answer, at most
	fetchMaxWaitMs = 500
	timeoutMs      = 30_000
)

// Shape is the size of batches and of the records in them. There are no keys.
type Shape struct {
	BatchBytes  int // at most, uncompressed
	RecordBytes int // of a value
	LZ4         bool
}

// Batch is one batch as it is sent, and stored: every time the same.
type Batch struct {
	Bytes   []byte
	Records int
	Plain   int // bytes before it was compressed
}

// Batch builds a batch that is as large as fits; it holds one record at least. Values are
// text that lz4 halves about. The records are as old as the batch: what is older than a
// topic keeps, brokers may delete at once.
func (s Shape) Batch() (Batch, error) {
	c := record.Compression{}
	if s.LZ4 {
		c.Codec = record.LZ4
	}
	bu, plain := record.NewBuilder(c), 0
	values := newText()
	now := messages.Timestamp(time.Now().UnixMilli())
	const recordOverhead = 16 // bytes, at most, of a record's own fields
	for bu.Count() == 0 || bu.Size()+s.RecordBytes+recordOverhead <= s.BatchBytes {
		bu.Append(now, nil, values.next(s.RecordBytes))
		plain = bu.Size()
	}
	n := bu.Count()
	built, err := bu.Build()
	return Batch{Bytes: built.Bytes, Records: n, Plain: plain}, err
}

// frame builds a request: the size field, the header, then what body appends. The rest
// of the request, of so many bytes, is sent behind it.
func frame(key, version int16, rest int, body func(b []byte) []byte) []byte {
	b := make([]byte, 4, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1) // correlation id: answers come in order
	b = appendString(b, ClientID)
	b = body(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4+rest))
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// produceHead returns the request that appends one batch, without the batch, which comes
// last in it; setProducePartition says to which partition.
func produceHead(topic string, acks int16, batch int) []byte {
	return frame(ProduceKey, produceVersion, batch, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, 0xffff) // no transactional id
		b = binary.BigEndian.AppendUint16(b, uint16(acks))
		b = binary.BigEndian.AppendUint32(b, timeoutMs)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendString(b, topic)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint32(b, 0) // partition
		return binary.BigEndian.AppendUint32(b, uint32(batch))
	})
}

func setProducePartition(head []byte, partition int32) {
	binary.BigEndian.PutUint32(head[len(head)-8:], uint32(partition))
}

// Places in a Fetch frame, counted from its end.
const (
	FetchMaxBytesFromEnd  = 4
	FetchOffsetFromEnd    = 12
	FetchPartitionFromEnd = 16
)

// fetchFrame returns the request that reads from offset 0 of partition 0; setFetch moves
// it.
func fetchFrame(topic string, maxBytes int) []byte {
	return frame(FetchKey, fetchVersion, 0, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, 0xffffffff) // a consumer, not a replica
		b = binary.BigEndian.AppendUint32(b, fetchMaxWaitMs)
		b = binary.BigEndian.AppendUint32(b, 1) // min bytes
		b = binary.BigEndian.AppendUint32(b, uint32(maxBytes))
		b = append(b, 0) // read uncommitted
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendString(b, topic)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint32(b, 0) // partition
		b = binary.BigEndian.AppendUint64(b, 0) // offset
		return binary.BigEndian.AppendUint32(b, uint32(maxBytes))
	})
}

func setFetch(frame []byte, partition int32, offset int64) {
	binary.BigEndian.PutUint32(frame[len(frame)-FetchPartitionFromEnd:], uint32(partition))
	binary.BigEndian.PutUint64(frame[len(frame)-FetchOffsetFromEnd:], uint64(offset))
}

// ProduceAnswer is the size of a Produce v7 answer for one partition, without
// the size field, and the place of the error code in it.
func ProduceAnswer(topic string) (size, errorAt int) {
	errorAt = 4 + 4 + 2 + len(topic) + 4 + 4
	return errorAt + 2 + 8 + 8 + 8 + 4, errorAt
}

// FetchAnswerHead is the size of a Fetch v4 answer up to the records, without
// the size field, and the place of the error code in it.
func FetchAnswerHead(topic string) (size, errorAt int) {
	errorAt = 4 + 4 + 4 + 2 + len(topic) + 4 + 4
	return errorAt + 2 + 8 + 8 + 4 + 4, errorAt
}

// answerError reads the error code of a partition.
func answerError(answer []byte, at int) error {
	if len(answer) < at+2 {
		return fmt.Errorf("answer of %d bytes is too short", len(answer))
	}
	if code := int16(binary.BigEndian.Uint16(answer[at:])); code != 0 {
		return fmt.Errorf("broker answered with error code %d", code)
	}
	return nil
}
