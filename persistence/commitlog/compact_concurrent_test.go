package commitlog

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// One goroutine cleans, one owns the log and appends, others read and hold what
// they read: nobody waits for another, and every View keeps its bytes.
func TestAppendsAndReadsGoOnBesideACompaction(t *testing.T) {
	k := newKeyed(t, 1, newMem(t))
	defer func() { k.log.Abandon() }()
	for range 100 {
		k.step()
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for from := messages.Offset(i); ; from += 7 {
				select {
				case <-stop:
					return
				default:
				}
				readTwice(t, k.log, from%max(k.log.End(), 1))
			}
		})
	}
	for range 30 {
		k.mark = k.log.End()
		mustFlush(t, k.log)
		c := k.prepare()
		for c != nil && c.More() {
			cleaned := make(chan error, 1)
			go func() { cleaned <- c.Clean(nil) }()
			for range 10 { // no more, or the log grows faster than it is compacted
				k.step()
			}
			if err := <-cleaned; err != nil {
				t.Fatal(err)
			}
			if err := k.log.Swap(c); err != nil {
				t.Fatal(err)
			}
		}
		if c != nil {
			k.noteCleaned(c, nil)
		}
		for range 20 {
			k.step()
		}
	}
	close(stop)
	readers.Wait()
	k.check(k.log)
}

// readTwice reads a View, whose bytes must be whole batches and stay as they are.
func readTwice(t *testing.T, l *Log, from messages.Offset) {
	v, err := l.Read(from, l.End(), 4096, true)
	if err != nil {
		t.Errorf("reading from %d: %v", from, err)
		return
	}
	defer v.Release()
	first, err := v.AppendTo(nil)
	if err != nil {
		t.Errorf("reading from %d: %v", from, err)
	}
	for rest := first; len(rest) > 0 && err == nil; {
		if _, rest, err = record.Parse(rest); err != nil {
			t.Errorf("reading from %d: %v", from, err)
		}
	}
	if _, _, err := l.OffsetForTimestamp(messages.Timestamp(noon.Add(time.Second).UnixMilli()),
		l.End()); err != nil {
		t.Errorf("searching: %v", err)
	}
	if again, err := v.AppendTo(nil); err != nil || !bytes.Equal(first, again) {
		t.Errorf("a View from %d has changed: %v", from, err)
	}
}

// A log that is truncated, or loses segments to retention, under a compaction
// keeps what it has.
func TestACompactionOfALogThatWasCutIsGivenUp(t *testing.T) {
	for _, cut := range []func(l *Log) error{
		func(l *Log) error { return l.TruncateTo(l.End() - 1) },
		func(l *Log) error { return l.TruncateFullyAndStartAt(l.End() + 5) },
		func(l *Log) error { _, err := l.AdvanceStart(l.Sealed()); return err },
	} {
		k := prepared(t, 1, newMem(t))
		c := k.prepare()
		if err := c.Clean(nil); err != nil {
			t.Fatal(err)
		}
		if err := cut(k.log); err != nil {
			t.Fatal(err)
		}
		before, cleaned := readAll(t, k.log, k.log.Start()), k.log.Cleaned()
		if err := k.log.Swap(c); !errors.Is(err, ErrStale) {
			t.Errorf("swap: %v", err)
		}
		if !bytes.Equal(before, readAll(t, k.log, k.log.Start())) || k.log.Cleaned() != cleaned {
			t.Error("the log has changed")
		}
		k.log.Abandon()
		mustNotFail(t, "clean", c.Clean(nil), ErrStale, ErrClosed)
	}
}
