package sdk

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
)

// patience bounds every wait for the cluster; a healthy one needs a fraction.
const patience = 2 * time.Minute

// ByConsul has a client find a cluster through Consul.
func ByConsul(c *testkit.Cluster) clientlib.Config {
	return clientlib.Config{Consul: c.Consul(), Cluster: c.Name}
}

// ByAddress has a client find a cluster by the addresses of its nodes.
func ByAddress(c *testkit.Cluster) clientlib.Config {
	return clientlib.Config{Nodes: c.Actors()}
}

// Dial returns a client that is closed with the test.
func Dial(tb testing.TB, cfg clientlib.Config) *clientlib.Client {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	client, err := clientlib.Dial(ctx, cfg)
	if err != nil {
		tb.Fatalf("sdk: dial: %v", err)
	}
	tb.Cleanup(func() { closed(tb, "client", client.Close) })
	return client
}

// closed closes something. A test that has failed may have left it with work that
// cannot be done.
func closed(tb testing.TB, what string, end func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := end(ctx); err != nil && !tb.Failed() {
		tb.Errorf("sdk: closing the %s: %v", what, err)
	}
}

// Sender sends the records of a testkit.Load by a producer of the SDK.
type Sender struct {
	tb       testing.TB
	producer *clientlib.Producer
}

// NewSender makes the producer: with settings of its own, but for the partitioner.
func NewSender(tb testing.TB, c *clientlib.Client, cfg clientlib.ProducerConfig) *Sender {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	cfg.Partitioner = clientlib.Explicit
	p, err := c.NewProducer(ctx, cfg)
	if err != nil {
		tb.Fatalf("sdk: producer: %v", err)
	}
	return &Sender{tb, p}
}

// Send is part of testkit.Sender.
func (s *Sender) Send(r *kgo.Record, done func(r *kgo.Record, err error)) {
	own := &clientlib.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	answered := func(own *clientlib.Record, err error) {
		r.Offset = own.Offset
		if errors.Is(err, clientlib.ErrClosed) {
			err = errors.Join(err, kgo.ErrClientClosed)
		}
		done(r, err)
	}
	if err := s.producer.Send(context.Background(), own, answered); err != nil {
		answered(own, err)
	}
}

// Flush is part of testkit.Sender.
func (s *Sender) Flush(ctx context.Context) error { return s.producer.Flush(ctx) }

// Close is part of testkit.Sender.
func (s *Sender) Close() { closed(s.tb, "producer", s.producer.Close) }
