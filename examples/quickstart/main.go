// Command quickstart writes three records and reads them back: all there is to a
// producer and a consumer.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

const topic = "greetings"

var greetings = []string{"hello", "bonjour", "salve"}

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	// In a program of your own: clientlib.Config{Nodes: []string{"10.0.0.1:7946"}}.
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)

	// The topic may be there from an earlier run.
	err = client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 3})
	if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
		return err
	}
	if err := write(ctx, client, out); err != nil {
		return err
	}
	return read(ctx, client, out)
}

func write(ctx context.Context, client *clientlib.Client, out io.Writer) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for i, text := range greetings {
		record := &clientlib.Record{Key: fmt.Append(nil, "visitor-", i), Value: []byte(text)}
		// Produce returns when every in-sync replica has the record.
		if err := producer.Produce(ctx, record); err != nil {
			return err
		}
		fmt.Fprintf(out, "wrote %s to partition %d at offset %d\n", text, record.Partition, record.Offset)
	}
	return nil
}

func read(ctx context.Context, client *clientlib.Client, out io.Writer) error {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: "quickstart", Topics: []string{topic},
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	for seen := 0; seen < len(greetings); {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			fmt.Fprintf(out, "read %s of %s\n", r.Value, r.Key)
		}
		seen += len(records)
	}
	// The next member of the group goes on behind these records.
	return consumer.Commit(ctx)
}
