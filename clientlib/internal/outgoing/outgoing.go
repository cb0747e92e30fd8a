// Package outgoing decides how a producer's batches reach their partition: which one may
// be sent next and under which number, what a failure means, what is sent again and when,
// and when to give up.
//
// A Line is the machine of one partition. It owns the order of its batches and their
// sequence numbers; it reads no clock, draws no number and sends nothing itself. Package
// clientlib alone uses it.
//
// How nothing is lost, doubled or reordered: the partition's leader takes a batch of an
// idempotent producer only if its number follows that of the one before, and recognises
// the last five when they come again. So at most five batches are under way, counted from
// the oldest whose outcome is not known; what fails is sent again under its number and in
// order, once nothing of the partition is under way. If the leader says that the oldest
// one is out of order, then one before it, which was given up, never got there, and neither
// did those behind it: the line begins to count anew under a higher epoch, which also
// shuts out whatever of the old one may still come.
package outgoing

import (
	"errors"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// Window is how many batches of a partition may be under way: as many as its leader
// recognises when they come again.
const Window = 5

// Mode is what a line promises.
type Mode int8

const (
	// Plain batches have no number: a retry may double or reorder them.
	Plain Mode = iota
	// Idempotent batches are numbered.
	Idempotent
	// Transactional ones too, and the first that fails ends the transaction.
	Transactional
)

// Batch is a batch on its way. The Line owns it from Add on until Finished returns it.
type Batch[T any] struct {
	Of      T         // what the caller wants to find again
	Records int       // how many, at least 1
	Expires time.Time // when it is given up
	// Ready: its bytes are there. It may be set later, and holds up those behind it.
	Ready bool

	// Under which number to send it. They are set when Next returns the batch; it may
	// have others the next time.
	ID    messages.ProducerID
	Epoch messages.ProducerEpoch
	Base  messages.Sequence

	// Tries is how often it was sent. Err, once it is finished, is why it failed.
	Tries int
	Err   error

	state    state
	numbered bool
	doubt    bool  // it may be in the log under its number
	last     error // of the last try
}

type state int8

const (
	waiting state = iota
	flying
	done
)

// meaning is what an answer says of a batch.
type meaning int8

const (
	acked      meaning = iota
	unsent             // nobody has seen it
	passing            // try again; it may be in the log
	outOfOrder         // one before it is missing
	fenced             // its epoch is over
	refused            // it will never be taken, and was not
	fatal              // it will not be taken; it may be in the log
)

// passes are the errors after which the same batch may succeed.
var passes = []error{
	messages.ErrNotLeader, messages.ErrFencedLeaderEpoch, messages.ErrUnknownLeaderEpoch,
	messages.ErrUnavailable, messages.ErrOverloaded, messages.ErrNotEnoughReplicas,
	messages.ErrStorage, messages.ErrDiskFull, messages.ErrRequestTimedOut,
	messages.ErrCorruptBatch, messages.ErrUnknownTopicOrPartition, messages.ErrUnknownTopicID,
	messages.ErrNotCoordinator, messages.ErrCoordinatorLoading, messages.ErrStaleNodeEpoch,
	txn.ErrConcurrent,
}

// refuses are the errors of a batch that is itself at fault.
var refuses = []error{
	messages.ErrInvalidRecord, messages.ErrInvalidTimestamp, messages.ErrBatchTooLarge,
	messages.ErrBatchLargerThanSegment, messages.ErrUnsupportedCompression,
	messages.ErrInvalidRequiredAcks, messages.ErrInvalidTopic, messages.ErrPolicyViolation,
	messages.ErrInvalidRequest,
}

// Answer is what became of one try.
type Answer struct {
	Err error
	// Unsent: no node has seen it.
	Unsent bool
	At     time.Time
	// Chance, from 0 to 1, spreads what is tried again.
	Chance float64
}

func (a *Answer) means() meaning {
	is := func(target error) bool { return errors.Is(a.Err, target) }
	switch {
	case a.Err == nil:
		return acked
	case a.Unsent:
		return unsent
	case is(messages.ErrOutOfOrderSequence):
		return outOfOrder
	case is(messages.ErrInvalidProducerEpoch):
		return fenced
	case slices.ContainsFunc(refuses, is):
		return refused
	case slices.ContainsFunc(passes, is):
		return passing
	default:
		return fatal
	}
}

// Passes reports whether what failed with err may succeed if it is tried again.
func Passes(err error) bool {
	return slices.ContainsFunc(passes, func(target error) bool { return errors.Is(err, target) })
}

// Times before the next try.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = time.Second
)

// Backoff is how long to wait after that many failures in a row, from 1 on: from 50 ms
// doubling to 1 s, and between 80 and 120 percent of that as chance, from 0 to 1, has it.
func Backoff(failures int, chance float64) time.Duration {
	d := min(backoffFirst<<min(max(failures-1, 0), 10), backoffMost)
	return time.Duration(float64(d) * (0.8 + 0.4*chance))
}
