// Package clientlib is the Go SDK of Troupe: producers, consumers, transactions and
// administration for Go services. A program joins the cluster as a client of its actors:
// it sends records to the partitions' leaders, and the cluster tells it where they are,
// which partitions it reads, and where it stopped.
//
//	client, err := clientlib.Dial(ctx, clientlib.Config{Nodes: []string{"127.0.0.1:7946"}})
//	if err != nil {
//		return err
//	}
//	defer client.Close(ctx)
//
// The address is that of a node's actor listener, not of its Kafka listener: a node on
// its own has one when it is started with
//
//	troupe start --data-dir data --actor-addr 127.0.0.1:7946
//
// and the nodes of a cluster are found through Consul (Config.Consul). Topics are made
// beforehand, by any Kafka tool or by Admin:
//
//	err = client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: "orders", Partitions: 6})
//	if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
//		return err
//	}
//
// A producer batches, compresses, and retries without losing, doubling or reordering
// records:
//
//	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{})
//	if err != nil {
//		return err
//	}
//	defer producer.Close(ctx) // also sends what Send left in the buffer
//	err = producer.Produce(ctx, &clientlib.Record{
//		Topic: "orders", Key: []byte("customer-7"), Value: []byte("two espressi"),
//	})
//
// A consumer is a member of a group, which shares the partitions of its topics among its
// members. Process calls the handler for each record, in the order of each key, retries
// what fails, puts what keeps failing into a dead-letter topic, and commits what is done:
//
//	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
//		Group: "billing", Topics: []string{"orders"},
//	})
//	if err != nil {
//		return err
//	}
//	defer consumer.Close(ctx)
//	err = consumer.Process(ctx, func(ctx context.Context, r *clientlib.Record) error {
//		fmt.Printf("%s: %s\n", r.Key, r.Value)
//		return nil
//	})
//
// It returns when ctx ends, as signal.NotifyContext has it with Ctrl-C. Each record is
// handled at least once, and again after a crash: its topic, partition and offset tell it
// from all others. Consumer.ProcessTransactions writes what comes of records exactly once.
//
// Consumer.Poll is for programs that want the loop themselves, Typed for values instead of
// bytes, and Producer.Send for those that do not wait for each record: call Flush or Close
// before the program ends, and look at the error. Close may be called with a context that
// has ended, and then takes some seconds at most for what is under way.
//
// Records are Kafka's: what is written here can be read by any Kafka client, and the
// other way round, and members of both kinds can share a group (group.protocol=consumer).
//
// A Client, and what is made of it, may be used by any number of goroutines. Calls that
// may wait take a context and end with it. Errors are told apart with errors.Is and the
// Err values of this package. Close of a Client closes what was made of it and gives
// everything back: when it has returned, no goroutine of this package is left.
package clientlib
