package actors

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func newTestFlusher() *flusher { return &flusher{took: func(time.Duration) {}} }

func TestAFlusherRunsSoManyFlushesAtOnceAndTheOthersInTheirOrder(t *testing.T) {
	f := newTestFlusher()
	started, release := make(chan int), make(chan struct{})
	const jobs = maxFlushes + 3
	replies := make(chan error, jobs)
	for i := range jobs {
		f.run(flushJob{
			run:   func() error { started <- i; <-release; return nil },
			reply: func(err error) { replies <- err },
		})
	}
	first := map[int]bool{}
	for range maxFlushes {
		first[<-started] = true
	}
	for i := range maxFlushes {
		if !first[i] {
			t.Errorf("flush %d waits for those that were asked for after it: %v run", i, first)
		}
	}
	select {
	case i := <-started:
		t.Fatalf("flush %d runs beside %d others", i, maxFlushes)
	default:
	}
	for i := maxFlushes; i < jobs; i++ { // one ends, the next begins
		release <- struct{}{}
		if got := <-started; got != i {
			t.Errorf("flush %d began, it was the turn of %d", got, i)
		}
	}
	close(release)
	f.wait()
	if len(replies) != jobs {
		t.Errorf("%d of %d flushes were answered", len(replies), jobs)
	}
}

func TestAFlushThatFailsIsAnsweredAloneAndNotRunAgain(t *testing.T) {
	f := newTestFlusher()
	lost := errors.New("the disk is gone")
	var runs atomic.Int64
	answers := make(chan error, 2)
	reply := func(err error) { answers <- err }
	f.run(flushJob{run: func() error { runs.Add(1); return lost }, reply: reply})
	f.wait()
	if err := <-answers; !errors.Is(err, lost) {
		t.Errorf("answered %v", err)
	}
	f.run(flushJob{run: func() error { runs.Add(1); return nil }, reply: reply})
	f.wait()
	if err := <-answers; err != nil || runs.Load() != 2 {
		t.Errorf("the next one was answered %v after %d runs", err, runs.Load())
	}
}
