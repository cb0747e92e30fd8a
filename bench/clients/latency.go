//go:build linux

package clients

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/bench/figures"
)

// Pace is a rate at which records are due, one by one.
type Pace struct {
	Rate  float64       // records per second
	While time.Duration // in which they are due
	Skip  time.Duration // what is due before is sent, and read, but its latency not counted
}

func (p Pace) records() int { return int(p.Rate * p.While.Seconds()) }

// due is when a record is, from the beginning on.
func (p Pace) due(i int) time.Duration {
	return time.Duration(float64(i) / p.Rate * float64(time.Second))
}

// first is the first record whose latency counts.
func (p Pace) first() int { return min(p.records(), int(p.Rate*p.Skip.Seconds())) }

// run calls send for every record when it is due, or as soon afterwards as the calls
// before it let it, and tells it what was due when.
func (p Pace) run(
	ctx context.Context, began time.Time, send func(i int, due time.Duration) error,
) error {
	alarm, err := newAlarm()
	if err != nil {
		return err
	}
	defer alarm.close()
	for i := 0; i < p.records(); {
		now := time.Since(began)
		for ; i < p.records() && p.due(i) <= now; i++ {
			if err := send(i, p.due(i)); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := alarm.sleep(p.due(i) - time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// dueRecords makes records that say in their values when they were due.
type dueRecords struct {
	used   *shelf[*kgo.Record]
	values [][]byte
}

func (l *Load) dueRecords() *dueRecords {
	return &dueRecords{used: newShelf[*kgo.Record](), values: l.values()}
}

// valueHead is the record's number and when it was due, in nanoseconds.
const valueHead = 16

func (d *dueRecords) next(i int, due time.Duration) *kgo.Record {
	r, ok := d.used.take()
	if !ok {
		r = &kgo.Record{Value: append([]byte(nil), d.values[i%valueCount]...)}
	}
	r.Timestamp = time.Time{}
	binary.BigEndian.PutUint64(r.Value, uint64(i))
	binary.BigEndian.PutUint64(r.Value[8:], uint64(due))
	return r
}

// latencies are collected by one goroutine.
type latencies struct {
	pace Pace
	seen []time.Duration
	got  []bool // by the record's number
	left int    // records that were not seen yet
}

func newLatencies(p Pace) *latencies {
	return &latencies{pace: p, seen: make([]time.Duration, 0, p.records()),
		got: make([]bool, p.records()), left: p.records()}
}

// note counts the record that ended then, unless it came too early to count. It fails
// for one that nobody sent, and for one that was seen before.
func (l *latencies) note(value []byte, ended time.Duration) error {
	if len(value) < valueHead {
		return fmt.Errorf("a value of %d bytes is none of ours", len(value))
	}
	i := binary.BigEndian.Uint64(value)
	if i == warmNumber {
		return nil
	}
	due := time.Duration(binary.BigEndian.Uint64(value[8:]))
	if i >= uint64(len(l.got)) || l.got[i] {
		return fmt.Errorf("record %d was seen twice, or never sent", i)
	}
	l.got[i] = true
	l.left--
	if int(i) >= l.pace.first() {
		l.seen = append(l.seen, ended-due)
	}
	return nil
}

// fill puts the latencies into the result.
func (l *latencies) fill(r *figures.Result) {
	r.Rate = l.pace.Rate
	r.SetLatencies(l.seen)
}

// AckLatency sends records at a rate, and takes the time from when each was due to its
// acknowledgement.
func (l *Load) AckLatency(ctx context.Context, p Pace) (figures.Result, error) {
	count := produceRequests()
	client, err := l.producer(ctx, count)
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	records, seen := l.dueRecords(), newLatencies(p)
	var failed failure
	before, began := count.count.Load(), time.Now()
	done := func(r *kgo.Record, err error) { // one at a time
		if err == nil {
			err = seen.note(r.Value, time.Since(began))
		}
		failed.note(err)
		records.used.give(r)
	}
	err = p.run(ctx, began, func(i int, due time.Duration) error {
		client.Produce(ctx, records.next(i, due), done)
		return failed.err()
	})
	if err != nil {
		return figures.Result{}, err
	}
	if err := client.Flush(ctx); err != nil {
		return figures.Result{}, err
	}
	r := l.result(int64(p.records()), count.count.Load()-before, time.Since(began))
	seen.fill(&r)
	return r, failed.err()
}

// EndToEnd sends records at a rate to a consumer in this process, and takes the time from
// when each was due until the consumer has it.
func (l *Load) EndToEnd(ctx context.Context, p Pace) (figures.Result, error) {
	count := produceRequests()
	producer, err := l.producer(ctx, count)
	if err != nil {
		return figures.Result{}, err
	}
	defer producer.Close()
	consumer, err := l.consumer(fetchRequests())
	if err != nil {
		return figures.Result{}, err
	}
	defer consumer.Close()
	records, seen := l.dueRecords(), newLatencies(p)
	var failed failure
	before, began := count.count.Load(), time.Now()
	done := func(r *kgo.Record, err error) {
		failed.note(err)
		records.used.give(r)
	}
	err = both(ctx, func(ctx context.Context) error {
		err := p.run(ctx, began, func(i int, due time.Duration) error {
			producer.Produce(ctx, records.next(i, due), done)
			return failed.err()
		})
		if err != nil {
			return err
		}
		return producer.Flush(ctx)
	}, func(ctx context.Context) error { return seen.collect(ctx, consumer, began) })
	if err != nil {
		return figures.Result{}, err
	}
	r := l.result(int64(p.records()), count.count.Load()-before, time.Since(began))
	seen.fill(&r)
	return r, failed.err()
}

// collect reads all records. They ended when the poll that brought them returned.
func (l *latencies) collect(ctx context.Context, c *kgo.Client, began time.Time) error {
	for l.left > 0 {
		fetches := c.PollFetches(ctx)
		now := time.Since(began)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d of %d records before the end: %w", l.left, len(l.got), err)
		}
		for r := range fetches.RecordsAll() {
			if err := l.note(r.Value, now); err != nil {
				return err
			}
		}
	}
	return nil
}
