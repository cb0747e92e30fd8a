package door

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// Before the first batch of a transaction is appended to a partition its
// transaction coordinator must know (KIP-890): it is asked whether the client has
// added the partition, or, under transaction.version 2, to add it. The partition's
// leader says when that is, and holds the batch, and what its producer sends behind
// it, until there is an answer. So the requests of a client go on meanwhile, and
// batches in an open transaction cost nothing.

// How the coordinator is asked.
const (
	// txnPatience bounds the wait for one answer.
	txnPatience = 10 * time.Second
	// A producer begins its next transaction while the markers of the one before are
	// under way, so that to add partitions is worth a few tries before the client is
	// told to send everything again.
	txnRetries = 5
	txnBackoff = 20 * time.Millisecond
)

// ErrClosed: the client went away before its question was answered.
var ErrClosed = errors.New("connection closed")

// TxnKey says what one question to a coordinator has in common.
type TxnKey struct {
	ID         string // transactional
	Producer   messages.ProducerID
	Epoch      messages.ProducerEpoch
	VerifyOnly bool // ask whether the partitions are added, and add none
}

// TxnQuestion is one partition that a coordinator is to be asked about. Reply is
// called once, from any goroutine, and must not block.
type TxnQuestion struct {
	Partition messages.TopicPartition
	Reply     func(error)
}

// TxnAsks are a client's questions to transaction coordinators. There is one
// under way for each producer, with a goroutine of its own; what comes up meanwhile
// goes into the next one together. A question belongs to a batch under way, of
// which a client has a bounded number. Any goroutine may call its methods.
type TxnAsks struct {
	// Coordinators are asked.
	Coordinators Coordinators
	// Context ends with the client.
	Context context.Context
	// Failed is told of a panic while a question was under way; it must be set.
	Failed func(cause any)

	mu      sync.Mutex
	waiting map[TxnKey][]TxnQuestion // behind the question under way, maybe none
	closed  bool
	running sync.WaitGroup
}

// Ask asks the coordinator about one partition and returns at once. The reply
// comes from another goroutine, or from this one after Close.
func (t *TxnAsks) Ask(key TxnKey, q TxnQuestion) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		q.Reply(ErrClosed)
		return
	}
	waiting, busy := t.waiting[key]
	if busy {
		t.waiting[key] = append(waiting, q)
		t.mu.Unlock()
		return
	}
	if t.waiting == nil {
		t.waiting = map[TxnKey][]TxnQuestion{}
	}
	t.waiting[key] = nil
	t.running.Add(1)
	t.mu.Unlock()
	go t.askAll(key, []TxnQuestion{q})
}

// askAll asks until nothing more came up.
func (t *TxnAsks) askAll(key TxnKey, questions []TxnQuestion) {
	defer t.running.Done()
	defer func() {
		if cause := recover(); cause != nil {
			t.Failed(cause)
		}
	}()
	for len(questions) > 0 {
		t.ask(key, questions)
		questions = t.next(key)
	}
}

// next takes what came up meanwhile. None ends the questions of that key.
func (t *TxnAsks) next(key TxnKey) []TxnQuestion {
	t.mu.Lock()
	defer t.mu.Unlock()
	questions := t.waiting[key]
	if len(questions) == 0 {
		delete(t.waiting, key)
		return nil
	}
	t.waiting[key] = nil
	return questions
}

// Close waits for the questions under way, whose context has ended. There are none
// after it. What waits still, behind one that panicked, is refused: the partition
// would hold the batches of that producer for ever.
func (t *TxnAsks) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
	for key := range t.waiting {
		for _, q := range t.next(key) {
			q.Reply(ErrClosed)
		}
	}
}

// ask asks one question and replies to all partitions in it.
func (t *TxnAsks) ask(key TxnKey, questions []TxnQuestion) {
	defer func() { // a bug of ours must not keep the partitions waiting
		for _, q := range questions {
			q.Reply(messages.ErrUnavailable)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context, txnPatience)
	defer cancel()
	for try := 0; len(questions) > 0; try++ {
		if try > 0 && !sleep(ctx, txnBackoff) {
			return
		}
		a := txn.Add{Producer: key.Producer, Epoch: key.Epoch, VerifyOnly: key.VerifyOnly}
		for _, q := range questions {
			a.Partitions = append(a.Partitions, q.Partition)
		}
		added := t.Coordinators.AddToTxn(ctx, key.ID, a)
		var again []TxnQuestion
		for i, q := range questions {
			err := added.Err
			if err == nil && i < len(added.Errs) {
				err = added.Errs[i]
			}
			if errors.Is(err, txn.ErrConcurrent) && !key.VerifyOnly && try < txnRetries {
				again = append(again, q)
				continue
			}
			q.Reply(err)
		}
		questions = again
	}
}

// sleep waits for d, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// TxnClient says what a client understands of how a transactional batch may fail.
type TxnClient struct {
	// VerifyOnly: it adds its partitions itself (below Produce 12).
	VerifyOnly bool
	// Abortable: it knows TRANSACTION_ABORTABLE (from Produce 11 on).
	Abortable bool
}

// Refusal is what a producer is told when its coordinator does not let its batch
// into the transaction, as Kafka does it; nil for nil.
func (c TxnClient) Refusal(err error) error {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var told error
	switch {
	case err == nil:
		return nil
	case is(txn.ErrProducerFenced):
		told = messages.ErrInvalidProducerEpoch
	case is(txn.ErrAbortable), is(messages.ErrInvalidTxnState) && c.VerifyOnly:
		told = messages.ErrInvalidTxnState
		if c.Abortable {
			told = txn.ErrAbortable
		}
	case is(messages.ErrNotCoordinator, messages.ErrCoordinatorLoading, messages.ErrUnavailable,
		messages.ErrOverloaded, messages.ErrRequestTimedOut, context.Canceled,
		context.DeadlineExceeded, ErrClosed), is(txn.ErrConcurrent) && c.VerifyOnly:
		// Clients retry this one, without asking for the metadata anew.
		told = messages.ErrNotEnoughReplicas
	default:
		return err
	}
	return fmt.Errorf("the partition may not be in the transaction (%v): %w", err, told)
}
