package clientlib

import (
	"context"
	"fmt"
	"sync"

	"github.com/troupelog/troupe/messages/wire"
)

// Consumer reads records: as a member of a group, or from partitions that it was told.
// (*Client).NewConsumer makes it. It fetches ahead of who calls Poll or Process, of which
// there is one at a time.
type Consumer struct {
	client *Client
	cfg    ConsumerConfig

	// draining is called before partitions are given up: it returns once what was handed
	// out of them is handled, or ctx ends. lost is called when they were taken away, after
	// next hands out no more of them. Both are called by one goroutine, and set before it
	// runs or by hooks; nil: nothing.
	draining func(ctx context.Context, ps []Partition)
	lost     func(ps []Partition)

	mu sync.Mutex
}

// NewConsumer makes a consumer, which begins to read at once.
func (c *Client) NewConsumer(_ context.Context, cfg ConsumerConfig) (*Consumer, error) {
	return nil, fmt.Errorf("not there yet: %w", ErrConfig)
}

// hooks sets draining and lost.
func (c *Consumer) hooks(draining func(ctx context.Context, ps []Partition), lost func(ps []Partition)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.lost = draining, lost
}

// next returns at least one record, those of a partition in the order of their offsets,
// or an error: of ctx, ErrClosed, what ended the consumer, or what is wrong with one
// partition, which is tried again. It marks nothing as handled.
func (c *Consumer) next(ctx context.Context) ([]*Record, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// handled says that all below next is done; epoch is of the record before next. It is
// ignored for partitions that are not assigned, for positions that were said before, and
// for those beyond what next gave out.
func (c *Consumer) handled(p Partition, next int64, epoch int32) {}

// commitNow commits what is handled and was not committed.
func (c *Consumer) commitNow(ctx context.Context) error { return nil }

// committable returns the positions of what is handled and not committed: what a
// transaction commits. Once it has, committedAs is told of them.
func (c *Consumer) committable() []*wire.ClientPosition { return nil }

func (c *Consumer) committedAs(ps []*wire.ClientPosition) {}

// member is who commits.
func (c *Consumer) member() groupMember { return groupMember{epoch: -1} }

// pause stops fetching of partitions and hands out nothing of them until resume; unknown
// ones are ignored. They are forgotten with the partition.
func (c *Consumer) pause(ps ...Partition) {}

func (c *Consumer) resume(ps ...Partition) {}

// Close ends the consumer.
func (c *Consumer) Close(context.Context) error { return nil }
