package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/clientlib"
)

// hall is where both members meet: it knows who has which partitions, and what was read.
type hall struct {
	shared chan struct{} // closed when each has half of the partitions
	all    chan struct{} // closed when all records were read

	mu        sync.Mutex
	owned     map[string]int            // member > partitions
	read      map[[2]string]int         // reader, writer > records
	places    map[string]map[int32]bool // key > partitions; there is one
	isShared  bool
	remaining int
}

func newHall() *hall {
	return &hall{shared: make(chan struct{}), all: make(chan struct{}), owned: map[string]int{},
		read: map[[2]string]int{}, places: map[string]map[int32]bool{}, remaining: 2 * each}
}

func (h *hall) joinSDK(ctx context.Context, client *clientlib.Client) (*clientlib.Consumer, error) {
	return client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: group, Topics: []string{topic},
		OnAssigned: func(_ context.Context, ps []clientlib.Partition) { h.owns("sdk", len(ps)) },
		OnRevoked:  func(_ context.Context, ps []clientlib.Partition) { h.owns("sdk", -len(ps)) },
	})
}

// joinKafka makes a client of Kafka that is a member under the protocol of KIP-848, as
// all members of the SDK are. In Java that is group.protocol=consumer.
func (h *hall) joinKafka(brokers []string) (*kgo.Client, error) {
	count := func(sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
			h.owns("kafka", sign*len(ps[topic]))
		}
	}
	return kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumerGroup(group),
		kgo.ServerSideBalancer(),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(count(1)),
		kgo.OnPartitionsRevoked(count(-1)),
	)
}

// owns notes that a member has so many partitions more.
func (h *hall) owns(member string, more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owned[member] += more
	if h.owned["sdk"] == partitions/2 && h.owned["kafka"] == partitions/2 && !h.isShared {
		h.isShared = true
		close(h.shared)
	}
}

func (h *hall) pollSDK(ctx context.Context, sdk *clientlib.Consumer) error {
	for {
		records, err := sdk.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			h.saw("sdk", string(r.Value), string(r.Key), r.Partition)
		}
	}
}

func (h *hall) pollKafka(ctx context.Context, kafka *kgo.Client) error {
	for {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			h.saw("kafka", string(r.Value), string(r.Key), r.Partition)
		})
	}
}

func (h *hall) saw(reader, writer, key string, partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read[[2]string{reader, writer}]++
	if h.places[key] == nil {
		h.places[key] = map[int32]bool{}
	}
	h.places[key][partition] = true
	if h.remaining--; h.remaining == 0 {
		close(h.all)
	}
}

// report says who read what, and fails if a key was in two partitions.
func (h *hall) report(out io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, reader := range []string{"sdk", "kafka"} {
		fmt.Fprintf(out, "the member of kind %s has %d partitions and read %d records of the SDK, "+
			"%d of the Kafka client\n", reader, h.owned[reader],
			h.read[[2]string{reader, "sdk"}], h.read[[2]string{reader, "kafka"}])
	}
	for key, in := range h.places {
		if len(in) != 1 {
			return fmt.Errorf("%s is in %d partitions", key, len(in))
		}
	}
	fmt.Fprintf(out, "%d keys, each in one partition\n", len(h.places))
	return nil
}
