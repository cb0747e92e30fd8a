// Command mixed has a Kafka client (franz-go) and the SDK share a topic: each reads what
// the other has written, and members of both kinds share the partitions in one group.
//
//	go run ./examples/mixed
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

const (
	topic      = "mixed"
	group      = "mixed"
	partitions = 6
	each       = 60 // records of each producer
)

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	admin := client.Admin()
	err = admin.CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: partitions})
	if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
		return err
	}
	nodes, err := admin.Nodes(ctx)
	if err != nil {
		return err
	}
	var brokers []string
	for _, n := range nodes {
		brokers = append(brokers, n.Kafka)
	}

	h := newHall()
	sdk, err := h.joinSDK(ctx, client)
	if err != nil {
		return err
	}
	defer sdk.Close(ctx)
	kafka, err := h.joinKafka(brokers)
	if err != nil {
		return err
	}
	defer kafka.Close()
	return h.exchange(ctx, client, sdk, kafka, out)
}

// exchange runs both members until they have seen what both producers write.
func (h *hall) exchange(ctx context.Context, client *clientlib.Client, sdk *clientlib.Consumer,
	kafka *kgo.Client, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	failed := make(chan error, 2)
	running.Go(func() { failed <- h.pollSDK(ctx, sdk) })
	running.Go(func() { failed <- h.pollKafka(ctx, kafka) })

	// Each has half of the partitions before there is anything to read.
	for _, step := range []struct {
		reached <-chan struct{}
		then    func() error
	}{
		{h.shared, func() error {
			return errors.Join(writeSDK(ctx, client), writeKafka(ctx, kafka))
		}},
		{h.all, func() error { // a second run goes on from there
			return errors.Join(h.report(out), sdk.Commit(ctx), kafka.CommitUncommittedOffsets(ctx))
		}},
	} {
		select {
		case <-step.reached:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := step.then(); err != nil {
			return err
		}
	}
	return nil
}

// writeSDK and writeKafka write the same keys: both put a key into the same partition.
func writeSDK(ctx context.Context, client *clientlib.Client) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for i := range each {
		err := producer.Produce(ctx, &clientlib.Record{
			Key: fmt.Append(nil, "key-", i), Value: []byte("sdk")})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeKafka(ctx context.Context, kafka *kgo.Client) error {
	for i := range each {
		err := kafka.ProduceSync(ctx, &kgo.Record{
			Topic: topic, Key: fmt.Append(nil, "key-", i), Value: []byte("kafka")}).FirstErr()
		if err != nil {
			return err
		}
	}
	return nil
}
