package producers

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/messages/txn"
)

// ask takes a guard for amy's batch.
func ask(s *State, h record.Header, fresh uint64) uint64 {
	return s.Guard(h.ProducerID, h.ProducerEpoch, h.BaseSequence, fresh, 0)
}

func TestABatchBeginsATransactionOnlyUnderAGoodGuard(t *testing.T) {
	required := func(guard uint64) Verification { return Verification{Required: true, Guard: guard} }
	end := func(s *State, epoch messages.ProducerEpoch, at messages.Offset) {
		_ = s.ObserveMarker(marker(amy, epoch, at), false, 0)
	}
	for _, tt := range []struct {
		name  string
		given func(s *State)
		when  record.Header
		v     Verification
		err   error
	}{
		{name: "no guard", when: inTxn(batch(0, 0, 1, 9)), v: required(0), err: ErrUnverified},
		{name: "no guard where none is required", when: inTxn(batch(0, 0, 1, 9))},
		{name: "no guard for a batch outside transactions", when: batch(0, 0, 1, 9), v: required(0)},
		{name: "its guard", given: func(s *State) { ask(s, inTxn(batch(0, 0, 1, 9)), 5) },
			when: inTxn(batch(0, 0, 1, 9)), v: required(5)},
		{name: "another guard", given: func(s *State) { ask(s, inTxn(batch(0, 0, 1, 9)), 5) },
			when: inTxn(batch(0, 0, 1, 9)), v: required(4), err: ErrUnverified},
		{name: "a guard from before a marker", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 1, 9)), 5)
			end(s, 0, 9)
		}, when: inTxn(batch(0, 0, 1, 10)), v: required(5), err: ErrUnverified},
		{name: "a guard from before a marker, and one after it", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 1, 9)), 5)
			end(s, 0, 9)
			ask(s, inTxn(batch(0, 0, 1, 10)), 6)
		}, when: inTxn(batch(0, 0, 1, 10)), v: required(5), err: ErrUnverified},
		{name: "a guard that began a transaction which is over", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 1, 9)), 5)
			s.Apply(inTxn(batch(0, 0, 1, 9)))
			end(s, 0, 10)
		}, when: inTxn(batch(0, 1, 1, 11)), v: required(5), err: ErrUnverified},
		{name: "an open transaction needs none", given: func(s *State) {
			s.Apply(inTxn(batch(0, 0, 1, 9)))
		}, when: inTxn(batch(0, 1, 1, 10)), v: required(0)},
		{name: "an open transaction of an earlier epoch does not count", given: func(s *State) {
			s.Apply(inTxn(batch(0, 0, 1, 9)))
		}, when: inTxn(batch(1, 0, 1, 10)), v: required(0), err: ErrUnverified},
		{name: "a duplicate needs none", given: func(s *State) {
			s.Apply(inTxn(batch(0, 0, 1, 9)))
			end(s, 0, 10)
		}, when: inTxn(batch(0, 0, 1, 11)), v: required(0)},
		{name: "an epoch that is over is worse", given: func(s *State) {
			end(s, 3, 9)
		}, when: inTxn(batch(2, 0, 1, 10)), v: required(0), err: messages.ErrInvalidProducerEpoch},
		{name: "a no is no guard", given: func(s *State) {
			s.Unguard(amy, ask(s, inTxn(batch(0, 0, 1, 9)), 5))
		}, when: inTxn(batch(0, 0, 1, 9)), v: required(5), err: ErrUnverified},
		{name: "a no to another question changes nothing", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 1, 9)), 5)
			s.Unguard(amy, 4)
		}, when: inTxn(batch(0, 0, 1, 9)), v: required(5)},
		{name: "a guard of another leadership", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 1, 9)), 5)
			s.Unguarded()
		}, when: inTxn(batch(0, 0, 1, 9)), v: required(5), err: ErrUnverified},
		{name: "a batch behind one that waits to be sent again", given: func(s *State) {
			ask(s, inTxn(batch(0, 0, 4, 9)), 5)
		}, when: inTxn(batch(0, 4, 1, 9)), v: required(5), err: messages.ErrOutOfOrderSequence},
		{name: "sequence 0 begins a transaction with an epoch of its own",
			when: inTxn(batch(0, 0, 1, 9)), v: Verification{FreshEpoch: true}},
		{name: "another sequence does not", when: inTxn(batch(0, 4, 1, 9)),
			v: Verification{FreshEpoch: true}, err: messages.ErrOutOfOrderSequence},
		{name: "but no sequence does", when: inTxn(batch(0, messages.NoSequence, 1, 9)),
			v: Verification{FreshEpoch: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			if tt.given != nil {
				tt.given(s)
			}
			if _, err := s.Plan().Decide(tt.when, tt.v); !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
		})
	}
}

func TestAMarkerInTheSameGatherMakesTheGuardVoid(t *testing.T) {
	s := New()
	guard := ask(s, inTxn(batch(0, 0, 1, 9)), 5)
	p := s.Plan()
	if _, err := p.DecideMarker(marker(amy, 0, 9), record.Marker{}, false); err != nil {
		t.Fatal(err)
	}
	v := Verification{Required: true, Guard: guard}
	if _, err := p.Decide(inTxn(batch(0, 0, 1, 10)), v); !errors.Is(err, ErrUnverified) {
		t.Errorf("got %v", err)
	}
	p.Reset() // the write failed: the marker is not in the log
	if _, err := s.Plan().Decide(inTxn(batch(0, 0, 1, 9)), v); err != nil {
		t.Errorf("after the plan was dropped: %v", err)
	}
}

func TestALateMarkerOfARaisedEpochEndsNoLaterTransaction(t *testing.T) {
	for _, tt := range []struct {
		name   string
		given  func(s *State)
		epoch  messages.ProducerEpoch
		repeat bool
		err    error
	}{
		{name: "of a producer that nobody knows", epoch: 1},
		{name: "that ends a transaction", epoch: 1,
			given: func(s *State) { s.Apply(inTxn(batch(0, 0, 1, 0))) }},
		{name: "that is sent again", epoch: 1, repeat: true, given: func(s *State) {
			s.Apply(inTxn(batch(0, 0, 1, 0)))
			_ = s.ObserveMarker(marker(amy, 1, 1), true, 0)
		}},
		{name: "that comes when the next transaction is open", epoch: 1,
			err: messages.ErrInvalidProducerEpoch, given: func(s *State) {
				_ = s.ObserveMarker(marker(amy, 1, 0), true, 0)
				s.Apply(inTxn(batch(1, 0, 1, 1)))
			}},
		{name: "that comes when the next transaction is over", epoch: 1,
			err: messages.ErrInvalidProducerEpoch, given: func(s *State) {
				_ = s.ObserveMarker(marker(amy, 2, 0), true, 0)
			}},
		{name: "of a coordinator that was replaced", epoch: 2, err: txn.ErrCoordinatorFenced,
			given: func(s *State) { _ = s.ObserveMarker(marker(amy, 1, 0), true, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			if tt.given != nil {
				tt.given(s)
			}
			v, err := s.Plan().DecideMarker(marker(amy, tt.epoch, 5), record.Marker{}, true)
			if !errors.Is(err, tt.err) || v.Duplicate != tt.repeat {
				t.Errorf("got %+v, %v", v, err)
			}
		})
	}
}

func TestWhoAsksIsToldWhetherTheTransactionIsOpen(t *testing.T) {
	s := New()
	if began, err := s.Began(amy, 0); began || err != nil {
		t.Errorf("nobody: %v, %v", began, err)
	}
	s.Apply(inTxn(batch(1, 0, 1, 0)))
	if began, err := s.Began(amy, 1); !began || err != nil {
		t.Errorf("open: %v, %v", began, err)
	}
	if began, err := s.Began(amy, 2); began || err != nil {
		t.Errorf("a later epoch: %v, %v", began, err)
	}
	if _, err := s.Began(amy, 0); !errors.Is(err, messages.ErrInvalidProducerEpoch) {
		t.Errorf("an earlier epoch: %v", err)
	}
}

func TestAGuardThatNothingCameOfIsForgotten(t *testing.T) {
	s := New()
	s.Guard(amy, 0, 0, 5, 1000)
	s.Expire(1999, 1000)
	if len(s.guards) != 1 {
		t.Fatal("forgotten too early")
	}
	s.Expire(2000, 1000)
	if len(s.guards) != 0 {
		t.Error("remembered for ever")
	}
}

// Whatever the order of questions, answers, batches and markers: a transaction is
// begun only by a batch whose question was asked after the producer's last marker.
func TestNoTransactionBeginsWithAnAnswerFromBeforeAMarker(t *testing.T) {
	type question struct {
		guard uint64
		asked int // time
	}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s, at, sequence := New(), messages.Offset(1), messages.Sequence(0)
		var answered []question
		ended, open := -1, false
		for now := range 200 {
			switch rng.IntN(4) {
			case 0:
				g := s.Guard(amy, 0, sequence, uint64(now+1), 0)
				answered = append(answered, question{g, now})
			case 1:
				p := s.Plan()
				if _, err := p.DecideMarker(marker(amy, 0, at), record.Marker{}, false); err != nil {
					t.Fatal(err)
				}
				p.Commit()
				ended, open, at = now, false, at+1
			default:
				if len(answered) == 0 {
					continue
				}
				q := answered[rng.IntN(len(answered))]
				p := s.Plan()
				v := Verification{Required: true, Guard: q.guard}
				_, err := p.Decide(inTxn(batch(0, sequence, 1, at)), v)
				if err == nil && !open && q.asked < ended {
					t.Fatalf("seed %d: asked at %d, ended at %d, begun at %d", seed, q.asked, ended, now)
				}
				if open && err != nil {
					t.Fatalf("seed %d: a batch of an open transaction: %v", seed, err)
				}
				if err == nil {
					p.Commit()
					open, at, sequence = true, at+1, sequence+1
				}
			}
		}
	}
}
