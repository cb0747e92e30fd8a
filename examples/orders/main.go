// Command orders is a pipeline: orders come in, are billed, and become invoices in another
// topic. An order that cannot be billed does not stop the others: it goes to a dead-letter
// topic with the reason, where somebody looks after it.
//
//	go run ./examples/orders
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

func main() { example.Main(run) }

// Order is what customers want, Invoice what it costs them.
type (
	Order struct {
		ID       int    `json:"id"`
		Customer string `json:"customer"`
		Cents    int    `json:"cents"`
	}
	Invoice struct {
		Order int `json:"order"`
		Cents int `json:"cents"`
	}
)

// Values of both topics are JSON.
var (
	orders   = clientlib.Typed[Order]{Value: clientlib.JSON[Order]()}
	invoices = clientlib.Typed[Invoice]{Value: clientlib.JSON[Invoice]()}
)

const (
	ordersTopic   = "orders"
	invoicesTopic = "invoices"
	deadTopic     = "orders.dlq"
	count         = 20
)

// errNoCustomer is of an order that no further attempt can make right.
var errNoCustomer = errors.New("order without a customer")

func run(ctx context.Context, cfg clientlib.Config, out io.Writer) error {
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close(ctx)
	for _, topic := range []string{ordersTopic, invoicesTopic, deadTopic} {
		err := client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic, Partitions: 3})
		if err != nil && !errors.Is(err, clientlib.ErrTopicExists) {
			return err
		}
	}
	if err := takeOrders(ctx, client); err != nil {
		return err
	}
	// Billing runs until all that came in went on, to one topic or the other.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	b := &billing{out: out}
	billed := make(chan error, 1)
	go func() {
		defer stop() // nobody waits for invoices that do not come
		billed <- b.run(ctx, client)
	}()
	err = errors.Join(
		follow(ctx, client, invoicesTopic, "accounting", count-2, printInvoice(out)),
		follow(ctx, client, deadTopic, "support", 2, printLetter(out)))
	stop()
	return errors.Join(err, <-billed)
}

// takeOrders writes twenty orders, of which one has no customer and one is not JSON.
func takeOrders(ctx context.Context, client *clientlib.Client) error {
	producer, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: ordersTopic})
	if err != nil {
		return err
	}
	defer producer.Close(ctx)
	for i := range count {
		customer := fmt.Sprint("customer-", i%4)
		record := &clientlib.Record{Key: []byte(customer)}
		order := Order{ID: i, Customer: customer, Cents: 100 * (i + 1)}
		switch i {
		case 7:
			order.Customer = ""
		case 13:
			record.Value = []byte("two espressi, please")
			if err := producer.Produce(ctx, record); err != nil {
				return err
			}
			continue
		}
		if err := orders.Produce(ctx, producer, record, order); err != nil {
			return err
		}
	}
	return nil
}

// billing makes invoices of orders.
type billing struct {
	out      io.Writer
	producer *clientlib.Producer

	mu    sync.Mutex
	tried map[int]bool // orders
}

func (b *billing) run(ctx context.Context, client *clientlib.Client) error {
	var err error
	b.producer, err = client.NewProducer(ctx, clientlib.ProducerConfig{Topic: invoicesTopic})
	if err != nil {
		return err
	}
	defer b.producer.Close(ctx)
	b.tried = map[int]bool{}
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group:  "billing",
		Topics: []string{ordersTopic},
		Retry:  clientlib.Retry{Attempts: 3, Backoff: 10 * time.Millisecond},
		// Orders of one customer are billed in their order, as Order: ByKey is the
		// default; those of different customers at the same time.
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	return orders.Process(ctx, consumer, b.bill)
}

// bill may see an order twice: after a crash, or when the invoice's acknowledgement was
// lost. Invoices carry the order's number, so whoever pays can tell.
func (b *billing) bill(ctx context.Context, m clientlib.Message[Order]) error {
	order := m.Value
	if order.Customer == "" {
		return clientlib.Permanent(errNoCustomer) // not to be tried again
	}
	if err := b.charge(order); err != nil {
		return err // is tried again
	}
	return invoices.Produce(ctx, b.producer,
		&clientlib.Record{Key: m.Key}, Invoice{Order: order.ID, Cents: order.Cents})
}

// charge calls a service that fails at first, as services do.
func (b *billing) charge(order Order) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if again := b.tried[order.ID]; !again && order.ID%5 == 0 {
		b.tried[order.ID] = true
		return errors.New("the bank does not answer")
	}
	return nil
}

// follow hands so many records of a topic to show, as a group of its own.
func follow(ctx context.Context, client *clientlib.Client, topic, group string, n int,
	show func(r *clientlib.Record) error) error {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: group, Topics: []string{topic},
	})
	if err != nil {
		return err
	}
	defer consumer.Close(ctx)
	for n > 0 {
		records, err := consumer.Poll(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := show(r); err != nil {
				return err
			}
		}
		n -= len(records)
	}
	return consumer.Commit(ctx)
}

func printInvoice(out io.Writer) func(r *clientlib.Record) error {
	return func(r *clientlib.Record) error {
		m, err := invoices.Decode(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "invoice for order %d: %d cents\n", m.Value.Order, m.Value.Cents)
		return nil
	}
}

// printLetter shows what is known of a record in the dead-letter topic.
func printLetter(out io.Writer) func(r *clientlib.Record) error {
	return func(r *clientlib.Record) error {
		fmt.Fprintf(out, "not billed after %s attempts: %s: %s\n",
			r.Header("troupe.dlq.attempts"), r.Value, r.Header("troupe.dlq.error"))
		return nil
	}
}
