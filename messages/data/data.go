// Package data holds the messages of the data path: appending record batches to
// a partition and reading them back.
//
// They stay inside a node (they carry callbacks and file handles) and are
// immutable once sent, but for the batch bytes an Append hands over. The Kafka
// listener makes them, a replica answers them.
package data

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// Acks is what a producer waits for.
type Acks int16

const (
	AcksAll    Acks = -1 // every in-sync replica has it
	AcksNone   Acks = 0  // nothing: there is no answer
	AcksLeader Acks = 1  // the leader has it
)

// Append asks a partition's leader to append one batch. The batch's bytes
// belong to the leader until Done is called: it stamps base offset and leader
// epoch into them. The CRC has been checked and the header is parsed.
type Append struct {
	Batch record.Batch
	Acks  Acks
	// Done is called exactly once, from any goroutine, and must not block.
	// With AcksNone it is called too, so that the buffer can be given back.
	Done func(AppendResult)
}

// AppendResult is the outcome of one Append.
type AppendResult struct {
	Err           error
	BaseOffset    messages.Offset    // NoOffset on error; the original one for a duplicate
	LogAppendTime messages.Timestamp // NoTimestamp unless message.timestamp.type=LogAppendTime
	LogStart      messages.Offset    // NoOffset on error
	Leader        LeaderHint
}

// LeaderHint tells a client where the leader is now (KIP-951); Leader is NoNode
// when that is not known.
type LeaderHint struct {
	Leader messages.NodeID
	Epoch  messages.LeaderEpoch
}

// Isolation says how far a reader may see.
type Isolation int8

const (
	ReadUncommitted Isolation = 0 // up to the high watermark
	ReadCommitted   Isolation = 1 // up to the last stable offset
)

// Read asks for batches from one partition; see ReadResult.
type Read struct {
	From         messages.Offset
	MaxBytes     int
	MinOne       bool // return the first batch even when it is larger than MaxBytes (KIP-74)
	Isolation    Isolation
	CurrentEpoch messages.LeaderEpoch // NoEpoch: do not check (KIP-320)
	// LastEpoch is the epoch of the record before From; NoEpoch: do not check (KIP-595).
	LastEpoch messages.LeaderEpoch
}

// ReadResult is what a partition has for a reader. On error the watermarks are
// NoOffset unless the error is ErrOffsetOutOfRange.
type ReadResult struct {
	Err           error
	View          messages.View // the caller must Release it
	HighWatermark messages.Offset
	LastStable    messages.Offset
	LogStart      messages.Offset
	Diverging     *EpochEnd // set: the reader's log differs from here on; no records
	Leader        LeaderHint
	Aborted       []AbortedTxn // ReadCommitted only
}

// AbortedTxn tells a read_committed consumer which records to skip.
type AbortedTxn struct {
	Producer    messages.ProducerID
	FirstOffset messages.Offset
}

// Offsets are the watermarks of a partition at one moment.
type Offsets struct {
	LogStart      messages.Offset
	HighWatermark messages.Offset
	LastStable    messages.Offset
	LogEnd        messages.Offset
	Epoch         messages.LeaderEpoch
}

// EpochEnd is where a leader epoch ends (KIP-101): the first offset after it.
type EpochEnd struct {
	Epoch messages.LeaderEpoch
	End   messages.Offset
}

// ProducerState is what a partition knows of one producer (DescribeProducers).
type ProducerState struct {
	ID               messages.ProducerID
	Epoch            messages.ProducerEpoch
	LastSequence     messages.Sequence  // NoSequence: only a marker is known
	LastTimestamp    messages.Timestamp // of its last batch or marker
	CoordinatorEpoch int32              // of its last marker; -1: there was none
	TxnFirst         messages.Offset    // of the open transaction; NoOffset: none is open
}

// TimestampOffset is an answer of ListOffsets.
type TimestampOffset struct {
	Timestamp messages.Timestamp
	Offset    messages.Offset
	Epoch     messages.LeaderEpoch
}

// Special timestamps of ListOffsets.
const (
	TimestampLatest        messages.Timestamp = -1
	TimestampEarliest      messages.Timestamp = -2
	TimestampMax           messages.Timestamp = -3
	TimestampEarliestLocal messages.Timestamp = -4
	TimestampLatestTiered  messages.Timestamp = -5
)

// ReplicaFetch is a follower's request for what comes after its log. Offset is
// also its acknowledgement of everything below. The leader answers at once when
// it has something to say, else the request stays parked with it: there is no
// polling. A follower has at most one under way for a partition.
type ReplicaFetch struct {
	Partition     messages.PartitionID
	Follower      messages.NodeID
	FollowerEpoch messages.NodeEpoch   // of the follower's registration
	LeaderEpoch   messages.LeaderEpoch // under which the follower follows
	Offset        messages.Offset      // the follower's log end
	LastEpoch     messages.LeaderEpoch // of the record before Offset; NoEpoch: there is none
	LogStart      messages.Offset      // the follower's
	MaxBytes      int                  // the first batch comes whole all the same
	// Throttled is for the follower's own node: the fetch waits for its share of
	// follower.replication.throttled.rate. It does not cross.
	Throttled bool
}

// ReplicaFetched answers a ReplicaFetch.
//
// On the leader's node View holds the batches; whoever sends them releases it. On
// the follower's node Records does, whole batches, valid until Release, which is
// called exactly once; nil means that there is nothing to release.
type ReplicaFetched struct {
	// Err is ErrNotLeader, an epoch error, ErrOffsetOutOfRange, ErrStorage or ErrUnavailable.
	Err           error
	LeaderEpoch   messages.LeaderEpoch
	HighWatermark messages.Offset
	LogStart      messages.Offset // the leader's
	LogEnd        messages.Offset // the leader's
	Diverging     *EpochEnd       // set: truncate to it and ask again; no records
	View          messages.View
	Records       []byte
	Release       func()
}
