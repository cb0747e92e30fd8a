package vfs

import (
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
)

// osFile is an open file of the operating system.
//
// It counts the operations under way, because a descriptor that is closed while
// a system call is about to use it may by then name another file. Close refuses
// new operations at once and leaves the closing to the last one still running.
type osFile struct {
	file     *os.File
	name     string
	fd       int
	writable bool
	users    atomic.Int64 // operations under way, plus closedFlag after Close
}

// closedFlag is far above any number of users.
const closedFlag = 1 << 62

func newOSFile(file *os.File, name string, writable bool) *osFile {
	return &osFile{file: file, name: name, fd: int(file.Fd()), writable: writable}
}

// enter takes a share of the descriptor; false means the file is closed.
func (f *osFile) enter() bool {
	for {
		users := f.users.Load()
		if users >= closedFlag {
			return false
		}
		if f.users.CompareAndSwap(users, users+1) {
			return true
		}
	}
}

// leave gives the share back and closes the file if it was the last of a closed one.
func (f *osFile) leave() {
	if f.users.Add(-1) == closedFlag {
		// Close has returned to its caller already. Nothing is lost with the
		// error: what had to be durable was synced, and reported, before.
		_ = f.file.Close()
	}
}

// Close implements File.
func (f *osFile) Close() error {
	for {
		users := f.users.Load()
		if users >= closedFlag {
			return fail("close", f.name, fs.ErrClosed)
		}
		if !f.users.CompareAndSwap(users, users+closedFlag) {
			continue
		}
		if users > 0 {
			return nil
		}
		return fail("close", f.name, f.file.Close())
	}
}

// forWriting enters the file for an operation that needs write permission.
func (f *osFile) forWriting() error {
	if !f.writable {
		return syscall.EBADF
	}
	if !f.enter() {
		return fs.ErrClosed
	}
	return nil
}

// Name implements File.
func (f *osFile) Name() string { return f.name }

// Size implements File.
func (f *osFile) Size() (int64, error) {
	if !f.enter() {
		return 0, fail("size", f.name, fs.ErrClosed)
	}
	defer f.leave()
	info, err := f.file.Stat()
	if err != nil {
		return 0, fail("size", f.name, err)
	}
	return info.Size(), nil
}

// ReadAt implements File.
func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read", f.name, syscall.EINVAL)
	}
	if !f.enter() {
		return 0, fail("read", f.name, fs.ErrClosed)
	}
	defer f.leave()
	n, err := f.file.ReadAt(p, off)
	return n, fail("read", f.name, err)
}

// WriteAt implements File.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("write", f.name, syscall.EINVAL)
	}
	if err := f.forWriting(); err != nil {
		return 0, fail("write", f.name, err)
	}
	defer f.leave()
	n, err := f.file.WriteAt(p, off)
	return n, fail("write", f.name, err)
}

// Writev implements File.
func (f *osFile) Writev(bufs [][]byte, off int64) (int64, error) {
	if off < 0 {
		return 0, fail("write", f.name, syscall.EINVAL)
	}
	if err := f.forWriting(); err != nil {
		return 0, fail("write", f.name, err)
	}
	defer f.leave()
	n, err := f.writev(bufs, off)
	return n, fail("write", f.name, err)
}

// Allocate implements File. Where the file system cannot reserve space the file
// is only made longer, and a full disk shows when it is written.
func (f *osFile) Allocate(size int64) error {
	if size < 0 {
		return fail("allocate", f.name, syscall.EINVAL)
	}
	if err := f.forWriting(); err != nil {
		return fail("allocate", f.name, err)
	}
	defer f.leave()
	if size == 0 {
		return nil
	}
	return fail("allocate", f.name, f.allocate(size))
}

// Truncate implements File.
func (f *osFile) Truncate(size int64) error {
	if size < 0 {
		return fail("truncate", f.name, syscall.EINVAL)
	}
	if err := f.forWriting(); err != nil {
		return fail("truncate", f.name, err)
	}
	defer f.leave()
	return fail("truncate", f.name, f.file.Truncate(size))
}

// Sync implements File.
func (f *osFile) Sync() error {
	if !f.enter() {
		return fail("sync", f.name, fs.ErrClosed)
	}
	defer f.leave()
	return fail("sync", f.name, f.sync())
}

// WriteBehind implements File.
func (f *osFile) WriteBehind(off, n int64) {
	if off < 0 || n <= 0 || !f.enter() {
		return
	}
	defer f.leave()
	f.writeBehind(off, n)
}

// Control implements File.
func (f *osFile) Control(do func(fd uintptr)) bool {
	if !f.enter() {
		return false
	}
	defer f.leave()
	do(uintptr(f.fd))
	return true
}

// Map implements File.
func (f *osFile) Map(n int64) (Mapping, error) {
	if !f.enter() {
		return nil, fail("map", f.name, fs.ErrClosed)
	}
	defer f.leave()
	info, err := f.file.Stat()
	if err != nil {
		return nil, fail("map", f.name, err)
	}
	if n < 0 || n > info.Size() {
		return nil, fail("map", f.name, syscall.EINVAL)
	}
	if n == 0 { // mmap refuses empty ranges
		return &osMapping{name: f.name}, nil
	}
	b, err := syscall.Mmap(f.fd, 0, int(n), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fail("map", f.name, err)
	}
	return &osMapping{name: f.name, bytes: b}, nil
}

// osMapping is a mapped file. It outlives the descriptor it was made from.
type osMapping struct {
	name     string
	bytes    []byte
	unmapped atomic.Bool
}

// Bytes implements Mapping.
func (m *osMapping) Bytes() []byte { return m.bytes }

// Populate implements Mapping. A page the disk cannot deliver, or one that was
// truncated away, is ErrIO here instead of a fault at the first touch.
func (m *osMapping) Populate(off, n int64) error {
	if m.unmapped.Load() {
		return fail("populate", m.name, fs.ErrClosed)
	}
	if off < 0 || n < 0 || off > int64(len(m.bytes)) || n > int64(len(m.bytes))-off {
		return fail("populate", m.name, syscall.EINVAL)
	}
	if n == 0 {
		return nil
	}
	first := off &^ int64(os.Getpagesize()-1) // madvise wants whole pages
	return fail("populate", m.name, populate(m.bytes[first:off+n]))
}

// Unmap implements Mapping. A second call fails: the addresses may belong to
// another mapping by then.
func (m *osMapping) Unmap() error {
	if !m.unmapped.CompareAndSwap(false, true) {
		return fail("unmap", m.name, fs.ErrClosed)
	}
	if m.bytes == nil {
		return nil
	}
	return fail("unmap", m.name, syscall.Munmap(m.bytes))
}
