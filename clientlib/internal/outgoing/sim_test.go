package outgoing

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// sim is a line and a partition whose leaders check batches as those of the nodes do,
// with a network between them that loses what it likes and answers in any order.
type sim struct {
	t      *testing.T
	random *rand.Rand
	now    time.Time
	line   *Line[int]
	made   int
	nextID messages.ProducerID

	log       []logged
	committed int // of log: no leader change takes these away
	state     *producers.State
	requests  []request // on their way, in order
	answers   []answered
	finished  []*Batch[int]
}

type logged struct {
	what   int // the number of the batch; -1: of another producer
	header record.Header
}

// request is a batch as it was when it was sent.
type request struct {
	b      *Batch[int]
	header record.Header
}

type answered struct {
	b   *Batch[int]
	err error
}

var errLost = errors.Join(errors.New("no answer"), messages.ErrUnavailable)

var errOther = errors.New("nobody knows this one")

func newSim(t *testing.T, seed uint64, mode Mode) *sim {
	s := &sim{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1000, 0),
		line: NewLine[int](mode), state: producers.New(), nextID: 40}
	if s.random.IntN(2) == 0 { // so that the first batch may have any number
		s.log = append(s.log, logged{what: -1, header: record.Header{ProducerID: -1}})
		s.committed = 1
	}
	return s
}

func (s *sim) chance(percent int) bool { return s.random.IntN(100) < percent }

func (s *sim) add() {
	b := &Batch[int]{Of: s.made, Records: 1 + s.random.IntN(3), Ready: !s.chance(10),
		Expires: s.now.Add(time.Duration(s.random.IntN(20000)) * time.Millisecond)}
	s.made++
	s.line.Add(b)
}

func (s *sim) pump() {
	if s.line.Nameless() && s.line.flying == 0 {
		s.line.Identify(s.nextID, 0)
		s.nextID++
	}
	for _, b := range s.line.queue {
		b.Ready = b.Ready || s.chance(30)
	}
	for b := s.line.Next(s.now); b != nil; b = s.line.Next(s.now) {
		h := record.Header{ProducerID: b.ID, ProducerEpoch: b.Epoch, BaseSequence: b.Base,
			LastOffsetDelta: int32(b.Records - 1), Count: int32(b.Records)}
		s.requests = append(s.requests, request{b, h})
	}
	s.finished = append(s.finished, s.line.Finished()...)
}

func (s *sim) end() messages.Offset {
	if len(s.log) == 0 {
		return 0
	}
	return s.log[len(s.log)-1].header.NextOffset()
}

// arrive has the oldest request arrive, or not.
func (s *sim) arrive(trouble int) {
	if len(s.requests) == 0 {
		return
	}
	r := s.requests[0]
	s.requests = s.requests[1:]
	if s.chance(trouble) {
		err := []error{errLost, messages.ErrNotLeader, messages.ErrNotEnoughReplicas,
			messages.ErrOverloaded, messages.ErrInvalidRecord, errOther}[s.random.IntN(6)]
		s.answers = append(s.answers, answered{r.b, err})
		return
	}
	r.header.BaseOffset = s.end()
	v, err := s.state.Check(r.header)
	switch {
	case err != nil:
		s.answers = append(s.answers, answered{r.b, err})
		return
	case !v.Duplicate:
		s.state.Apply(r.header)
		s.log = append(s.log, logged{r.b.Of, r.header})
	}
	if s.chance(trouble) { // it is in the log, but nobody hears of it
		err = []error{errLost, messages.ErrRequestTimedOut, messages.ErrNotLeader,
			errOther}[s.random.IntN(4)]
	} else {
		s.committed = len(s.log)
	}
	s.answers = append(s.answers, answered{r.b, err})
}

func (s *sim) answer() {
	if len(s.answers) == 0 {
		return
	}
	i := s.random.IntN(len(s.answers))
	a := s.answers[i]
	s.answers = slices.Delete(s.answers, i, i+1)
	s.line.Answered(a.b, Answer{Err: a.err, At: s.now,
		Chance: s.random.Float64()})
}

// elect has another node lead: what was not committed may be gone there.
func (s *sim) elect() {
	for _, r := range s.requests {
		s.answers = append(s.answers, answered{r.b, errLost})
	}
	s.requests = nil
	s.log = s.log[:s.committed+s.random.IntN(len(s.log)-s.committed+1)]
	s.state = producers.New()
	for _, l := range s.log {
		s.state.Apply(l.header)
	}
	s.line.Wake()
}

func (s *sim) check() {
	last := -1
	there := map[int]bool{}
	for _, l := range s.log {
		if l.what < 0 {
			continue
		}
		if l.what <= last {
			s.t.Fatalf("batch %d stands behind batch %d", l.what, last)
		}
		last = l.what
		there[l.what] = true
	}
	for i, b := range s.finished {
		if b.Err == nil && !there[b.Of] {
			s.t.Fatalf("batch %d was acknowledged and is not there", b.Of)
		}
		if i > 0 && s.finished[i-1].Of >= b.Of {
			s.t.Fatalf("batch %d is finished after batch %d", b.Of, s.finished[i-1].Of)
		}
	}
}

func (s *sim) run(batches, trouble int) (acked int) {
	for s.made < batches || s.line.Busy() {
		if s.made >= batches {
			trouble = 0
		}
		s.now = s.now.Add(time.Duration(s.random.IntN(100)) * time.Millisecond)
		switch {
		case s.chance(25) && s.made < batches:
			s.add()
		case s.chance(40):
			s.arrive(trouble)
		case s.chance(60):
			s.answer()
		case s.chance(trouble / 4):
			s.elect()
		}
		s.line.Expire(s.now)
		s.pump()
	}
	s.check()
	for _, b := range s.finished {
		if b.Err == nil {
			acked++
		}
	}
	if len(s.finished) != batches {
		s.t.Fatalf("%d of %d batches are finished", len(s.finished), batches)
	}
	return acked
}

func TestNothingIsLostDoubledOrReordered(t *testing.T) {
	all := 0
	for seed := range uint64(3000) {
		s := newSim(t, seed, Idempotent)
		all += s.run(60, s.random.IntN(40))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if all < 3000*30 {
		t.Errorf("only %d batches were acknowledged", all)
	}
}
