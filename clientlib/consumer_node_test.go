package clientlib_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
	"github.com/troupelog/troupe/testkit"
)

// readable starts a node in this process with a topic of some partitions, and returns a
// client of it.
func readable(t *testing.T, topic string, partitions int) *clientlib.Client {
	t.Helper()
	ctx := context.Background() // cleanups run when t.Context() has ended
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir(), Settings: map[string]string{
		"num.partitions":                       fmt.Sprint(partitions),
		"group.consumer.heartbeat.interval.ms": "100", "group.consumer.min.heartbeat.interval.ms": "100",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	client, err := clientlib.Dial(ctx, clientlib.Config{Embedded: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return client
}

// writeOrders produces records from..to-1 to a topic, which it makes if there is none.
func writeOrders(t *testing.T, client *clientlib.Client, topic string, from, to int) {
	t.Helper()
	p, err := client.NewProducer(t.Context(), clientlib.ProducerConfig{
		Topic: topic, CreateTopics: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	var rs []*clientlib.Record
	for i := from; i < to; i++ {
		rs = append(rs, &clientlib.Record{
			Key: fmt.Append(nil, i%17), Value: fmt.Append(nil, i),
			Headers: []clientlib.Header{{Key: "n", Value: fmt.Append(nil, i)}},
		})
	}
	for _, r := range rs {
		if err := p.Send(t.Context(), r, func(_ *clientlib.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMembersOfAGroupShareARealTopicAndMissNothing(t *testing.T) {
	client := readable(t, "orders", 6)
	writeOrders(t, client, "orders", 0, 3000)
	var mu sync.Mutex
	seen := map[string]int{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	var running sync.WaitGroup
	member := func() (stop func()) {
		c, err := client.NewConsumer(t.Context(), clientlib.ConsumerConfig{
			Group: "billing", Topics: []string{"orders"},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() {
			for {
				rs, err := c.Poll(ctx)
				if errors.Is(err, context.Canceled) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				mu.Lock()
				for _, r := range rs {
					if string(r.Value) != string(r.Header("n")) {
						t.Errorf("%+v", r)
					}
					seen[string(r.Value)]++
				}
				mu.Unlock()
			}
			if err := c.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return cancel
	}
	stopAmy := member()
	testkit.Eventually(t, "amy has seen all", func() bool { return count() == 3000 })
	stopBob := member()
	writeOrders(t, client, "orders", 3000, 6000)
	testkit.Eventually(t, "both have seen all", func() bool { return count() == 6000 })
	stopAmy()
	writeOrders(t, client, "orders", 6000, 9000)
	testkit.Eventually(t, "bob has seen all", func() bool { return count() == 9000 })
	stopBob()
	running.Wait()
	for v, n := range seen {
		if n != 1 {
			t.Errorf("record %s was seen %d times", v, n)
		}
	}
}

func TestRealPartitionsAreReadFromWhereStartSays(t *testing.T) {
	client := readable(t, "orders", 1)
	writeOrders(t, client, "orders", 0, 100)
	for _, at := range []struct {
		start clientlib.Start
		first string
	}{
		{clientlib.Earliest, "0"}, {clientlib.AtOffset(42), "42"},
		{clientlib.AtOffset(500), "0"}, {clientlib.AtTime(time.UnixMilli(0)), "0"},
	} {
		c, err := client.NewConsumer(t.Context(), clientlib.ConsumerConfig{
			Partitions: []clientlib.Position{{
				Partition: clientlib.Partition{Topic: "orders"}, Start: at.start,
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		rs, err := c.Poll(t.Context())
		if err != nil || string(rs[0].Value) != at.first {
			t.Errorf("%+v: %v, %v", at.start, rs, err)
		}
	}
}
