package kafka

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
// transaction coordinator must know (KIP-890): below Produce 12 it is asked whether
// the client has added the partition, from 12 on the partition is added. The
// partition's leader says when that is, and holds the batch, and what its producer
// sends behind it, until there is an answer. So the requests of a connection go on
// meanwhile, and batches in an open transaction cost nothing.

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

// Versions of Produce that change what a transactional batch is answered.
const (
	produceAbortable = 11 // the client knows TRANSACTION_ABORTABLE
	produceAdds      = 12 // transaction.version 2
)

// txnKey says what one question to a coordinator has in common.
type txnKey struct {
	id         string // transactional
	producer   messages.ProducerID
	epoch      messages.ProducerEpoch
	verifyOnly bool
}

// txnQuestion is one partition that a coordinator is to be asked about.
type txnQuestion struct {
	partition messages.TopicPartition
	reply     func(error)
}

// txnAsks are a connection's questions to transaction coordinators. There is one
// under way for each producer, with a goroutine of its own; what comes up meanwhile
// goes into the next one together. A question belongs to a Produce under way, of
// which a connection has a bounded number.
type txnAsks struct {
	mu      sync.Mutex
	waiting map[txnKey][]txnQuestion // behind the question under way, maybe none
	closed  bool
	running sync.WaitGroup
}

// askTxn asks the coordinator about one partition and returns at once. The reply
// comes from another goroutine, or from this one when the connection is closed.
func (c *conn) askTxn(key txnKey, q txnQuestion) {
	t := &c.txns
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		q.reply(errClosed)
		return
	}
	waiting, busy := t.waiting[key]
	if busy {
		t.waiting[key] = append(waiting, q)
		t.mu.Unlock()
		return
	}
	if t.waiting == nil {
		t.waiting = map[txnKey][]txnQuestion{}
	}
	t.waiting[key] = nil
	t.running.Add(1)
	t.mu.Unlock()
	go c.askTxns(key, []txnQuestion{q})
}

// askTxns asks until nothing more came up.
func (c *conn) askTxns(key txnKey, questions []txnQuestion) {
	defer c.txns.running.Done()
	defer c.recover("transaction")
	for len(questions) > 0 {
		c.askCoordinator(key, questions)
		questions = c.txns.next(key)
	}
}

// next takes what came up meanwhile. None ends the questions of that key.
func (t *txnAsks) next(key txnKey) []txnQuestion {
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

// close waits for the questions under way, whose context has ended. There are none
// after it. What waits still, behind one that panicked, is refused: the partition
// would hold the batches of that producer for ever.
func (t *txnAsks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
	for key := range t.waiting {
		for _, q := range t.next(key) {
			q.reply(errClosed)
		}
	}
}

// askCoordinator asks one question and replies to all partitions in it.
func (c *conn) askCoordinator(key txnKey, questions []txnQuestion) {
	defer func() { // a bug of ours must not keep the partitions waiting
		for _, q := range questions {
			q.reply(messages.ErrUnavailable)
		}
	}()
	ctx, cancel := context.WithTimeout(c.ctx, txnPatience)
	defer cancel()
	for try := 0; len(questions) > 0; try++ {
		if try > 0 && !sleep(ctx, txnBackoff) {
			return
		}
		a := txn.Add{Producer: key.producer, Epoch: key.epoch, VerifyOnly: key.verifyOnly}
		for _, q := range questions {
			a.Partitions = append(a.Partitions, q.partition)
		}
		added := c.s.coordinators.AddToTxn(ctx, key.id, a)
		var again []txnQuestion
		for i, q := range questions {
			err := added.Err
			if err == nil && i < len(added.Errs) {
				err = added.Errs[i]
			}
			if errors.Is(err, txn.ErrConcurrent) && !key.verifyOnly && try < txnRetries {
				again = append(again, q)
				continue
			}
			q.reply(err)
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

// asksCoordinator reports whether the coordinator is asked about transactional
// batches of this request. Where partitions are only verified that can be switched off.
func (p *produceCall) asksCoordinator() bool {
	s := p.conn.s
	return s.coordinators != nil && (p.version >= produceAdds ||
		s.settings.Value("transaction.partition.verification.enable") != "false")
}

// verify is the Verify of the append.
func (a *produceAppend) verify(reply func(error)) {
	p, h := a.call, &a.data.Batch.Header
	key := txnKey{id: p.txnID, producer: h.ProducerID, epoch: h.ProducerEpoch,
		verifyOnly: p.version < produceAdds}
	version := p.version
	p.conn.askTxn(key, txnQuestion{partition: a.partition,
		reply: func(err error) { reply(verificationError(err, version)) }})
}

// verificationError is what a producer is told when its coordinator does not let
// its batch into the transaction, as Kafka does it.
func verificationError(err error, version int16) error {
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
	case is(txn.ErrAbortable), is(messages.ErrInvalidTxnState) && version < produceAdds:
		told = messages.ErrInvalidTxnState
		if version >= produceAbortable {
			told = txn.ErrAbortable
		}
	case is(messages.ErrNotCoordinator, messages.ErrCoordinatorLoading, messages.ErrUnavailable,
		messages.ErrOverloaded, messages.ErrRequestTimedOut, context.Canceled,
		context.DeadlineExceeded, errClosed), is(txn.ErrConcurrent) && version < produceAdds:
		// Clients retry this one, without asking for the metadata anew.
		told = messages.ErrNotEnoughReplicas
	default:
		return err
	}
	return fmt.Errorf("the partition may not be in the transaction (%v): %w", err, told)
}
