package actors

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/persistence/vfs"
)

// txnBatch is a transactional batch of producer 7.
func txnBatch(epoch messages.ProducerEpoch, first messages.Sequence, values ...string,
) record.Batch {
	return build(newBatch(values...).Producer(7, epoch, first).Transactional())
}

// yes is a coordinator that confirms at once.
func yes(reply func(error)) { reply(nil) }

// send appends a transactional batch whose coordinator answers as verify does.
func send(r *Replica, b record.Batch, verify func(func(error))) <-chan data.AppendResult {
	done := make(chan data.AppendResult, 2)
	r.Append(&data.Append{Batch: b, Acks: data.AcksAll, Verify: verify,
		Done: func(res data.AppendResult) { done <- res }})
	return done
}

// mark writes a marker of producer 7 and waits for the answer.
func (w *world) mark(r *Replica, epoch messages.ProducerEpoch, commit bool) error {
	w.t.Helper()
	done := make(chan error, 2)
	m := data.Marker{Producer: 7, Epoch: epoch, Commit: commit}
	r.WriteMarker(m, func(err error) { done <- err })
	return receive(w.t, "the answer to a marker", done)
}

func (w *world) must(res data.AppendResult) data.AppendResult {
	w.t.Helper()
	if res.Err != nil {
		w.t.Fatalf("append: %v", res.Err)
	}
	return res
}

// committed returns the values that a read_committed consumer is shown.
func (w *world) committed(r *Replica) []string {
	w.t.Helper()
	values, at := []string{}, r.Offsets().LogStart
	skip := map[messages.ProducerID]bool{}
	for {
		res := r.Read(data.Read{From: at, MaxBytes: 300, MinOne: true, Isolation: data.ReadCommitted,
			CurrentEpoch: messages.NoEpoch, LastEpoch: messages.NoEpoch})
		b, err := res.View.AppendTo(nil)
		res.View.Release()
		if err != nil || res.Err != nil {
			w.t.Fatalf("reading from %d: %v, %v", at, res.Err, err)
		}
		if len(b) == 0 {
			return values
		}
		for len(b) > 0 {
			batch, rest, err := record.Parse(b)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, a := range res.Aborted {
				if a.FirstOffset <= batch.LastOffset() && a.FirstOffset >= 0 {
					skip[a.Producer] = true
				}
			}
			res.Aborted = slices.DeleteFunc(res.Aborted,
				func(a data.AbortedTxn) bool { return a.FirstOffset <= batch.LastOffset() })
			if m, ok, _ := record.ParseMarker(&batch); ok && !m.Commit {
				delete(skip, batch.ProducerID)
			} else if !batch.Control() && !skip[batch.ProducerID] {
				for rec, err := range record.Records(&batch, record.InflateLimit) {
					if err != nil {
						w.t.Fatal(err)
					}
					values = append(values, string(rec.Value))
				}
			}
			b, at = rest, batch.NextOffset()
		}
	}
}

func TestReadersOfCommittedRecordsWaitForTheMarker(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.produce("orders", "plain")
	w.must(receive(t, "an answer", send(r, txnBatch(0, 0, "a"), yes)))
	w.produce("orders", "behind")
	if o := r.Offsets(); o.LastStable != 1 || o.HighWatermark != 3 {
		t.Fatalf("offsets are %+v", o)
	}
	if got := w.committed(r); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("before the marker: %q", got)
	}
	at, err := r.ByTimestamp(t.Context(), data.TimestampLatest, data.ReadCommitted, messages.NoEpoch)
	if err != nil || at.Offset != 1 {
		t.Errorf("the latest committed is %+v, %v", at, err)
	}
	woken := make(chan struct{})
	r.Await(data.ReadCommitted, 1, func() { close(woken) })
	if err := w.mark(r, 0, true); err != nil {
		t.Fatal(err)
	}
	receive(t, "the reader", woken)
	if o := r.Offsets(); o.LastStable != 4 {
		t.Errorf("offsets are %+v", o)
	}
	if got := w.committed(r); !slices.Equal(got, []string{"plain", "a", "behind"}) {
		t.Errorf("after the marker: %q", got)
	}
	if got := w.consume("orders"); len(got) != 4 { // the marker has a value too
		t.Errorf("uncommitted: %q", got)
	}
}

func TestWhatWasAbortedIsToldOfAlsoAfterARestart(t *testing.T) {
	for name, stop := range map[string]func(w *world) vfs.FS{
		"clean": func(w *world) vfs.FS {
			if err := w.stop(); err != nil {
				w.t.Fatal(err)
			}
			return w.disk
		},
		"killed": func(w *world) vfs.FS { w.kill(); return w.disk },
		"crashed": func(w *world) vfs.FS {
			return w.disk.(*vfs.Mem).CrashClone(1, vfs.KeepAll)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, plan{disk: vfs.NewMem()})
			w.create("orders", 1, "segment.bytes", "1048576")
			r := w.leader("orders", 0)
			for i := range 6 {
				epoch, commit := messages.ProducerEpoch(i), i%3 == 0
				w.must(receive(t, "an answer", send(r, txnBatch(epoch, 0, values("x", 2)...), yes)))
				w.produce("orders", "plain")
				if err := w.mark(r, epoch, commit); err != nil {
					t.Fatal(err)
				}
			}
			w.must(receive(t, "an answer", send(r, txnBatch(6, 0, "open"), yes)))
			want, before := w.committed(r), r.Offsets()
			if len(want) != 10 || before.LastStable != before.HighWatermark-1 {
				t.Fatalf("%q of %+v", want, before)
			}
			w = start(t, plan{disk: stop(w), store: w.store})
			r = w.leader("orders", 0)
			w.eventually("the high watermark is back", func() bool {
				return r.Offsets().HighWatermark == before.HighWatermark
			})
			if o := r.Offsets(); o.LastStable != before.LastStable {
				t.Errorf("offsets were %+v, are %+v", before, o)
			}
			if got := w.committed(r); !slices.Equal(got, want) {
				t.Errorf("shows %q, want %q", got, want)
			}
			// The open transaction goes on without a question, and ends.
			w.must(w.append(r, data.AcksAll, txnBatch(6, 1, "more")))
			if err := w.mark(r, 6, true); err != nil {
				t.Fatal(err)
			}
			if got := w.committed(r); !slices.Equal(got, append(want, "open", "more")) {
				t.Errorf("in the end %q", got)
			}
		})
	}
}

// question is a coordinator that answers when the test says so.
type question struct {
	asked chan func(error)
}

func newQuestion() question                 { return question{make(chan func(error), 8)} }
func (q question) verify(reply func(error)) { q.asked <- reply }

func TestBatchesBehindTheFirstOfATransactionWaitWithIt(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	q := newQuestion()
	first := send(r, txnBatch(0, 0, "a"), q.verify)
	reply := receive(t, "the question", q.asked)
	second := send(r, txnBatch(0, 1, "b"), q.verify)
	third := send(r, txnBatch(0, 2, "c"), q.verify)
	w.produce("orders", "of another producer") // goes on meanwhile
	reply(nil)
	for i, done := range []<-chan data.AppendResult{first, second, third} {
		if res := w.must(receive(t, "an answer", done)); res.BaseOffset != messages.Offset(i+1) {
			t.Errorf("batch %d: %+v", i, res)
		}
	}
	if len(q.asked) != 0 {
		t.Error("a batch of an open transaction was asked about")
	}
	if o := r.Offsets(); o.LastStable != 1 {
		t.Errorf("offsets are %+v", o)
	}
}

func TestANoIsToldToAllThatWaited(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	q := newQuestion()
	first := send(r, txnBatch(0, 0, "a"), q.verify)
	reply := receive(t, "the question", q.asked)
	second := send(r, txnBatch(0, 1, "b"), q.verify)
	w.produce("orders", "sync") // the second is decided by now, too
	reply(txn.ErrAbortable)
	for _, done := range []<-chan data.AppendResult{first, second} {
		if res := receive(t, "an answer", done); !errors.Is(res.Err, txn.ErrAbortable) {
			t.Errorf("got %+v", res)
		}
	}
	again := send(r, txnBatch(0, 0, "a"), yes)
	w.must(receive(t, "an answer", again))
}

func TestABatchThatWasConfirmedBeforeAMarkerIsRefusedAfterIt(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	q := newQuestion()
	late := send(r, txnBatch(0, 0, "late"), q.verify)
	reply := receive(t, "the question", q.asked)
	if err := w.mark(r, 0, false); err != nil { // the coordinator has aborted it meanwhile
		t.Fatal(err)
	}
	reply(nil)
	again := receive(t, "the question anew", q.asked)
	again(messages.ErrInvalidTxnState)
	if res := receive(t, "an answer", late); !errors.Is(res.Err, messages.ErrInvalidTxnState) {
		t.Errorf("got %+v", res)
	}
	if o := r.Offsets(); o.LogEnd != 1 || o.LastStable != 1 {
		t.Errorf("offsets are %+v", o)
	}
}

// The producer was told that its transaction is committed, and begins the next one
// while the marker is still on its way to this partition.
func TestATransactionThatBeginsBeforeTheMarkerOfTheLastOneIsAskedAboutAgain(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(0, 0, "last"), yes)))
	q := newQuestion()
	next := send(r, txnBatch(1, 0, "next"), q.verify)
	second := send(r, txnBatch(1, 1, "second"), q.verify)
	reply := receive(t, "the question", q.asked)
	done := make(chan error, 1)
	r.WriteMarker(data.Marker{Producer: 7, Epoch: 1, Commit: true, V2: true},
		func(err error) { done <- err })
	if err := receive(t, "the answer to a marker", done); err != nil {
		t.Fatal(err)
	}
	reply(nil) // the coordinator waited for the markers before it said so
	receive(t, "the question anew", q.asked)(nil)
	for i, done := range []<-chan data.AppendResult{next, second} {
		if res := w.must(receive(t, "an answer", done)); res.BaseOffset != messages.Offset(i+2) {
			t.Errorf("batch %d: %+v", i, res)
		}
	}
}

func TestAGuardMayBeTakenBeforeTheBatchIsThere(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	guard := func(epoch messages.ProducerEpoch) (uint64, error) {
		type outcome struct {
			guard uint64
			err   error
		}
		done := make(chan outcome, 1)
		r.Guard(7, epoch, messages.NoSequence, func(g uint64, err error) { done <- outcome{g, err} })
		out := receive(t, "a guard", done)
		return out.guard, out.err
	}
	offsets := func(g uint64) data.AppendResult {
		done := make(chan data.AppendResult, 1)
		r.Append(&data.Append{Batch: txnBatch(0, messages.NoSequence, "offset"),
			Acks: data.AcksAll, Guard: g, Done: func(res data.AppendResult) { done <- res }})
		return receive(t, "an answer", done)
	}
	g, err := guard(0)
	if err != nil || g == 0 {
		t.Fatalf("%d, %v", g, err)
	}
	if res := offsets(g + 1); !errors.Is(res.Err, messages.ErrInvalidTxnState) {
		t.Errorf("under another guard: %+v", res)
	}
	w.must(offsets(g))
	if g, err = guard(0); err != nil || g != 0 {
		t.Errorf("of an open transaction: %d, %v", g, err)
	}
	if err := w.mark(r, 1, true); err != nil {
		t.Fatal(err)
	}
	if _, err = guard(0); !errors.Is(err, messages.ErrInvalidProducerEpoch) {
		t.Errorf("of an epoch that is over: %v", err)
	}
}

func TestVerificationIsASetting(t *testing.T) {
	w := start(t, plan{settings: map[string]string{
		"transaction.partition.verification.enable": "false"}})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(w.append(r, data.AcksAll, txnBatch(0, 0, "nobody was asked")))
	if err := w.mark(r, 0, true); err != nil {
		t.Fatal(err)
	}
	// Adding the partition is no verification: whoever can ask is asked.
	no := func(reply func(error)) { reply(txn.ErrInvalidMapping) }
	if res := receive(t, "an answer", send(r, txnBatch(0, 1, "b"), no)); !errors.Is(res.Err,
		txn.ErrInvalidMapping) {
		t.Errorf("got %+v", res)
	}
}

func TestMarkersAreRefusedForTheirReason(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(5, 0, "a"), yes)))
	for _, tt := range []struct {
		name   string
		marker data.Marker
		err    error
	}{
		{"an epoch that is over", data.Marker{Producer: 7, Epoch: 4}, messages.ErrInvalidProducerEpoch},
		{"one that came too late", data.Marker{Producer: 7, Epoch: 5, V2: true},
			messages.ErrInvalidProducerEpoch},
		{"no producer", data.Marker{Producer: -1}, messages.ErrInvalidRequest},
		{"the end", data.Marker{Producer: 7, Epoch: 6, CoordinatorEpoch: 3, V2: true}, nil},
		{"the end again", data.Marker{Producer: 7, Epoch: 6, CoordinatorEpoch: 3, V2: true}, nil},
		{"a coordinator that was replaced", data.Marker{Producer: 7, Epoch: 7, CoordinatorEpoch: 2},
			txn.ErrCoordinatorFenced},
		{"of a producer that nobody knows", data.Marker{Producer: 8, Epoch: 1}, nil},
	} {
		done := make(chan error, 2)
		r.WriteMarker(tt.marker, func(err error) { done <- err })
		if err := receive(t, "an answer", done); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if o := r.Offsets(); o.LogEnd != 3 || o.LastStable != 3 {
		t.Errorf("offsets are %+v", o) // the batch, its marker, and the one of nobody
	}
}

func TestAnswersComeInTheOrderOfTheLog(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMem(), 1)
	w := start(t, plan{disk: disk})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(0, 0, "a"), yes)))
	release := holdWrites(w, disk, r)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	note := func(i int) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, i)
		all.Done()
	}
	const n = 3 * gatherBatches
	all.Add(n)
	for i := range n {
		if i%5 == 0 {
			r.WriteMarker(data.Marker{Producer: 7, Commit: i%2 == 0}, func(error) { note(i) })
			continue
		}
		r.Append(&data.Append{Batch: batchOf("b"), Acks: data.AcksAll,
			Done: func(data.AppendResult) { note(i) }})
	}
	release()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	receive(t, "all answers", done)
	if !slices.IsSorted(order) {
		t.Errorf("answered in the order %v", order)
	}
}

func TestDeletionDoesNotWaitForOpenTransactions(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(0, 0, "a", "b"), yes)))
	w.produce("orders", "c")
	w.deleteRecords("orders", 2)
	if o := r.Offsets(); o.LastStable != 2 || o.LogStart != 2 {
		t.Fatalf("offsets are %+v", o)
	}
	producers, err := r.Producers(t.Context())
	if err != nil || len(producers) != 1 || producers[0].TxnFirst != 0 {
		t.Errorf("%+v, %v", producers, err)
	}
	if err := w.mark(r, 0, false); err != nil {
		t.Fatal(err)
	}
	if got := w.committed(r); !slices.Equal(got, []string{"c"}) {
		t.Errorf("shows %q", got)
	}
}

func TestProducersAreDescribed(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(2, 0, "a"), yes)))
	want := data.Producer{ID: 7, Epoch: 2, LastTimestamp: 1_700_000_000_000, CoordinatorEpoch: -1}
	if got, err := r.Producers(t.Context()); err != nil || !slices.Equal(got, []data.Producer{want}) {
		t.Errorf("got %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for { // until the answer is later than the end of the context
		if _, err := r.Producers(ctx); errors.Is(err, messages.ErrRequestTimedOut) {
			break
		}
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Producers(t.Context()); !errors.Is(err, messages.ErrNotLeader) {
		t.Errorf("after the end: %v", err)
	}
	if err := w.mark(r, 2, true); !errors.Is(err, messages.ErrNotLeader) {
		t.Errorf("a marker after the end: %v", err)
	}
}

func TestWhatWaitsForACoordinatorIsAnsweredWhenTheReplicaEnds(t *testing.T) {
	w := start(t, plan{})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	q := newQuestion()
	done := send(r, txnBatch(0, 0, "a"), q.verify)
	reply := receive(t, "the question", q.asked)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if res := receive(t, "an answer", done); !errors.Is(res.Err, messages.ErrNotLeader) {
		t.Errorf("got %+v", res)
	}
	reply(nil) // nobody is there any more
	if len(done) != 0 {
		t.Error("answered twice")
	}
}

func TestAFullDirectoryStillTakesMarkers(t *testing.T) {
	w := start(t, plan{settings: map[string]string{"log.dir.max.bytes": "1000"}})
	w.create("orders", 1)
	r := w.leader("orders", 0)
	w.must(receive(t, "an answer", send(r, txnBatch(0, 0, string(make([]byte, 2000))), yes)))
	res := w.append(r, data.AcksAll, txnBatch(0, 1, "b"))
	if !errors.Is(res.Err, messages.ErrDiskFull) {
		t.Fatalf("there is room: %+v", res)
	}
	if err := w.mark(r, 0, false); err != nil {
		t.Errorf("the transaction cannot end: %v", err)
	}
}

func TestATransactionIndexThatCannotBeReadIsMadeAgain(t *testing.T) {
	mem := vfs.NewMem()
	w := start(t, plan{disk: mem})
	w.create("orders", 1, "segment.bytes", "1048576")
	r := w.leader("orders", 0)
	for i := range 3 {
		w.must(receive(t, "an answer", send(r, txnBatch(messages.ProducerEpoch(i), 0,
			string(make([]byte, 600<<10))), yes)))
		if err := w.mark(r, messages.ProducerEpoch(i), false); err != nil {
			t.Fatal(err)
		}
	}
	w.produce("orders", "plain")
	f, err := mem.OpenWrite("data/orders-0/00000000000000000000.txnindex")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(5); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	before := r.log.Load()
	before.Idle() // forget what is in memory
	res := r.Read(data.Read{MaxBytes: 1 << 20, MinOne: true, Isolation: data.ReadCommitted,
		CurrentEpoch: messages.NoEpoch, LastEpoch: messages.NoEpoch})
	if !errors.Is(res.Err, messages.ErrStorage) {
		t.Fatalf("got %+v", res)
	}
	w.eventually("the log is opened anew", func() bool {
		log := r.log.Load()
		return log != nil && log != before
	})
	r = w.leader("orders", 0)
	if got := w.committed(r); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("shows %q", got)
	}
}
