package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// receive hands every record of the topic, from its start, to got, until stop is called.
// Its consumers are ordered ones, which is how nats.go reads without acknowledging: with
// each partition a goroutine calls got.
func (l *load) receive(
	ctx context.Context, js jetstream.JetStream, got func(value []byte),
) (stop func(), err error) {
	var reading []jetstream.ConsumeContext
	stop = func() {
		for _, c := range reading {
			c.Stop()
		}
	}
	for p := range l.partitions {
		c, err := js.OrderedConsumer(ctx, l.stream(p), jetstream.OrderedConsumerConfig{})
		if err != nil {
			stop()
			return nil, fmt.Errorf("consumer of %s: %w", l.stream(p), err)
		}
		r, err := c.Consume(func(m jetstream.Msg) { got(m.Data()) }, jetstream.PullMaxMessages(l.pull))
		if err != nil {
			stop()
			return nil, fmt.Errorf("consuming %s: %w", l.stream(p), err)
		}
		reading = append(reading, r)
	}
	return stop, nil
}

// consume reads so many records. The time it takes to begin counts.
func (l *load) consume(ctx context.Context, js jetstream.JetStream) (result, error) {
	began := time.Now()
	var got atomic.Int64
	all := make(chan struct{})
	stop, err := l.receive(ctx, js, func([]byte) {
		if got.Add(1) == l.records {
			close(all)
		}
	})
	if err != nil {
		return result{}, err
	}
	defer stop()
	select {
	case <-all:
	case <-ctx.Done():
		return result{}, fmt.Errorf("after %d of %d records: %w", got.Load(), l.records, ctx.Err())
	}
	return l.result(l.records, time.Since(began)), nil
}

// endToEnd sends records at a rate to consumers in this process, and takes the time from
// when each was due until a consumer has it.
func (l *load) endToEnd(ctx context.Context, js jetstream.JetStream) (result, error) {
	seen, subjects := newLatencies(l), l.subjects()
	began := time.Now().Add(startUp)
	stop, err := l.receive(ctx, js, func(v []byte) { seen.note(v, time.Since(began)) })
	if err != nil {
		return result{}, err
	}
	defer stop()
	pending := make(chan jetstream.PubAckFuture, l.window)
	failed := make(chan error, 1)
	go func() { failed <- confirm(pending) }()
	err = l.pace(ctx, began, func(i int, value []byte) error {
		f, err := js.PublishAsync(subjects[i%l.partitions], value,
			jetstream.WithStallWait(time.Minute))
		if err == nil {
			pending <- f
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
	select {
	case <-seen.all:
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
	r := l.result(int64(l.dueRecords()), time.Since(began))
	r.Requests = r.Records
	err = seen.fill(&r, l.rate)
	return r, err
}

// startUp is the time that consumers get before the first record is due.
const startUp = 100 * time.Millisecond
