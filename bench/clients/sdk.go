//go:build linux

package clients

import (
	"context"
	"errors"
	"time"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/clientlib"
)

// SDKFill is Fill with the SDK in the place of franz-go. It needs keys: without them the
// SDK keeps to one partition for as long as a batch takes.
func (l *Load) SDKFill(ctx context.Context, records int64) (r figures.Result, err error) {
	client, err := clientlib.Dial(ctx, clientlib.Config{Nodes: []string{l.Actor}})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, client.Close(ctx)) }()
	p, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: l.Topic, Linger: l.Linger,
		BatchBytes: l.BatchBytes, BufferBytes: buffered})
	if err != nil {
		return r, err
	}
	values, names, used := l.values(), keys(), newShelf[*clientlib.Record]()
	var failed failure
	done := func(record *clientlib.Record, err error) {
		failed.note(err)
		used.give(record)
	}
	// As with franz-go, what it takes to begin is not measured.
	if err := p.Send(ctx, &clientlib.Record{Value: values[0]}, nil); err != nil {
		return r, err
	}
	if err := p.Flush(ctx); err != nil {
		return r, err
	}
	began := time.Now()
	for i := range records {
		record, ok := used.take()
		if !ok {
			record = &clientlib.Record{}
		}
		*record = clientlib.Record{Key: names[(i*7)%keyCount], Value: values[i%valueCount]}
		if err := p.Send(ctx, record, done); err != nil {
			return r, err
		}
	}
	if err := p.Flush(ctx); err != nil {
		return r, err
	}
	return l.result(records, 0, time.Since(began)), failed.err()
}

// SDKConsume is Consume with the SDK in the place of franz-go.
func (l *Load) SDKConsume(ctx context.Context, records int64) (r figures.Result, err error) {
	client, err := clientlib.Dial(ctx, clientlib.Config{Nodes: []string{l.Actor}})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, client.Close(ctx)) }()
	cfg := clientlib.ConsumerConfig{}
	for p := range int32(l.Partitions) {
		cfg.Partitions = append(cfg.Partitions, clientlib.Position{
			Partition: clientlib.Partition{Topic: l.Topic, Index: p}, Start: clientlib.Earliest})
	}
	began := time.Now()
	c, err := client.NewConsumer(ctx, cfg)
	if err != nil {
		return r, err
	}
	for got := int64(0); got < records+l.warmed; {
		polled, err := c.Poll(ctx)
		if err != nil {
			return r, err
		}
		got += int64(len(polled))
	}
	return l.result(records, 0, time.Since(began)), nil
}
