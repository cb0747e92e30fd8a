package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/testkit"
)

// txnCoordinator is a Coordinators that only knows AddToTxn.
type txnCoordinator struct {
	Coordinators
	mu    sync.Mutex
	asked []txn.Add
	ids   []string
	add   func(ctx context.Context, try int, a txn.Add) txn.Added
}

func (c *txnCoordinator) AddToTxn(ctx context.Context, id string, a txn.Add) txn.Added {
	c.mu.Lock()
	c.asked, c.ids = append(c.asked, a), append(c.ids, id)
	try := len(c.asked)
	c.mu.Unlock()
	return c.add(ctx, try, a)
}

func (c *txnCoordinator) questions() []txn.Add {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func answering(err error) func(context.Context, int, txn.Add) txn.Added {
	return func(context.Context, int, txn.Add) txn.Added { return txn.Added{Err: err} }
}

// txnCluster has the topic t, whose partitions ask before a transaction begins.
func txnCluster(partitions int, c *txnCoordinator) *fakeCluster {
	f := newFakeCluster()
	f.addTopic("t", partitions)
	f.coordinators = c
	for i := range partitions {
		f.replica("t", int32(i)).asks = true
	}
	return f
}

func txnBatch(t testing.TB, sequence messages.Sequence) []byte {
	b := record.NewBuilder(record.Compression{}).Producer(7, 3, sequence).Transactional()
	b.Append(messages.Timestamp(time.Now().UnixMilli()), nil, []byte("v"))
	return finished(t, b)
}

func inTransaction(r *kmsg.ProduceRequest) { r.TransactionID = kmsg.StringPtr("transfers") }

func TestATransactionalBatchIsAppendedWhenItsCoordinatorSaysYes(t *testing.T) {
	for _, version := range []int16{3, 11, 12, 13} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			c := &txnCoordinator{add: answering(nil)}
			f := txnCluster(1, c)
			if p := produceOne(t, f, version, txnBatch(t, 0), inTransaction); p.ErrorCode != 0 {
				t.Fatalf("%+v", p)
			}
			asked := c.questions()
			if len(asked) != 1 || c.ids[0] != "transfers" || asked[0].Producer != 7 ||
				asked[0].Epoch != 3 || asked[0].VerifyOnly != (version < 12) ||
				len(asked[0].Partitions) != 1 || asked[0].Partitions[0].String() != "t-0" {
				t.Errorf("asked %+v", asked)
			}
		})
	}
}

func TestWhatAProducerIsToldWhenItsCoordinatorSaysNo(t *testing.T) {
	for _, tt := range []struct {
		err           error
		old, new, add int16 // versions 10, 11, 12
	}{
		{messages.ErrInvalidTxnState, 48, 120, 48},
		{txn.ErrAbortable, 48, 120, 120},
		{txn.ErrConcurrent, 19, 19, 51},
		{messages.ErrNotCoordinator, 19, 19, 19},
		{messages.ErrCoordinatorLoading, 19, 19, 19},
		{messages.ErrUnavailable, 19, 19, 19},
		{context.DeadlineExceeded, 19, 19, 19},
		{txn.ErrProducerFenced, 47, 47, 47},
		{messages.ErrInvalidProducerEpoch, 47, 47, 47},
		{txn.ErrInvalidMapping, 49, 49, 49},
	} {
		for version, code := range map[int16]int16{10: tt.old, 11: tt.new, 12: tt.add} {
			t.Run(fmt.Sprintf("%v in v%d", tt.err, version), func(t *testing.T) {
				c := &txnCoordinator{add: answering(fmt.Errorf("wrapped: %w", tt.err))}
				f := txnCluster(1, c)
				p := produceOne(t, f, version, txnBatch(t, 0), inTransaction)
				if p.ErrorCode != code || p.BaseOffset != -1 {
					t.Errorf("%+v, want code %d", p, code)
				}
				if o := f.replica("t", 0).Offsets(); o.LogEnd != 0 {
					t.Error("it was appended")
				}
			})
		}
	}
}

func TestAProducerThatIsFasterThanItsMarkersIsAddedAfterAFewTries(t *testing.T) {
	c := &txnCoordinator{add: func(_ context.Context, try int, _ txn.Add) txn.Added {
		if try <= 2 {
			return txn.Added{Err: txn.ErrConcurrent}
		}
		return txn.Added{}
	}}
	f := txnCluster(1, c)
	if p := produceOne(t, f, 12, txnBatch(t, 0), inTransaction); p.ErrorCode != 0 {
		t.Fatalf("%+v", p)
	}
	if n := len(c.questions()); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

func TestVerificationCanBeSwitchedOffButNotAdding(t *testing.T) {
	for version, asked := range map[int16]int{11: 0, 12: 1} {
		c := &txnCoordinator{add: answering(nil)}
		f := txnCluster(1, c)
		f.set("transaction.partition.verification.enable", "false")
		if p := produceOne(t, f, version, txnBatch(t, 0), inTransaction); p.ErrorCode != 0 {
			t.Fatalf("v%d: %+v", version, p)
		}
		if n := len(c.questions()); n != asked {
			t.Errorf("v%d: asked %d times", version, n)
		}
	}
}

func TestPartitionsOfOneProducerAreAskedAboutTogether(t *testing.T) {
	leave := make(chan struct{})
	c := &txnCoordinator{add: func(_ context.Context, try int, a txn.Add) txn.Added {
		if try == 1 {
			<-leave
		}
		errs := make([]error, len(a.Partitions))
		for i, p := range a.Partitions {
			if p.Partition == 3 {
				errs[i] = messages.ErrInvalidTxnState
			}
		}
		return txn.Added{Errs: errs}
	}}
	f := txnCluster(5, c)
	w := dial(t, serveFake(t, f, Config{}))
	batches := map[int32][]byte{}
	for i := range int32(4) {
		batches[i] = txnBatch(t, 0)
	}
	req := produceTo(9, -1, batches)
	inTransaction(req)
	for id, r := range []*kmsg.ProduceRequest{
		req, produceTo(9, -1, map[int32][]byte{4: batchOf(t, "a")}),
	} {
		if _, err := w.Write(frame(int32(id+1), r)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "all partitions have asked", func() bool {
		return f.replica("t", 4).Offsets().LogEnd == 1 // behind them on the connection
	})
	close(leave)
	resp := receive[*kmsg.ProduceResponse](w, 1, req)
	for _, p := range resp.Topics[0].Partitions {
		if want := map[bool]int16{true: 48}[p.Partition == 3]; p.ErrorCode != want {
			t.Errorf("%+v", p)
		}
	}
	if n := len(c.questions()); n != 2 {
		t.Errorf("asked %d times: the first partition and the others behind it take 2", n)
	}
}

func TestAQuestionToACoordinatorHoldsUpNothingElseAndEndsWithTheConnection(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 1)
	c := &txnCoordinator{add: func(ctx context.Context, _ int, _ txn.Add) txn.Added {
		close(entered)
		<-ctx.Done()
		left <- context.Cause(ctx)
		return txn.Added{Err: ctx.Err()}
	}}
	f := txnCluster(2, c)
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	req := produceTo(9, -1, map[int32][]byte{0: txnBatch(t, 0)})
	inTransaction(req)
	if _, err := w.Write(frame(1, req)); err != nil {
		t.Fatal(err)
	}
	<-entered
	next := produceTo(9, -1, map[int32][]byte{1: batchOf(t, "a")})
	if _, err := w.Write(frame(2, next)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the next request is appended", func() bool {
		return f.replica("t", 1).Offsets().LogEnd == 1
	})
	_ = w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Shutdown(ctx) // the batch that waits has no other deadline before its own
	if err := <-left; err == nil {
		t.Error("the question ended by itself")
	}
	testkit.Eventually(t, "the batch is given back", func() bool { return s.Stats().QueuedBytes == 0 })
	if o := f.replica("t", 0).Offsets(); o.LogEnd != 0 {
		t.Error("a batch without an answer was appended")
	}
}

// frameOf is frame with correlation id 1 and another client id.
func frameOf(client string, req kmsg.Request) []byte {
	plain := frame(1, req)
	b := binary.BigEndian.AppendUint16(slices.Clone(plain[:12]), uint16(len(client)))
	b = append(append(b, client...), plain[14+len("test"):]...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func TestInternalTopicsTakeBatchesOfAdminToolsOnly(t *testing.T) {
	for client, code := range map[string]int16{"me": 17, "__admin_client": 0} {
		f := newFakeCluster()
		f.addTopic("__consumer_offsets", 1)
		w := dial(t, serveFake(t, f, Config{}))
		req := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a")})
		req.Topics[0].Topic = "__consumer_offsets"
		if _, err := w.Write(frameOf(client, req)); err != nil {
			t.Fatal(err)
		}
		resp := receive[*kmsg.ProduceResponse](w, 1, versioned(kmsg.NewPtrProduceRequest(), 9))
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != code {
			t.Errorf("client %q: %+v", client, p)
		}
	}
}
