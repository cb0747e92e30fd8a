package vfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// memFileMax bounds a file of a Mem: 64 GiB, of which only written blocks take memory.
const memFileMax int64 = 64 << 30

// memFile is an open file of a Mem.
type memFile struct {
	fsys     *Mem
	node     *node
	name     string
	writable bool
	closed   bool // guarded by fsys.mu
}

// handle opens a node; the caller holds m.mu.
func (m *Mem) handle(n *node, name string, writable bool) *memFile {
	n.handles++
	return &memFile{fsys: m, node: n, name: name, writable: writable}
}

// enter locks the file system for one operation; on error it is not locked.
func (f *memFile) enter(op string, write bool) error {
	if write && !f.writable {
		return fail(op, f.name, syscall.EBADF)
	}
	f.fsys.mu.Lock()
	if f.closed {
		f.fsys.mu.Unlock()
		return fail(op, f.name, fs.ErrClosed)
	}
	return nil
}

// Name implements File.
func (f *memFile) Name() string { return f.name }

// Close implements File.
func (f *memFile) Close() error {
	if err := f.enter("close", false); err != nil {
		return err
	}
	defer f.fsys.mu.Unlock()
	f.closed = true
	f.node.handles--
	f.fsys.release(f.node)
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	if err := f.enter("size", false); err != nil {
		return 0, err
	}
	defer f.fsys.mu.Unlock()
	return f.node.size, nil
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read", f.name, syscall.EINVAL)
	}
	if err := f.enter("read", false); err != nil {
		return 0, err
	}
	defer f.fsys.mu.Unlock()
	n := f.node.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.Writev([][]byte{p}, off)
	return int(n), err
}

// Writev implements File.
func (f *memFile) Writev(bufs [][]byte, off int64) (written int64, err error) {
	if off < 0 {
		return 0, fail("write", f.name, syscall.EINVAL)
	}
	if err := f.enter("write", true); err != nil {
		return 0, err
	}
	defer f.fsys.mu.Unlock()
	for _, b := range bufs {
		n, err := f.fsys.write(f.node, b, off+written)
		written += int64(n)
		if err != nil {
			return written, fail("write", f.name, err)
		}
	}
	return written, nil
}

// write stores p at off, as much as the disk has room for.
func (m *Mem) write(n *node, p []byte, off int64) (written int, err error) {
	for written < len(p) {
		at := off + int64(written)
		if at >= memFileMax {
			return written, syscall.EFBIG
		}
		i, within := int(at/blockSize), int(at%blockSize)
		end := min(blockSize, within+len(p)-written)
		paid := m.pay(n, i, within, end)
		if paid > within {
			copied := copy(n.writable(i)[within:paid], p[written:])
			n.updateMappings(at, p[written:written+copied])
			written += copied
			n.size = max(n.size, at+int64(copied))
		}
		if paid < end {
			return written, syscall.ENOSPC
		}
	}
	return written, nil
}

// Allocate implements File.
func (f *memFile) Allocate(size int64) error {
	if size < 0 {
		return fail("allocate", f.name, syscall.EINVAL)
	}
	if err := f.enter("allocate", true); err != nil {
		return err
	}
	defer f.fsys.mu.Unlock()
	return fail("allocate", f.name, f.fsys.allocate(f.node, size))
}

// allocate pays for the blocks of a file up to size, all or nothing.
func (m *Mem) allocate(n *node, size int64) error {
	if size > memFileMax {
		return syscall.EFBIG
	}
	need := size
	for i, paid := range n.paid {
		need -= min(int64(paid), max(0, size-int64(i)*blockSize))
	}
	if need > m.free() {
		return syscall.ENOSPC
	}
	for at := int64(0); at < size; at += blockSize {
		m.pay(n, int(at/blockSize), 0, int(min(blockSize, size-at)))
	}
	n.size = max(n.size, size)
	return nil
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	if size < 0 {
		return fail("truncate", f.name, syscall.EINVAL)
	}
	if err := f.enter("truncate", true); err != nil {
		return err
	}
	defer f.fsys.mu.Unlock()
	if size > memFileMax {
		return fail("truncate", f.name, syscall.EFBIG)
	}
	if size >= f.node.size {
		f.node.size = size
		return nil
	}
	f.fsys.truncate(f.node, size)
	return nil
}

// truncate makes a file shorter. Until the next Sync a crash may bring back what
// was cut off, but never mixed with what is written in its place afterwards: a
// journal frees the old blocks before new ones can be written.
func (m *Mem) truncate(n *node, size int64) {
	if n.uncut == nil {
		uncut := n.content.clone()
		n.uncut = &uncut
	}
	n.lowest = min(n.lowest, size)
	n.cut(size)
	m.refund(n, size)
	for _, mapping := range n.mappings {
		clear(mapping.bytes[min(size, int64(len(mapping.bytes))):])
	}
}

// Sync implements File.
func (f *memFile) Sync() error {
	if err := f.enter("sync", false); err != nil {
		return err
	}
	defer f.fsys.mu.Unlock()
	f.node.syncData()
	return nil
}

// WriteBehind implements File. It does nothing: starting a write promises
// nothing about a crash.
func (f *memFile) WriteBehind(int64, int64) {}

// Control implements File: there is no descriptor.
func (f *memFile) Control(func(fd uintptr)) bool { return false }

// Map implements File.
func (f *memFile) Map(n int64) (Mapping, error) {
	if err := f.enter("map", false); err != nil {
		return nil, err
	}
	defer f.fsys.mu.Unlock()
	if n < 0 || n > f.node.size {
		return nil, fail("map", f.name, syscall.EINVAL)
	}
	m := &memMapping{fsys: f.fsys, node: f.node, name: f.name, bytes: make([]byte, n)}
	f.node.read(m.bytes, 0)
	f.node.mappings = append(f.node.mappings, m)
	f.node.handles++
	return m, nil
}

// updateMappings makes bytes written at off visible in every mapping.
func (n *node) updateMappings(off int64, p []byte) {
	for _, m := range n.mappings {
		if off < int64(len(m.bytes)) {
			copy(m.bytes[off:], p)
		}
	}
}

// memMapping is a heap copy of a file's bytes that follows its writes.
type memMapping struct {
	fsys     *Mem
	node     *node
	name     string
	bytes    []byte
	unmapped bool // guarded by fsys.mu
}

// unmappedByte fills a mapping after Unmap. It begins no valid record batch.
const unmappedByte = 0xDD

// Bytes implements Mapping.
func (m *memMapping) Bytes() []byte { return m.bytes }

// Populate implements Mapping.
func (m *memMapping) Populate(off, n int64) error {
	m.fsys.mu.Lock()
	defer m.fsys.mu.Unlock()
	size := int64(len(m.bytes))
	switch {
	case m.unmapped:
		return fail("populate", m.name, fs.ErrClosed)
	case off < 0 || n < 0 || off > size || n > size-off:
		return fail("populate", m.name, syscall.EINVAL)
	case n > 0 && off+n > (m.node.size+blockSize-1)/blockSize*blockSize: // truncated away
		return fail("populate", m.name, &classified{kind: ErrIO, cause: syscall.EFAULT})
	}
	return nil
}

// Unmap implements Mapping.
func (m *memMapping) Unmap() error {
	m.fsys.mu.Lock()
	defer m.fsys.mu.Unlock()
	if m.unmapped {
		return fail("unmap", m.name, fs.ErrClosed)
	}
	m.unmapped = true
	m.node.mappings = slices.DeleteFunc(m.node.mappings, func(o *memMapping) bool { return o == m })
	m.node.handles--
	m.fsys.release(m.node)
	for i := range m.bytes {
		m.bytes[i] = unmappedByte
	}
	return nil
}
