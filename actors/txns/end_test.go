package txns

import (
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// errBumps stands in tables for "granted, with another epoch".
var errBumps = errors.New("granted")

// errAgain stands in tables for "answered as before, nothing happens".
var errAgain = errors.New("answered as before")

// The table of KIP-890: what an End of V2 means where no transaction is open.
func TestEndOfV2WhereNoTransactionIsOpen(t *testing.T) {
	pf, its := txn.ErrProducerFenced, messages.ErrInvalidTxnState
	for _, tt := range []struct {
		state                                                txn.State
		abortRetry, abortCurrent, commitRetry, commitCurrent error
	}{
		{txn.Empty, pf, errBumps, pf, its},
		{txn.CompleteAbort, errAgain, errBumps, its, its},
		{txn.CompleteCommit, its, errBumps, errAgain, its},
	} {
		for _, c := range []struct {
			name   string
			epoch  messages.ProducerEpoch
			commit bool
			want   error
		}{
			{"abort retry", 4, false, tt.abortRetry}, {"abort current", 5, false, tt.abortCurrent},
			{"commit retry", 4, true, tt.commitRetry}, {"commit current", 5, true, tt.commitCurrent},
			{"abort older", 3, false, pf}, {"commit older", 3, true, pf},
			{"abort newer", 6, false, pf}, {"commit newer", 6, true, pf},
		} {
			t.Run(tt.state.String()+" "+c.name, func(t *testing.T) {
				r := from(t, state(tt.state, v2))
				checkEnd(t, r, r.end(7, c.epoch, c.commit, true), tt.state, c.want)
			})
		}
	}
}

func checkEnd(t *testing.T, r *rig, a txn.Ended, before txn.State, want error) {
	t.Helper()
	switch want {
	case errBumps:
		gave(t, a.Err, a.Producer, a.Epoch, 7, 6)
		r.is(txn.CompleteAbort, 7, 6)
	case errAgain:
		gave(t, a.Err, a.Producer, a.Epoch, 7, 5)
		r.is(before, 7, 5)
	default:
		failed(t, a.Err, want)
		gave(t, nil, a.Producer, a.Epoch, none, noEpoch)
		r.is(before, 7, 5)
	}
	if len(r.sent) > 0 {
		t.Errorf("markers %+v of a transaction without partitions", r.sent)
	}
}

// A V2 producer takes the answer for the end of its own transaction, so the one
// that ended must have been of V2.
func TestAnEndOfV1IsNoAnswerToV2(t *testing.T) {
	for _, s := range []txn.State{txn.CompleteCommit, txn.CompleteAbort} {
		r := from(t, state(s))
		failed(t, r.end(7, 4, s == txn.CompleteCommit, true).Err, txn.ErrProducerFenced)
	}
}

func TestEndOfV1(t *testing.T) {
	its := messages.ErrInvalidTxnState
	for _, tt := range []struct {
		state         txn.State
		commit, abort error
	}{
		{txn.Empty, its, its},
		{txn.Ongoing, nil, nil},
		{txn.PrepareCommit, txn.ErrConcurrent, its},
		{txn.PrepareAbort, its, txn.ErrConcurrent},
		{txn.CompleteCommit, nil, its},
		{txn.CompleteAbort, its, nil},
	} {
		for _, commit := range []bool{true, false} {
			r := from(t, state(tt.state))
			a := r.end(7, 5, commit, false)
			want := tt.abort
			if commit {
				want = tt.commit
			}
			if !errors.Is(a.Err, want) || a.Producer != none || a.Epoch != noEpoch {
				t.Errorf("%v, commit %v: answer %+v, want %v", tt.state, commit, a, want)
			}
			for _, e := range []messages.ProducerEpoch{4, 6} {
				failed(t, from(t, state(tt.state)).end(7, e, commit, false).Err, txn.ErrProducerFenced)
			}
			failed(t, r.end(8, 5, commit, false).Err, txn.ErrInvalidMapping)
		}
	}
}

func TestATransactionCommitsOrAborts(t *testing.T) {
	for _, tt := range []struct {
		name       string
		commit, v2 bool
		epoch      messages.ProducerEpoch // afterwards
	}{
		{"V1 commit", true, false, 5}, {"V1 abort", false, false, 5},
		{"V2 commit", true, true, 6}, {"V2 abort", false, true, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prepare, complete := txn.PrepareAbort, txn.CompleteAbort
			if tt.commit {
				prepare, complete = txn.PrepareCommit, txn.CompleteCommit
			}
			r := from(t, state(txn.Ongoing))
			r.hold = true
			a := r.startEnd(txn.End{Producer: 7, Epoch: 5, Commit: tt.commit, V2: tt.v2})
			if !errors.Is(a.Err, errNoAnswer) || len(r.sent) > 0 {
				t.Fatalf("before it is durable: answer %+v, markers %v", a, r.sent)
			}
			r.answer(nil)
			r.hold = false
			if tt.v2 {
				gave(t, a.Err, a.Producer, a.Epoch, 7, tt.epoch)
			} else {
				gave(t, a.Err, a.Producer, a.Epoch, none, noEpoch)
			}
			r.is(prepare, 7, tt.epoch)
			r.markersAre(txn.Markers{Producer: 7, Epoch: tt.epoch, CoordinatorEpoch: 3,
				Commit: tt.commit, Raised: tt.v2,
				Partitions: []messages.TopicPartition{offsets7, orders0}})

			failed(t, r.add(7, tt.epoch, orders1), txn.ErrConcurrent)
			failed(t, r.init().Err, txn.ErrConcurrent)
			r.ack(orders0)
			r.is(prepare, 7, tt.epoch)
			r.ack(orders0, orders1)
			r.is(prepare, 7, tt.epoch)
			r.ack(offsets7)
			r.is(complete, 7, tt.epoch)
			if d := r.describe(); len(d.Partitions) != 0 || d.StartedMs != messages.NoTimestamp {
				t.Errorf("description is %+v", d)
			}
			if err := r.add(7, tt.epoch, orders1); err != nil {
				t.Errorf("the next transaction is refused: %v", err)
			}
		})
	}
}

func TestEndOfV2IsAnsweredAgainDuringAndAfterTheMarkers(t *testing.T) {
	for _, commit := range []bool{true, false} {
		r := from(t, state(txn.Ongoing))
		a := r.end(7, 5, commit, true)
		gave(t, a.Err, a.Producer, a.Epoch, 7, 6)
		failed(t, r.end(7, 5, commit, true).Err, txn.ErrConcurrent)
		failed(t, r.end(7, 5, !commit, true).Err, messages.ErrInvalidTxnState)
		// The next transaction of the producer has to wait.
		failed(t, r.end(7, 6, commit, true).Err, txn.ErrConcurrent)
		failed(t, r.end(7, 6, !commit, true).Err, txn.ErrConcurrent)
		r.ack()
		a = r.end(7, 5, commit, true)
		gave(t, a.Err, a.Producer, a.Epoch, 7, 6)
		if len(r.sent) != 1 {
			t.Errorf("markers were sent %d times", len(r.sent))
		}
	}
}

func TestEndOfV2WithTheLastEpochLeadsToAFreshProducerID(t *testing.T) {
	for _, commit := range []bool{true, false} {
		r := from(t, state(txn.Ongoing, epoch(lastEpoch)))
		got := r.startEnd(txn.End{Producer: 7, Epoch: lastEpoch, Commit: commit, V2: true})
		failed(t, r.end(7, lastEpoch, commit, true).Err, txn.ErrConcurrent) // and gives the id
		gave(t, got.Err, got.Producer, got.Epoch, 1001, 0)
		if m := r.lastSent(); m.Producer != 7 || m.Epoch != maxEpoch || m.Commit != commit {
			t.Errorf("markers are %+v", m)
		}
		failed(t, r.add(1001, 0, orders1), txn.ErrConcurrent)
		failed(t, r.add(7, maxEpoch, orders1), txn.ErrProducerFenced)
		failed(t, r.end(7, lastEpoch, commit, true).Err, txn.ErrConcurrent)
		r.restart()
		r.ack()
		for range 2 {
			a := r.end(7, lastEpoch, commit, true)
			gave(t, a.Err, a.Producer, a.Epoch, 1001, 0)
			failed(t, r.end(7, lastEpoch, !commit, true).Err, messages.ErrInvalidTxnState)
			r.restart() // the record tells as much
		}
		if err := r.add(1001, 0, orders1); err != nil {
			t.Errorf("the next transaction is refused: %v", err)
		}
		failed(t, r.end(7, lastEpoch, commit, true).Err, txn.ErrInvalidMapping)
	}
}

func TestAnEmptyAbortOfV2WithTheLastEpochLeadsToAFreshProducerID(t *testing.T) {
	r := from(t, state(txn.Empty, epoch(lastEpoch)))
	a := r.end(7, lastEpoch, false, true)
	gave(t, a.Err, a.Producer, a.Epoch, 1001, 0)
	r.is(txn.CompleteAbort, 1001, 0)
	a = r.end(7, lastEpoch, false, true)
	gave(t, a.Err, a.Producer, a.Epoch, 1001, 0)
}

func TestEndOfAnUnknownIDIsRefused(t *testing.T) {
	r := newRig(t)
	failed(t, r.end(7, 5, true, true).Err, txn.ErrInvalidMapping)
	failed(t, r.end(7, 5, true, false).Err, txn.ErrInvalidMapping)
	if !r.m.Empty() {
		t.Error("something is remembered of it")
	}
}

func TestAnEndThatIsNotDurableSendsNoMarkers(t *testing.T) {
	r := from(t, state(txn.Ongoing))
	r.fail = errDown
	failed(t, r.end(7, 5, true, true).Err, errDown)
	r.is(txn.Ongoing, 7, 5)
	if len(r.sent) > 0 {
		t.Errorf("markers %+v were sent", r.sent)
	}
	r.fail = nil
	a := r.end(7, 5, true, true)
	gave(t, a.Err, a.Producer, a.Epoch, 7, 6)
}

func TestTheCompletionIsTriedAgain(t *testing.T) {
	r := from(t, state(txn.PrepareCommit))
	r.fail = errDown
	r.ack()
	r.is(txn.PrepareCommit, 7, 5)
	if due := r.m.Due(); !due.Equal(r.now.Add(retryAfter)) {
		t.Errorf("due at %v", due)
	}
	r.after(retryAfter)
	r.is(txn.PrepareCommit, 7, 5)
	r.fail = nil
	r.after(retryAfter - time.Millisecond)
	r.is(txn.PrepareCommit, 7, 5)
	r.after(time.Millisecond)
	r.is(txn.CompleteCommit, 7, 5)
	if len(r.sent) != 1 {
		t.Errorf("markers were sent %d times", len(r.sent))
	}
}

func TestLateAndForeignMarkersDoNotComplete(t *testing.T) {
	r := from(t, state(txn.Ongoing))
	r.end(7, 5, true, false)
	first := r.lastSent()
	r.ack()
	if err := r.add(7, 5, orders0); err != nil {
		t.Fatal(err)
	}
	r.end(7, 5, false, false)
	// The same producer id, epoch and partition, but of the transaction before.
	r.handle(&txn.MarkersWritten{Sending: first.Sending, Producer: 7, Epoch: 5,
		Partitions: first.Partitions})
	r.is(txn.PrepareAbort, 7, 5)
	old := r.lastSent()
	r.now = r.now.Add(time.Millisecond)
	r.restart()
	r.handle(&txn.MarkersWritten{Sending: old.Sending, Producer: 7, Epoch: 5,
		Partitions: old.Partitions})
	r.is(txn.PrepareAbort, 7, 5)
	r.ack()
	r.ack()
	r.is(txn.CompleteAbort, 7, 5)
}

func TestMarkersAreSentAgainAfterARestart(t *testing.T) {
	for _, s := range []txn.State{txn.PrepareCommit, txn.PrepareAbort} {
		r := from(t, state(s))
		r.ack(orders0)
		r.epoch++
		r.restart()
		want := txn.Markers{Producer: 7, Epoch: 5, CoordinatorEpoch: 3, Commit: s == txn.PrepareCommit,
			Partitions: []messages.TopicPartition{offsets7, orders0}}
		later := want
		later.CoordinatorEpoch = 4
		r.markersAre(want, later)
	}
}

func TestAPreparedTransactionWithoutPartitionsCompletesAtOnce(t *testing.T) {
	r := from(t, state(txn.PrepareAbort, v2, without))
	r.is(txn.CompleteAbort, 7, 5)
}

func TestACoordinatorThatWasReplacedStops(t *testing.T) {
	r := from(t, state(txn.PrepareCommit))
	m := r.lastSent()
	for range 2 {
		r.handle(&txn.MarkersWritten{Sending: m.Sending, Producer: 7, Epoch: 5,
			Partitions: []messages.TopicPartition{orders0}, Err: txn.ErrCoordinatorFenced})
	}
	r.ack()
	if len(r.log) != 1 || !r.m.Due().IsZero() || r.m.TakeWrite() != nil {
		t.Error("it goes on")
	}
	failed(t, r.init().Err, messages.ErrNotCoordinator)
	failed(t, r.add(7, 5, orders0), messages.ErrNotCoordinator)
}

func TestStopAnswersWhatWaits(t *testing.T) {
	gone := messages.ErrNotCoordinator
	r := from(t, state(txn.Ongoing))
	r.hold = true
	a := r.startEnd(txn.End{Producer: 7, Epoch: 5, Commit: true})
	r.m.Stop(gone)
	failed(t, a.Err, gone)
	r.answer(nil)
	if len(r.sent) > 0 {
		t.Error("a stopped machine sends markers")
	}

	r = newRig(t)
	i := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	r.m.Stop(gone)
	failed(t, i.Err, gone)
	failed(t, r.init().Err, gone)
}
