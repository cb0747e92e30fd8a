package vfs

import "slices"

// blockSize is the unit in which a crash keeps or loses bytes of a Mem.
const blockSize = 4096

// sectorSize is the unit a disk writes atomically: a torn block is a mixture of
// old and new sectors.
const sectorSize = 512

// block holds the bytes of one block of a file.
type block [blockSize]byte

var zeroBlock block

// content is the bytes of a file. Blocks that are nil or missing at the end
// read as zeros, so holes and reserved space cost no memory.
//
// Bytes of a block beyond size are zero.
type content struct {
	size   int64
	blocks []*block
}

// at returns a block for reading.
func (c *content) at(i int) *block {
	if i >= len(c.blocks) || c.blocks[i] == nil {
		return &zeroBlock
	}
	return c.blocks[i]
}

// raw returns a block as stored: nil where the file has a hole.
func (c *content) raw(i int) *block {
	if i >= len(c.blocks) {
		return nil
	}
	return c.blocks[i]
}

// clone shares the blocks but not the list of them.
func (c *content) clone() content {
	return content{size: c.size, blocks: slices.Clone(c.blocks)}
}

// frozen is a clone that later writes to c cannot reach: blocks that are not
// shared with durable are copied.
func (c *content) frozen(durable content) content {
	f := c.clone()
	for i, b := range f.blocks {
		if b != nil && b != durable.raw(i) {
			copied := *b
			f.blocks[i] = &copied
		}
	}
	return f
}

// read copies bytes from off on into p, as many as there are.
func (c *content) read(p []byte, off int64) (n int) {
	for n < len(p) && off < c.size {
		within := off % blockSize
		chunk := c.at(int(off / blockSize))[within:min(blockSize, within+c.size-off)]
		copied := copy(p[n:], chunk)
		n += copied
		off += int64(copied)
	}
	return n
}

// cut makes the content end at size. Blocks are replaced, never changed: they
// may be shared.
func (c *content) cut(size int64) {
	c.size = size
	whole, rest := int(size/blockSize), size%blockSize
	if len(c.blocks) <= whole {
		return
	}
	last := c.blocks[whole]
	clear(c.blocks[whole:])
	c.blocks = c.blocks[:whole]
	if rest > 0 && last != nil {
		kept := new(block)
		copy(kept[:rest], last[:rest])
		c.blocks = append(c.blocks, kept)
	}
}

// writable returns a block that may be changed in place: a copy if the durable
// content shares it.
func (n *node) writable(i int) *block {
	for len(n.blocks) <= i {
		n.blocks = append(n.blocks, nil)
	}
	b := n.blocks[i]
	switch {
	case b == nil:
		b = new(block)
	case b == n.durable.raw(i):
		copied := *b
		b = &copied
	}
	n.blocks[i] = b
	return b
}

// pay reserves the bytes of block i up to end and returns how far they are paid
// for. On a full disk that is less than end; nothing is spent unless it lets a
// write that starts at start make progress.
func (m *Mem) pay(n *node, i, start, end int) int {
	for len(n.paid) <= i {
		n.paid = append(n.paid, 0)
	}
	paid := int(n.paid[i])
	if paid >= end {
		return end
	}
	affordable := int(min(int64(end), int64(paid)+m.free()))
	if affordable <= start {
		return start
	}
	n.paid[i] = uint16(affordable)
	m.used += int64(affordable - paid)
	return affordable
}

// refund gives back what lies beyond size.
func (m *Mem) refund(n *node, size int64) {
	whole, rest := int(size/blockSize), uint16(size%blockSize)
	for i := whole; i < len(n.paid); i++ {
		keep := uint16(0)
		if i == whole {
			keep = min(rest, n.paid[i])
		}
		m.used -= int64(n.paid[i] - keep)
		n.paid[i] = keep
	}
	if rest > 0 {
		whole++
	}
	n.paid = n.paid[:min(len(n.paid), whole)]
}
