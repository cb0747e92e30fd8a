//go:build linux

// Package raw is the driver that costs next to nothing: it sends Kafka frames that were
// encoded before the clock starts, with a fixed number under way or at a fixed rate, and
// throws answers away, so that what is measured is the broker. The ideal broker knows no
// other frames. The commands of bench may call it.
package raw

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/troupelog/troupe/messages/record"
)

// The requests have the oldest layout both brokers speak, without tagged fields:
// Produce v7 and Fetch v4. The ideal broker relies on what this file writes:
// every frame of a connection has its variable parts at the same places.
const (
	ProduceKey, produceVersion = 0, 7
	FetchKey, fetchVersion     = 1, 4

	ClientID       = "bench"
	FetchMaxBytes  = 1 << 20
	fetchMaxWaitMs = 500
	timeoutMs      = 30_000
	acksAll        = -1
)

// shape is the size of batches and of the records in them.
type shape struct {
	label       string
	batchBytes  int
	recordBytes int // of the value; there is no key
}

// batch returns an uncompressed batch that is as large as fits, and how many
// records it holds.
func (s shape) batch() ([]byte, int, error) {
	value := make([]byte, s.recordBytes)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range value {
		value[i] = byte(r.Uint32())
	}
	b := record.NewBuilder(record.Compression{})
	const recordOverhead = 16 // bytes, at most, of a record's own fields
	for b.Size()+s.recordBytes+recordOverhead <= s.batchBytes {
		b.Append(1_700_000_000_000, nil, value)
	}
	n := b.Count()
	built, err := b.Build()
	return built.Bytes, n, err
}

// frame builds a request: the size field, the header, then what body appends.
func frame(key, version int16, body func(b []byte) []byte) []byte {
	b := make([]byte, 4, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1) // correlation id: answers come in order
	b = appendString(b, ClientID)
	b = body(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// produceFrame returns the request that appends one batch.
func produceFrame(topic string, partition int32, batch []byte) []byte {
	return frame(ProduceKey, produceVersion, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, 0xffff) // no transactional id
		acks := int16(acksAll)
		b = binary.BigEndian.AppendUint16(b, uint16(acks))
		b = binary.BigEndian.AppendUint32(b, timeoutMs)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendString(b, topic)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(partition))
		b = binary.BigEndian.AppendUint32(b, uint32(len(batch)))
		return append(b, batch...)
	})
}

// Places in a Fetch frame, counted from its end.
const (
	FetchOffsetFromEnd    = 12
	FetchPartitionFromEnd = 16
)

// fetchFrame returns the request that reads from offset 0; setFetchOffset moves it.
func fetchFrame(topic string, partition int32) []byte {
	return frame(FetchKey, fetchVersion, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint32(b, 0xffffffff) // a consumer, not a replica
		b = binary.BigEndian.AppendUint32(b, fetchMaxWaitMs)
		b = binary.BigEndian.AppendUint32(b, 1) // min bytes
		b = binary.BigEndian.AppendUint32(b, FetchMaxBytes)
		b = append(b, 0) // read uncommitted
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendString(b, topic)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(partition))
		b = binary.BigEndian.AppendUint64(b, 0) // offset
		return binary.BigEndian.AppendUint32(b, FetchMaxBytes)
	})
}

func setFetchOffset(frame []byte, offset int64) {
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
