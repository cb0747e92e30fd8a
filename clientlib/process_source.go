package clientlib

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
