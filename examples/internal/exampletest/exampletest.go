// Package exampletest runs examples in tests: against a node in the test's process, and
// it sees to it that they leave no goroutine behind.
//
// Only the tests of the examples use it.
package exampletest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/examples/internal/example"
)

// Timeout bounds an example: it is far more than any needs.
const Timeout = time.Minute

// Node starts a node that ends with the test, and returns how to reach it and a context
// that ends before the test hangs.
func Node(tb testing.TB) (context.Context, clientlib.Config) {
	tb.Helper()
	leaks := goleak.IgnoreCurrent()
	cfg, stop, err := example.Embedded(context.Background(), tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	tb.Cleanup(func() {
		cancel()
		if err := stop(); err != nil {
			tb.Error(err)
		}
		goleak.VerifyNone(tb, leaks)
	})
	return ctx, cfg
}

// Client is a client of the cluster that ends with the test.
func Client(ctx context.Context, tb testing.TB, cfg clientlib.Config) *clientlib.Client {
	tb.Helper()
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := client.Close(context.WithoutCancel(ctx)); err != nil {
			tb.Error(err)
		}
	})
	return client
}

// Output collects what an example says. Any goroutine may write and read.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Read reads so many committed records of a topic, from its beginning, outside of any
// group. Those of a partition are in order.
func Read(ctx context.Context, tb testing.TB, client *clientlib.Client, topic string, n int,
) []*clientlib.Record {
	tb.Helper()
	topics, err := client.Admin().Topics(ctx, topic)
	if err != nil {
		tb.Fatal(err)
	}
	var positions []clientlib.Position
	for i := range topics[0].Partitions {
		positions = append(positions, clientlib.Position{
			Partition: clientlib.Partition{Topic: topic, Index: int32(i)}})
	}
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{Partitions: positions})
	if err != nil {
		tb.Fatal(err)
	}
	defer consumer.Close(ctx)
	var records []*clientlib.Record
	for len(records) < n {
		more, err := consumer.Poll(ctx)
		if err != nil {
			tb.Fatalf("after %d of %d records of %s: %v", len(records), n, topic, err)
		}
		records = append(records, more...)
	}
	return records
}
