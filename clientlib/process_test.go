package clientlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupelog/troupe/testkit"
)

var errDown = errors.New("the database is down")

func TestEveryRecordIsHandledOnceInTheOrderOfItsKey(t *testing.T) {
	const partitions, batches, perBatch = 3, 40, 25
	for _, order := range []Order{ByKey, ByPartition} {
		s := newFedSource()
		for b := range batches {
			for at := range int32(partitions) {
				keys := make([]string, perBatch)
				for i := range keys {
					keys[i] = []string{"", "a", "b", "c", "d"}[(b*7+i*i)%5]
				}
				s.queue = append(s.queue, orders(at, int64(b*perBatch), keys...))
			}
		}
		var mu sync.Mutex
		last, handled := map[string]int64{}, 0
		run := startProcess(t, s, ConsumerConfig{Concurrency: 8}, processOptions{
			order: order, one: func(_ context.Context, r *Record) error {
				mu.Lock()
				defer mu.Unlock()
				lane := fmt.Sprint(r.Partition)
				if order == ByKey {
					lane += "/" + string(r.Key)
				}
				handled++
				if before, ok := last[lane]; ok && before >= r.Offset &&
					(r.Key != nil || order == ByPartition) {
					t.Errorf("offset %d of %s was handled after %d", r.Offset, lane, before)
				}
				last[lane] = r.Offset
				return nil
			},
		})
		testkit.Eventually(t, "all are handled", func() bool {
			return s.mark(0)+s.mark(1)+s.mark(2) == partitions*batches*perBatch
		})
		if err := run.stop(); err != nil {
			t.Errorf("processing ended with %v, want nil", err)
		}
		if handled != partitions*batches*perBatch {
			t.Errorf("%d records were handled, want %d", handled, partitions*batches*perBatch)
		}
		if s.commits != 1 || s.hooked() || len(s.rewound) != 0 || len(s.paused) != 0 {
			t.Errorf("%d commits, hooked: %v, rewound: %v, paused: %v",
				s.commits, s.hooked(), s.rewound, s.paused)
		}
	}
}

func (s *fedSource) hooked() bool { return s.draining != nil || s.lost != nil }

func TestAFailingKeyHoldsUpItsOwnKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "bad", "bad", "good", "", "good"))
		var seen calls
		retry := Retry{Attempts: 4, Backoff: time.Second, MaxBackoff: 3 * time.Second}
		began := time.Now()
		run := startProcess(t, s, ConsumerConfig{Retry: retry, Concurrency: 1}, one(
			func(_ context.Context, r *Record) error {
				if times := seen.add(r); r.Offset == 0 && times < 4 {
					return errDown
				}
				return nil
			}))
		synctest.Wait()
		if got := seen.all(); len(got) != 4 || slices.Contains(got, "bad@0/1") {
			t.Errorf("before the first back-off, %v were handled", got)
		}
		if s.mark(0) != 0 {
			t.Errorf("the mark is %d while offset 0 is not handled", s.mark(0))
		}
		letPass(time.Minute)
		synctest.Wait()
		if err := run.stop(); err != nil || s.mark(0) != 5 || s.epochs[Partition{"orders", 0}] != 4 {
			t.Errorf("it ended with %v and the mark at %d, epoch %v", err, s.mark(0), s.epochs)
		}
		if n := len(run.box.all()); n != 0 {
			t.Errorf("%d dead letters were written", n)
		}
		wantBackoffs(t, began, &seen, "bad@0/0", 0, time.Second, 2*time.Second, 3*time.Second)
	})
}

// wantBackoffs wants that a record was handled after waits of at least half of most each,
// and most at most.
func wantBackoffs(t *testing.T, began time.Time, c *calls, name string, most ...time.Duration) {
	t.Helper()
	n := 0
	for i, at := range c.times {
		if c.names[i] != name {
			continue
		}
		if wait := at.Sub(began); n >= len(most) || wait < most[n]/2 || wait > most[n] {
			t.Fatalf("attempt %d came after %v, want at most %v each", n+1, wait, most)
		}
		began = at
		n++
	}
	if n != len(most) {
		t.Errorf("there were %d attempts, want %d", n, len(most))
	}
}

func TestARecordThatKeepsFailingGoesToTheDeadLetterTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		batch := orders(3, 40, "k", "k")
		batch[0].Headers = []Header{{"trace", []byte("7")}}
		s := newFedSource(batch)
		cfg := ConsumerConfig{Group: "billing", Retry: Retry{Attempts: 3}}
		var seen calls
		run := startProcess(t, s, cfg, one(func(_ context.Context, r *Record) error {
			seen.add(r)
			if r.Offset == 40 {
				return fmt.Errorf("order 9: %w", errDown)
			}
			return nil
		}))
		letPass(time.Minute)
		synctest.Wait()
		if err := run.stop(); err != nil || s.mark(3) != 42 {
			t.Fatalf("it ended with %v and the mark at %d", err, s.mark(3))
		}
		if got := fmt.Sprint(seen.all()); got != "[k@3/40 k@3/40 k@3/40 k@3/41]" {
			t.Errorf("handled were %s", got)
		}
		m := run.mishaps
		if m.failures.Load() != 3 || m.retries.Load() != 2 || m.deadLetters.Load() != 1 {
			t.Errorf("%d failures, %d retries, %d dead letters", m.failures.Load(), m.retries.Load(),
				m.deadLetters.Load())
		}
		letters := run.box.all()
		if len(letters) != 1 || !run.box.closed {
			t.Fatalf("%d dead letters, box closed: %v", len(letters), run.box.closed)
		}
		l := letters[0]
		if l.Topic != "orders.dlq" || string(l.Key) != "k" || string(l.Value) != "value" {
			t.Errorf("the dead letter is %+v", l)
		}
		want := map[string]string{
			"trace": "7", "troupe.dlq.topic": "orders", "troupe.dlq.partition": "3",
			"troupe.dlq.offset": "40", "troupe.dlq.timestamp": "2023-11-14T22:13:20.000Z",
			"troupe.dlq.group": "billing", "troupe.dlq.attempts": "3",
			"troupe.dlq.error":     "order 9: the database is down",
			"troupe.dlq.failed-at": string(l.Header("troupe.dlq.failed-at")),
		}
		got := map[string]string{}
		for _, h := range l.Headers {
			got[h.Key] = string(h.Value)
		}
		if !maps.Equal(got, want) {
			t.Errorf("headers are %v, want %v", got, want)
		}
		at, err := time.Parse(time.RFC3339, got["troupe.dlq.failed-at"])
		if err != nil || at.Before(seen.times[2].Truncate(time.Millisecond)) {
			t.Errorf("it failed at %v (%v), the last attempt was at %v", at, err, seen.times[2])
		}
	})
}

func TestWhatCannotEverBeHandledIsNotTriedAgain(t *testing.T) {
	for name, err := range map[string]error{
		"permanent":         fmt.Errorf("no: %w", Permanent(errDown)),
		"cannot be decoded": fmt.Errorf("no: %w", ErrDecode),
	} {
		t.Run(name, func(t *testing.T) {
			s := newFedSource(orders(0, 0, "a"))
			var seen calls
			run := startProcess(t, s, ConsumerConfig{DeadLetter: "morgue"}, one(
				func(_ context.Context, r *Record) error {
					seen.add(r)
					return err
				}))
			testkit.Eventually(t, "it is done", func() bool { return s.mark(0) == 1 })
			if err := run.stop(); err != nil || len(seen.all()) != 1 {
				t.Errorf("it ended with %v after %v", err, seen.all())
			}
			letters := run.box.all()
			if len(letters) != 1 || letters[0].Topic != "morgue" ||
				string(letters[0].Header("troupe.dlq.attempts")) != "1" {
				t.Errorf("dead letters are %+v", letters)
			}
		})
	}
	if !errors.Is(Permanent(errDown), errDown) || Permanent(nil) != nil {
		t.Error("Permanent does not wrap its error, or makes one of none")
	}
}

func TestADeadLetterThatCannotBeWrittenIsHeldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "bad", "bad", "good"))
		retry := Retry{Attempts: 1, Backoff: time.Second, MaxBackoff: 4 * time.Second}
		var seen calls
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		p := newProcessor(s, ConsumerConfig{Retry: retry, Concurrency: 1}, one(
			func(_ context.Context, r *Record) error {
				if seen.add(r); r.Offset == 0 {
					return errDown
				}
				return nil
			}))
		box := &keptBox{refuse: ErrNotEnoughReplicas}
		p.box, p.logger = box, slog.New(slog.NewTextHandler(&log, nil))
		result := make(chan error, 1)
		go func() { result <- p.run(ctx) }()
		letPass(time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(seen.all()); got != "[bad@0/0 good@0/2]" || s.mark(0) != 0 {
			t.Errorf("handled were %s, the mark is %d", got, s.mark(0))
		}
		box.mu.Lock()
		if n := len(box.asked); n < 15 || n > 35 {
			t.Errorf("it was tried %d times in a minute, with a back-off up to 4s", n)
		}
		box.refuse = nil
		box.mu.Unlock()
		letPass(time.Minute)
		synctest.Wait()
		cancel()
		if err := <-result; err != nil || s.mark(0) != 3 || len(box.all()) != 1 {
			t.Errorf("it ended with %v, the mark at %d, %d letters", err, s.mark(0), len(box.all()))
		}
		text := log.String()
		if strings.Count(text, "cannot be written") != 1 ||
			strings.Count(text, "can be written again") != 1 || !strings.Contains(text, "replicas") {
			t.Errorf("the log says %s", text)
		}
	})
}

func TestWithoutADeadLetterTopicProcessReturnsTheErrorAndReadsTheRecordAgain(t *testing.T) {
	for _, test := range []struct{ name, topic, deadLetter, why string }{
		{"none", "orders", NoDeadLetter, "NoDeadLetter"},
		{"the topic is one itself", "orders.dlq", "", "in a dead-letter topic already"},
		{"the topic is the one", "morgue", "morgue", "in a dead-letter topic already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			batch := orders(0, 5, "a", "b")
			for _, r := range batch {
				r.Topic = test.topic
			}
			s := newFedSource(batch)
			cfg := ConsumerConfig{Retry: Retry{Attempts: 1}, DeadLetter: test.deadLetter}
			run := startProcess(t, s, cfg, one(func(_ context.Context, r *Record) error {
				if r.Offset == 5 {
					return errDown
				}
				return nil
			}))
			err := <-run.result
			if !errors.Is(err, errDown) || !strings.Contains(err.Error(), "offset 5") ||
				!strings.Contains(err.Error(), test.why) {
				t.Errorf("it ended with %v", err)
			}
			at := Partition{test.topic, 0}
			if s.marks[at] != 0 || s.rewound[at] != 5 || len(run.box.all()) != 0 {
				t.Errorf("marks are %v, rewound to %v, letters %v", s.marks, s.rewound, run.box.all())
			}
		})
	}
}

func TestTheLogTellsOfTheFirstDeadLetterOfAPartitionAndThenHowManyThereWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, nil))
		var m mishaps
		bury := func(partition int32, n int) {
			for range n {
				r := &Record{Topic: "orders", Partition: partition, Offset: 7}
				m.buried(logger, letter{r, 5, errDown, time.Now()}, &ConsumerConfig{Group: "g"})
			}
		}
		bury(0, 3)
		bury(1, 1)
		letPass(letterPause)
		bury(0, 4)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := []string{"partition=0 offset=7 to=orders.dlq letters=1 ", "partition=1 ",
			"partition=0 offset=7 to=orders.dlq letters=3 "}
		if len(lines) != len(want) || m.deadLetters.Load() != 8 {
			t.Fatalf("%d letters, and the log has %q", m.deadLetters.Load(), lines)
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) || !strings.Contains(line, "level=WARN") {
				t.Errorf("%q is not %q", line, want[i])
			}
		}
	})
}

func TestAHandlerThatPanicsHasFailed(t *testing.T) {
	s := newFedSource(orders(0, 0, "a"))
	run := startProcess(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, one(
		func(_ context.Context, r *Record) error { panic("no such customer") }))
	testkit.Eventually(t, "it is done", func() bool { return s.mark(0) == 1 })
	if err := run.stop(); err != nil {
		t.Error(err)
	}
	dead := run.box.all()[0]
	reason, stack := string(dead.Header("troupe.dlq.error")), dead.Header("troupe.dlq.stack")
	if reason != "the handler panicked: no such customer" ||
		!strings.Contains(string(stack), "process_test.go") || len(stack) > reasonBytes {
		t.Errorf("the reason is %q, the stack %q", reason, stack)
	}
}

func TestNoMoreThanConcurrencyHandlersRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := strings.Split(strings.Repeat("k", 50), "")
		for i := range keys {
			keys[i] = fmt.Sprint(i)
		}
		s := newFedSource(orders(0, 0, keys...))
		var now, most atomic.Int32
		began := time.Now()
		run := startProcess(t, s, ConsumerConfig{Concurrency: 5}, one(
			func(_ context.Context, r *Record) error {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				letPass(time.Second)
				return nil
			}))
		letPass(10*time.Second + time.Millisecond)
		synctest.Wait()
		if s.mark(0) != 50 || most.Load() != 5 {
			t.Errorf("%d at once, mark at %d after %v", most.Load(), s.mark(0), time.Since(began))
		}
		_ = run.stop()
	})
}

func TestTheEndOfTheContextLetsHandlersEndAndCommitsWhatTheyDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "slow", "quick", "slow", "quick", "quick"))
		var seen calls
		run := startProcess(t, s, ConsumerConfig{Concurrency: 2}, one(
			func(ctx context.Context, r *Record) error {
				seen.add(r)
				if string(r.Key) == "slow" || r.Offset == 3 {
					letPass(time.Second)
				}
				return ctx.Err()
			}))
		synctest.Wait()
		began := time.Now()
		if err := run.stop(); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("it ended with %v after %v", err, time.Since(began))
		}
		// What stands below quick@0/3, which had begun, is handled, and nothing above it.
		want := "[quick@0/1 quick@0/3 slow@0/0 slow@0/2]"
		got := fmt.Sprint(slices.Sorted(slices.Values(seen.all())))
		if got != want || s.mark(0) != 4 || s.commits != 1 ||
			s.rewound[Partition{"orders", 0}] != 4 {
			t.Errorf("handled %s, mark %d, rewound %v", got, s.mark(0), s.rewound)
		}
	})
}

func TestHandlersThatTakeTooLongAreInterruptedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "stubborn", "obedient", "stubborn"))
		run := startProcess(t, s, ConsumerConfig{}, one(
			func(ctx context.Context, r *Record) error {
				<-ctx.Done()
				if string(r.Key) == "obedient" {
					return ctx.Err()
				}
				letPass(time.Second)
				return nil
			}))
		synctest.Wait()
		began := time.Now()
		if err := run.stop(); err != nil || time.Since(began) != fillTimeout+time.Second {
			t.Errorf("it ended with %v after %v", err, time.Since(began))
		}
		if s.mark(0) != 1 || s.commits != 1 || s.rewound[Partition{"orders", 0}] != 1 {
			t.Errorf("mark %d, commits %d, rewound %v", s.mark(0), s.commits, s.rewound)
		}
		if len(run.box.all()) != 0 {
			t.Error("what was interrupted is a dead letter")
		}
	})
}

func TestProcessReturnsWhatEndedTheConsumer(t *testing.T) {
	s := newFedSource(orders(0, 0, "a"))
	s.err = ErrFenced
	run := startProcess(t, s, ConsumerConfig{}, one(
		func(_ context.Context, r *Record) error { return nil }))
	if err := <-run.result; !errors.Is(err, ErrFenced) {
		t.Errorf("it ended with %v", err)
	}
}

func TestCloseLetsHandlersEndWhatTheyBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a", "b"), orders(1, 0, "a"))
		s.err = ErrClosed
		run := startProcess(t, s, ConsumerConfig{}, one(
			func(ctx context.Context, r *Record) error {
				letPass(time.Second)
				return ctx.Err()
			}))
		synctest.Wait()
		run.draining(t.Context(), []Partition{{"orders", 0}, {"orders", 1}})
		if err := <-run.result; !errors.Is(err, ErrClosed) || s.mark(0) != 2 || s.mark(1) != 1 {
			t.Errorf("it ended with %v, marks are %v", err, s.marks)
		}
	})
}

func TestAPartitionWithManyThatWaitIsPausedAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hot := slices.Repeat([]string{"hot"}, openLeast)
		s := newFedSource(orders(0, 0, hot...), orders(0, openLeast, "x"))
		open := make(chan struct{})
		run := startProcess(t, s, ConsumerConfig{Concurrency: 2}, one(
			func(ctx context.Context, r *Record) error {
				if r.Offset == 0 && r.Partition == 0 {
					<-open
				}
				return nil
			}))
		synctest.Wait()
		if !s.isPaused(0) || len(s.queue) != 1 {
			t.Fatalf("paused: %v, %d batches are left", s.isPaused(0), len(s.queue))
		}
		s.feed(orders(1, 0, "hot")...)
		synctest.Wait()
		if s.mark(1) != 1 {
			t.Error("another partition was not read on")
		}
		close(open)
		synctest.Wait()
		if s.isPaused(0) || s.mark(0) != openLeast+1 {
			t.Errorf("paused: %v, mark at %d", s.isPaused(0), s.mark(0))
		}
		_ = run.stop()
	})
}

func TestNoMoreIsReadWhenWhatWaitsIsLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := orders(0, 0, "a", "a")
		large[0].Value = make([]byte, 1000)
		s := newFedSource(large, orders(1, 0, "a"))
		open := make(chan struct{})
		run := startProcess(t, s, ConsumerConfig{BufferBytes: 1000}, one(
			func(ctx context.Context, r *Record) error {
				<-open
				return nil
			}))
		synctest.Wait()
		if s.handedTo != 1 {
			t.Errorf("%d batches were taken, with the first as large as it all may be", s.handedTo)
		}
		close(open)
		synctest.Wait()
		if s.mark(0) != 2 || s.mark(1) != 1 {
			t.Errorf("marks are %v", s.marks)
		}
		_ = run.stop()
	})
}

func BenchmarkProcess(b *testing.B) {
	const perBatch = 500
	keys := make([]string, perBatch)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i%100)
	}
	s := newFedSource()
	for i := 0; i < b.N; i += perBatch {
		s.queue = append(s.queue, orders(int32(i/perBatch%8), int64(i), keys...))
	}
	done := make(chan struct{})
	var n atomic.Int64
	total := int64(len(s.queue) * perBatch)
	p := newProcessor(s, ConsumerConfig{}, one(func(context.Context, *Record) error {
		if n.Add(1) == total {
			close(done)
		}
		return nil
	}))
	p.box = &keptBox{}
	ctx, cancel := context.WithCancel(b.Context())
	b.ReportAllocs()
	b.ResetTimer()
	result := make(chan error, 1)
	go func() { result <- p.run(ctx) }()
	<-done
	b.StopTimer()
	cancel()
	<-result
}
