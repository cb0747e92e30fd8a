//go:build linux

package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/troupelog/troupe/messages/record"
)

const (
	filledBatch  = 900 << 10 // bytes; a little less than brokers take by default
	filledRecord = 1 << 10
	filledNATS   = 64 << 10 // bytes of a message: a stream has no batches
)

// fill writes at least so many bytes to the partitions of a topic, all at once, in large
// batches.
func (b *Broker) fill(ctx context.Context, t Topic, bytes int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batch, err := largeBatch()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for p := range t.Partitions {
		wg.Go(func() {
			err := b.fillPartition(ctx, t.Name, int32(p), bytes/int64(t.Partitions), batch)
			if err != nil {
				cancel(fmt.Errorf("filling %s-%d: %w", t.Name, p, err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *Broker) fillPartition(
	ctx context.Context, topic string, partition int32, bytes int64, batch []byte,
) error {
	client, err := newClient(b.Addrs[0]) // a connection of its own
	if err != nil {
		return err
	}
	defer client.Close()
	for left := bytes; left > 0; left -= int64(len(batch)) {
		err := produce(ctx, client.SeedBrokers()[0].Request, topic, partition, batch)
		if err != nil {
			return err
		}
	}
	return nil
}

func largeBatch() ([]byte, error) {
	r := rand.New(rand.NewPCG(1, 1))
	build := record.NewBuilder(record.Compression{})
	for build.Size() < filledBatch {
		value := make([]byte, filledRecord)
		for i := range value {
			value[i] = byte(r.Uint32())
		}
		build.Append(now(), nil, value)
	}
	built, err := build.Build()
	return built.Bytes, err
}

// fillStreams is fill for NATS.
func (b *Broker) fillStreams(ctx context.Context, t Topic, bytes int64) error {
	_, err := b.NATSLoad(ctx, "-load", "produce", "-topic", t.Name,
		"-partitions", strconv.Itoa(t.Partitions), "-record", strconv.Itoa(filledNATS),
		"-window", "256", "-records", strconv.FormatInt((bytes+filledNATS-1)/filledNATS, 10))
	return err
}
