package clientlib

import (
	"context"
	"time"
)

// ConsumerConfig says what a consumer reads and how it handles it. A Group with Topics or
// a Pattern, or Partitions, must be set.
type ConsumerConfig struct {
	// Group shares the partitions among its members and keeps their positions. Members
	// that are Kafka clients may be in it (group.protocol=consumer).
	Group string
	// Topics, or all topics that the regular expression Pattern (RE2) matches as a whole.
	// Topics need not exist yet. A Pattern leaves out the topics of dead letters: that of
	// DeadLetter, or those that end in ".dlq", unless there is "dlq" in the Pattern itself;
	// the member may be given their partitions, but does not read them.
	Topics  []string
	Pattern string
	// Partitions are read directly, from where each says; there is no group then, and
	// nothing is committed unless Group is set too.
	Partitions []Position
	// InstanceID makes the member static: it may be gone for the session timeout
	// (group.consumer.session.timeout.ms of the nodes, 45 s) without its partitions going
	// to others, also after Close. Unique in the group.
	InstanceID string

	// Start is where to begin where the group has no position; the zero value is Earliest.
	Start Start
	// ReadUncommitted shows records of transactions that are open or aborted.
	ReadUncommitted bool
	// BufferBytes bounds what is read ahead; 0: 32 MiB.
	BufferBytes int

	// CommitInterval is how often positions are committed, of records that were handled
	// (Process) or given back with the next Poll; 0: 5 s. Less than 0: nothing is committed
	// but by Commit, neither by Process nor by Close, nor when a partition is given up;
	// transactions of ProcessTransactions commit theirs all the same.
	CommitInterval time.Duration

	// Concurrency bounds the calls of a handler at the same time; 0: 16, 1: one after
	// the other.
	Concurrency int
	// Order says which records wait for each other.
	Order Order
	// Retry says what happens to a record whose handler fails.
	Retry Retry
	// DeadLetter is the topic for records that keep failing; "": the record's topic with
	// ".dlq", which all groups that read that topic share. It is made, if it does not exist,
	// with the cluster's number of partitions (num.partitions) and replicas. NoDeadLetter
	// has Process return the error instead, with the record not committed.
	//
	// A dead letter has the key, value and headers of its record, and the headers
	// troupe.dlq.topic, troupe.dlq.partition, troupe.dlq.offset, troupe.dlq.timestamp,
	// troupe.dlq.group, troupe.dlq.attempts, troupe.dlq.error and troupe.dlq.failed-at, as
	// text; after a panic also troupe.dlq.stack.
	DeadLetter string

	// OnAssigned is told of partitions that are read from now on, before their first
	// record; OnRevoked of those that another member gets, once what was handed out of
	// them is handled and committed (with Process) and before the other begins; OnLost of
	// those that were taken away. They are called one at a time.
	OnAssigned, OnRevoked, OnLost func(ctx context.Context, partitions []Partition)
}

// NoDeadLetter is a DeadLetter that nothing goes to.
const NoDeadLetter = "-"

// Order says which records wait until those before them are handled.
type Order int8

const (
	// ByKey: records of a partition with the same key. Those without one wait for nothing.
	ByKey Order = iota
	// ByPartition: all records of a partition. It is for programs that keep a position of
	// their own, such as the last offset in a database.
	ByPartition
)

// Retry says how often a record is handled again, and when.
type Retry struct {
	// Attempts is how often a record is tried in all; 0: 5, less than 0: without end.
	Attempts int
	// Backoff is before the second attempt, and doubles up to MaxBackoff; 0: 100 ms and
	// 10 s. It is spread by chance.
	Backoff, MaxBackoff time.Duration
}

// Position is where to read a partition from.
type Position struct {
	Partition
	Start Start
}

// Start is a place in a partition.
type Start struct {
	kind  startKind
	value int64 // an offset, or milliseconds
}

type startKind int8

const (
	startEarliest startKind = iota
	startLatest
	startOffset
	startTime
)

// Places in a partition: Earliest is the first record there is, Latest the next one to be
// written.
var (
	Earliest = Start{kind: startEarliest}
	Latest   = Start{kind: startLatest}
)

// AtOffset is the record of that number, or the first one there is if it is gone.
func AtOffset(n int64) Start { return Start{startOffset, n} }

// AtTime is the first record that is not older.
func AtTime(t time.Time) Start { return Start{startTime, t.UnixMilli()} }
