//go:build linux

// Package clients drives brokers with real client libraries: franz-go and the SDK.
// (NATS has its own, in tools/peers/natsload.) What a client costs is part of what it
// measures, and all brokers get the same client with the same settings. It owns the
// clients it makes, and closes them. The commands of bench may call it.
//
// A latency is counted from when an operation was due by its rate, never from when it
// could be sent: a broker that holds up the sender pays for all that waits behind.
package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/bench/figures"
)

// Shape is of records and batches, and how clients write them.
type Shape struct {
	Partitions  int
	RecordBytes int // of a value; at least 16
	BatchBytes  int // of a batch at most
	Linger      time.Duration
	AllAcks     bool // acks=all with an idempotent producer; else acks=1 without
	LZ4         bool // else uncompressed
	Keys        bool // they choose the partitions; else partitions take turns
}

// Load is what clients write to a topic, or read from it. Its methods are for one
// goroutine.
type Load struct {
	Shape
	Addrs []string // of the brokers' nodes, for clients of Kafka's protocol
	Actor string   // of a node of Troupe, for the SDK
	Topic string   // which exists

	warmed int64 // records in the topic of which nothing is measured
}

const (
	valueCount = 1 << 10 // different values
	keyCount   = 1 << 10
	shelfBatch = 256 // records that change hands together

	// buffered is how many bytes of values a client holds that are not acknowledged.
	buffered = 32 << 20

	// checkEvery is after how many records the clock is looked at.
	checkEvery = 128
)

// result is what all loads fill in. Bytes are those of values.
func (l *Load) result(records, requests int64, took time.Duration) figures.Result {
	return figures.Result{Records: records, Requests: requests,
		Bytes: records * int64(l.RecordBytes), Took: took}
}

// values are made before the clock starts. They are words, so that they compress as text
// does: to a third or so.
func (l *Load) values() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	words := make([][]byte, 512)
	for i := range words {
		words[i] = make([]byte, 3+r.IntN(8))
		for j := range words[i] {
			words[i][j] = 'a' + byte(r.IntN(26))
		}
	}
	values := make([][]byte, valueCount)
	for i := range values {
		var v []byte
		for len(v) < l.RecordBytes {
			v = append(append(v, words[r.IntN(len(words))]...), ' ')
		}
		values[i] = v[:l.RecordBytes]
	}
	return values
}

func keys() [][]byte {
	all := make([][]byte, keyCount)
	for i := range all {
		all[i] = fmt.Appendf(nil, "key-%04d", i)
	}
	return all
}

// shelf hands records that were acknowledged back to the goroutine that makes them, so
// that a run makes no more of them than are under way. One goroutine takes, one gives.
type shelf[T any] struct {
	full    chan []T
	out, in []T
}

func newShelf[T any]() *shelf[T] { return &shelf[T]{full: make(chan []T, 1<<12)} }

// take returns a used record, or false if there is none.
func (s *shelf[T]) take() (t T, ok bool) {
	if len(s.out) == 0 {
		select {
		case s.out = <-s.full:
		default:
			return t, false
		}
	}
	t = s.out[len(s.out)-1]
	s.out = s.out[:len(s.out)-1]
	return t, true
}

// give puts a record on the shelf, or drops it if that is full.
func (s *shelf[T]) give(t T) {
	if s.in == nil {
		s.in = make([]T, 0, shelfBatch)
	}
	if s.in = append(s.in, t); len(s.in) < shelfBatch {
		return
	}
	select {
	case s.full <- s.in:
	default:
	}
	s.in = nil
}

// failure keeps the first error of callbacks.
type failure struct{ first atomic.Pointer[error] }

func (f *failure) note(err error) {
	if err != nil {
		first := err // else err of each call would be in memory of its own
		f.first.CompareAndSwap(nil, &first)
	}
}

func (f *failure) err() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}

// both returns the first error of two activities of a run. When one of them fails the
// other is cancelled, and its complaint about that tells nothing.
func both(ctx context.Context, a, b func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() {
		err := b(ctx)
		cancelOn(cancel, err)
		done <- err
	}()
	err := a(ctx)
	cancelOn(cancel, err)
	other := <-done
	if err == nil && other == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(err, other)
}

func cancelOn(cancel context.CancelCauseFunc, err error) {
	if err != nil {
		cancel(err)
	}
}
