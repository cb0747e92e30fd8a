// Package txn holds the requests that the machine of a transactional id handles
// and their answers (KIP-98, 360, 890), without Kafka's encodings.
//
// The Kafka listener makes them, and the coordinators for partitions that want to know
// whether they are in a transaction; actors/txns answers. All are immutable once handed
// over.
package txn

import (
	"errors"

	"github.com/troupelog/troupe/messages"
)

// Errors of transactions; the comment names Kafka's.
// messages.ErrInvalidTxnState and messages.ErrInvalidProducerEpoch belong to them.
var (
	// ErrInvalidTimeout: above transaction.max.timeout.ms. INVALID_TRANSACTION_TIMEOUT.
	ErrInvalidTimeout = errors.New("transaction timeout is out of bounds")
	// ErrConcurrent: the one before is not over yet, ask again. CONCURRENT_TRANSACTIONS.
	ErrConcurrent = errors.New("another transaction is still being completed")
	// ErrInvalidMapping: the id has another producer id, or none. INVALID_PRODUCER_ID_MAPPING.
	ErrInvalidMapping = errors.New("transactional id has another producer id")
	// ErrProducerFenced: a newer producer has the id. PRODUCER_FENCED.
	ErrProducerFenced = errors.New("a newer producer has the transactional id")
	// ErrNotFound: TRANSACTIONAL_ID_NOT_FOUND.
	ErrNotFound = errors.New("transactional id does not exist")
	// ErrNotAttempted: another partition of the request failed. OPERATION_NOT_ATTEMPTED.
	ErrNotAttempted = errors.New("not attempted because of another error in the request")
	// ErrCoordinatorFenced: a marker of a coordinator that was replaced.
	// TRANSACTION_COORDINATOR_FENCED.
	ErrCoordinatorFenced = errors.New("transaction coordinator epoch is fenced")
	// ErrAbortable: abort this transaction and go on. TRANSACTION_ABORTABLE.
	ErrAbortable = errors.New("transaction has to be aborted")
)

// State of a transactional id.
type State int8

// The states, numbered as in the records of __transaction_state.
const (
	Empty State = iota
	Ongoing
	PrepareCommit
	PrepareAbort
	CompleteCommit
	CompleteAbort
	Dead
	PrepareEpochFence
)

// String is the state as Kafka prints it.
func (s State) String() string {
	return [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit",
		"CompleteAbort", "Dead", "PrepareEpochFence"}[s]
}

// Init asks for a producer id and an epoch that fences all before it.
type Init struct {
	TimeoutMs int32
	// Producer and Epoch are what the producer has (KIP-360); NoProducerID and -1:
	// nothing.
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
	// KeepPrepared and Two-phase commit (KIP-939) are not there.
	Reply func(Initialized)
}

// Initialized answers an Init.
type Initialized struct {
	Err      error
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
}

// Add adds partitions to the transaction, and begins it with the first ones.
type Add struct {
	Producer   messages.ProducerID
	Epoch      messages.ProducerEpoch
	Partitions []messages.TopicPartition
	// VerifyOnly asks whether the partitions are in the open transaction and adds
	// nothing (KIP-890, part 1): those that are not have messages.ErrInvalidTxnState.
	VerifyOnly bool
	Reply      func(Added)
}

// Added answers an Add; Errs stand in the order of the partitions, nil: all are Err.
type Added struct {
	Err  error
	Errs []error
}

// End commits or aborts.
type End struct {
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
	Commit   bool
	// V2: the transaction ends with another epoch (transaction.version 2, KIP-890
	// part 2), and the answer has it.
	V2    bool
	Reply func(Ended)
}

// Ended answers an End. Producer and Epoch are for the next transaction of a V2
// producer.
type Ended struct {
	Err      error
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
}

// Describe asks what the transaction is.
type Describe struct {
	Reply func(Description)
}

// Description is a transactional id as tools see it.
type Description struct {
	Err        error
	ID         string
	State      State
	TimeoutMs  int32
	StartedMs  messages.Timestamp // NoTimestamp: none is open
	Producer   messages.ProducerID
	Epoch      messages.ProducerEpoch
	Partitions []messages.TopicPartition
	UpdatedMs  messages.Timestamp // of the last change of state
}

// FreshID answers what a machine asked its outbox for.
type FreshID struct {
	Err error
	ID  messages.ProducerID
}

// Markers ends a transaction in partitions.
type Markers struct {
	// Sending names this call; MarkersWritten repeats it. Producer and epoch alone
	// do not tell two transactions of a V1 producer apart.
	Sending          int64
	Producer         messages.ProducerID
	Epoch            messages.ProducerEpoch
	CoordinatorEpoch int32 // the leader epoch of the coordinator's partition
	Commit           bool
	// Raised: the epoch rose for these markers (transaction.version 2), so no
	// partition that has not seen them knows it yet, and one that does has seen them.
	Raised     bool
	Partitions []messages.TopicPartition
}

// MarkersWritten tells that partitions have their markers, or do not exist any more.
type MarkersWritten struct {
	Sending    int64 // that of the Markers it answers
	Producer   messages.ProducerID
	Epoch      messages.ProducerEpoch
	Partitions []messages.TopicPartition
	// Err wraps ErrCoordinatorFenced if another coordinator has ended it.
	Err error
}

// Refuse implements coord.Request.
func (r *Init) Refuse(err error) {
	r.Reply(Initialized{Err: err, Producer: messages.NoProducerID, Epoch: -1})
}

// Refuse implements coord.Request.
func (r *Add) Refuse(err error) { r.Reply(Added{Err: err}) }

// Refuse implements coord.Request.
func (r *End) Refuse(err error) {
	r.Reply(Ended{Err: err, Producer: messages.NoProducerID, Epoch: -1})
}

// Refuse implements coord.Request.
func (r *Describe) Refuse(err error) { r.Reply(Description{Err: err}) }

// Refuse implements coord.Request.
func (r *FreshID) Refuse(error) {}

// Notice implements coord.Notice.
func (r *FreshID) Notice() {}

// Refuse implements coord.Request.
func (r *MarkersWritten) Refuse(error) {}

// Notice implements coord.Notice: the transaction would never be complete.
func (r *MarkersWritten) Notice() {}
