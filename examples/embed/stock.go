// Package embed shows how a service that uses Troupe is tested: with a real node in the
// process of the test. There is nothing to install, to start or to fake. The service is
// here, the lesson is in stock_test.go.
//
// Nothing else uses it.
package embed

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/troupelog/troupe/clientlib"
)

// Movements is the topic that Stock reads: keys are products, values how many pieces came
// in, or went out if it is less than 0.
const Movements = "movements"

// Stock knows how much of each product there is. Any goroutine may call its methods.
type Stock struct {
	consumer *clientlib.Consumer

	mu     sync.Mutex
	pieces map[string]int
}

// NewStock returns a Stock that knows nothing yet: Run tells it. Close it.
func NewStock(ctx context.Context, client *clientlib.Client) (*Stock, error) {
	consumer, err := client.NewConsumer(ctx, clientlib.ConsumerConfig{
		Group: "stock", Topics: []string{Movements},
	})
	if err != nil {
		return nil, err
	}
	return &Stock{consumer: consumer, pieces: map[string]int{}}, nil
}

// Run follows the movements until ctx ends. A value that is no number is retried in vain
// and ends in the topic movements.dlq.
func (s *Stock) Run(ctx context.Context) error {
	return s.consumer.Process(ctx, func(_ context.Context, r *clientlib.Record) error {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil {
			return fmt.Errorf("movement of %q: %w", r.Key, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pieces[string(r.Key)] += n
		return nil
	})
}

// Pieces returns how many pieces of a product there are.
func (s *Stock) Pieces(product string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pieces[product]
}

// Close commits what was seen and leaves the group.
func (s *Stock) Close(ctx context.Context) error { return s.consumer.Close(ctx) }
