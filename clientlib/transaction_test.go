package clientlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/link"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

// txnWorld is a world with a topic and a transactional producer.
func txnWorld(t *testing.T) (*producerWorld, *Producer) {
	w := newProducerWorld(t)
	w.create("orders", 2)
	return w, w.producer(ProducerConfig{Topic: "orders", TransactionalID: "bank", Linger: -1})
}

func (w *producerWorld) outcomes(id string) []bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.txns[id].committed)
}

func TestATransactionCommits(t *testing.T) {
	w, p := txnWorld(t)
	for i := range 3 {
		err := p.Transact(soon(t), func(x *Transaction) error {
			for j := range 2 {
				r := text("", fmt.Sprint(i, j))
				r.Key = []byte{byte(j)}
				if err := x.Send(soon(t), r, nil); err != nil {
					return err
				}
			}
			return x.Produce(soon(t), text("", "last"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := w.outcomes("bank"); !slices.Equal(got, []bool{true, true, true}) {
		t.Errorf("outcomes %v", got)
	}
	n := 0
	for partition := range 2 {
		epochs := map[messages.ProducerEpoch]messages.Sequence{}
		for _, b := range w.batches("orders", partition) {
			n += int(b.Count)
			if !b.Transactional() || b.BaseSequence != epochs[b.ProducerEpoch] {
				t.Errorf("batch %+v, sequence %d is next", b.Header, epochs[b.ProducerEpoch])
			}
			epochs[b.ProducerEpoch] += messages.Sequence(b.Count)
		}
	}
	if n != 9 {
		t.Errorf("%d records", n)
	}
}

func TestATransactionAbortsIfItsFunctionFails(t *testing.T) {
	w, p := txnWorld(t)
	mine := errors.New("mine")
	err := p.Transact(soon(t), func(x *Transaction) error {
		if err := x.Produce(soon(t), text("", "a")); err != nil {
			t.Error(err)
		}
		return mine
	})
	if !errors.Is(err, mine) || !slices.Equal(w.outcomes("bank"), []bool{false}) {
		t.Errorf("%v, outcomes %v", err, w.outcomes("bank"))
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = p.Transact(soon(t), func(x *Transaction) error {
			if err := x.Produce(soon(t), text("", "a")); err != nil {
				t.Error(err)
			}
			panic("mine")
		})
	}()
	if got := w.outcomes("bank"); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("after a panic: outcomes %v", got)
	}
	if err := p.Transact(soon(t), func(x *Transaction) error { return nil }); err != nil ||
		len(w.outcomes("bank")) != 2 {
		t.Errorf("an empty one: %v, outcomes %v", err, w.outcomes("bank"))
	}
}

func TestATransactionWithALostRecordCannotCommit(t *testing.T) {
	w, p := txnWorld(t)
	w.fate = func(*wire.ClientAppend) (bool, error) { return false, messages.ErrInvalidRecord }
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Produce(soon(t), text("", "a")); !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("producing: %v", err)
	}
	if err := x.Send(soon(t), text("", "b"), nil); !errors.Is(err, ErrAborted) {
		t.Errorf("sending more: %v", err)
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrAborted) || !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("committing: %v", err)
	}
	if _, err := p.Begin(soon(t)); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("beginning another: %v", err)
	}
	if err := x.Abort(soon(t)); err != nil {
		t.Error(err)
	}
	if err := x.Abort(soon(t)); err != nil {
		t.Errorf("again: %v", err)
	}
	w.mu.Lock()
	w.fate = nil
	w.mu.Unlock()
	if err := p.Transact(soon(t), func(x *Transaction) error {
		return x.Produce(soon(t), text("", "c"))
	}); err != nil || !slices.Equal(w.outcomes("bank"), []bool{false, true}) {
		t.Errorf("the next: %v, outcomes %v", err, w.outcomes("bank"))
	}
}

func TestRecordsOutsideATransactionAreRefused(t *testing.T) {
	w, p := txnWorld(t)
	if err := p.Produce(soon(t), text("", "a")); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("%v", err)
	}
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Commit(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := x.Send(soon(t), text("", "a"), nil); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("after the end: %v", err)
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("committed again: %v", err)
	}
	if _, err := w.producer(ProducerConfig{}).Begin(soon(t)); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("without an id: %v", err)
	}
}

func TestTheElderProducerIsFenced(t *testing.T) {
	w, elder := txnWorld(t)
	x, err := elder.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Produce(soon(t), text("", "a")); err != nil {
		t.Fatal(err)
	}
	younger := w.producer(ProducerConfig{Topic: "orders", TransactionalID: "bank"})
	if err := x.Produce(soon(t), text("", "b")); err == nil {
		t.Error("the elder still writes")
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrAborted) {
		t.Errorf("committing: %v", err)
	}
	if err := x.Abort(soon(t)); !errors.Is(err, ErrFenced) {
		t.Errorf("aborting: %v", err)
	}
	if _, err := elder.Begin(soon(t)); !errors.Is(err, ErrFenced) {
		t.Errorf("beginning: %v", err)
	}
	if err := younger.Transact(soon(t), func(x *Transaction) error {
		return x.Produce(soon(t), text("", "c"))
	}); err != nil {
		t.Error(err)
	}
}

// lose has the answers to the ends of transactions get lost: n of them.
func (w *producerWorld) lose(n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ask = func(req *wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		if req.GetEndTxn() == nil || n == 0 {
			return false, nil, nil
		}
		n--
		_, _ = w.coordinate(req)
		return true, nil, err
	}
}

func TestACommitIsTriedUntilItIsAnswered(t *testing.T) {
	w, p := txnWorld(t)
	w.lose(2, link.ErrNoAnswer)
	for range 2 {
		if err := p.Transact(soon(t), func(x *Transaction) error {
			return x.Produce(soon(t), text("", "a"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.outcomes("bank"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("outcomes %v", got)
	}
}

// Only the abort that follows a commit without an answer tells that it was committed.
func TestACommitWhoseAnswerWasLostIsFound(t *testing.T) {
	w, p := txnWorld(t)
	w.lose(1, context.DeadlineExceeded)
	for range 2 {
		if err := p.Transact(soon(t), func(x *Transaction) error {
			return x.Produce(soon(t), text("", "a"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.outcomes("bank"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("outcomes %v", got)
	}
}

func TestAnAbortFailsWhatIsOnItsWay(t *testing.T) {
	w, p := txnWorld(t)
	w.lead("orders", 0, messages.NoNode)
	w.lead("orders", 1, messages.NoNode)
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	f := p.future(soon(t), x, text("", "a"))
	if err := x.Abort(soon(t)); err != nil {
		t.Error(err)
	}
	if err := f.Wait(soon(t)); !errors.Is(err, ErrAborted) {
		t.Errorf("%v", err)
	}
	w.lead("orders", 0, 0)
	w.lead("orders", 1, 0)
	if err := p.Transact(soon(t), func(x *Transaction) error {
		return x.Produce(soon(t), text("", "b"))
	}); err != nil || len(w.stored("orders", 0))+len(w.stored("orders", 1)) != 1 {
		t.Errorf("the next: %v", err)
	}
}

func TestPositionsOfAGroupGoWithATransaction(t *testing.T) {
	w, p := txnWorld(t)
	at := []*wire.ClientPosition{{Topic: "orders", Partition: 1, Offset: 7}}
	if err := p.Transact(soon(t), func(x *Transaction) error {
		return x.commitOffsets(soon(t), "billing", groupMember{id: "m", epoch: 3}, at)
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.outcomes("bank"); !slices.Equal(got, []bool{true}) || w.txns["bank"].positions != 1 {
		t.Errorf("outcomes %v, %d positions", got, w.txns["bank"].positions)
	}
	w.mu.Lock()
	w.ask = func(req *wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		return req.GetTxnCommitOffsets() != nil, &wire.ClientResponse{Result: &wire.
			ClientResponse_Errors{Errors: &wire.ErrorList{
			Errors: []*wire.Error{wire.FromError(group.ErrFencedMemberEpoch)}}}}, nil
	}
	w.mu.Unlock()
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.commitOffsets(soon(t), "billing", groupMember{}, at); !errors.Is(err,
		group.ErrFencedMemberEpoch) || !strings.Contains(err.Error(), `topic "orders", partition 1`) {
		t.Errorf("%v", err)
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrAborted) {
		t.Errorf("committing: %v", err)
	}
	if err := x.Abort(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestConcurrentTransactionsAreWaitedFor(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	n := 0
	w.ask = func(*wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		n++
		return n%2 == 1, nil, txn.ErrConcurrent
	}
	p := w.producer(ProducerConfig{Topic: "orders", TransactionalID: "bank"})
	tries := 0
	w.mu.Lock()
	w.fate = func(*wire.ClientAppend) (bool, error) {
		tries++
		return tries > 1, map[bool]error{true: txn.ErrConcurrent}[tries == 1]
	}
	w.mu.Unlock()
	if err := p.Transact(soon(t), func(x *Transaction) error {
		return x.Produce(soon(t), text("", "a"))
	}); err != nil || !slices.Equal(w.outcomes("bank"), []bool{true}) {
		t.Errorf("%v, outcomes %v", err, w.outcomes("bank"))
	}
}

func TestCloseAbortsATransaction(t *testing.T) {
	w, p := txnWorld(t)
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Produce(soon(t), text("", "a")); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(soon(t)); err != nil || !slices.Equal(w.outcomes("bank"), []bool{false}) {
		t.Errorf("%v, outcomes %v", err, w.outcomes("bank"))
	}
	if _, err := p.Begin(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("beginning: %v", err)
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("committing: %v", err)
	}
}

func TestWhoWaitsToBeginEndsWithTheProducer(t *testing.T) {
	w, p := txnWorld(t)
	p.txn.renew = true // as after an answer that was lost
	asked := make(chan struct{}, 100)
	w.mu.Lock()
	w.ask = func(*wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		asked <- struct{}{}
		return true, nil, messages.ErrUnavailable
	}
	w.mu.Unlock()
	ends := make(chan error, 1)
	go func() { _, err := p.Begin(context.Background()); ends <- err }()
	<-asked
	if err := p.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-ends; !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnavailable) {
		t.Errorf("beginning: %v", err)
	}
}

func TestACommitEndsWithItsContext(t *testing.T) {
	w, p := txnWorld(t)
	w.lead("orders", 0, messages.NoNode)
	w.lead("orders", 1, messages.NoNode)
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Send(soon(t), text("", "a"), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(soon(t), 10*time.Millisecond)
	defer cancel()
	if err := x.Commit(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody leads: %v", err)
	}
	w.lead("orders", 0, 1)
	w.lead("orders", 1, 1)
	if err := x.Commit(soon(t)); err != nil || !slices.Equal(w.outcomes("bank"), []bool{true}) {
		t.Errorf("%v, outcomes %v", err, w.outcomes("bank"))
	}
}

func TestATransactionWhoseTopicIsGoneCannotCommit(t *testing.T) {
	w := newProducerWorld(t)
	w.create("orders", 1)
	p := w.producer(ProducerConfig{Topic: "orders", TransactionalID: "tx"})
	tx, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Produce(soon(t), text("", "x")); err != nil {
		t.Fatal(err)
	}
	leaders := w.topics["orders"].route.Partitions
	w.change("orders", func(r *link.Route) { r.Gone, r.Partitions = true, nil })
	w.change("orders", func(r *link.Route) { r.Gone, r.Partitions = false, leaders })
	testkit.Eventually(t, "no record is taken any more", func() bool {
		return errors.Is(tx.Send(soon(t), text("", "y"), nil), ErrAborted)
	})
	if err := tx.Commit(soon(t)); !errors.Is(err, ErrAborted) || !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("the commit: %v", err)
	}
	if err := tx.Abort(soon(t)); err != nil {
		t.Error(err)
	}
	err = p.Transact(soon(t), func(tx *Transaction) error {
		return tx.Produce(soon(t), text("", "z"))
	})
	if got := w.stored("orders", 0); err != nil || got[len(got)-1].value != "z" {
		t.Errorf("the next one: %v, %+v", err, got)
	}
}

func TestPositionsThatAreNotTakenFailTheTransactionBeforeItTimesOut(t *testing.T) {
	w := newProducerWorld(t)
	p := w.producer(ProducerConfig{TransactionalID: "bank", TransactionTimeout: time.Second})
	w.mu.Lock()
	w.ask = func(req *wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		if req.GetTxnCommitOffsets() == nil {
			return false, nil, nil
		}
		return true, &wire.ClientResponse{Result: &wire.ClientResponse_Errors{
			Errors: wire.FromErrors([]error{messages.ErrUnknownTopicID})}}, nil
	}
	w.mu.Unlock()
	x, err := p.Begin(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = x.commitOffsets(soon(t), "g", groupMember{}, []*wire.ClientPosition{{Topic: "deleted"}})
	if took := time.Since(began); !errors.Is(err, messages.ErrUnknownTopicID) || took > time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	if err := x.Commit(soon(t)); !errors.Is(err, ErrAborted) {
		t.Errorf("the commit: %v", err)
	}
	if err := x.Abort(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsABeginThatWaits(t *testing.T) {
	w, p := txnWorld(t)
	asked := make(chan struct{}, 100)
	w.mu.Lock()
	w.ask = func(req *wire.ClientRequest) (bool, *wire.ClientResponse, error) {
		if req.GetInitProducer() == nil {
			return false, nil, nil
		}
		asked <- struct{}{}
		return true, nil, messages.ErrUnavailable
	}
	w.mu.Unlock()
	p.txn.renew = true // as after an answer that was lost
	began := make(chan error, 1)
	go func() {
		_, err := p.Begin(context.Background())
		began <- err
	}()
	<-asked
	closed := make(chan error, 1)
	go func() { closed <- p.Close(soon(t)) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close waits for a Begin that nobody ends")
	}
	if err := <-began; !errors.Is(err, ErrClosed) {
		t.Errorf("Begin: %v", err)
	}
}
