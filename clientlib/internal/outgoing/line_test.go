package outgoing

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

var noon = time.Unix(1000, 0)

// rig is a line at noon, whose batches are named by numbers.
type rig struct {
	t    *testing.T
	line *Line[int]
	now  time.Time
	made int
	sent []*Batch[int] // in order of the last sending
}

func newRig(t *testing.T, mode Mode) *rig {
	r := &rig{t: t, line: NewLine[int](mode), now: noon}
	if mode != Plain {
		r.line.Identify(7, 0)
	}
	return r
}

// add adds batches of ten records.
func (r *rig) add(n int) *rig {
	for range n {
		r.line.Add(&Batch[int]{Of: r.made, Records: 10, Ready: true, Expires: r.now.Add(time.Minute)})
		r.made++
	}
	return r
}

// sends checks which batches are sent now.
func (r *rig) sends(want ...int) *rig {
	r.t.Helper()
	var got []int
	r.sent = nil
	for b := r.line.Next(r.now); b != nil; b = r.line.Next(r.now) {
		got = append(got, b.Of)
		r.sent = append(r.sent, b)
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("batches %v are sent, want %v", got, want)
	}
	return r
}

// answers tells the outcomes of what was sent last, in order.
func (r *rig) answers(errs ...error) *rig {
	for i, err := range errs {
		r.line.Answered(r.sent[i], Answer{Err: err, At: r.now, Chance: 0.5})
	}
	return r
}

// later lets time pass.
func (r *rig) later(d time.Duration) *rig {
	r.now = r.now.Add(d)
	r.line.Expire(r.now)
	return r
}

// finishes checks what is finished, with which error.
func (r *rig) finishes(want error, batches ...int) *rig {
	r.t.Helper()
	var got []int
	for _, b := range r.line.Finished() {
		got = append(got, b.Of)
		if !errors.Is(b.Err, want) {
			r.t.Errorf("batch %d: %v, want %v", b.Of, b.Err, want)
		}
	}
	if !slices.Equal(got, batches) {
		r.t.Errorf("batches %v are finished, want %v", got, batches)
	}
	return r
}

// proven has the leader take a first batch.
func (r *rig) proven() *rig {
	r.t.Helper()
	return r.add(1).sends(r.made-1).answers(nil).finishes(nil, r.made-1)
}

func TestTheFirstBatchGoesAloneAndThenFive(t *testing.T) {
	r := newRig(t, Idempotent).add(8).sends(0).answers(nil).finishes(nil, 0)
	r.sends(1, 2, 3, 4, 5)
	if b := r.sent[4]; b.ID != 7 || b.Epoch != 0 || b.Base != 50 {
		t.Errorf("%+v", b)
	}
	r.answers(nil, nil).finishes(nil, 1, 2).sends(6, 7)
}

func TestALeaderThatMayHaveForgottenIsAskedAgain(t *testing.T) {
	r := newRig(t, Idempotent).proven().later(idleMost + time.Second)
	r.add(2).sends(1).answers(nil).sends(2)
}

func TestWhatFailsIsSentAgainInOrderOnceAllIsBack(t *testing.T) {
	for _, err := range []error{messages.ErrNotLeader, messages.ErrNotEnoughReplicas,
		messages.ErrUnavailable, messages.ErrOverloaded, messages.ErrDiskFull} {
		r := newRig(t, Idempotent).proven().add(3).sends(1, 2, 3)
		first := r.sent
		r.line.Answered(first[1], Answer{Err: messages.ErrOutOfOrderSequence, At: r.now})
		r.line.Answered(first[0], Answer{Err: err, At: r.now})
		r.later(time.Second).sends()
		r.sent = first
		r.line.Answered(first[2], Answer{Err: messages.ErrOutOfOrderSequence, At: r.now})
		r.sends(1, 2, 3).answers(nil, nil, nil).finishes(nil, 1, 2, 3)
		if first[2].Base != 30 || first[2].Epoch != 0 || first[2].Tries != 2 {
			t.Errorf("%v: %+v", err, first[2])
		}
	}
}

func TestTriesAreSpacedUntilAnotherNodeLeads(t *testing.T) {
	r := newRig(t, Idempotent).add(1).sends(0).answers(messages.ErrNotLeader).sends()
	if due := r.line.Due(r.now); !due.Equal(r.now.Add(50 * time.Millisecond)) {
		t.Errorf("due after %v", due.Sub(r.now))
	}
	r.later(50 * time.Millisecond).sends(0).answers(messages.ErrNotLeader)
	r.later(99 * time.Millisecond).sends()
	if r.line.Idle(r.now) {
		t.Error("it would send at once")
	}
	r.line.Wake()
	r.sends(0).answers(nil).finishes(nil, 0)
	if !r.line.Due(r.now).IsZero() || r.line.Busy() || !r.line.Idle(r.now) {
		t.Error("it is not done")
	}
	if d := Backoff(100, 1); d > 1200*time.Millisecond {
		t.Errorf("after many failures it waits for %v", d)
	}
}

func TestABatchIsAcknowledgedAfterThoseBeforeIt(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(6).sends(1, 2, 3, 4, 5)
	first := r.sent
	for _, b := range first[1:] {
		r.line.Answered(b, Answer{At: r.now})
	}
	r.finishes(nil)
	// The sixth would push the first out of what the leader recognises.
	r.sends()
	r.line.Answered(first[0], Answer{At: r.now})
	r.finishes(nil, 1, 2, 3, 4, 5).sends(6)
}

func TestTheOldestOutOfOrderBeginsANewEpoch(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(2).sends(1, 2)
	r.answers(messages.ErrUnavailable, messages.ErrUnavailable)
	r.sent[0].Expires = r.now
	r.later(0).finishes(messages.ErrRequestTimedOut, 1)
	r.later(time.Second).sends(2).answers(messages.ErrOutOfOrderSequence)
	r.add(1).later(time.Second).sends(2)
	if b := r.sent[0]; b.Epoch != 1 || b.Base != 0 {
		t.Errorf("%+v", b)
	}
	r.answers(nil).sends(3).answers(nil).finishes(nil, 2, 3)
}

func TestTheLastEpochIsFollowedByAnotherProducerID(t *testing.T) {
	r := newRig(t, Idempotent)
	r.line.Identify(7, math.MaxInt16)
	r.add(1).sends(0).answers(messages.ErrOutOfOrderSequence).later(time.Second).sends()
	if !r.line.Nameless() {
		t.Fatal("it goes on")
	}
	r.line.Identify(8, 0)
	if r.sends(0); r.sent[0].ID != 8 || r.sent[0].Base != 0 {
		t.Errorf("%+v", r.sent[0])
	}
}

func TestAFencedProducerDoesNotDoubleWhatMayBeThere(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(2).sends(1, 2)
	r.answers(messages.ErrUnavailable, messages.ErrOutOfOrderSequence).later(time.Second).sends(1, 2)
	r.answers(messages.ErrInvalidProducerEpoch, messages.ErrInvalidProducerEpoch)
	r.finishes(messages.ErrInvalidProducerEpoch, 1)
	if !r.line.Nameless() {
		t.Fatal("it goes on")
	}
	r.line.Identify(9, 0)
	if r.later(time.Second).sends(2); r.sent[0].ID != 9 || r.sent[0].Base != 0 {
		t.Errorf("%+v", r.sent[0])
	}
}

func TestTheNumberOfARefusedBatchIsUsedAgain(t *testing.T) {
	r := newRig(t, Idempotent).add(2).sends(0).answers(messages.ErrInvalidRecord)
	r.finishes(messages.ErrInvalidRecord, 0)
	if r.sends(1); r.sent[0].Base != 0 {
		t.Errorf("%+v", r.sent[0])
	}
	unknown := errors.New("unknown")
	r.answers(unknown).finishes(unknown, 1)
	if r.add(1).sends(2); r.sent[0].Base != 10 {
		t.Errorf("%+v: the one before may be there", r.sent[0])
	}
}

func TestNumbersBeginAgainAfterTheLast(t *testing.T) {
	r := newRig(t, Idempotent).proven()
	r.line.next = math.MaxInt32 - 4
	r.add(2).sends(1, 2)
	if r.sent[1].Base != 5 {
		t.Errorf("%+v", r.sent[1])
	}
}

func TestBatchesExpireAloneBeforeTheyAreSent(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(1).later(30 * time.Second).add(1)
	if due := r.line.Due(r.now); !due.Equal(noon.Add(time.Minute)) {
		t.Errorf("due at %v", due)
	}
	r.later(30*time.Second).finishes(messages.ErrRequestTimedOut, 1).sends(2)
	if r.sent[0].Base != 10 || r.sent[0].Epoch != 0 {
		t.Errorf("%+v", r.sent[0])
	}
	r.later(time.Hour).finishes(nil) // it is under way
	r.answers(messages.ErrUnavailable).later(0).finishes(messages.ErrRequestTimedOut, 2)
}

func TestABatchThatIsNotReadyHoldsUpThoseBehindIt(t *testing.T) {
	r := newRig(t, Plain).add(2)
	r.line.queue[0].Ready = false
	r.sends()
	r.line.queue[0].Ready = true
	r.sends(0, 1).answers(nil, nil)
}

func TestPlainBatchesHaveNoNumber(t *testing.T) {
	r := newRig(t, Plain).add(2).sends(0, 1)
	b := r.sent[1]
	if b.ID != messages.NoProducerID || b.Base != messages.NoSequence || b.Epoch != -1 {
		t.Errorf("%+v", b)
	}
	r.answers(messages.ErrNotLeader, nil).finishes(nil)
	r.later(time.Second).sends(0).answers(nil).finishes(nil, 0, 1)
}

func TestATransactionFailsWithItsBatch(t *testing.T) {
	for _, err := range []error{messages.ErrOutOfOrderSequence, messages.ErrInvalidProducerEpoch,
		txn.ErrAbortable, txn.ErrProducerFenced} {
		r := newRig(t, Transactional).add(7).sends(0, 1, 2, 3, 4).answers(err).finishes(err, 0)
		aborted := errors.New("aborted")
		r.line.Abandon(aborted)
		r.finishes(nil).sends()
		r.sent = slices.Clone(r.line.queue[:4])
		r.answers(messages.ErrUnavailable, nil, err, err)
		var got []error
		for _, b := range r.line.Finished() {
			got = append(got, b.Err)
		}
		if want := []error{aborted, nil, aborted, aborted, aborted, aborted}; !slices.Equal(got, want) {
			t.Errorf("%v: %v", err, got)
		}
		r.add(1).finishes(aborted, 7)
		r.line.Identify(7, 1)
		if r.add(1).sends(8); r.sent[0].Epoch != 1 || r.sent[0].Base != 0 {
			t.Errorf("%+v", r.sent[0])
		}
	}
}

func TestWhatIsDroppedIsFinishedAtOnce(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(3).sends(1, 2, 3)
	dropped := errors.New("dropped")
	r.line.Drop(dropped)
	r.finishes(dropped, 1, 2, 3).answers(nil, nil, nil).finishes(nil)
}

func TestUnsentBatchesAreInNoDoubt(t *testing.T) {
	r := newRig(t, Idempotent).proven().add(1).sends(1)
	r.line.Answered(r.sent[0], Answer{Err: messages.ErrUnavailable, Unsent: true, At: r.now})
	r.later(time.Second).sends(1).answers(messages.ErrInvalidRecord)
	if r.add(1).sends(2); r.sent[0].Base != 10 {
		t.Errorf("%+v", r.sent[0])
	}
}
