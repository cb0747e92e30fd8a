package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"
)

// inFlightMax bounds the memory of lines that are read but not acknowledged, in
// bytes. It is enough for five full requests of several partitions.
const inFlightMax = 64 << 20

// progressEvery is how often the progress line is drawn.
const progressEvery = 500 * time.Millisecond

// sender hands the records of a lineReader to a client and keeps count.
//
// A goroutine reads ahead; the one in run produces; the client's calls acked.
// Reading stops while inFlightMax bytes wait for their acknowledgement, so a
// slow cluster slows the reading and never fills the memory.
type sender struct {
	cl     *kgo.Client
	lines  *lineReader
	cancel context.CancelFunc // fails the records that are still open
	begun  time.Time

	room    *semaphore.Weighted // of inFlightMax
	records atomic.Int64        // acknowledged
	size    atomic.Int64        // bytes of keys and values acknowledged
	failed  chan error          // the first failure; holds one
}

// newSender prepares a run. The records' context outlives an interrupt of ctx, so
// that what was read can still be delivered.
func newSender(ctx context.Context, cl *kgo.Client, lines *lineReader) *sender {
	send, cancel := context.WithCancel(context.WithoutCancel(ctx))
	lines.ctx = send
	return &sender{cl: cl, lines: lines, cancel: cancel, begun: time.Now(),
		room: semaphore.NewWeighted(inFlightMax), failed: make(chan error, 1)}
}

// errInterrupted ends a run whose context was cancelled.
var errInterrupted = errors.New("interrupted")

// run produces everything and returns once all of it is acknowledged, or with
// the first failure. When ctx ends it delivers what it has read, for at most
// timeout.
func (s *sender) run(ctx context.Context, timeout time.Duration) error {
	defer s.cancel()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	chunks := make(chan *chunk)
	var readErr error // set before chunks is closed
	go func() {
		// The owner of this goroutine is run, by way of reading; only a Read of
		// standard input that has nothing to give cannot be interrupted, and
		// lasts until the process ends.
		defer close(chunks)
		readErr = s.read(reading, chunks)
	}()
	for {
		select {
		case <-ctx.Done():
			return s.interrupted(timeout)
		case err := <-s.failed:
			return err
		case c, ok := <-chunks:
			if !ok && ctx.Err() != nil {
				return s.interrupted(timeout)
			}
			if !ok {
				return s.finish(s.lines.ctx, readErr)
			}
			for i := range c.records {
				s.cl.Produce(s.lines.ctx, &c.records[i], s.acked)
			}
		}
	}
}

// read sends chunks until the input ends.
func (s *sender) read(ctx context.Context, chunks chan<- *chunk) error {
	for {
		c, err := s.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.room.Acquire(ctx, min(c.weight(), inFlightMax)); err != nil {
			return err
		}
		select {
		case chunks <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acked is called by the client once per record, one call at a time.
func (s *sender) acked(r *kgo.Record, err error) {
	c := r.Context.(*chunk)
	if err != nil {
		select {
		case s.failed <- &lineError{c.line(r), err}:
		default: // only the first one counts
		}
	} else {
		s.records.Add(1)
		s.size.Add(int64(len(r.Key) + len(r.Value)))
	}
	if c.pending.Add(-1) == 0 {
		s.room.Release(min(c.weight(), inFlightMax))
		s.lines.recycle(c)
	}
}

// finish waits for what is under way. A failed record is told before readErr,
// since it comes earlier in the input.
func (s *sender) finish(ctx context.Context, readErr error) error {
	flushed := make(chan struct{})
	var flushErr error // set before flushed is closed
	go func() {
		defer close(flushed)
		flushErr = s.cl.Flush(ctx)
	}()
	select {
	case err := <-s.failed:
		s.cancel() // ends the flush
		<-flushed
		return err
	case <-flushed:
		select {
		case err := <-s.failed:
			return err
		default:
			return errors.Join(flushErr, readErr)
		}
	}
}

func (s *sender) interrupted(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(s.lines.ctx, timeout)
	defer cancel()
	if err := s.finish(ctx, nil); err != nil {
		return err
	}
	return &failure{errInterrupted.Error(),
		fmt.Sprintf("%s acknowledged", plural(s.records.Load(), "record")), errInterrupted}
}

func (s *sender) tally() string {
	return tally(s.records.Load(), s.size.Load(), time.Since(s.begun))
}

// showProgress draws a line on a terminal until the returned function is called,
// which also wipes it.
func (s *sender) showProgress(w io.Writer) (stop func()) {
	done := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprintf(w, "\r\x1b[K%s", s.tally())
			}
		}
	})
	return func() {
		close(done)
		drawing.Wait()
	}
}
