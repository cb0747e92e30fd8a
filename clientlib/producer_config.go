package clientlib

import (
	"fmt"
	"math"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// ProducerConfig says how a producer sends. The zero value is right for most: records
// are acknowledged by every in-sync replica, once each, in order.
type ProducerConfig struct {
	// Topic is for records that name none.
	Topic string
	// Acks is what an acknowledgement means.
	Acks Acks
	// Linger is how long a batch may wait for more records; 0: 5 ms, less than 0: not at
	// all. BatchBytes is when it does not wait any longer; 0: 256 KiB.
	Linger     time.Duration
	BatchBytes int
	// Compression of batches.
	Compression Compression
	// Partitioner chooses partitions; nil: by key as Kafka does it, and batch by batch
	// another one for records without a key.
	Partitioner Partitioner
	// BufferBytes bounds the records that are not acknowledged; 0: 32 MiB. When they are
	// that many, sending waits for room, or fails with ErrBufferFull if Refuse is set.
	BufferBytes int
	Refuse      bool
	// DeliveryTimeout is how long a record may take with all retries; 0: 2 minutes. One
	// that fails by it may be in the topic all the same.
	DeliveryTimeout time.Duration
	// NotIdempotent gives up that a retry cannot double or reorder records. It is needed
	// for AcksLeader and AcksNone, and refused with a TransactionalID.
	NotIdempotent bool
	// TransactionalID makes the producer transactional: see Transaction. Of two producers
	// with the same one the elder is fenced. TransactionTimeout is when a transaction
	// that does not end is aborted; 0: 1 minute.
	TransactionalID    string
	TransactionTimeout time.Duration
	// CreateTopics has topics that do not exist made, if the cluster allows it
	// (auto.create.topics.enable).
	CreateTopics bool
	// Headers go with every record, before its own.
	Headers []Header
	// Interceptors see, and may change, each record before it is sent, in order.
	Interceptors []func(*Record)
}

// Acks is what an acknowledgement of a record means.
type Acks int8

const (
	AcksAll    Acks = iota // every in-sync replica has it
	AcksLeader             // the leader has it; it is lost with the leader
	AcksNone               // it was sent; nobody knows what became of it
)

// Compression is how batches are compressed.
type Compression int8

const (
	Uncompressed Compression = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Partitioner chooses a partition for a record, of those there are: a number from 0 to
// partitions-1, or less than 0 to have it chosen with the other records that do not care.
// It is called by the goroutines that send, several at a time.
type Partitioner func(r *Record, partitions int) int

// Explicit takes Record.Partition as it stands.
func Explicit(r *Record, _ int) int { return int(r.Partition) }

// Defaults of ProducerConfig, and the largest batch that fits in a message to a node with
// what goes around it.
const (
	defaultLinger          = 5 * time.Millisecond
	defaultBatchBytes      = 256 << 10
	defaultBufferBytes     = 32 << 20
	defaultDeliveryTimeout = 2 * time.Minute
	defaultTxnTimeout      = time.Minute
	batchBytesMost         = 1900 << 10
)

// filled returns the settings with the defaults where nothing is set. It fails with
// ErrConfig.
func (c ProducerConfig) filled() (ProducerConfig, error) {
	if err := c.check(); err != nil {
		return c, err
	}
	c.Linger = max(orDefault(c.Linger, defaultLinger), 0)
	c.BatchBytes = min(orDefault(c.BatchBytes, defaultBatchBytes), batchBytesMost)
	c.BufferBytes = orDefault(c.BufferBytes, defaultBufferBytes)
	c.DeliveryTimeout = orDefault(c.DeliveryTimeout, defaultDeliveryTimeout)
	c.TransactionTimeout = orDefault(c.TransactionTimeout, defaultTxnTimeout)
	return c, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// check names the first setting that cannot be.
func (c *ProducerConfig) check() error {
	transactional := c.TransactionalID != ""
	for _, wrong := range []struct {
		is   bool
		what string
	}{
		{c.Acks < AcksAll || c.Acks > AcksNone, "Acks is none of AcksAll, AcksLeader, AcksNone"},
		{c.Compression < Uncompressed || c.Compression > Zstd, "Compression is no codec"},
		{c.BatchBytes < 0, "BatchBytes is negative"},
		{c.BufferBytes < 0, "BufferBytes is negative"},
		{c.DeliveryTimeout < 0, "DeliveryTimeout is negative"},
		{c.TransactionTimeout < 0, "TransactionTimeout is negative"},
		{c.TransactionTimeout > 0 && c.TransactionTimeout < time.Millisecond ||
			c.TransactionTimeout.Milliseconds() > math.MaxInt32,
			"TransactionTimeout is not from 1 ms to 24 days"},
		{c.Acks != AcksAll && !c.NotIdempotent,
			"Acks other than AcksAll need NotIdempotent: a leader that is lost takes records " +
				"with it, and with them what it knew of the producer"},
		{c.NotIdempotent && transactional, "NotIdempotent does not go with a TransactionalID"},
		{c.TransactionTimeout > 0 && !transactional,
			"TransactionTimeout is set without a TransactionalID"},
	} {
		if wrong.is {
			return fmt.Errorf("producer: %s: %w", wrong.what, ErrConfig)
		}
	}
	if c.Topic != "" {
		if err := messages.CheckTopicName(c.Topic); err != nil {
			return fmt.Errorf("producer: Topic: %w: %w", ErrConfig, err)
		}
	}
	for i, intercept := range c.Interceptors {
		if intercept == nil {
			return fmt.Errorf("producer: Interceptors[%d] is nil: %w", i, ErrConfig)
		}
	}
	return nil
}

// codec is the record format's word for the compression.
func (c Compression) codec() record.Compression {
	return record.Compression{Codec: [...]record.Codec{Uncompressed: record.None,
		Gzip: record.Gzip, Snappy: record.Snappy, LZ4: record.LZ4, Zstd: record.Zstd}[c]}
}

// wire is what an append says.
func (a Acks) wire() int32 { return [...]int32{AcksAll: -1, AcksLeader: 1, AcksNone: 0}[a] }
