package clientlib

import "time"

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
