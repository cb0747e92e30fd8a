//go:build linux

package clients

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/bench/figures"
)

// inFlight is how many Produce requests a producer without idempotence has under way at
// a broker; with it, the client's own limit is the same.
const inFlight = 5

// requests counts those of one kind that were answered.
type requests struct {
	key   kmsg.Key
	count atomic.Int64
}

// OnBrokerE2E is called by the client for each request.
func (r *requests) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == r.key.Int16() && e2e.Err() == nil {
		r.count.Add(1)
	}
}

// producer makes a client that is connected and knows the topic.
func (l *Load) producer(
	ctx context.Context, count *requests, more ...kgo.Opt,
) (*kgo.Client, error) {
	count.key = kmsg.Produce
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.Addrs...), kgo.DefaultProduceTopic(l.Topic), kgo.WithHooks(count),
		kgo.ProducerLinger(l.Linger), kgo.ProducerBatchMaxBytes(int32(l.BatchBytes)),
		kgo.MaxBufferedBytes(buffered), kgo.MaxBufferedRecords(1 << 30),
	}
	if l.AllAcks {
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	} else {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(),
			kgo.MaxProduceRequestsInflightPerBroker(inFlight))
	}
	if l.LZ4 {
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	} else {
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, err
	}
	// What it takes to begin is not measured: a request for the topic connects.
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &l.Topic
	req.Topics = append(req.Topics, topic)
	if _, err := req.RequestWith(ctx, client); err != nil {
		client.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return client, nil
}

// Fill writes so many records and waits for their acknowledgements.
func (l *Load) Fill(ctx context.Context, records int64) (figures.Result, error) {
	return l.write(ctx, func(sent int64, _ time.Time) bool { return sent < records })
}

// Produce writes as much as it can for a while, and waits for the acknowledgements.
func (l *Load) Produce(ctx context.Context, while time.Duration) (figures.Result, error) {
	return l.write(ctx, func(sent int64, began time.Time) bool {
		return sent%checkEvery != 0 || time.Since(began) < while
	})
}

// write produces for as long as more says, which gets how many records were sent.
func (l *Load) write(
	ctx context.Context, more func(sent int64, began time.Time) bool,
) (figures.Result, error) {
	var partitioner kgo.Partitioner = kgo.ManualPartitioner()
	var names [][]byte
	if l.Keys {
		partitioner, names = kgo.StickyKeyPartitioner(nil), keys()
	}
	count := &requests{}
	client, err := l.producer(ctx, count, kgo.RecordPartitioner(partitioner))
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	values, used := l.values(), newShelf[*kgo.Record]()
	var failed failure
	done := func(r *kgo.Record, err error) {
		failed.note(err)
		used.give(r)
	}
	sent, began := int64(0), time.Now()
	for ; more(sent, began) && failed.err() == nil; sent++ {
		r, ok := used.take()
		if !ok {
			r = &kgo.Record{}
		}
		r.Value, r.Timestamp = values[sent%valueCount], time.Time{}
		if r.Partition = int32(sent % int64(l.Partitions)); names != nil {
			r.Key = names[(sent*7)%keyCount]
		}
		client.Produce(ctx, r, done)
	}
	if err := client.Flush(ctx); err != nil {
		return figures.Result{}, err
	}
	return l.result(sent, count.count.Load(), time.Since(began)), failed.err()
}

// consumer makes a client that reads the topic from its start.
func (l *Load) consumer(count *requests, more ...kgo.Opt) (*kgo.Client, error) {
	count.key = kmsg.Fetch
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(l.Addrs...), kgo.ConsumeTopics(l.Topic), kgo.WithHooks(count),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, more...)...)
}

// Consume reads so many records of the topic, from its start, without a group. The time
// it takes to begin counts.
func (l *Load) Consume(ctx context.Context, records int64) (figures.Result, error) {
	count := &requests{}
	client, err := l.consumer(count)
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	began := time.Now()
	if err := poll(ctx, client, records); err != nil {
		return figures.Result{}, err
	}
	return l.result(records, count.count.Load(), time.Since(began)), nil
}

// poll reads so many records.
func poll(ctx context.Context, client *kgo.Client, records int64) error {
	got := int64(0)
	for got < records {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("after %d of %d records: %w", got, records, err)
		}
		got += int64(fetches.NumRecords())
	}
	if got > records {
		return fmt.Errorf("the topic has %d records or more, expected %d", got, records)
	}
	return nil
}
