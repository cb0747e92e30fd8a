package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/testkit"
)

func endOf(r coord.Request) (p messages.ProducerID, commit, ok bool) {
	e, ok := r.(*group.TxnEnded)
	if !ok {
		return 0, false, false
	}
	return e.Producer, e.Commit, true
}

func TestAnAnswerWaitsForTheHighWatermark(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.log.hold()
	slow := s.send("a", 2)
	s.logged(2)
	select {
	case a := <-slow:
		t.Fatalf("answered %+v before the record is safe", a)
	default:
	}
	s.log.release()
	if a := s.receive(slow); a.err != nil || a.total != 3 {
		t.Errorf("answered %+v, want 3", a)
	}
}

func TestWhatWaitsForAWriteIsWrittenInOneBatch(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.log.hold()
	var all []chan answer
	for range 50 {
		all = append(all, s.send("a", 1))
	}
	s.logged(2)
	before := s.log.appends
	s.log.release()
	for _, c := range all {
		if a := s.receive(c); a.err != nil {
			t.Fatal(a.err)
		}
	}
	if got := s.add("a", 0); got != 51 {
		t.Errorf("the sum is %d, want 51", got)
	}
	if n := s.log.appends - before; n > 5 {
		t.Errorf("%d batches were written for what one would have held", n)
	}
}

func TestAShardReplaysItsPartitionAndWaitsForWhatIsNotSafeYet(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	for i := range uint64(20) {
		s.add(fmt.Sprint("g", i%3), i+1)
	}
	s.log.hold()
	late := s.send("g0", 1000)
	s.logged(21)
	s.lead(2)
	if a := s.receive(late); !errors.Is(a.err, messages.ErrNotCoordinator) {
		t.Errorf("answered %+v by the leadership that ended", a)
	}
	testkit.Eventually(t, "the partition is being replayed", func() bool {
		return errors.Is(s.receive(s.send("g0", 0)).err, messages.ErrCoordinatorLoading)
	})
	s.log.release()
	if got := s.add("g0", 0); got != 1+4+7+10+13+16+19+1000 {
		t.Errorf("the sum is %d: a record that was in the log counts once it is safe", got)
	}
	if got := s.add("g1", 0); got != 2+5+8+11+14+17+20 {
		t.Errorf("the sum is %d", got)
	}
}

func TestAPartitionThatMovedAwayAnswersNotCoordinator(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.lead(messages.NoEpoch)
	for _, id := range []string{"a", "never seen"} {
		// A write that failed may have the partition replayed before it is known to have
		// moved.
		testkit.Eventually(t, "it is not the coordinator", func() bool {
			_, here := s.shards.Load(shardKey{coord.Group, 0})
			a := s.receive(s.send(id, 1))
			return !here && errors.Is(a.err, messages.ErrNotCoordinator)
		})
	}
}

func TestAMachineThatPanicsIsReplayed(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 5)
	s.add("b", 7)
	answers := make(chan answer, 2)
	s.Group("a", &boom{add{reply: func(n uint64, err error) { answers <- answer{n, err} }}})
	if a := s.receive(answers); a.err == nil {
		t.Errorf("answered %+v", a)
	}
	for id, want := range map[string]uint64{"a": 6, "b": 8} {
		testkit.Eventually(t, "it works again", func() bool {
			a := s.receive(s.send(id, 0))
			return a.err == nil
		})
		if got := s.add(id, 1); got != want {
			t.Errorf("the sum of %s is %d, want %d", id, got, want)
		}
	}
}

func TestAShardThatFailsAnswersWhatItsMembersOwe(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 5)
	s.log.hold()
	writing, waiting := s.send("a", 1), s.send("a", 2)
	s.logged(2)
	s.Place(coord.Group, "a", func(*actor.PID, error) { panic("boom") })
	for _, c := range []chan answer{writing, waiting} {
		if a := s.receive(c); !errors.Is(a.err, messages.ErrNotCoordinator) {
			t.Errorf("answered %+v", a)
		}
	}
	s.log.release()
	if got := s.add("a", 1); got != 7 {
		t.Errorf("the sum is %d, want 7: what was written counts", got)
	}
}

func TestAWriteOfUnknownOutcomeHasThePartitionReplayed(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 5)
	s.log.mu.Lock()
	s.log.fail = messages.ErrNotLeader
	s.log.mu.Unlock()
	if a := s.receive(s.send("a", 1)); !errors.Is(a.err, messages.ErrNotCoordinator) {
		t.Errorf("answered %+v", a)
	}
	s.log.mu.Lock()
	s.log.fail = nil
	s.log.mu.Unlock()
	if got := s.add("a", 1); got != 6 {
		t.Errorf("the sum is %d, want 6", got)
	}
}

func TestAWriteThatMayNotBeInItsTransactionHasNothingReplayed(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	for said, told := range map[error]error{
		messages.ErrInvalidTxnState:      txn.ErrAbortable,
		messages.ErrInvalidProducerEpoch: messages.ErrInvalidProducerEpoch,
		txn.ErrProducerFenced:            txn.ErrProducerFenced,
		txn.ErrInvalidMapping:            txn.ErrInvalidMapping,
		txn.ErrConcurrent:                messages.ErrCoordinatorLoading,
		messages.ErrUnavailable:          messages.ErrCoordinatorLoading,
		messages.ErrNotCoordinator:       messages.ErrCoordinatorLoading,
		messages.ErrCoordinatorLoading:   messages.ErrCoordinatorLoading,
	} {
		for _, a := range []txn.Added{{Err: said}, {Errs: []error{said}}} {
			s.log.mu.Lock()
			s.log.verdict = verdictOf(a)
			s.log.mu.Unlock()
			if got := s.receive(s.sendIn("a", 10, 77)); !errors.Is(got.err, told) {
				t.Errorf("%v is answered with %v, want %v", said, got.err, told)
			}
			if got := s.receive(s.send("a", 0)); got.err != nil || got.total != 1 {
				t.Errorf("after %v the group answers %+v", said, got)
			}
		}
	}
	if n := s.failed.Load(); n > 0 {
		t.Errorf("the partition was replayed %d times, although nothing was appended", n)
	}
}

func TestMembersWithNothingToRememberEnd(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 { // they come and go all the while
				s.add(fmt.Sprint("empty", i%20), 0)
			}
		})
		wg.Go(func() {
			for i := range 100 {
				s.add(fmt.Sprint("used", i%10), 1)
			}
		})
	}
	wg.Wait()
	for i := range 10 {
		if got := s.add(fmt.Sprint("used", i), 0); got != 40 {
			t.Errorf("sum %d is %d, want 40", i, got)
		}
	}
	testkit.Eventually(t, "only members with something to remember are left", func() bool {
		all, err := s.members(coord.Group)
		return err == nil && len(all) == 11
	})
}

func TestOffsetsOfATransactionCountWhenItsMarkerIsThere(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	if a := s.receive(s.sendIn("a", 10, 77)); a.err != nil || a.total != 1 {
		t.Fatalf("answered %+v, want 1", a)
	}
	errs := s.WriteMarkers(t.Context(), markers(77, true))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := s.add("a", 0); got != 11 {
		t.Errorf("after the commit the sum is %d, want 11", got)
	}
	s.receive(s.sendIn("a", 100, 77))
	s.WriteMarkers(t.Context(), markers(77, false))
	if got := s.add("a", 0); got != 11 {
		t.Errorf("after the abort the sum is %d, want 11", got)
	}
	s.receive(s.sendIn("a", 1000, 78))
	s.lead(2)
	if got := s.add("a", 0); got != 11 {
		t.Errorf("after a replay the sum is %d, want 11", got)
	}
	s.WriteMarkers(t.Context(), markers(78, true))
	if got := s.add("a", 0); got != 1011 {
		t.Errorf("a transaction that was open at the replay ends with the sum %d, want 1011", got)
	}
}

func TestAMarkerEndsOnlyWhatStandsBeforeItInTheLog(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.log.hold()
	ended := make(chan []error, 1)
	go func() { ended <- s.WriteMarkers(context.Background(), markers(77, true)) }()
	s.logged(2)
	next := s.sendIn("a", 10, 77)
	s.logged(3)
	s.log.release()
	<-ended
	if a := s.receive(next); a.err != nil {
		t.Fatal(a.err)
	}
	if got := s.add("a", 0); got != 1 {
		t.Errorf("the sum is %d, want 1: the marker is that of the transaction before", got)
	}
	s.WriteMarkers(t.Context(), markers(77, true))
	if got := s.add("a", 0); got != 11 {
		t.Errorf("after the commit the sum is %d, want 11", got)
	}
}

func TestWhatWasNotAppendedAwaitsNoMarker(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.log.mu.Lock()
	s.log.verdict = verdictOf(txn.Added{Err: txn.ErrInvalidMapping})
	s.log.mu.Unlock()
	for p := range messages.ProducerID(10) {
		s.receive(s.sendIn("a", 10, p))
	}
	ends := &s.shardOf(coord.Group, "a").ends
	ends.mu.Lock()
	defer ends.mu.Unlock()
	if len(ends.open) > 0 {
		t.Errorf("%d transactions are remembered that have nothing in the log", len(ends.open))
	}
}

func TestAPartitionThatTheCoordinatorHasNotHeardOfIsNotAdded(t *testing.T) {
	s := newStage(t)
	im, ok := messages.NewImage().Apply(&messages.Delta{Snapshot: true, To: 1,
		Topics: []*messages.Topic{{ID: messages.TopicID{2}, Name: coord.TxnTopic,
			Partitions: []messages.Partition{{Leader: 1}}}}})
	if !ok {
		t.Fatal("the image does not apply")
	}
	s.image = im
	a := txn.Add{Producer: 77, Partitions: []messages.TopicPartition{{Topic: "orders"}}}
	if got := s.AddToTxn(t.Context(), "t", a); !errors.Is(got.Err, messages.ErrUnavailable) {
		t.Errorf("answered %v, want that it is tried again: its marker would not be sent", got.Err)
	}
	a.VerifyOnly = true
	if got := s.AddToTxn(t.Context(), "t", a); !errors.Is(got.Err, messages.ErrNotCoordinator) {
		t.Errorf("answered %v, want that no shard is here: nothing is added", got.Err)
	}
	if _, done, _ := route(im, a.Partitions); len(done) != 1 {
		t.Errorf("%v are done, want one that is taken for deleted", done)
	}
}

func TestAPartitionThatALeaderDidNotAnswerForHasNoMarker(t *testing.T) {
	asked := []messages.TopicPartition{{Topic: "t"}, {Topic: "t", Partition: 1}}
	for _, tt := range []struct {
		o          outcome
		done, left int
		fenced     error
	}{
		{outcome{}, 2, 0, nil},
		{outcome{errs: []error{nil, nil}}, 2, 0, nil},
		{outcome{errs: []error{nil}}, 1, 1, nil},
		{outcome{errs: []error{nil, messages.ErrNotLeader}}, 1, 1, nil},
		{outcome{err: messages.ErrUnavailable}, 0, 2, nil},
		{outcome{errs: []error{txn.ErrCoordinatorFenced, nil}}, 1, 0, txn.ErrCoordinatorFenced},
	} {
		done, left, fenced := tally(asked, tt.o)
		if len(done) != tt.done || len(left) != tt.left || !errors.Is(fenced, tt.fenced) {
			t.Errorf("%+v: done %v, left %v, %v", tt.o, done, left, fenced)
		}
	}
}

func markers(p messages.ProducerID, commit bool) txn.Markers {
	return txn.Markers{Producer: p, Commit: commit,
		Partitions: []messages.TopicPartition{{Topic: coord.OffsetsTopic}}}
}

func TestAMarkerThatComesDuringTheReplayCounts(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.receive(s.sendIn("a", 10, 77))
	s.log.hold()
	pending := s.send("a", 1)
	s.logged(3)
	s.lead(2)
	s.receive(pending)
	testkit.Eventually(t, "the partition is being replayed", func() bool {
		return errors.Is(s.receive(s.send("a", 0)).err, messages.ErrCoordinatorLoading)
	})
	ended := make(chan []error, 1)
	go func() { ended <- s.WriteMarkers(context.Background(), markers(77, true)) }()
	s.logged(4)
	s.log.release()
	<-ended
	if got := s.add("a", 0); got != 12 {
		t.Errorf("the sum is %d, want 12", got)
	}
}

func TestStopAnswersAllThatWaits(t *testing.T) {
	s := newStage(t)
	s.lead(1)
	s.add("a", 1)
	s.log.hold()
	var all []chan answer
	for i := range 10 {
		all = append(all, s.send(fmt.Sprint("g", i%2), 1))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s.Stop(ctx)
	if ctx.Err() != nil {
		t.Fatal("the shards did not end")
	}
	for _, c := range all {
		if a := s.receive(c); !errors.Is(a.err, messages.ErrNotCoordinator) {
			t.Errorf("answered %+v", a)
		}
	}
}

func TestKeysGoToThePartitionThatKafkaWouldTake(t *testing.T) {
	// Java: Math.abs("...".hashCode()) % 50, printed by a JVM.
	for key, want := range map[string]int32{"": 0, "a": 97 % 50, "my-group": 12,
		"connect-cluster": 13, "grüße": 23, "\U0001F600": 49} {
		if got := coord.Partition(key, 50); got != want {
			t.Errorf("%q is in partition %d, want %d", key, got, want)
		}
	}
}

// place asks for the actor of a group, as the placement of virtual actors does.
func (s *stage) place(id string) (*actor.PID, error) {
	s.t.Helper()
	type outcome struct {
		pid *actor.PID
		err error
	}
	placed := make(chan outcome, 1)
	s.Place(coord.Group, id, func(pid *actor.PID, err error) { placed <- outcome{pid, err} })
	select {
	case o := <-placed:
		return o.pid, o.err
	case <-time.After(10 * time.Second):
		s.t.Fatal("no answer")
		return nil, nil
	}
}

func TestAGroupIsPlacedWhereItsPartitionIsLed(t *testing.T) {
	s := newStage(t)
	if _, err := s.place("a"); !errors.Is(err, messages.ErrNotCoordinator) {
		t.Errorf("before anybody leads: %v", err)
	}
	s.lead(1)
	s.add("a", 1)
	first, err := s.place("a")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.place("a")
	if err != nil || !first.Equal(again) {
		t.Errorf("placed at %v, then at %v (%v)", first, again, err)
	}
	// It is the actor that answers for the group.
	answers := make(chan answer, 1)
	s.cfg.Root.Send(first, &add{n: 2, producer: messages.NoProducerID,
		reply: func(n uint64, err error) { answers <- answer{n, err} }})
	if a := s.receive(answers); a.err != nil || a.total != 3 {
		t.Errorf("it answers %+v, want 3", a)
	}
	s.lead(messages.NoEpoch)
	testkit.Eventually(t, "it is placed elsewhere", func() bool {
		_, err := s.place("a")
		return errors.Is(err, messages.ErrNotCoordinator)
	})
}
