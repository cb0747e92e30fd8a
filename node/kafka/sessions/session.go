package sessions

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Epochs with a meaning of their own.
const (
	InitialEpoch int32 = 0  // of a full request that asks for a session
	FinalEpoch   int32 = -1 // of a full request that wants none
)

// Why a request does not belong to the session that it names.
var (
	ErrEpoch    = errors.New("not the epoch that the fetch session is at")
	ErrTopicIDs = errors.New("topic ids and topic names in one fetch session")
)

// NextEpoch returns the epoch of the request after the one with epoch e.
func NextEpoch(e int32) int32 {
	switch {
	case e < 0:
		return FinalEpoch
	case e == math.MaxInt32:
		return 1
	default:
		return e + 1
	}
}

// Topic names a topic as the client does: by id, or by name. The other is zero.
type Topic struct {
	ID   messages.TopicID
	Name string
}

// Asked is what a client wants of a partition.
type Asked struct {
	From         messages.Offset
	MaxBytes     int32
	CurrentEpoch messages.LeaderEpoch
	LastEpoch    messages.LeaderEpoch
}

// Seen is what a look at a partition found.
type Seen struct {
	Records   bool // some, for the client
	Failed    bool
	Diverging bool            // the client's log differs
	High      messages.Offset // the high watermark
	Start     messages.Offset // the log start
	// Quiet: there is nothing for the client now, and Wake will be called before there
	// can be.
	Quiet bool
}

// Part is one partition of a session. Own is the caller's.
type Part[P any] struct {
	Topic *Topic
	Index int32
	Asked Asked
	Own   P

	high, start messages.Offset // that the client was told; NoOffset: tell again
	turn        uint64          // place in the order
	due         bool            // must be looked at
	listed      bool            // in Session.due
	gone        bool            // forgotten
}

// Turn is the place of the partition in the order of its session, from low to high.
func (p *Part[P]) Turn() uint64 { return p.turn }

// Gone reports whether the client has forgotten the partition.
func (p *Part[P]) Gone() bool { return p.gone }

// Told returns the high watermark that the client was told; NoOffset: none that holds.
func (p *Part[P]) Told() messages.Offset { return p.high }

// Session is what is known of one client's requests. It has one owner.
type Session[P any] struct {
	epoch  int32 // of the next request
	ids    bool
	most   int // partitions
	topics map[Topic]*topic[P]
	size   int
	turns  uint64
	due    []*Part[P] // to be looked at; may hold some that are not any more
}

type topic[P any] struct {
	name  *Topic
	parts map[int32]*Part[P]
}

// NewSession returns a session without partitions, as after a full request: its next
// request has epoch 1. ids says that the client names topics by id. It may have up to
// most partitions.
func NewSession[P any](ids bool, most int) *Session[P] {
	return &Session[P]{epoch: NextEpoch(InitialEpoch), ids: ids, most: most,
		topics: map[Topic]*topic[P]{}}
}

// Size is how many partitions the session has.
func (s *Session[P]) Size() int { return s.size }

// Epoch is that of the next request.
func (s *Session[P]) Epoch() int32 { return s.epoch }

// Begin begins an incremental request. It fails with ErrEpoch or ErrTopicIDs, and changes
// nothing then.
func (s *Session[P]) Begin(epoch int32, ids bool) error {
	if epoch != s.epoch {
		return fmt.Errorf("epoch %d instead of %d: %w", epoch, s.epoch, ErrEpoch)
	}
	if ids != s.ids {
		return ErrTopicIDs
	}
	s.epoch = NextEpoch(epoch)
	return nil
}

// Ask says what the client wants of a partition from now on. The partition is new to the
// session, or must be looked at again. It returns nil if the session is full.
func (s *Session[P]) Ask(name Topic, index int32, a Asked) *Part[P] {
	t := s.topics[name]
	if t == nil {
		own := name
		t = &topic[P]{name: &own, parts: map[int32]*Part[P]{}}
	}
	p := t.parts[index]
	if p == nil {
		if s.size >= s.most {
			return nil
		}
		p = &Part[P]{Topic: t.name, Index: index, high: messages.NoOffset, start: messages.NoOffset}
		s.topics[name], t.parts[index] = t, p
		s.size++
		s.last(p)
	}
	p.Asked = a
	s.Wake(p)
	return p
}

// Forget removes a partition, and returns it if there was one.
func (s *Session[P]) Forget(name Topic, index int32) *Part[P] {
	t := s.topics[name]
	if t == nil || t.parts[index] == nil {
		return nil
	}
	p := t.parts[index]
	p.gone = true
	delete(t.parts, index)
	s.size--
	if len(t.parts) == 0 {
		delete(s.topics, name)
	}
	return p
}

// Wake says that a partition must be looked at.
func (s *Session[P]) Wake(p *Part[P]) {
	p.due = true
	if !p.listed && !p.gone {
		p.listed = true
		s.due = append(s.due, p)
	}
}

// Each calls f with every partition, in any order. What comes of it must not depend on
// that.
func (s *Session[P]) Each(f func(*Part[P])) {
	for _, t := range s.topics { // any order: f is told so
		for _, p := range t.parts { // any order: f is told so
			f(p)
		}
	}
}

// Due returns the partitions that must be looked at, in the order of the session. The
// slice is good until the session changes.
func (s *Session[P]) Due() []*Part[P] {
	s.due = slices.DeleteFunc(s.due, func(p *Part[P]) bool {
		p.listed = p.due && !p.gone
		return !p.listed
	})
	slices.SortFunc(s.due, func(a, b *Part[P]) int { return cmp.Compare(a.turn, b.turn) })
	return s.due
}

// Told takes what the full answer that begins the session tells of a partition.
func (s *Session[P]) Told(p *Part[P], seen Seen) {
	p.high, p.start = seen.High, seen.Start
	if seen.Failed {
		p.high = messages.NoOffset // when it goes well again, the client must hear of it
	}
}

// Tell takes what a look at a partition found, as part of an answer. It reports whether
// the answer has to tell of it. With records the partition is last in the order of the
// session then, so that those with much to read do not keep the others from being read.
//
// A partition stays due until it is quiet: one that failed has to be looked at again, and
// one that has records too, because the client may want the same again.
func (s *Session[P]) Tell(p *Part[P], seen Seen) bool {
	tell := seen.Records || seen.Failed || seen.Diverging ||
		p.high != seen.High || p.start != seen.Start
	s.Told(p, seen)
	if seen.Records {
		s.last(p)
	}
	if seen.Quiet {
		p.due = false
	} else {
		s.Wake(p)
	}
	return tell
}

func (s *Session[P]) last(p *Part[P]) {
	s.turns++
	p.turn = s.turns
}
