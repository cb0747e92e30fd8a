package clientlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/testkit"
)

func TestAGroupGoesOnWhereItStopped(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: time.Millisecond}
	c := w.consumer(cfg)
	poll(t, c, 10)
	if n := w.committed("g", "t", 0); n > 0 {
		t.Errorf("%d is committed before the records are handled", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx) // they are handled
	testkit.Eventually(t, "the position is committed", func() bool {
		return w.committed("g", "t", 0) == 10
	})
	w.write("t", 0, numbered("v", 10, 20)...)
	poll(t, c, 10) // and not handled
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	same(t, poll(t, w.consumer(cfg), 10), numbered("v", 10, 20))
}

func TestCloseCommitsWhatIsHandledEvenIfItsContextHasEnded(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	poll(t, c, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx)
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 10 {
		t.Errorf("%d is committed", n)
	}
	other := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	testkit.Eventually(t, "another has the partition at once", func() bool {
		return len(other.Assigned()) == 1
	})
}

func TestCommitIsOfTheRecordsOrOfAllThatWasTaken(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1})
	rs, err := c.Poll(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, upTo := range []int{4, 7, 2} { // a position never falls
		if err := c.Commit(within(t), rs[:upTo]...); err != nil {
			t.Fatal(err)
		}
		if got, want := w.committed("g", "t", 0), int64(max(upTo, 4)); got < want || got > 7 {
			t.Errorf("%d is committed, want %d", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Poll(ctx)
	if n := w.committed("g", "t", 0); n != 7 {
		t.Errorf("%d is committed without having been asked for", n)
	}
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 10 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
	strange := &Record{Topic: "t", Partition: 5}
	if err := c.Commit(within(t), strange); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("of another partition: %v", err)
	}
	if err := c.Commit(within(t), nil, nil); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("of no record: %v", err)
	}
	lone := w.consumer(direct("t", 0, Earliest))
	if err := lone.Commit(within(t)); !errors.Is(err, ErrConfig) {
		t.Errorf("without a group: %v", err)
	}
}

func TestACommitWhileProcessRunsIsOfWhatIsHandled(t *testing.T) {
	w := newReadWorld(t, map[string]int{"orders": 1})
	w.write("orders", 0, "a", "b", "c", "d")
	c := w.consumer(ConsumerConfig{
		Group: "g", Topics: []string{"orders"}, CommitInterval: -1, Order: ByPartition,
	})
	ctx, stop := context.WithCancel(within(t))
	at, goOn, ends := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ends <- c.Process(ctx, func(_ context.Context, r *Record) error {
			if r.Offset == 2 {
				close(at)
				<-goOn
			}
			return nil
		})
	}()
	<-at // everything was read, and two records are handled
	_, err := c.Poll(within(t))
	if !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("Poll while Process runs: %v", err)
	}
	last := &Record{Topic: "orders", Offset: 3}
	if err := c.Commit(within(t), last); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("Commit of a record that is not handled: %v", err)
	}
	committed := func() int64 { return w.committed("g", "orders", 0) }
	testkit.Eventually(t, "a commit of what is handled", func() bool {
		if err := c.Commit(within(t)); err != nil {
			t.Error(err)
		}
		return committed() >= 2
	})
	if n := committed(); n != 2 {
		t.Errorf("%d is committed with two records handled", n)
	}
	stop()
	close(goOn)
	if err := <-ends; err != nil {
		t.Error(err)
	}
	if n := committed(); n != 2 {
		t.Errorf("%d is committed at the end, though only Commit commits", n)
	}
	if err := c.Commit(within(t)); err != nil || committed() < 3 {
		t.Errorf("after Process: %v, and %d is committed", err, committed())
	}
}

func TestPartitionsThatAreReadDirectlyAreCommittedToTheirGroup(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	cfg := direct("t", 0, Earliest)
	cfg.Group = "g"
	c := w.consumer(cfg)
	poll(t, c, 10)
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 10 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
}

// events are what happens to partitions, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, text)
}

func (e *events) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.all, text)
}

// told makes callbacks that remember what they were told.
func (e *events) told(cfg ConsumerConfig, name string) ConsumerConfig {
	tell := func(what string) func(context.Context, []Partition) {
		return func(_ context.Context, ps []Partition) {
			for _, p := range ps {
				e.add(fmt.Sprintf("%s %s %d", name, what, p.Index))
			}
		}
	}
	cfg.OnAssigned, cfg.OnRevoked, cfg.OnLost = tell("assigned"), tell("revoked"), tell("lost")
	return cfg
}

func TestPartitionsWithoutAGroupCanBeProcessed(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, "v")
	c := w.consumer(direct("t", 0, Earliest))
	ctx, cancel := context.WithCancel(within(t))
	if err := c.Process(ctx, func(context.Context, *Record) error {
		cancel()
		return nil
	}); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if n := w.count(&wire.ClientRequest_CommitOffsets{}); n != 0 {
		t.Errorf("%d commits to no group", n)
	}
}

func TestPartitionsMoveToANewMemberOnceTheirRecordsAreHandled(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, numbered("v", 0, 5)...)
	w.write("t", 1, numbered("v", 0, 5)...)
	var e events
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}}
	amy := w.consumer(e.told(cfg, "amy"))
	testkit.Eventually(t, "records of both are there", func() bool {
		amy.mu.Lock()
		defer amy.mu.Unlock()
		return len(amy.queue) == 2
	})
	if rs, err := amy.Poll(within(t)); err != nil || len(rs) != 10 {
		t.Fatalf("%d records, %v", len(rs), err)
	}
	bob := w.consumer(e.told(cfg, "bob"))
	testkit.Eventually(t, "bob is a member", func() bool { return bob.member().epoch > 0 })
	// The coordinator has asked amy to give one up: she does not while she handles records.
	testkit.Eventually(t, "amy gives up", func() bool {
		amy.mu.Lock()
		defer amy.mu.Unlock()
		return slices.ContainsFunc([]Partition{{"t", 0}, {"t", 1}}, func(p Partition) bool {
			return amy.parts[p] != nil && amy.parts[p].revoking
		})
	})
	if n := len(bob.Assigned()); n != 0 || e.has("amy revoked 0") || e.has("amy revoked 1") {
		t.Fatalf("bob has %d partitions: %v", n, e.all)
	}
	w.write("t", 0, "more0")
	w.write("t", 1, "more1")
	got := poll(t, amy, 1) // the rest is handled, and the other partition goes
	got = append(got, poll(t, bob, 1)...)
	slices.Sort(got)
	same(t, got, []string{"more0", "more1"})
	moved := bob.Assigned()[0].Index
	a, b := fmt.Sprintf("amy revoked %d", moved), fmt.Sprintf("bob assigned %d", moved)
	e.mu.Lock()
	if i, j := slices.Index(e.all, a), slices.Index(e.all, b); i < 0 || j < i {
		t.Errorf("%q, then %q: %v", a, b, e.all)
	}
	e.mu.Unlock()
	if n := w.committed("g", "t", moved); n != 5 {
		t.Errorf("%d is committed of the partition that moved", n)
	}
	if err := amy.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "bob has both", func() bool { return len(bob.Assigned()) == 2 })
}

func TestAMemberThatWasFencedLosesItsPartitionsAndJoinsAgain(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 5)...)
	var e events
	c := w.consumer(e.told(ConsumerConfig{
		Group: "g", Topics: []string{"t"}, CommitInterval: -1}, "amy"))
	var lost []Partition
	c.hooks(nil, func(ps []Partition) { lost = ps })
	rs := poll(t, c, 5)
	epoch := c.member().epoch
	w.refusing(func(req *wire.ClientRequest) error { // while time passes
		if h := req.GetGroupHeartbeat(); h != nil {
			return messages.ErrUnavailable
		}
		return nil
	})
	w.pass("g", time.Hour)
	w.refusing(nil)
	testkit.Eventually(t, "the partition is lost", func() bool { return e.has("amy lost 0") })
	same(t, poll(t, c, 5), rs) // once more
	if e := c.member().epoch; e == epoch {
		t.Errorf("the epoch is %d still", e)
	}
	if len(lost) != 1 || e.has("amy revoked 0") {
		t.Errorf("lost %v, %v", lost, e.all)
	}
}

func TestACommitWithAnOldEpochIsMadeAgainWithTheNewOne(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, "v")
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1})
	poll(t, c, 1)
	stale := true
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetCommitOffsets() != nil && stale {
			stale = false
			return group.ErrStaleMemberEpoch
		}
		return nil
	})
	if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != 1 {
		t.Errorf("%v, %d is committed", err, w.committed("g", "t", 0))
	}
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetCommitOffsets() != nil {
			return group.ErrUnknownMember
		}
		return nil
	})
	w.write("t", 0, "w")
	poll(t, c, 1)
	if err := c.Commit(within(t)); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("of a member that is none: %v", err)
	}
}

func TestACommitThatComesTooLateSaysSo(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, "v")
	var e events
	c := w.consumer(e.told(ConsumerConfig{
		Group: "g", Topics: []string{"t"}, CommitInterval: -1}, "amy"))
	poll(t, c, 1)
	var tried atomic.Bool
	var fence sync.Once
	w.refusing(func(req *wire.ClientRequest) (err error) {
		switch {
		case req.GetCommitOffsets() != nil && !e.has("amy lost 0"):
			tried.Store(true)
			err = group.ErrStaleMemberEpoch
		case req.GetGroupHeartbeat() != nil && tried.Load():
			fence.Do(func() { err = group.ErrFencedMemberEpoch })
		}
		return err
	})
	if err := c.Commit(within(t)); !errors.Is(err, ErrNotAssigned) {
		t.Errorf("nothing was committed: %v", err)
	}
	if at := w.committed("g", "t", 0); at != -1 {
		t.Errorf("%d is committed", at)
	}
}

func TestAnOpenTransactionHoldsUpOnlyThePartitionsWhoseOffsetsItHas(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 2})
	w.write("t", 0, "zero")
	w.write("t", 1, "one")
	var mu sync.Mutex
	open := true
	unstable := readWorldUnstable{w, func() bool { mu.Lock(); defer mu.Unlock(); return open }}
	client := newClient(Config{}, unstable, func(context.Context) error { return nil })
	c, err := client.NewConsumer(t.Context(), ConsumerConfig{Group: "g", Topics: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	same(t, poll(t, c, 1), []string{"one"})
	mu.Lock()
	open = false
	mu.Unlock()
	same(t, poll(t, c, 1), []string{"zero"})
}

// readWorldUnstable has a transaction open on partition 0 while open says so.
type readWorldUnstable struct {
	*readWorld
	open func() bool
}

func (w readWorldUnstable) AskCoordinator(ctx context.Context, kind coord.Kind, key string,
	req *wire.ClientRequest) (*wire.ClientResponse, error) {
	resp, err := w.readWorld.AskCoordinator(ctx, kind, key, req)
	for _, at := range resp.GetFetchedOffsets().GetPositions() {
		if at.Partition == 0 && w.open() {
			at.Error = wire.FromError(group.ErrUnstableOffset)
		}
	}
	return resp, err
}

func TestAStaticMemberWaitsForItsNameAndEndsWhenItIsTaken(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, InstanceID: "one"}
	first := w.consumer(cfg)
	testkit.Eventually(t, "the first one has it", func() bool { return len(first.Assigned()) == 1 })
	second := w.consumer(cfg)
	var asked atomic.Int32
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetGroupHeartbeat().GetMemberId() == second.machine.ID() {
			asked.Add(1)
		}
		return nil
	})
	testkit.Eventually(t, "the second one has asked twice", func() bool { return asked.Load() > 1 })
	if n := len(second.Assigned()); n != 0 {
		t.Errorf("the second one has %d partitions", n)
	}
	if err := first.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the second one has it", func() bool { return len(second.Assigned()) == 1 })
	w.refusing(func(req *wire.ClientRequest) error {
		if req.GetGroupHeartbeat() != nil {
			return group.ErrFencedInstance
		}
		return nil
	})
	if _, err := second.Poll(within(t)); !errors.Is(err, ErrFenced) {
		t.Errorf("the second one ends with %v", err)
	}
	testkit.Eventually(t, "the partition is lost", func() bool { return len(second.Assigned()) == 0 })
}

func TestAMemberThatTheGroupDoesNotTakeEnds(t *testing.T) {
	for _, c := range []struct{ says, want error }{
		{group.ErrFull, ErrGroupFull}, {group.ErrInvalidRegex, ErrConfig},
		{group.ErrInvalidGroupID, ErrConfig},
	} {
		t.Run(c.says.Error(), func(t *testing.T) {
			w := newReadWorld(t, map[string]int{"t": 1})
			w.refusing(func(*wire.ClientRequest) error { return c.says })
			consumer := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
			_, err := consumer.Poll(within(t))
			if !errors.Is(err, c.want) || !errors.Is(err, c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestProcessIsAskedToFinishBeforePartitionsGo(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 4)...)
	c := w.consumer(ConsumerConfig{Group: "g", Topics: []string{"t"}})
	c.hooks(func(_ context.Context, ps []Partition) {
		for _, p := range ps {
			c.handled(p, 3, 0)
			c.handled(p, 2, 0) // older ones do not count
			c.handled(p, 9, 0) // nor those that were not handed out
		}
	}, nil)
	if _, err := c.next(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 3 {
		t.Errorf("%d is committed", n)
	}
}

func TestCommitAndSeekMayBeCalledFromCallbacks(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 4)...)
	var c *Consumer
	made := make(chan struct{})
	cfg := ConsumerConfig{Group: "g", Topics: []string{"t"}, CommitInterval: -1}
	cfg.OnAssigned = func(ctx context.Context, ps []Partition) {
		<-made
		if err := c.Seek(ctx, Position{ps[0], AtOffset(2)}); err != nil {
			t.Error(err)
		}
	}
	cfg.OnRevoked = func(ctx context.Context, _ []Partition) {
		if err := c.Commit(ctx); err != nil {
			t.Error(err)
		}
	}
	c = w.consumer(cfg)
	close(made)
	same(t, poll(t, c, 2), numbered("v", 2, 4))
	if err := c.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := w.committed("g", "t", 0); n != 4 {
		t.Errorf("%d is committed", n)
	}
}

func TestAMemberWithNothingToSaySpeaksAtThePaceItWasTold(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.pace = time.Hour
	c := w.consumer(ConsumerConfig{
		Group: "g", Topics: []string{"t"}, CommitInterval: time.Millisecond})
	for i := range 50 {
		w.write("t", 0, "v")
		poll(t, c, 1)
		if err := c.Commit(within(t)); err != nil || w.committed("g", "t", 0) != int64(i+1) {
			t.Fatal(err)
		}
	}
	// It joins, and says that it has taken the partition.
	if n := w.count(&wire.ClientRequest_GroupHeartbeat{}); n > 3 {
		t.Errorf("%d heartbeats", n)
	}
}

func TestALoopOfPollsEndsAlthoughThereAreRecords(t *testing.T) {
	w := newReadWorld(t, map[string]int{"t": 1})
	w.write("t", 0, numbered("v", 0, 10)...)
	c := w.consumer(direct("t", 0, Earliest))
	testkit.Eventually(t, "there are records", func() bool { return c.Stats().Buffered > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rs, err := c.Poll(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%d records, %v", len(rs), err)
	}
}

func TestAPatternIsMatchedByTheGroup(t *testing.T) {
	w := newReadWorld(t, map[string]int{"orders.eu": 1, "orders.us": 1, "invoices": 1})
	c := w.consumer(ConsumerConfig{Group: "g", Pattern: "orders.*"})
	w.write("orders.eu", 0, "eu")
	w.write("orders.us", 0, "us")
	got := poll(t, c, 2)
	slices.Sort(got)
	same(t, got, []string{"eu", "us"})
	if n := len(c.Assigned()); n != 2 {
		t.Errorf("%d partitions", n)
	}
}
