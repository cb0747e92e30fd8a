package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// valueHead is the record's number and when it was due, in nanoseconds.
const valueHead = 16

// due is when a record is, from the beginning on.
func (l *load) due(i int) time.Duration {
	return time.Duration(float64(i) / l.rate * float64(time.Second))
}

func (l *load) dueRecords() int { return int(l.rate * l.while.Seconds()) }

// minSleep keeps a high rate from waking the process for every record: those that are due
// within it are sent together.
const minSleep = 100 * time.Microsecond

// sleep asks the kernel. The runtime's own timers are late by up to a millisecond in a
// process that has nothing else to do, which is more than what is measured here.
func sleep(d time.Duration) {
	left := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&left, nil) // a signal ends it early; the caller looks again
}

// pace calls send for every record when it is due, or as soon afterwards as it can.
func (l *load) pace(
	ctx context.Context, began time.Time, send func(i int, value []byte) error,
) error {
	values := l.values()
	for i := 0; i < l.dueRecords(); i++ {
		for wait := l.due(i) - time.Since(began); wait > 0; wait = l.due(i) - time.Since(began) {
			sleep(max(wait, minSleep))
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		value := append([]byte(nil), values[i%valueCount]...)
		binary.BigEndian.PutUint64(value, uint64(i))
		binary.BigEndian.PutUint64(value[8:], uint64(l.due(i)))
		if err := send(i, value); err != nil {
			return err
		}
	}
	return nil
}

// latencies are noted by several goroutines.
type latencies struct {
	mu   sync.Mutex
	skip time.Duration
	seen []time.Duration
	got  []bool // by the record's number
	left int
	all  chan struct{} // closed when none is left
	err  error
}

func newLatencies(l *load) *latencies {
	n := l.dueRecords()
	return &latencies{skip: l.skip, got: make([]bool, n), left: n, all: make(chan struct{}),
		seen: make([]time.Duration, 0, n)}
}

// note counts a record that ended then.
func (s *latencies) note(value []byte, ended time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := binary.BigEndian.Uint64(value)
	due := time.Duration(binary.BigEndian.Uint64(value[8:]))
	if i >= uint64(len(s.got)) || s.got[i] {
		s.err = fmt.Errorf("record %d was seen twice, or never sent", i)
		return
	}
	if s.got[i] = true; due >= s.skip {
		s.seen = append(s.seen, ended-due)
	}
	if s.left--; s.left == 0 {
		close(s.all)
	}
}

func (s *latencies) fill(r *result, rate float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.seen)
	r.Rate = rate
	r.P50, r.P99, r.P999 = quantile(s.seen, 0.5), quantile(s.seen, 0.99), quantile(s.seen, 0.999)
	r.Max = quantile(s.seen, 1)
	return s.err
}

// quantile returns the value below which the share q of the sorted ds lies.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}

// ack sends records at a rate, and takes the time from when each was due to its
// acknowledgement.
func (l *load) ack(ctx context.Context, js jetstream.JetStream) (result, error) {
	type sent struct {
		value  []byte
		future jetstream.PubAckFuture
	}
	seen, subjects := newLatencies(l), l.subjects()
	pending := make(chan sent, l.window)
	failed := make(chan error, 1)
	began := time.Now()
	go func() {
		var failure error
		for s := range pending { // acknowledgements of a stream come in order
			select {
			case <-s.future.Ok():
				seen.note(s.value, time.Since(began))
			case err := <-s.future.Err():
				failure = fmt.Errorf("%w: %w", errFailed, err)
			}
		}
		failed <- failure
	}()
	err := l.pace(ctx, began, func(i int, value []byte) error {
		f, err := js.PublishAsync(subjects[i%l.partitions], value,
			jetstream.WithStallWait(time.Minute))
		if err == nil {
			pending <- sent{value, f}
		}
		return err
	})
	close(pending)
	if failure := <-failed; err == nil {
		err = failure
	}
	if err != nil {
		return result{}, err
	}
	r := l.result(int64(l.dueRecords()), time.Since(began))
	r.Requests = r.Records
	err = seen.fill(&r, l.rate)
	return r, err
}
