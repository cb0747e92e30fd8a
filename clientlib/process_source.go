package clientlib

import (
	"context"
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// checkProcessing returns what cannot be of the settings of Process.
func (cfg *ConsumerConfig) checkProcessing() error {
	wrong := ""
	switch {
	case cfg.Concurrency < 0:
		wrong = fmt.Sprintf("Concurrency is %d", cfg.Concurrency)
	case cfg.Order != ByKey && cfg.Order != ByPartition:
		wrong = fmt.Sprintf("Order is %d", cfg.Order)
	case cfg.Retry.Backoff < 0 || cfg.Retry.MaxBackoff < 0:
		wrong = "a back-off of Retry is negative"
	}
	if wrong != "" {
		return fmt.Errorf("consumer: %s: %w", wrong, ErrConfig)
	}
	if cfg.DeadLetter == "" || cfg.DeadLetter == NoDeadLetter {
		return nil
	}
	if err := messages.CheckTopicName(cfg.DeadLetter); err != nil {
		return fmt.Errorf("consumer: DeadLetter: %w: %w", ErrConfig, err)
	}
	read := slices.Contains(cfg.Topics, cfg.DeadLetter) ||
		slices.ContainsFunc(cfg.Partitions, func(p Position) bool { return p.Topic == cfg.DeadLetter })
	if read {
		return fmt.Errorf("consumer: DeadLetter %q is one of the topics that it reads: name another "+
			"one, or NoDeadLetter: %w", cfg.DeadLetter, ErrConfig)
	}
	return nil
}

// exclusively calls one of Process and its like, of which one runs at a time.
func (c *Consumer) exclusively(ctx context.Context, run func(ctx context.Context) error) error {
	if !c.processing.CompareAndSwap(false, true) {
		return fmt.Errorf("the consumer's records are being processed already: %w", ErrInvalidRequest)
	}
	defer c.processing.Store(false)
	return run(ctx)
}

// finished returns why the consumer has nothing more to read; nil: errors of next are of
// one partition, which is tried again.
func (c *Consumer) finished() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over()
}

// rewind has a partition read again from an offset on, if it is still assigned.
func (c *Consumer) rewind(at Partition, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[at]; p != nil && !p.revoking {
		c.seek(p, AtOffset(offset))
	}
}
