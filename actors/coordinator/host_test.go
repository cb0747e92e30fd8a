package coordinator

import (
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// slowLog is an Outbox whose writes a test ends itself.
type slowLog struct{ writes []*coord.Write }

func (l *slowLog) Append(w *coord.Write)   { l.writes = append(l.writes, w) }
func (l *slowLog) Patience() time.Duration { return 5 * time.Second }

// hosted is a Host of a sum that has a write under way.
type hosted struct {
	*Host
	sum     *sum
	log     *slowLog
	now     time.Time
	answers []error
}

func newHosted() *hosted {
	h := &hosted{log: &slowLog{}, now: time.Unix(1000, 0),
		sum: &sum{id: "a", staged: map[messages.ProducerID]uint64{77: 10}}}
	h.Host = NewHost(h.sum, h.log)
	h.Begin(h.now)
	h.ask(&add{n: 1, producer: messages.NoProducerID})
	return h
}

func (h *hosted) ask(r *add) {
	r.reply = func(_ uint64, err error) { h.answers = append(h.answers, err) }
	h.Handle(h.now, r)
}

// done ends the write under way.
func (h *hosted) done() { h.Written(h.now, h.log.writes[len(h.log.writes)-1], nil) }

func TestPatienceEndsForWhoeverAsksAndNotForNotices(t *testing.T) {
	h := newHosted()
	h.ask(&add{n: 2, producer: messages.NoProducerID})
	h.Handle(h.now, &group.TxnEnded{Producer: 77, Commit: true})
	h.now = h.now.Add(5 * time.Second)
	if due := h.Due(); !due.Equal(h.now) {
		t.Errorf("patience ends at %v, want %v", due, h.now)
	}
	h.Tick(h.now)
	if len(h.answers) != 1 || !errors.Is(h.answers[0], messages.ErrUnavailable) {
		t.Errorf("answered %v, want one that is told to ask again", h.answers)
	}
	if due := h.Due(); !due.IsZero() {
		t.Errorf("a notice alone is due at %v: nobody waits for it", due)
	}
	h.done()
	if h.sum.total != 11 {
		t.Errorf("the sum is %d, want 11: the transaction has ended", h.sum.total)
	}
}

// patient is a machine that wants to know that nobody could reach it.
type patient struct {
	*sum
	unheard []time.Time
}

func (p *patient) Unheard(now time.Time) { p.unheard = append(p.unheard, now) }

func TestAMachineIsToldThatNobodyCouldReachIt(t *testing.T) {
	h := newHosted()
	p := &patient{sum: h.sum}
	h.machine = p
	h.now = h.now.Add(time.Second)
	h.done()
	h.ask(&add{n: 1, producer: messages.NoProducerID})
	h.now = h.now.Add(5 * time.Second)
	h.Tick(h.now)
	h.done()
	if len(p.unheard) > 0 {
		t.Fatalf("told so at %v, when nothing was refused", p.unheard)
	}
	h.ask(&add{n: 1, producer: messages.NoProducerID})
	h.ask(&add{n: 2, producer: messages.NoProducerID})
	h.now = h.now.Add(6 * time.Second)
	h.Tick(h.now)
	h.now = h.now.Add(time.Second)
	h.done()
	if len(p.unheard) != 1 || !p.unheard[0].Equal(h.now) {
		t.Errorf("told so at %v, want %v", p.unheard, h.now)
	}
}

func TestANoticeHasRoomWhereRequestsHaveNone(t *testing.T) {
	h := newHosted()
	for range maxQueued {
		h.ask(&add{n: 0})
	}
	if len(h.answers) > 0 {
		t.Fatalf("answered %v", h.answers[0])
	}
	h.ask(&add{n: 0})
	if len(h.answers) != 1 || !errors.Is(h.answers[0], messages.ErrUnavailable) {
		t.Errorf("answered %v, want that there is no room", h.answers)
	}
	h.Handle(h.now, &group.TxnEnded{Producer: 77, Commit: true})
	h.done()
	if h.sum.total != 11 || len(h.answers) != 2+maxQueued {
		t.Errorf("the sum is %d after %d answers, want 11 after %d",
			h.sum.total, len(h.answers), 2+maxQueued)
	}
	if h.asked != 0 || h.Due() != (time.Time{}) {
		t.Errorf("%d requests seem to wait", h.asked)
	}
}

func TestARequestThatWaitedAndMakesTheMachinePanicIsAnswered(t *testing.T) {
	h := newHosted()
	var told []error
	tell := func(_ uint64, err error) { told = append(told, err) }
	h.Handle(h.now, &boom{add{reply: tell}})
	h.Handle(h.now, &add{n: 5, reply: tell})
	func() {
		defer func() { _ = recover() }()
		h.done()
	}()
	if len(told) != 0 {
		t.Fatalf("answered %v", told)
	}
	h.Stop(h.now, messages.ErrUnavailable)
	h.Stop(h.now, messages.ErrUnavailable)
	if len(told) != 2 || !errors.Is(told[0], messages.ErrUnavailable) {
		t.Errorf("answered %v, want both, once", told)
	}
}
