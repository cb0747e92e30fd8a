package clientlib

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// gate is a handler that waits until its records may pass.
type gate struct {
	calls
	open  chan struct{}
	ended []error // of the contexts of handlers that were waiting
}

func (g *gate) handle(ctx context.Context, r *Record) error {
	g.add(r)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended = append(g.ended, ctx.Err())
		return nil
	}
}

func TestBeforeAnotherMemberGetsAPartitionWhatRunsIsHandledAndTheRestIsLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a", "b", "b", "a"), orders(1, 0, "a"))
		g := &gate{open: make(chan struct{})}
		run := startProcess(t, s, ConsumerConfig{}, one(g.handle))
		synctest.Wait()
		drained := make(chan struct{})
		go func() {
			run.draining(t.Context(), []Partition{{"orders", 0}, {"orders", 9}})
			close(drained)
		}()
		synctest.Wait()
		select {
		case <-drained:
			t.Error("the partition was given up while handlers run")
		default:
		}
		close(g.open)
		<-drained
		if s.mark(0) != 2 { // b@0/2 did not begin
			t.Errorf("the mark is %d, want 2", s.mark(0))
		}
		synctest.Wait()
		got := g.all()
		slices.Sort(got)
		if fmt.Sprint(got) != "[a@0/0 a@1/0 b@0/1]" || s.mark(1) != 1 {
			t.Errorf("handled were %v, marks are %v", got, s.marks)
		}
		s.locked(func() { delete(s.marks, Partition{"orders", 0}) })
		s.feed(orders(0, 2, "b", "a")...) // it came back
		synctest.Wait()
		if s.mark(0) != 4 {
			t.Errorf("after it came back, the mark is %d", s.mark(0))
		}
		_ = run.stop()
	})
}

func TestWhatStandsBelowWhatWasBegunIsHandledBeforeAPartitionIsGivenUpIfItDoesNotTakeLong(
	t *testing.T,
) {
	for _, test := range []struct {
		slow int // records that take a second each, below one that has begun
		took time.Duration
		mark int64
	}{
		{slow: 5, took: 5 * time.Second, mark: 6},
		{slow: 30, took: 10 * time.Second, mark: 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			keys := append(slices.Repeat([]string{"slow"}, test.slow), "quick", "slow")
			s := newFedSource(orders(0, 0, keys...))
			run := startProcess(t, s, ConsumerConfig{Concurrency: 2}, one(
				func(ctx context.Context, r *Record) error {
					if string(r.Key) == "slow" {
						letPass(time.Second + time.Millisecond)
					}
					return ctx.Err()
				}))
			synctest.Wait()
			began := time.Now()
			run.draining(t.Context(), []Partition{{"orders", 0}})
			took := time.Since(began).Truncate(time.Second)
			if took != test.took || s.mark(0) != test.mark {
				t.Errorf("it took %v, mark %d, want %+v", took, s.mark(0), test)
			}
			if err := run.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARecordThatWaitsForItsNextAttemptDoesNotHoldUpTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a"))
		box := &keptBox{}
		run := startProcess(t, s, ConsumerConfig{Retry: Retry{Backoff: time.Second}}, one(
			func(context.Context, *Record) error { return errDown }))
		synctest.Wait()
		began := time.Now()
		run.draining(t.Context(), []Partition{{"orders", 0}})
		if time.Since(began) != 0 || s.mark(0) != 0 {
			t.Errorf("it took %v, the mark is %d", time.Since(began), s.mark(0))
		}
		letPass(time.Hour)
		if err := run.stop(); err != nil || len(box.all()) != 0 {
			t.Errorf("it ended with %v, %d letters", err, len(box.all()))
		}
	})
}

func TestHandlersThatTakeTooLongDoNotCountOnceThePartitionIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a"))
		g := &gate{open: make(chan struct{})}
		run := startProcess(t, s, ConsumerConfig{}, one(g.handle))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		run.draining(ctx, []Partition{{"orders", 0}})
		if time.Since(began) != time.Minute {
			t.Errorf("it was given up after %v", time.Since(began))
		}
		synctest.Wait()
		if len(g.ended) != 1 || s.mark(0) != 0 {
			t.Errorf("contexts that ended: %v, mark %d", g.ended, s.mark(0))
		}
		_ = run.stop()
	})
}

func TestWhatIsHandledOfALostPartitionDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a", "a"), orders(1, 0, "a"))
		g := &gate{open: make(chan struct{})}
		run := startProcess(t, s, ConsumerConfig{}, one(g.handle))
		synctest.Wait()
		run.lost([]Partition{{"orders", 0}})
		synctest.Wait()
		if len(g.ended) != 1 || s.mark(0) != 0 || len(g.all()) != 2 {
			t.Errorf("ended: %v, mark %d, handled %v", g.ended, s.mark(0), g.all())
		}
		close(g.open)
		synctest.Wait()
		if err := run.stop(); err != nil || s.mark(0) != 0 || s.mark(1) != 1 ||
			len(s.rewound) != 0 {
			t.Errorf("it ended with %v, marks %v, rewound %v", err, s.marks, s.rewound)
		}
	})
}

// lateSource hands out its records when the hook is already there, as if they were under
// way between next and the lanes.
type lateSource struct {
	*fedSource
	asked, late chan struct{}
}

func (s *lateSource) next(ctx context.Context) ([]*Record, error) {
	select {
	case <-s.late:
		return s.fedSource.next(ctx)
	default:
	}
	close(s.asked)
	<-ctx.Done() // the hook interrupts
	close(s.late)
	return orders(0, 0, "a"), nil
}

func TestWhatNextHandedOutWhileThePartitionIsGivenUpIsNotBegun(t *testing.T) {
	s := &lateSource{newFedSource(), make(chan struct{}), make(chan struct{})}
	var seen calls
	run := startProcess(t, s, ConsumerConfig{}, one(func(_ context.Context, r *Record) error {
		seen.add(r)
		return nil
	}))
	<-s.asked
	run.lost([]Partition{{"orders", 0}})
	s.feed(orders(1, 0, "a")...)
	testkit.Eventually(t, "another partition is handled", func() bool { return s.mark(1) == 1 })
	if err := run.stop(); err != nil || s.mark(0) != 0 {
		t.Errorf("it ended with %v, marks %v, handled %v", err, s.marks, seen.all())
	}
}

func TestAPartitionThatCannotBeReadIsToldOfAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &brokenSource{fedSource: newFedSource(orders(0, 0, "a"))}
		run := startProcess(t, s, ConsumerConfig{}, one(
			func(context.Context, *Record) error { return nil }))
		synctest.Wait()
		if err := run.stop(); err != nil || s.mark(0) != 1 {
			t.Errorf("it ended with %v and the mark at %d", err, s.mark(0))
		}
	})
}

type brokenSource struct {
	*fedSource
	once sync.Once
}

func (s *brokenSource) next(ctx context.Context) (records []*Record, err error) {
	s.once.Do(func() { err = errors.New("a batch is corrupt") })
	if err != nil {
		return nil, err
	}
	return s.fedSource.next(ctx)
}

// many are options of ProcessBatches.
func many(handler func(ctx context.Context, rs []*Record) error) processOptions {
	return processOptions{many: handler, order: ByPartition}
}

func TestBatchesOfAPartitionAreHandledOneAfterTheOtherAndOthersAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := make([]string, batchRecords+100)
		s := newFedSource(orders(0, 0, long...), orders(1, 0, "a"))
		var mu sync.Mutex
		var got []string
		now := map[int32]int{}
		began := time.Now()
		run := startProcess(t, s, ConsumerConfig{}, many(
			func(_ context.Context, rs []*Record) error {
				at := rs[0].Partition
				mu.Lock()
				if now[at]++; now[at] > 1 {
					t.Errorf("two batches of partition %d at the same time", at)
				}
				got = append(got, fmt.Sprintf("%d/%d+%d", at, rs[0].Offset, len(rs)))
				mu.Unlock()
				letPass(time.Second)
				mu.Lock()
				now[at]--
				mu.Unlock()
				return nil
			}))
		letPass(2*time.Second + time.Millisecond)
		synctest.Wait()
		if s.mark(0) != batchRecords+100 || s.mark(1) != 1 {
			t.Errorf("after %v the marks are %v", time.Since(began), s.marks)
		}
		_ = run.stop()
		slices.Sort(got)
		if fmt.Sprint(got) != "[0/0+500 0/500+100 1/0+1]" {
			t.Errorf("batches are %v", got)
		}
	})
}

func TestOfABatchThatKeepsFailingOnlyTheBadRecordsAreDeadLetters(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"error", errDown, "[abc abc a b c]"},
		{"permanent", Permanent(errDown), "[abc a b c]"},
		{"panic", nil, "[abc abc a b c]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFedSource(orders(0, 0, "a", "b", "c"))
				var got []string
				cfg := ConsumerConfig{Retry: Retry{Attempts: 2}}
				run := startProcess(t, s, cfg, many(
					func(_ context.Context, rs []*Record) error {
						keys := ""
						for _, r := range rs {
							keys += string(r.Key)
						}
						got = append(got, keys)
						if !strings.Contains(keys, "b") {
							return nil
						}
						if test.err == nil {
							panic("b")
						}
						return test.err
					}))
				letPass(time.Minute)
				synctest.Wait()
				if err := run.stop(); err != nil || s.mark(0) != 3 || fmt.Sprint(got) != test.want {
					t.Errorf("it ended with %v, mark %d, calls %v", err, s.mark(0), got)
				}
				letters := run.box.all()
				if len(letters) != 1 || string(letters[0].Key) != "b" {
					t.Errorf("dead letters are %v", letters)
				}
			})
		})
	}
}

func TestDeadLettersOfABatchThatCannotBeWrittenDoNotHaveItHandledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a", "b"))
		n := 0
		run := startProcess(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, many(
			func(context.Context, []*Record) error {
				n++
				return errDown
			}))
		run.box.mu.Lock()
		run.box.refuse = ErrUnavailable
		run.box.mu.Unlock()
		letPass(time.Minute)
		synctest.Wait()
		run.box.mu.Lock()
		run.box.refuse = nil
		run.box.mu.Unlock()
		if s.mark(0) != 0 {
			t.Error("it is handled while the dead letters are not written")
		}
		letPass(time.Minute)
		synctest.Wait()
		if err := run.stop(); err != nil || s.mark(0) != 2 || n != 3 || len(run.box.all()) != 2 {
			t.Errorf("it ended with %v, mark %d, %d calls, %d letters",
				err, s.mark(0), n, len(run.box.all()))
		}
	})
}
