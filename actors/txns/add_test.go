package txns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func TestAddInEveryState(t *testing.T) {
	for _, tt := range []struct {
		state *meta
		want  error
	}{
		{state(txn.Empty), nil}, {state(txn.Ongoing), nil},
		{state(txn.CompleteCommit), nil}, {state(txn.CompleteAbort), nil},
		{state(txn.PrepareCommit), txn.ErrConcurrent}, {state(txn.PrepareAbort), txn.ErrConcurrent},
		{state(txn.CompleteCommit, v2), nil},
	} {
		name := tt.state.state.String()
		if err := from(t, tt.state).add(7, 5, orders1); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		failed(t, from(t, tt.state).add(7, 4, orders1), txn.ErrProducerFenced)
		failed(t, from(t, tt.state).add(7, 6, orders1), txn.ErrProducerFenced)
		failed(t, from(t, tt.state).add(8, 5, orders1), txn.ErrInvalidMapping)
	}
	failed(t, newRig(t).add(7, 5, orders1), txn.ErrInvalidMapping)
}

func TestPartitionsAreAddedOnce(t *testing.T) {
	r := from(t, state(txn.Empty))
	for _, step := range []struct {
		add     []messages.TopicPartition
		records int
	}{
		{[]messages.TopicPartition{orders1}, 2},
		{[]messages.TopicPartition{orders1}, 2},
		{[]messages.TopicPartition{orders1, offsets7, orders1}, 3},
		{[]messages.TopicPartition{offsets7, orders1}, 3},
		{nil, 3},
		{[]messages.TopicPartition{orders0}, 4},
	} {
		if err := r.add(7, 5, step.add...); err != nil || len(r.log) != step.records {
			t.Errorf("adding %v: %v, %d records, want %d", step.add, err, len(r.log), step.records)
		}
	}
	want := []messages.TopicPartition{offsets7, orders0, orders1}
	if d := r.describe(); !slices.Equal(d.Partitions, want) || d.State != txn.Ongoing ||
		d.StartedMs != toMs(noon) {
		t.Errorf("description is %+v", d)
	}
	r.restart()
	if d := r.describe(); !slices.Equal(d.Partitions, want) {
		t.Errorf("after a restart: %+v", d)
	}
}

func TestAPartitionThatCannotBeIsRefused(t *testing.T) {
	for _, p := range []messages.TopicPartition{
		{Topic: "orders", Partition: -1}, {}, {Topic: strings.Repeat("x", 250)},
	} {
		failed(t, from(t, state(txn.Empty)).add(7, 5, orders0, p), messages.ErrInvalidRequest)
	}
}

func TestVerificationTellsWhichPartitionsAreInTheTransaction(t *testing.T) {
	ask := []messages.TopicPartition{orders1, orders0, offsets7}
	for _, tt := range []struct {
		name  string
		state *meta
		epoch messages.ProducerEpoch
		err   error
		errs  []error
	}{
		{"ongoing", state(txn.Ongoing), 5, nil, []error{messages.ErrInvalidTxnState, nil, nil}},
		{"empty", state(txn.Empty), 5, nil, slices.Repeat([]error{messages.ErrInvalidTxnState}, 3)},
		{"complete", state(txn.CompleteCommit), 5, nil,
			slices.Repeat([]error{messages.ErrInvalidTxnState}, 3)},
		{"ending", state(txn.PrepareCommit), 5, txn.ErrConcurrent, nil},
		{"fenced", state(txn.Ongoing), 4, txn.ErrProducerFenced, nil},
	} {
		r := from(t, tt.state)
		records := len(r.log)
		a := r.startAdd(txn.Add{Producer: 7, Epoch: tt.epoch, Partitions: ask, VerifyOnly: true})
		if !errors.Is(a.Err, tt.err) || !slices.EqualFunc(a.Errs, tt.errs, errors.Is) {
			t.Errorf("%s: answer is %+v", tt.name, a)
		}
		if len(r.log) != records {
			t.Errorf("%s: verification writes", tt.name)
		}
	}
}

func TestAnAddIsAnsweredWhenItIsDurable(t *testing.T) {
	r := from(t, state(txn.Empty))
	r.hold = true
	a := r.startAdd(txn.Add{Producer: 7, Epoch: 5, Partitions: []messages.TopicPartition{orders0}})
	failed(t, a.Err, errNoAnswer)
	r.is(txn.Empty, 7, 5)
	r.answer(errDown)
	failed(t, a.Err, errDown)
	r.is(txn.Empty, 7, 5)
}

func TestATransactionThatTakesTooLongIsAborted(t *testing.T) {
	r := from(t, state(txn.Empty))
	var told []string
	r.config.TimedOut = func(id string, producer messages.ProducerID) {
		told = append(told, fmt.Sprint(id, producer))
	}
	defer func() {
		if len(told) == 0 || told[0] != "pay7" {
			t.Errorf("operators hear %q", told)
		}
	}()
	r.now = noon.Add(time.Hour)
	if err := r.add(7, 5, orders0); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(30 * time.Second)
	if err := r.add(7, 5, orders1); err != nil { // the timeout counts from the beginning
		t.Fatal(err)
	}
	for range 2 {
		if due := r.m.Due(); !due.Equal(noon.Add(time.Hour + time.Minute)) {
			t.Errorf("due at %v", due)
		}
		r.restart()
	}
	r.after(30*time.Second - time.Millisecond)
	r.is(txn.Ongoing, 7, 5)
	r.fail = errDown
	r.after(time.Millisecond)
	r.is(txn.Ongoing, 7, 5)
	r.fail = nil
	r.after(retryAfter - time.Millisecond)
	r.is(txn.Ongoing, 7, 5)
	r.after(time.Millisecond)
	r.is(txn.PrepareAbort, 7, 7)
	r.markersAre(txn.Markers{Producer: 7, Epoch: 7, CoordinatorEpoch: 3, Raised: true,
		Partitions: []messages.TopicPartition{orders0, orders1}})
	r.ack()
	r.is(txn.CompleteAbort, 7, 7)
	for _, v2 := range []bool{true, false} {
		failed(t, r.end(7, 5, true, v2).Err, txn.ErrProducerFenced)
		failed(t, r.end(7, 5, false, v2).Err, txn.ErrProducerFenced)
	}
	failed(t, r.add(7, 5, orders0), txn.ErrProducerFenced)
	failed(t, r.init(7, 5).Err, txn.ErrProducerFenced)
	a := r.init()
	gave(t, a.Err, a.Producer, a.Epoch, 7, 8)
}

func TestAnIdleIDIsForgotten(t *testing.T) {
	week := 7 * 24 * time.Hour
	for _, s := range []txn.State{txn.Empty, txn.CompleteCommit, txn.CompleteAbort} {
		r := from(t, state(s))
		if due := r.m.Due(); !due.Equal(noon.Add(week)) {
			t.Errorf("%v: due at %v", s, due)
		}
		r.after(week - time.Millisecond)
		r.is(s, 7, 5)
		r.fail = errDown
		r.after(time.Millisecond)
		r.is(s, 7, 5)
		r.fail = nil
		r.after(retryAfter)
		if last := r.log[len(r.log)-1]; last.Value != nil || !r.m.Empty() || !r.m.Due().IsZero() {
			t.Errorf("%v: last record %v, empty %v", s, last, r.m.Empty())
		}
		failed(t, r.add(7, 5, orders0), txn.ErrInvalidMapping)
		r.restart()
		if !r.m.Empty() {
			t.Errorf("%v: remembered after a restart", s)
		}
	}
	for _, s := range []txn.State{txn.PrepareCommit, txn.PrepareAbort} {
		r := from(t, state(s))
		r.after(2 * week)
		r.is(s, 7, 5)
	}
}
