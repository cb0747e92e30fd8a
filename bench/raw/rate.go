//go:build linux

package raw

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lateMax    = 15 * time.Second // from when a request is due to when it is sent, or answered
	leadIn     = 5 * time.Millisecond
	timerSlack = 1 // nanoseconds by which the kernel may wake the sender late; default 50,000
)

// schedule says when requests are due: the first on each connection by turns, then the
// second on each, in equal steps.
type schedule struct {
	start time.Time
	rate  float64 // per second
	lanes int
	count int64 // of requests
}

func (d *Driver) schedule(rate float64) (*schedule, error) {
	if rate <= 0 || d.load.For <= 0 {
		return nil, fmt.Errorf("no rate, or no time, for the load: %v per second, %v",
			rate, d.load.For)
	}
	count := min(d.count(), int64(rate*d.load.For.Seconds()))
	return &schedule{rate: rate, lanes: len(d.lanes), count: max(1, count),
		start: time.Now().Add(leadIn)}, nil
}

// due is when request i of all is.
func (s *schedule) due(i int64) time.Time {
	return s.start.Add(time.Duration(float64(i) / s.rate * float64(time.Second)))
}

// ofLane is the number, of all requests, of request n of a connection.
func (s *schedule) ofLane(lane int, n int64) int64 { return n*int64(s.lanes) + int64(lane) }

// onLane is how many requests a connection has.
func (s *schedule) onLane(lane int) int64 {
	return (s.count - int64(lane) + int64(s.lanes) - 1) / int64(s.lanes)
}

// ProduceAtRate sends requests when they are due, rate in a second over all connections,
// for as long as the load says and whether or not earlier ones were answered. Latencies
// are from when a request was due to its answer, so what a slow broker keeps waiting, in
// its queues or before them, counts. It fails when requests are sent or answered so long
// after they were due that the rate is beyond what the broker can do.
func (d *Driver) ProduceAtRate(ctx context.Context, rate float64) (Outcome, error) {
	s, err := d.schedule(rate)
	if err != nil {
		return Outcome{}, err
	}
	return d.produceOn(ctx, s)
}

func (d *Driver) produceOn(ctx context.Context, s *schedule) (Outcome, error) {
	number := map[*lane]int{}
	for i, l := range d.lanes {
		number[l] = i
		l.expect(s.onLane(i))
	}
	sender := newSender(d, s)
	sent := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := sender.run(ctx)
		if err != nil {
			cancel(err) // ends those who wait for answers
		}
		sent <- err
	}()
	o, err := d.onEach(ctx, func(l *lane) error {
		err := sender.receive(number[l], l)
		if err != nil {
			cancel(err) // ends the sender
		}
		return err
	})
	if failed := <-sent; err == nil {
		err = failed
	}
	return o, err
}

// sender sends on all connections, from one thread of the operating system's: that is
// woken when it has to be, where a goroutine's timer is up to a millisecond late.
type sender struct {
	*Driver
	*schedule
	heads   [][]byte // of each connection
	answers []answers
	vectors net.Buffers
	store   [2][]byte
}

func newSender(d *Driver, s *schedule) *sender {
	w := &sender{Driver: d, schedule: s}
	for range d.lanes {
		w.heads = append(w.heads, produceHead(d.load.Topic, d.load.Acks, len(d.batch.Bytes)))
		w.answers = append(w.answers, produceAnswers(d.load.Topic, 64))
	}
	return w
}

func (w *sender) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return err
	}
	// The thread gets its default back; it must not end, as brokers end with the thread
	// that started them.
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	for i := range w.schedule.count {
		if err := ctx.Err(); err != nil {
			return err
		}
		due := w.due(i)
		wait := time.Until(due)
		if wait < -lateMax {
			return fmt.Errorf("request %d is sent %v late: %.0f a second are too many",
				i, -wait, w.rate)
		}
		for ; wait > 0; wait = time.Until(due) {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.Nanosleep(&ts, nil) // a signal may end it early
		}
		if err := w.send(int(i%int64(w.schedule.lanes)), i/int64(w.schedule.lanes)); err != nil {
			return err
		}
	}
	return nil
}

// send sends request n of a connection.
func (w *sender) send(number int, n int64) error {
	l := w.Driver.lanes[number]
	setProducePartition(w.heads[number], l.partitions[int(n%int64(len(l.partitions)))])
	w.store = [2][]byte{w.heads[number], w.batch.Bytes}
	w.vectors = w.store[:]
	_, err := w.vectors.WriteTo(l.conn)
	return err
}

// receive takes the answers on a connection.
func (w *sender) receive(number int, l *lane) error {
	a := &w.answers[number]
	for n := int64(0); n < w.onLane(number); {
		got, err := a.read(l.conn)
		if err != nil {
			return fmt.Errorf("after %d answers: %w", n, err)
		}
		now := time.Now()
		for range got {
			took := now.Sub(w.due(w.ofLane(number, n)))
			if took > lateMax {
				return fmt.Errorf("answer %d came %v late: %.0f a second are too many",
					n, took, w.rate)
			}
			l.latencies = append(l.latencies, took)
			l.acknowledged(int(n%int64(len(l.partitions))), w.batch)
			n++
		}
	}
	return nil
}
