package clientlib_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
)

// produces returns a client of a node of its own, with a topic.
func produces(t *testing.T, topic string, partitions int) (context.Context, *clientlib.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientlib.Dial(ctx, clientlib.Config{Embedded: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(ctx), n.Stop(ctx)); err != nil {
			t.Error(err)
		}
		cancel()
	})
	is(t, client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: topic,
		Partitions: partitions}), nil)
	return ctx, client
}

// reads returns the values of a topic's partition 0, as many as there are to be.
func reads(ctx context.Context, t *testing.T, c *clientlib.Client, topic string, n int) []string {
	t.Helper()
	consumer, err := c.NewConsumer(ctx, clientlib.ConsumerConfig{Partitions: []clientlib.Position{
		{Partition: clientlib.Partition{Topic: topic}, Start: clientlib.Earliest}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { is(t, consumer.Close(ctx), nil) }()
	var values []string
	for len(values) < n {
		records, err := consumer.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func TestANodeTakesWhatAProducerSends(t *testing.T) {
	ctx, client := produces(t, "orders", 1)
	want := []string{}
	for codec := clientlib.Uncompressed; codec <= clientlib.Zstd; codec++ {
		p, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: "orders",
			Compression: codec, BatchBytes: 10000, Linger: time.Millisecond})
		is(t, err, nil)
		for i := range 2000 {
			value := fmt.Sprint(codec, i, strings.Repeat("x", i%100))
			want = append(want, value)
			is(t, p.Send(ctx, &clientlib.Record{Value: []byte(value)}, nil), nil)
		}
		is(t, p.Close(ctx), nil)
		if s := p.Stats(); s.Records != 2000 || s.Errors != 0 {
			t.Errorf("%+v", s)
		}
	}
	if got := reads(ctx, t, client, "orders", len(want)); !slices.Equal(got, want) {
		t.Error("it is not what was sent")
	}
}

func TestANodeShowsOnlyTransactionsThatAreCommitted(t *testing.T) {
	ctx, client := produces(t, "orders", 1)
	cfg := clientlib.ProducerConfig{Topic: "orders", TransactionalID: "bank"}
	p, err := client.NewProducer(ctx, cfg)
	is(t, err, nil)
	failed := errors.New("failed")
	want := []string{}
	for i := range 6 {
		err := p.Transact(ctx, func(x *clientlib.Transaction) error {
			for j := range 3 {
				r := &clientlib.Record{Value: fmt.Append(nil, i, j)}
				if err := x.Produce(ctx, r); err != nil {
					return err
				}
			}
			if i%2 == 1 {
				return failed
			}
			return nil
		})
		if i%2 == 1 {
			is(t, err, failed)
			continue
		}
		is(t, err, nil)
		want = append(want, fmt.Sprint(i, 0), fmt.Sprint(i, 1), fmt.Sprint(i, 2))
	}
	open, err := p.Begin(ctx)
	is(t, err, nil)
	is(t, open.Produce(ctx, &clientlib.Record{Value: []byte("never")}), nil)

	younger, err := client.NewProducer(ctx, cfg)
	is(t, err, nil)
	is(t, younger.Transact(ctx, func(x *clientlib.Transaction) error {
		return x.Send(ctx, &clientlib.Record{Value: []byte("last")}, nil)
	}), nil)
	is(t, open.Commit(ctx), clientlib.ErrFenced)
	_, err = p.Begin(ctx)
	is(t, err, clientlib.ErrFenced)
	want = append(want, "last")
	if got := reads(ctx, t, client, "orders", len(want)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestANodeIsToldWhatCannotBeWritten(t *testing.T) {
	ctx, client := produces(t, "orders", 1)
	is(t, client.Admin().CreateTopics(ctx, clientlib.TopicSpec{Name: "latest",
		Config: map[string]string{"cleanup.policy": "compact", "max.message.bytes": "2000"}}), nil)
	p, err := client.NewProducer(ctx, clientlib.ProducerConfig{Topic: "latest"})
	is(t, err, nil)
	for range 3 {
		is(t, p.Produce(ctx, &clientlib.Record{Value: []byte("no key")}), clientlib.ErrInvalidRecord)
		is(t, p.Produce(ctx, &clientlib.Record{Key: []byte("k"), Value: make([]byte, 2000)}),
			clientlib.ErrTooLarge)
		is(t, p.Produce(ctx, &clientlib.Record{Key: []byte("k"), Value: make([]byte, 1900)}), nil)
	}
	err = p.Produce(ctx, &clientlib.Record{Topic: "nothing"})
	is(t, err, clientlib.ErrUnknownTopic)
	if n := strings.Count(err.Error(), `"nothing"`); n != 1 {
		t.Errorf("the topic is named %d times: %v", n, err)
	}
	is(t, client.Admin().DeleteTopics(ctx, "latest"), nil)
	for {
		err := p.Produce(ctx, &clientlib.Record{Key: []byte("k")})
		if errors.Is(err, clientlib.ErrUnknownTopic) {
			break
		}
		is(t, err, nil)
	}
	made, err := client.NewProducer(ctx, clientlib.ProducerConfig{CreateTopics: true})
	is(t, err, nil)
	is(t, made.Produce(ctx, &clientlib.Record{Topic: "made", Value: []byte("v")}), nil)
	if got := reads(ctx, t, client, "made", 1); got[0] != "v" {
		t.Errorf("%q", got)
	}
}
