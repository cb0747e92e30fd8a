// Package coord holds what the machines of the coordinators and the shells that
// run them say to each other: requests, writes, and what a machine is.
//
// A coordinator keeps its state in an internal topic: groups in
// __consumer_offsets, transactions in __transaction_state. The node that leads a
// partition of it runs a shard, which replays the partition and runs one actor
// for each group or transactional id in it. The machine inside decides (package
// actors/groups, actors/txns), the shell makes the outcome durable (package
// actors/coordinator).
//
// It has no state and no behaviour. Anything may import it.
package coord

import (
	"time"

	"github.com/troupelog/troupe/messages"
)

// Kind says what a coordinator coordinates.
type Kind int8

// The kinds, by the key types of FindCoordinator.
const (
	Group Kind = 0
	Txn   Kind = 1
)

// Internal topics.
const (
	OffsetsTopic = "__consumer_offsets"
	TxnTopic     = "__transaction_state"
)

// Topic is the internal topic that keeps the state of a kind.
func (k Kind) Topic() string {
	if k == Txn {
		return TxnTopic
	}
	return OffsetsTopic
}

// String is the name of the kind of virtual actor.
func (k Kind) String() string {
	if k == Txn {
		return "transaction"
	}
	return "group"
}

// Partition is where the state of a key lives in an internal topic of n
// partitions: the absolute value of Java's String.hashCode modulo n, as Kafka has
// it. n is positive.
func Partition(key string, n int) int32 {
	var h int32
	for _, r := range key {
		if r >= 0x10000 { // Java counts UTF-16 units
			r -= 0x10000
			h = 31*h + 0xd800 + r>>10
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	if h < 0 {
		h = -h
	}
	return max(h, 0) % int32(n) // the least number has no opposite; Kafka takes 0
}

// Record is one record of an internal topic. A nil Value is a tombstone.
type Record struct {
	Key   []byte
	Value []byte
}

// Write is what a machine wants durable before it goes on. Its records go into
// one batch, all or nothing.
type Write struct {
	Records []Record
	// Producer and Epoch make the batch part of a transaction (TxnOffsetCommit);
	// NoProducerID: it is none. The zero value is not none.
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
	// TransactionalID names that transaction.
	TransactionalID string
	// Done is called once, by whoever calls Handle: on every in-sync replica (nil),
	// or an error, when nobody can say whether the records are there. The error
	// wraps messages.ErrUnavailable (ask again) or messages.ErrNotCoordinator.
	// The machine applies the records and answers in it.
	Done func(now time.Time, err error)
}

// Request is what a machine handles. Every request has a Reply of its own type,
// which is called exactly once, must not block, and may be called from any
// goroutine.
type Request interface {
	// Refuse answers the request with an error alone.
	Refuse(err error)
}

// Mergeable is a request whose write may go into one batch with those of others
// of the same kind: the machine is handed several before its write is taken.
type Mergeable interface {
	Request
	Merges()
}

// Notice is a request that tells the machine what has happened elsewhere, and is told
// once: nobody waits for an answer, and nobody would ask again. Whoever runs the
// machine never refuses it for want of room or patience while the machine lives.
type Notice interface {
	Request
	Notice()
}

// Machine decides for one group or one transactional id. It has one owner, reads
// no clock and waits for nothing.
//
// While a write is under way only Done of it is called. After every other call
// the owner takes the next write.
type Machine interface {
	// Replay takes note of a record that is in the partition, at load time, in order.
	// A damaged one is an error that names it.
	Replay(r Replayed) error
	// Loaded ends the replay: from here on the machine handles requests.
	Loaded(now time.Time)
	Handle(now time.Time, r Request)
	// Tick does what has become due. Due is when that is; zero: nothing is.
	Tick(now time.Time)
	Due() time.Time
	// TakeWrite returns what was decided and is to be made durable, or nil.
	TakeWrite() *Write
	// Empty reports that there is nothing to remember: no record and no request
	// that waits. The owner may end the machine and make it anew later.
	Empty() bool
	// Stop answers everything that waits with err. Nothing is called after it.
	Stop(err error)
}

// Unheard is a machine that gives up whoever it has not heard of for a while.
type Unheard interface {
	// Unheard tells, when a write has ended, that requests were refused because it took
	// so long: nobody is to blame for silence until now.
	Unheard(now time.Time)
}

// Replayed is a record as it was found in the partition.
type Replayed struct {
	Record
	Timestamp messages.Timestamp
	// Producer and Epoch are those of the transaction that the record is in;
	// NoProducerID: in none.
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
}
