//go:build linux

package raw

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Tail produces while consumers, a driver of as many connections as there are partitions
// (Load.Conns), read what is new: each waits at the end of its partition with a request
// that the broker answers when there is something. At a rate, in requests per second,
// latencies are from when a batch was due to when a consumer has it; partitions may not be
// shared by producers' connections then. Rate 0 produces as fast as is answered, and
// latencies are those of Produce. Bytes are those that were consumed, and the time is that
// to the last of them.
func (d *Driver) Tail(ctx context.Context, consumers *Driver, rate float64) (Outcome, error) {
	t := tail{from: d.Holds()}
	produce := d.Produce
	if rate > 0 {
		s, err := d.schedule(rate)
		if err != nil {
			return Outcome{}, err
		}
		if t.due, err = d.dueOf(s); err != nil {
			return Outcome{}, err
		}
		for i, l := range consumers.lanes {
			l.expect(s.onLane(i % s.lanes))
		}
		produce = func(ctx context.Context) (Outcome, error) { return d.produceOn(ctx, s) }
	}
	type result struct {
		Outcome
		error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	consumed := make(chan result, 1)
	began := time.Now()
	go func() {
		o, err := consumers.onEach(ctx, func(l *lane) error { return t.follow(consumers, l) })
		if err != nil {
			cancel(err) // ends the producers
		}
		consumed <- result{o, err}
	}()
	o, err := produce(ctx)
	if err != nil {
		cancel(err) // ends the consumers
	}
	holds := d.Holds()
	t.end.Store(&holds)
	c := <-consumed
	if rate > 0 {
		o.Latencies = c.Latencies
	}
	o.Bytes, o.Records = c.Bytes, c.Records
	o.Took = time.Duration(t.last.Load() - began.UnixNano())
	if err == nil {
		err = c.error
	}
	return o, err
}

// dueOf returns when batch n of a partition is due.
func (d *Driver) dueOf(s *schedule) (func(p int32, n int64) time.Time, error) {
	type place struct{ lane, turn, of int64 }
	places := make([]place, len(d.load.Leaders))
	for i, l := range d.lanes {
		for turn, p := range l.partitions {
			if places[p].of != 0 {
				return nil, fmt.Errorf("partition %d is written on two connections", p)
			}
			places[p] = place{int64(i), int64(turn), int64(len(l.partitions))}
		}
	}
	return func(p int32, n int64) time.Time {
		at := places[p]
		return s.due(s.ofLane(int(at.lane), n*at.of+at.turn))
	}, nil
}

// tail is what consumers know of the producers.
type tail struct {
	from []int64                          // batch with which each partition begins
	end  atomic.Pointer[[]int64]          // how many it has, once there will be no more
	due  func(p int32, n int64) time.Time // nil: no latencies
	last atomic.Int64                     // when a batch was seen last, Unix nanoseconds
}

// follow reads a connection's partitions to the end that there will be.
func (t *tail) follow(d *Driver, l *lane) error {
	if len(l.partitions) != 1 {
		return fmt.Errorf("a consumer waits for %d partitions, and can only for one",
			len(l.partitions))
	}
	f, err := newFetcher(d, l)
	if err != nil {
		return err
	}
	p := l.partitions[0]
	for f.next[0] = t.from[p]; ; {
		if end := t.end.Load(); end != nil && f.next[0] >= (*end)[p] {
			return nil
		}
		if err := f.ask(0); err != nil {
			return err
		}
		_, n, err := f.answer()
		if err != nil {
			return fmt.Errorf("partition %d, at batch %d: %w", p, f.next[0], err)
		}
		if n == 0 {
			continue // it was parked for as long as the broker would
		}
		now := time.Now()
		for i := range n {
			if t.due != nil {
				l.latencies = append(l.latencies, now.Sub(t.due(p, f.next[0]-t.from[p]+i)))
			}
		}
		f.next[0] += n
		for at := now.UnixNano(); ; {
			if last := t.last.Load(); last >= at || t.last.CompareAndSwap(last, at) {
				break
			}
		}
	}
}
