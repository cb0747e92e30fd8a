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
	// Fenced has the append refused with messages.ErrNotLeader unless the leader
	// leads under Epoch: what a coordinator decided counts under the leadership
	// that it was decided under.
	Fenced bool
	Epoch  messages.LeaderEpoch
	// Done is called exactly once, from any goroutine, and must not block.
	// With AcksNone it is called too, so that the buffer can be given back.
	// Those of batches in the log that wait for the same acks are called in the
	// order of the log.
	Done func(AppendResult)

	// Turns, if not nil, takes over what the append starts: a leader that was idle is
	// the caller's to run. It is called within the call that hands the append over, on
	// the same goroutine, or not at all.
	Turns func(Turn)

	// The rest is for transactional batches. One that begins its producer's
	// transaction in the partition is appended only after the coordinator was asked
	// (KIP-890): else nobody would ever end that transaction.

	// Verify, if not nil, asks the coordinator. The leader calls it for a batch that
	// begins a transaction and holds this batch, and those of the same producer
	// behind it, until reply is called: nil appends them, an error refuses them.
	// It must not block; reply is called exactly once, from any goroutine.
	Verify func(reply func(error))
	// Guard says that the coordinator was asked already, under this number, which
	// the leader gave before. 0: it was not. It is no good any more once a marker of
	// the producer was written.
	Guard uint64
	// FreshEpoch: each transaction of the producer has an epoch of its own
	// (transaction.version 2), so its first batch has sequence 0.
	FreshEpoch bool
}

// Turn is the right to run the leader of a partition, and the duty: until somebody
// does, it handles nothing. Exactly one of its methods is called, once, soon, and not
// while the caller holds a lock.
type Turn interface {
	// Take handles the appends that wait for the leader, on the caller's goroutine, as
	// long as one write to the disk or a few take. What else waits is left to a worker.
	Take()
	// Leave leaves all of it to a worker.
	Leave()
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

// EndedTxn is one aborted transaction of a partition: an entry of its transaction
// index.
type EndedTxn struct {
	Producer messages.ProducerID
	First    messages.Offset // of its first batch
	Marker   messages.Offset // of the control batch that ended it
	// LastStable is the first offset that was still undecided when the marker
	// was written, or the one after the marker.
	LastStable messages.Offset
}

// OpenTxn is a transaction of a partition whose outcome is not known.
type OpenTxn struct {
	Producer messages.ProducerID
	First    messages.Offset // of its first batch
}

// LastBatch is the newest that a partition knows of a producer, and what a compaction
// must leave of it.
type LastBatch struct {
	Offset messages.Offset // of the last record of its last batch; NoOffset: a marker came last
	Epoch  messages.ProducerEpoch
}

// Producer describes what a partition knows of one producer, as DescribeProducers
// shows it.
type Producer struct {
	ID               messages.ProducerID
	Epoch            messages.ProducerEpoch
	LastSequence     messages.Sequence  // NoSequence: no batch is remembered
	LastTimestamp    messages.Timestamp // of its last batch or marker
	CoordinatorEpoch int32              // -1: no marker yet
	TxnFirst         messages.Offset    // NoOffset: no open transaction
}

// Marker asks a partition's leader to end a transaction there.
type Marker struct {
	Producer         messages.ProducerID
	Epoch            messages.ProducerEpoch
	CoordinatorEpoch int32 // the leader epoch of the coordinator's partition
	Commit           bool
	// V2: the coordinator has raised the epoch for this marker (transaction.version
	// 2), so a marker of an epoch that the partition knows comes too late (KIP-1228).
	V2 bool
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
