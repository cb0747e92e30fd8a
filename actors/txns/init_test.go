package txns

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func TestANewIDGetsAProducerIDAndEpochZero(t *testing.T) {
	r := newRig(t)
	a := r.init()
	gave(t, a.Err, a.Producer, a.Epoch, 1001, 0)
	r.is(txn.Empty, 1001, 0)
	if len(r.log) != 1 {
		t.Errorf("%d records were written, want 1", len(r.log))
	}
}

func TestEveryInitThatNamesNobodyFencesTheOneBefore(t *testing.T) {
	r := newRig(t)
	for want := messages.ProducerEpoch(0); want < 3; want++ {
		a := r.init()
		gave(t, a.Err, a.Producer, a.Epoch, 1001, want)
	}
	failed(t, r.add(1001, 1, orders0), txn.ErrProducerFenced)
}

func TestATimeoutOutOfBoundsIsRefused(t *testing.T) {
	for _, ms := range []int32{0, -1, 15*minuteMs + 1} {
		r := newRig(t)
		a := r.startInit(txn.Init{TimeoutMs: ms, Producer: none, Epoch: noEpoch})
		failed(t, a.Err, txn.ErrInvalidTimeout)
		if r.asked != 0 || a.Producer != none || a.Epoch != noEpoch {
			t.Errorf("timeout %d: answer %+v, %d ids asked for", ms, a, r.asked)
		}
	}
	r := newRig(t)
	if r.startInit(txn.Init{TimeoutMs: 15 * minuteMs, Producer: none, Epoch: noEpoch}); r.asked != 1 {
		t.Error("the longest timeout is refused")
	}
}

func TestAProducerIDWithoutAnEpochIsRefused(t *testing.T) {
	r := from(t, state(txn.Empty))
	failed(t, r.init(7, -1).Err, messages.ErrInvalidRequest)
	failed(t, r.init(-1, 5).Err, messages.ErrInvalidRequest)
	r.is(txn.Empty, 7, 5)
}

func TestAnIDThatFitsInNoRecordIsRefused(t *testing.T) {
	for _, id := range []string{"", strings.Repeat("x", 1<<15)} {
		r := newRig(t)
		r.m = New(id, func() Config { return r.config }, r)
		failed(t, r.init().Err, messages.ErrInvalidRequest)
	}
}

// The table of KIP-360: what a producer that names itself is told.
func TestInitOfAProducerThatNamesItself(t *testing.T) {
	fenced, concurrent := txn.ErrProducerFenced, txn.ErrConcurrent
	for _, tt := range []struct {
		name      string
		given     *meta
		id, epoch int64
		err       error
		wantID    messages.ProducerID
		wantEpoch messages.ProducerEpoch
	}{
		{"the current epoch is followed by the next", state(txn.Empty), 7, 5, nil, 7, 6},
		{"after a commit, too", state(txn.CompleteCommit), 7, 5, nil, 7, 6},
		{"after an abort, too", state(txn.CompleteAbort), 7, 5, nil, 7, 6},
		{"the epoch before is a request sent again", state(txn.Empty, last(4)), 7, 4, nil, 7, 5},
		{"the epoch before a V2 end is one, too",
			state(txn.CompleteAbort, v2, last(4)), 7, 4, nil, 7, 5},
		{"the epoch before is fenced when somebody else got the id", state(txn.Empty), 7, 4,
			fenced, 0, 0},
		{"an older epoch is fenced", state(txn.Empty, last(4)), 7, 3, fenced, 0, 0},
		{"an epoch to come is fenced", state(txn.Empty, last(4)), 7, 6, fenced, 0, 0},
		{"another producer id is fenced", state(txn.Empty, last(4)), 8, 5, fenced, 0, 0},
		{"the last epoch leads to a fresh producer id", state(txn.Empty, epoch(lastEpoch)),
			7, int64(lastEpoch), nil, 1001, 0},
		{"the answer with the fresh producer id is given again",
			state(txn.Empty, epoch(0), previous(6), last(lastEpoch)), 6, int64(lastEpoch), nil, 7, 0},
		{"but not to one with other epochs left",
			state(txn.Empty, epoch(0), previous(6), last(4)), 6, 4, fenced, 0, 0},
		{"the epoch before the last one is a request sent again",
			state(txn.Empty, epoch(lastEpoch), last(lastEpoch-1)), 7, int64(lastEpoch - 1),
			nil, 7, lastEpoch},
		{"an id that was forgotten is given to anybody", nil, 7, 5, nil, 1001, 0},
		{"the outcome of a transaction is awaited", state(txn.PrepareCommit), 7, 5, concurrent, 0, 0},
		{"by the next producer id as well", state(txn.PrepareAbort, v2, epoch(maxEpoch), next(9)),
			9, 0, concurrent, 0, 0},
		{"but not by a stranger", state(txn.PrepareAbort), 8, 5, fenced, 0, 0},
		{"an open transaction is aborted for its producer", state(txn.Ongoing), 7, 5,
			concurrent, 0, 0},
		{"but not for one that was fenced", state(txn.Ongoing), 7, 4, fenced, 0, 0},
		{"even if its answer may be lost", state(txn.Ongoing, last(4)), 7, 4, fenced, 0, 0},
		{"nobody has the epoch that only a fence uses",
			state(txn.CompleteAbort, epoch(maxEpoch), v2), 7, int64(maxEpoch), fenced, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.given != nil {
				r = from(t, tt.given)
			}
			a := r.init(tt.id, tt.epoch)
			if tt.err != nil {
				failed(t, a.Err, tt.err)
				if errors.Is(tt.err, fenced) && len(r.log) != 1 {
					t.Error("a refused request changed the state")
				}
				return
			}
			gave(t, a.Err, a.Producer, a.Epoch, tt.wantID, tt.wantEpoch)
			r.is(txn.Empty, tt.wantID, tt.wantEpoch)
		})
	}
}

func TestALostAnswerOfInitIsGivenAgainAndAgain(t *testing.T) {
	r := from(t, state(txn.Empty, epoch(lastEpoch)))
	for range 3 {
		a := r.init(7, int64(lastEpoch))
		gave(t, a.Err, a.Producer, a.Epoch, 1001, 0)
	}
	a := r.init()
	gave(t, a.Err, a.Producer, a.Epoch, 1001, 1)
	failed(t, r.init(7, int64(lastEpoch)).Err, txn.ErrProducerFenced)
}

func TestTheProducerIDBeforeIsForgottenOnceTheNewOneIsUsed(t *testing.T) {
	r := from(t, state(txn.Empty, epoch(lastEpoch)))
	r.init(7, int64(lastEpoch))
	if err := r.add(1001, 0, orders0); err != nil {
		t.Fatal(err)
	}
	r.end(1001, 0, true, false)
	r.ack()
	failed(t, r.init(7, int64(lastEpoch)).Err, txn.ErrProducerFenced)
	failed(t, r.end(7, lastEpoch, true, true).Err, txn.ErrInvalidMapping)
}

func TestInitGivesTheNextEpochOrTheNextProducerID(t *testing.T) {
	for _, s := range []txn.State{txn.Empty, txn.CompleteCommit, txn.CompleteAbort} {
		for _, tt := range []struct {
			epoch, want messages.ProducerEpoch
			wantID      messages.ProducerID
		}{{5, 6, 7}, {lastEpoch - 1, lastEpoch, 7}, {lastEpoch, 0, 1001}, {maxEpoch, 0, 1001}} {
			t.Run(fmt.Sprint(s, tt.epoch), func(t *testing.T) {
				r := from(t, state(s, epoch(tt.epoch)))
				a := r.init()
				gave(t, a.Err, a.Producer, a.Epoch, tt.wantID, tt.want)
			})
		}
	}
}

func TestInitDuringATransactionAbortsItAndIsTriedAgain(t *testing.T) {
	r := from(t, state(txn.Ongoing))
	failed(t, r.init().Err, txn.ErrConcurrent)
	r.is(txn.PrepareAbort, 7, 7)
	failed(t, r.end(7, 5, true, false).Err, txn.ErrProducerFenced)
	failed(t, r.end(7, 5, false, true).Err, txn.ErrProducerFenced)
	failed(t, r.add(7, 5, orders0), txn.ErrProducerFenced)
	failed(t, r.init().Err, txn.ErrConcurrent)
	r.markersAre(txn.Markers{Producer: 7, Epoch: 7, CoordinatorEpoch: 3, Raised: true,
		Partitions: []messages.TopicPartition{offsets7, orders0}})
	r.ack()
	r.is(txn.CompleteAbort, 7, 7)
	a := r.init()
	gave(t, a.Err, a.Producer, a.Epoch, 7, 8)
}

func TestTheLastEpochsCanBeFenced(t *testing.T) {
	for _, e := range []messages.ProducerEpoch{lastEpoch - 2, lastEpoch - 1, lastEpoch} {
		r := from(t, state(txn.Ongoing, epoch(e)))
		failed(t, r.init().Err, txn.ErrConcurrent)
		if m := r.lastSent(); m.Epoch <= e || m.Commit {
			t.Errorf("epoch %d is ended with %+v", e, m)
		}
		r.ack()
		for _, commit := range []bool{true, false} {
			failed(t, r.end(7, e, commit, true).Err, txn.ErrProducerFenced)
			failed(t, r.end(7, maxEpoch, commit, true).Err, txn.ErrProducerFenced)
		}
		if a := r.init(); a.Err != nil || e > lastEpoch-2 && a.Producer != 1001 {
			t.Errorf("after a fence of epoch %d: %+v", e, a)
		}
	}
}

func TestRequestsWaitForNobodyWhileAProducerIDIsAwaited(t *testing.T) {
	r := newRig(t)
	first := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	second := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	failed(t, second.Err, txn.ErrConcurrent)
	failed(t, r.add(7, 5, orders0), txn.ErrInvalidMapping)
	failed(t, r.describe().Err, txn.ErrNotFound)
	if r.asked != 1 || r.m.Empty() {
		t.Errorf("%d ids asked for, empty %v; want 1, false", r.asked, r.m.Empty())
	}
	id := r.give()
	gave(t, first.Err, first.Producer, first.Epoch, id, 0)
}

func TestWithoutAProducerIDTheRequestFails(t *testing.T) {
	r := newRig(t)
	a := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	r.handle(&txn.FreshID{Err: errDown})
	failed(t, a.Err, errDown)
	if !r.m.Empty() || len(r.log) != 0 {
		t.Error("something is remembered of it")
	}
}

func TestTheWaitForAProducerIDEnds(t *testing.T) {
	r := newRig(t)
	a := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	if due := r.m.Due(); !due.Equal(noon.Add(freshIDWait)) {
		t.Errorf("due at %v", due)
	}
	r.after(freshIDWait - time.Millisecond)
	failed(t, a.Err, errNoAnswer)
	r.after(time.Millisecond)
	failed(t, a.Err, messages.ErrUnavailable)
	r.give() // too late for anybody
	if !r.m.Empty() || len(r.log) != 0 {
		t.Error("a late producer id is used")
	}
}

func TestAnInitThatIsNotDurableIsNotAnswered(t *testing.T) {
	r := from(t, state(txn.Empty))
	r.hold = true
	a := r.startInit(txn.Init{TimeoutMs: minuteMs, Producer: none, Epoch: noEpoch})
	failed(t, a.Err, errNoAnswer)
	r.is(txn.Empty, 7, 5)
	r.answer(errDown)
	failed(t, a.Err, errDown)
	r.is(txn.Empty, 7, 5)
	r.hold = false
	if a := r.init(); a.Err != nil || a.Epoch != 6 {
		t.Errorf("the next try gives %+v", a)
	}
}

func TestInitSetsTheTimeout(t *testing.T) {
	r := from(t, state(txn.CompleteCommit))
	r.startInit(txn.Init{TimeoutMs: 1234, Producer: none, Epoch: noEpoch})
	if d := r.describe(); d.TimeoutMs != 1234 || d.StartedMs != messages.NoTimestamp {
		t.Errorf("description is %+v", d)
	}
}
