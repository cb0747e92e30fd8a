package embed

import (
	"context"
	"errors"
	"testing"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/node"
	"github.com/troupelog/troupe/testkit"
)

// dial starts a node with its data in a folder that ends with the test, and returns a
// client of it. It takes some milliseconds, and nothing goes over the network.
func dial(t *testing.T) *clientlib.Client {
	t.Helper()
	ctx := context.Background() // cleanups run when t.Context() has ended
	n, err := node.Start(ctx, node.Options{DataDir: t.TempDir()})
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

// follow runs a Stock until the returned function is called.
func follow(t *testing.T, client *clientlib.Client) (stock *Stock, stop func()) {
	t.Helper()
	stock, err := NewStock(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- stock.Run(ctx) }()
	return stock, func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := stock.Close(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}
}

func move(t *testing.T, producer *clientlib.Producer, product, pieces string) {
	t.Helper()
	err := producer.Produce(t.Context(), &clientlib.Record{
		Topic: Movements, Key: []byte(product), Value: []byte(pieces)})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStockFollowsTheMovements(t *testing.T) {
	client := dial(t)
	producer, err := client.NewProducer(t.Context(), clientlib.ProducerConfig{CreateTopics: true})
	if err != nil {
		t.Fatal(err)
	}
	move(t, producer, "bolt", "10")
	move(t, producer, "nut", "7")

	stock, stop := follow(t, client)
	move(t, producer, "bolt", "-3")
	testkit.Eventually(t, "the stock knows what came and went", func() bool {
		return stock.Pieces("bolt") == 7 && stock.Pieces("nut") == 7
	})
	stop()

	// Another one of the same group goes on where the first one stopped.
	stock, stop = follow(t, client)
	defer stop()
	move(t, producer, "bolt", "5")
	testkit.Eventually(t, "the new movement is known", func() bool {
		return stock.Pieces("bolt") == 5
	})
	if n := stock.Pieces("nut"); n != 0 {
		t.Errorf("the second stock has seen %d nuts that the first one had", n)
	}
}
