//go:build linux

package clients

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
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

func produceRequests() *requests { return &requests{key: kmsg.Produce} }
func fetchRequests() *requests   { return &requests{key: kmsg.Fetch} }

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
	// What it takes to begin is not measured: a record connects and finds the leader.
	if err := l.warm(ctx, client, 1); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// warmNumber is in the place of a record's number in those that warm up.
const warmNumber = math.MaxUint64

// warm writes so many records of which nothing is measured.
func (l *Load) warm(ctx context.Context, client *kgo.Client, records int) error {
	for i := range records {
		value := make([]byte, max(valueHead, l.RecordBytes))
		binary.BigEndian.PutUint64(value, warmNumber)
		r := &kgo.Record{Value: value, Partition: int32(i)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return fmt.Errorf("first record: %w", err)
		}
		l.warmed++
	}
	return nil
}

// Warm writes a record to every partition: a broker may say who leads a new partition
// shortly before that one knows, and a client that is turned away then waits long.
func (l *Load) Warm(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(l.Addrs...), kgo.DefaultProduceTopic(l.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer client.Close()
	return l.warm(ctx, client, l.Partitions)
}

// Fill writes so many records and waits for their acknowledgements.
func (l *Load) Fill(ctx context.Context, records int64) (figures.Result, error) {
	count := produceRequests()
	client, err := l.filler(ctx, count)
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	return l.write(ctx, client, count, func(sent int64, _ time.Time) bool { return sent < records })
}

// Produce writes as much as it can for a while, and waits for the acknowledgements.
func (l *Load) Produce(ctx context.Context, while time.Duration) (figures.Result, error) {
	count := produceRequests()
	client, err := l.filler(ctx, count)
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	return l.write(ctx, client, count, until(while))
}

func until(while time.Duration) func(int64, time.Time) bool {
	return func(sent int64, began time.Time) bool {
		return sent%checkEvery != 0 || time.Since(began) < while
	}
}

// filler makes a producer whose records go to all partitions alike.
func (l *Load) filler(ctx context.Context, count *requests) (*kgo.Client, error) {
	partitioner := kgo.ManualPartitioner()
	if l.Keys {
		partitioner = kgo.StickyKeyPartitioner(nil)
	}
	return l.producer(ctx, count, kgo.RecordPartitioner(partitioner))
}

// write produces for as long as more says, which gets how many records were sent.
func (l *Load) write(
	ctx context.Context, client *kgo.Client, count *requests,
	more func(sent int64, began time.Time) bool,
) (figures.Result, error) {
	var names [][]byte
	if l.Keys {
		names = keys()
	}
	values, used := l.values(), newShelf[*kgo.Record]()
	var failed failure
	done := func(r *kgo.Record, err error) {
		failed.note(err)
		used.give(r)
	}
	before, sent, began := count.count.Load(), int64(0), time.Now()
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
	took := time.Since(began)
	return l.result(sent, count.count.Load()-before, took), failed.err()
}

// consumer makes a client that reads the topic from its start.
func (l *Load) consumer(count *requests, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(l.Addrs...), kgo.ConsumeTopics(l.Topic), kgo.WithHooks(count),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, more...)...)
}

// Consume reads the so many records that Fill wrote, from the topic's start, without a
// group. The time it takes to begin counts.
func (l *Load) Consume(ctx context.Context, records int64) (figures.Result, error) {
	count := fetchRequests()
	client, err := l.consumer(count)
	if err != nil {
		return figures.Result{}, err
	}
	defer client.Close()
	began := time.Now()
	if err := poll(ctx, client, records+l.warmed); err != nil {
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
