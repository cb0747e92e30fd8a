package clientlib

import (
	"sync/atomic"
	"time"
)

// ProducerStats are counters of a producer since it was made, as they were at one moment.
type ProducerStats struct {
	Records int64 // acknowledged, or sent with AcksNone
	Bytes   int64 // of their batches, compressed
	Batches int64 // of acknowledged records
	Retries int64 // batches that were sent again
	Errors  int64 // records that failed after Send had taken them

	// BufferedBytes are those of records whose callback was not called yet, before
	// compression; InFlight are the batches that wait for an answer.
	BufferedBytes int64
	InFlight      int64

	// Latency is the sum over Batches of the time from the first record until the answer:
	// Latency/Batches is the mean.
	Latency time.Duration
}

// producerCounts are the counters behind ProducerStats.
type producerCounts struct {
	records, bytes, batches, retries, errors, inFlight, latency atomic.Int64
}

func (c *producerCounts) acknowledged(records, bytes int64, took time.Duration) {
	c.records.Add(records)
	c.bytes.Add(bytes)
	c.batches.Add(1)
	c.latency.Add(int64(took))
}

// Stats returns the counters as they are. It does not wait for anything.
func (p *Producer) Stats() ProducerStats {
	c := &p.counts
	return ProducerStats{
		Records: c.records.Load(), Bytes: c.bytes.Load(), Batches: c.batches.Load(),
		Retries: c.retries.Load(), Errors: c.errors.Load(),
		BufferedBytes: int64(p.room.buffered()), InFlight: c.inFlight.Load(),
		Latency: time.Duration(c.latency.Load()),
	}
}
