package clientlib

// finished returns why the consumer has nothing more to read; nil: errors of next are of
// one partition, which is tried again.
func (c *Consumer) finished() error { return nil }

// rewind has a partition read again from an offset on, if it is still assigned.
func (c *Consumer) rewind(p Partition, next int64) {}
