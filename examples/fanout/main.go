// Command fanout has three services read one topic: each is a group of its own and so
// gets every record. The records are stored once, and no service knows of the others.
//
//	go run ./examples/fanout
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

const (
	topic  = "prices"
	prices = 300
)

// services are the groups, and what each makes of a price.
var services = map[string]func(sum, price int) int{
	"total":   func(sum, price int) int { return sum + price },
	"highest": func(sum, price int) int { return max(sum, price) },
	"count":   func(sum, _ int) int { return sum + 1 },
}

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	err = client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 4})
	if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
		return err
	}
	results := make(chan error, len(services))
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // if one fails
	for name, fold := range services {
		running.Go(func() { results <- serve(ctx, client, name, fold, out) })
	}
	if err := publish(ctx, client); err != nil {
		return err
	}
	for range services {
		if err := <-results; err != nil {
			return err
		}
	}
	return nil
}

// publish sends without waiting for each record: the producer gathers them in batches,
// and Flush tells whether all arrived.
func publish(ctx context.Context, client *clientlib.Client) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for i := range prices {
		err := producer.Send(ctx, &clientlib.Record{Value: []byte(strconv.Itoa(i + 1))}, nil)
		if err != nil {
			return err
		}
	}
	return producer.Flush(ctx)
}

func serve(ctx context.Context, client *clientlib.Client, name string,
	fold func(sum, price int) int, out io.Writer) error {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: name, Topics: []string{topic},
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	sum := 0
	for seen := 0; seen < prices; {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			price, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return fmt.Errorf("%s-%d, offset %d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			sum = fold(sum, price)
		}
		seen += len(records)
	}
	fmt.Fprintf(out, "%s: %d\n", name, sum)
	return consumer.Commit(ctx)
}
