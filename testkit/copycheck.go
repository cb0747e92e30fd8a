package testkit

import (
	"fmt"
	"strings"
)

// CopyMark is what a copier puts in front of a value.
const CopyMark = "copy of "

// copyName is the value of the n-th record of an input partition.
func copyName(partition int32, n int) string { return fmt.Sprintf("%d:%d", partition, n) }

// CopyCheck compares what a reader saw of a copy with the input: every record once,
// and those of an input partition in their order. Not safe for concurrent use.
type CopyCheck struct {
	parts   []copied
	found   violations
	doubled int
	read    int
}

// copied is what has been seen of an input partition.
type copied struct {
	sent int    // records of it
	seen []bool // by number
	last int    // the newest number
}

// NewCopyCheck begins a check of an input with that many partitions.
func NewCopyCheck(partitions int) *CopyCheck {
	c := &CopyCheck{parts: make([]copied, partitions)}
	for i := range c.parts {
		c.parts[i].last = -1
	}
	return c
}

// Sent notes that the next record of an input partition is in the input.
func (c *CopyCheck) Sent(partition int32) {
	p := &c.parts[partition]
	p.sent++
	p.seen = append(p.seen, false)
}

// Read notes a record of the output, in the order of its partition.
func (c *CopyCheck) Read(value string) {
	var partition, n int
	name, marked := strings.CutPrefix(value, CopyMark)
	_, err := fmt.Sscanf(name, "%d:%d", &partition, &n)
	if !marked || err != nil || partition < 0 || partition >= len(c.parts) || n < 0 ||
		n >= c.parts[partition].sent {
		c.found.add("invented: %q is no copy of a record of the input", value)
		return
	}
	p := &c.parts[partition]
	c.read++
	switch {
	case p.seen[n]:
		c.doubled++
		c.found.add("twice: record %d of partition %d", n, partition)
	case n < p.last:
		c.found.add("reordered: record %d of partition %d came after %d", n, partition, p.last)
	}
	p.seen[n], p.last = true, max(p.last, n)
}

// Missing returns how many records of the input have not been read.
func (c *CopyCheck) Missing() (missing int) {
	for _, p := range c.parts {
		for _, seen := range p.seen {
			if !seen {
				missing++
			}
		}
	}
	return missing
}

// Counts returns how many records were sent and read, and how many of these were
// read before.
func (c *CopyCheck) Counts() (sent, read, doubled int) {
	for _, p := range c.parts {
		sent += p.sent
	}
	return sent, c.read, c.doubled
}

// Check returns an error that lists what is wrong unless every record that was sent
// was read once, in order, and nothing else.
func (c *CopyCheck) Check() error {
	found := c.found
	for p := range c.parts {
		for n, seen := range c.parts[p].seen {
			if !seen {
				found.add("lost: record %d of partition %d", n, p)
			}
		}
	}
	return found.err()
}
