package clientlib_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
)

// embedded runs f with a client of a node in this process, whose data end with it.
func embedded(f func(ctx context.Context, client *clientlib.Client) error) {
	err := func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "troupe-example-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		n, err := node.Start(ctx, node.Options{DataDir: dir})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.Stop(context.WithoutCancel(ctx))) }()
		client, err := clientlib.Dial(ctx, clientlib.Config{Embedded: n})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close(context.WithoutCancel(ctx))) }()
		return f(ctx, client)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// A client of a cluster that Consul knows. Those of nodes by address, and of a node in the
// same process, differ in one line.
func ExampleDial() {
	ctx := context.Background()
	client, err := clientlib.Dial(ctx, clientlib.Config{
		Consul: "127.0.0.1:8500", Cluster: "orders",
		// Nodes: []string{"10.0.0.1:7946", "10.0.0.2:7946"},
		// Embedded: n, // of node.Start
	})
	if err != nil { // errors.Is(err, clientlib.ErrUnavailable): no node answers
		fmt.Println(err)
		return
	}
	defer client.Close(ctx)
}

func ExampleProducer_Produce() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
			Topic: "orders", CreateTopics: true,
		})
		if err != nil {
			return err
		}
		defer producer.Close(ctx)
		record := &clientlib.Record{Key: []byte("customer-7"), Value: []byte("two espressi")}
		if err := producer.Produce(ctx, record); err != nil {
			return err // it is not there, or nobody can say: see the error
		}
		fmt.Println("offset", record.Offset)
		return nil
	})
	// Output: offset 0
}

// Sending without waiting for each record is what makes a producer fast: thousands share a
// batch and an acknowledgement.
func ExampleProducer_Send() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
			Topic: "clicks", CreateTopics: true, Compression: clientlib.Zstd,
		})
		if err != nil {
			return err
		}
		defer producer.Close(ctx)
		for i := range 1000 {
			record := &clientlib.Record{Value: fmt.Append(nil, "click ", i)}
			if err := producer.Send(ctx, record, nil); err != nil {
				return err
			}
		}
		if err := producer.Flush(ctx); err != nil { // or Close: they wait in the buffer
			return err // some are not there
		}
		fmt.Println("all are there")
		return nil
	})
	// Output: all are there
}

func ExampleConsumer_Process() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		if err := write(ctx, client, "orders", "espresso", "tea", "the usual", "water"); err != nil {
			return err
		}
		consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
			Group: "kitchen", Topics: []string{"orders"},
			Order: clientlib.ByPartition, // to print them in order
		})
		if err != nil {
			return err
		}
		defer consumer.Close(ctx)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		return consumer.Process(ctx, func(_ context.Context, r *clientlib.Record) error {
			switch order := string(r.Value); order {
			case "the usual":
				// It goes to the topic orders.dlq. An error that is not permanent has the
				// record handled again first.
				return clientlib.Permanent(errors.New("nobody knows this customer"))
			case "water":
				stop() // Process commits what is handled, and returns
				fallthrough
			default:
				fmt.Println(order)
			}
			return nil
		})
	})
	// Output:
	// espresso
	// tea
	// water
}

func ExampleConsumer_Poll() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		if err := write(ctx, client, "readings", "20.5", "20.7", "21.0"); err != nil {
			return err
		}
		consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
			Group: "dashboard", Topics: []string{"readings"},
		})
		if err != nil {
			return err
		}
		defer consumer.Close(ctx)
		for seen := 0; seen < 3; {
			records, err := consumer.Poll(ctx)
			if err != nil {
				return err
			}
			for _, r := range records {
				fmt.Printf("%d: %s\n", r.Offset, r.Value)
			}
			seen += len(records)
		}
		return consumer.Commit(ctx) // the next Poll would have said so, too
	})
	// Output:
	// 0: 20.5
	// 1: 20.7
	// 2: 21.0
}

// What is read, what comes of it, and how far it was read count together or not at all.
func ExampleConsumer_ProcessTransactions() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		if err := write(ctx, client, "names", "ada", "grace"); err != nil {
			return err
		}
		producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
			Topic: "shouts", CreateTopics: true, TransactionalID: "shouter-1",
		})
		if err != nil {
			return err
		}
		defer producer.Close(ctx)
		consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
			Group: "shouter", Topics: []string{"names"},
		})
		if err != nil {
			return err
		}
		defer consumer.Close(ctx)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		seen := 0
		return consumer.ProcessTransactions(ctx, producer,
			func(ctx context.Context, tx *clientlib.Transaction, names []*clientlib.Record) error {
				for _, r := range names {
					shout := strings.ToUpper(string(r.Value))
					err := tx.Send(ctx, &clientlib.Record{Value: []byte(shout)}, nil)
					if err != nil {
						return err
					}
					fmt.Println(shout)
				}
				if seen += len(names); seen == 2 {
					stop()
				}
				return nil
			})
	})
	// Output:
	// ADA
	// GRACE
}

// Order is a value of records.
type Order struct {
	Item  string `json:"item"`
	Count int    `json:"count"`
}

func ExampleTyped() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		orders := clientlib.Typed[Order]{Value: clientlib.JSON[Order]()}
		producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{
			Topic: "orders", CreateTopics: true,
		})
		if err != nil {
			return err
		}
		defer producer.Close(ctx)
		err = orders.Produce(ctx, producer, &clientlib.Record{}, Order{"espresso", 2})
		if err != nil {
			return err
		}
		consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
			Group: "kitchen", Topics: []string{"orders"},
		})
		if err != nil {
			return err
		}
		defer consumer.Close(ctx)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		return orders.Process(ctx, consumer,
			func(_ context.Context, m clientlib.Message[Order]) error {
				fmt.Println(m.Value.Count, m.Value.Item)
				stop()
				return nil
			})
	})
	// Output: 2 espresso
}

func ExampleAdmin_CreateTopics() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		spec := clientlib.TopicSpec{Name: "orders", Partitions: 6,
			Config: map[string]string{"retention.ms": "86400000"}}
		for range 2 {
			err := client.Admin().CreateTopics(ctx, spec)
			if errors.Is(err, clientlib.ErrTopicExists) {
				fmt.Println("it was there")
			} else if err != nil {
				return err
			}
		}
		topics, err := client.Admin().Topics(ctx)
		if err != nil {
			return err
		}
		fmt.Println(topics[0].Name, "has", len(topics[0].Partitions), "partitions")
		return nil
	})
	// Output:
	// it was there
	// orders has 6 partitions
}

// A group without members begins again at a point in time.
func ExampleAdmin_ResetOffsets() {
	embedded(func(ctx context.Context, client *clientlib.Client) error {
		if err := write(ctx, client, "readings", "20.5", "20.7", "21.0"); err != nil {
			return err
		}
		admin := client.Admin()
		hourAgo := clientlib.AtTime(time.Now().Add(-time.Hour))
		if err := admin.ResetOffsets(ctx, "dashboard", "readings", hourAgo); err != nil {
			return err
		}
		committed, err := admin.Committed(ctx, "dashboard")
		if err != nil {
			return err
		}
		fmt.Println("goes on at", committed[clientlib.Partition{Topic: "readings"}])
		return nil
	})
	// Output: goes on at 0
}

// write writes values into a topic of one partition.
func write(ctx context.Context, client *clientlib.Client, topic string, values ...string) error {
	err := client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 1})
	if err != nil {
		return err
	}
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: topic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for _, v := range values {
		if err := producer.Produce(ctx, &clientlib.Record{Value: []byte(v)}); err != nil {
			return err
		}
	}
	return nil
}
