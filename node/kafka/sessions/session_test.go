package sessions

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

type session = Session[struct{}]

var orders = Topic{Name: "orders"}

func newSession() *session { return NewSession[struct{}](false, 1000) }

// ask asks for partitions of orders and returns them.
func ask(s *session, indexes ...int32) (parts []*Part[struct{}]) {
	for _, i := range indexes {
		parts = append(parts, s.Ask(orders, i, Asked{From: 7}))
	}
	return parts
}

func due(s *session) (indexes []int32) {
	for _, p := range s.Due() {
		indexes = append(indexes, p.Index)
	}
	return indexes
}

func quiet(high messages.Offset) Seen { return Seen{High: high, Quiet: true} }

func TestEpochsCountUpAndWrapToOne(t *testing.T) {
	for _, tt := range [][2]int32{{0, 1}, {1, 2}, {math.MaxInt32, 1}, {-1, -1}, {-7, -1}} {
		if got := NextEpoch(tt[0]); got != tt[1] {
			t.Errorf("after %d comes %d, want %d", tt[0], got, tt[1])
		}
	}
}

func TestARequestMustHaveTheEpochOfItsSession(t *testing.T) {
	s := newSession()
	for _, epoch := range []int32{0, 2, -2, math.MaxInt32} {
		if err := s.Begin(epoch, true); !errors.Is(err, ErrEpoch) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
	if err := s.Begin(1, true); !errors.Is(err, ErrTopicIDs) {
		t.Errorf("ids in a session of names: %v", err)
	}
	if err := s.Begin(1, false); err != nil || s.Epoch() != 2 {
		t.Errorf("%v, then epoch %d", err, s.Epoch())
	}
	if err := s.Begin(1, false); !errors.Is(err, ErrEpoch) {
		t.Errorf("the same again: %v", err)
	}
}

func TestAPartitionIsDueUntilItIsQuiet(t *testing.T) {
	s := newSession()
	p := ask(s, 0, 1, 2, 3)
	if got := due(s); !slices.Equal(got, []int32{0, 1, 2, 3}) {
		t.Fatalf("%v are due at first", got)
	}
	s.Tell(p[0], Seen{High: 9, Records: true})
	s.Tell(p[1], Seen{High: 9, Failed: true})
	s.Tell(p[2], quiet(9))
	s.Tell(p[3], Seen{High: 9, Diverging: true})
	if got := due(s); !slices.Equal(got, []int32{1, 3, 0}) {
		t.Fatalf("%v are due", got)
	}
	s.Wake(p[2])
	s.Wake(p[2])
	if got := due(s); len(got) != 4 {
		t.Fatalf("%v are due when one woke twice", got)
	}
	for _, q := range p {
		s.Tell(q, quiet(9))
	}
	s.Wake(p[1]) // between leaving and being taken off the list
	if got := due(s); !slices.Equal(got, []int32{1}) {
		t.Fatalf("%v are due", got)
	}
	s.Tell(p[1], quiet(9))
	ask(s, 3)
	if got := due(s); !slices.Equal(got, []int32{3}) {
		t.Fatalf("%v are due after the client moved on in 3", got)
	}
}

func TestAnAnswerHoldsWhatIsNew(t *testing.T) {
	for _, tt := range []struct {
		name string
		seen Seen
		tell bool
	}{
		{"nothing", quiet(9), false},
		{"records", Seen{High: 9, Records: true}, true},
		{"records that are left for the next answer", Seen{High: 9}, false},
		{"an error", Seen{High: 9, Failed: true}, true},
		{"a log that diverges", Seen{High: 9, Diverging: true}, true},
		{"a high watermark", quiet(10), true},
		{"a high watermark that went back", quiet(8), true},
		{"a log start", Seen{High: 9, Start: 3, Quiet: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSession()
			p := ask(s, 0)[0]
			if !s.Tell(p, quiet(9)) {
				t.Fatal("the client was not told of a partition that it never heard of")
			}
			if got := s.Tell(p, tt.seen); got != tt.tell {
				t.Errorf("told: %v", got)
			}
		})
	}
}

func TestTheEndOfAnErrorIsNews(t *testing.T) {
	s := newSession()
	p := ask(s, 0)[0]
	s.Tell(p, quiet(9))
	s.Tell(p, Seen{High: 9, Failed: true})
	if !s.Tell(p, quiet(9)) {
		t.Error("the client was not told that it goes well again")
	}
	if s.Tell(p, quiet(9)) {
		t.Error("it was told twice")
	}
}

func TestAPartitionWhoseRecordsWereSentIsLastInTheOrder(t *testing.T) {
	s := newSession()
	p := ask(s, 0, 1, 2)
	for _, q := range p {
		s.Told(q, Seen{High: 9, Records: true})
	}
	if got := due(s); !slices.Equal(got, []int32{0, 1, 2}) {
		t.Fatalf("%v after the full answer", got)
	}
	s.Tell(p[0], Seen{High: 9, Records: true})
	s.Tell(p[1], Seen{High: 10})
	if got := due(s); !slices.Equal(got, []int32{1, 2, 0}) {
		t.Fatalf("%v", got)
	}
	s.Tell(p[2], Seen{High: 9, Records: true})
	s.Tell(p[1], Seen{High: 10, Failed: true})
	if got := due(s); !slices.Equal(got, []int32{1, 0, 2}) {
		t.Fatalf("%v", got)
	}
}

func TestAForgottenPartitionIsGone(t *testing.T) {
	s := newSession()
	p := ask(s, 0, 1)
	if s.Forget(orders, 7) != nil || s.Forget(Topic{Name: "none"}, 0) != nil {
		t.Error("it forgot what it did not know")
	}
	if got := s.Forget(orders, 0); got != p[0] || !got.Gone() || s.Size() != 1 {
		t.Fatalf("%+v, %d left", got, s.Size())
	}
	s.Wake(p[0]) // news that was under way
	if got := due(s); !slices.Equal(got, []int32{1}) {
		t.Errorf("%v are due", got)
	}
	again := ask(s, 0)[0]
	if again == p[0] || again.Told() != messages.NoOffset {
		t.Error("what comes back is not new")
	}
	s.Forget(orders, 0)
	s.Forget(orders, 1)
	if s.Size() != 0 || len(s.topics) != 0 || due(s) != nil {
		t.Error("something is left of it")
	}
}

func TestASessionHasABound(t *testing.T) {
	s := NewSession[struct{}](false, 2)
	if p := ask(s, 0, 1, 2, 0); p[1] == nil || p[2] != nil || p[3] != p[0] {
		t.Errorf("%v", p)
	}
	if s.Ask(Topic{Name: "more"}, 0, Asked{}) != nil || len(s.topics) != 1 {
		t.Error("a topic without partitions is left")
	}
}

func TestTopicsWithTheSameIndexesAreApart(t *testing.T) {
	s := NewSession[struct{}](true, 10)
	a := s.Ask(Topic{ID: messages.TopicID{1}}, 0, Asked{From: 1})
	b := s.Ask(Topic{ID: messages.TopicID{2}}, 0, Asked{From: 2})
	if a == b || a.Asked.From != 1 || b.Topic.ID != (messages.TopicID{2}) {
		t.Errorf("%+v %+v", a, b)
	}
	n := 0
	s.Each(func(*Part[struct{}]) { n++ })
	if n != 2 || s.Size() != 2 {
		t.Errorf("%d of %d partitions", n, s.Size())
	}
}
