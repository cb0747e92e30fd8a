package vfs

import (
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Unlimited is the capacity of a Mem that never fills up.
const Unlimited int64 = -1

// unlimitedTotal is the size Usage reports for an unlimited disk: 1 TiB.
const unlimitedTotal int64 = 1 << 40

// Mem is a file system in memory that knows what a power cut would leave.
//
// It keeps apart what was synced and what was not: the bytes of files by blocks
// of 4 KiB, and the entries of folders. CrashClone returns the disk after a
// crash. Mem starts no goroutine and reads no clock, so the same calls and the
// same seed give the same disk; modification times are zero.
//
// Relative names start at the root, which always exists. A Mapping is a copy on
// the heap that follows every write, so that the race detector sees readers
// that touch bytes being written; Unmap overwrites it, so that a reader who
// comes too late sees garbage.
type Mem struct {
	mu       sync.Mutex
	root     *node
	capacity int64  // bytes, or Unlimited
	used     int64  // bytes taken by files, including removed ones still open
	seq      uint64 // of the last change to a folder
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty, unlimited file system.
func NewMem() *Mem { return &Mem{root: newFolder(), capacity: Unlimited} }

// SetCapacity sets the size of the disk in bytes. Writes that need more fail
// with ErrNoSpace after writing what fits, as on a real disk. Names and folders
// cost nothing, so creating and renaming work on a full disk.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns the bytes taken by files.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// free returns how many bytes may still be written.
func (m *Mem) free() int64 {
	if m.capacity == Unlimited {
		return unlimitedTotal
	}
	return max(0, m.capacity-m.used)
}

// lookup finds the node of a name.
func (m *Mem) lookup(name string) (*node, error) {
	at := m.root
	for part := range strings.SplitSeq(clean(name), "/") {
		if part == "" {
			continue
		}
		if !at.isFolder() {
			return nil, syscall.ENOTDIR
		}
		next := at.entries[part]
		if next == nil {
			return nil, syscall.ENOENT
		}
		at = next
	}
	return at, nil
}

// parent finds the folder of a name and the name inside it, "" for the root.
func (m *Mem) parent(name string) (*node, string, error) {
	dir, base := path.Split(clean(name))
	folder, err := m.lookup(dir)
	if err != nil {
		return nil, "", err
	}
	if !folder.isFolder() {
		return nil, "", syscall.ENOTDIR
	}
	return folder, base, nil
}

// clean makes a name absolute and resolves "." and "..".
func clean(name string) string { return path.Clean("/" + name) }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenWrite implements FS.
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == nil && n.isFolder() {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, fail("open", name, err)
	}
	return m.handle(n, name, writable), nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.create(name)
	if err != nil {
		return nil, fail("create", name, err)
	}
	return m.handle(n, name, true), nil
}

func (m *Mem) create(name string) (*node, error) {
	folder, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	if base == "" || folder.entries[base] != nil {
		return nil, syscall.EEXIST
	}
	n := &node{}
	m.change(slot{folder, base, n})
	return n, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, base, err := m.parent(name)
	if err != nil {
		return fail("remove", name, err)
	}
	n := folder.entries[base]
	switch {
	case base == "":
		err = syscall.EBUSY
	case n == nil:
		err = syscall.ENOENT
	case n.isFolder() && len(n.entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		m.change(slot{folder, base, nil})
	}
	return fail("remove", name, err)
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, base, err := m.parent(name)
	switch {
	case err == syscall.ENOENT:
		return nil
	case err != nil:
		return fail("removeall", name, err)
	case base == "":
		return fail("removeall", name, syscall.EBUSY)
	}
	m.removeTree(folder, base)
	return nil
}

// removeTree removes an entry and all below it, one change each: a crash in
// between may leave any part of the tree.
func (m *Mem) removeTree(folder *node, base string) {
	n := folder.entries[base]
	if n == nil {
		return
	}
	for _, child := range slices.Sorted(maps.Keys(n.entries)) {
		m.removeTree(n, child)
	}
	m.change(slot{folder, base, nil})
}

// Rename implements FS. A crash leaves both changes or none while neither
// folder is synced.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fail("rename", oldName+" to "+newName, m.rename(oldName, newName))
}

func (m *Mem) rename(oldName, newName string) error {
	from, oldBase, err := m.parent(oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.parent(newName)
	if err != nil {
		return err
	}
	n, replaced := from.entries[oldBase], to.entries[newBase]
	switch {
	case oldBase == "" || n == nil:
		return syscall.ENOENT
	case replaced == n && !n.isFolder():
		return nil
	case newBase == "" || replaced != nil && replaced.isFolder():
		return syscall.EEXIST
	case n.isFolder() && strings.HasPrefix(clean(newName), clean(oldName)+"/"):
		return syscall.EINVAL
	case n.isFolder() && replaced != nil:
		return syscall.ENOTDIR
	}
	m.change(slot{from, oldBase, nil}, slot{to, newBase, n})
	return nil
}

// MkdirAll implements FS. Each new folder is durable after SyncDir of its parent.
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.root
	for part := range strings.SplitSeq(clean(name), "/") {
		if part == "" {
			continue
		}
		if at.entries[part] == nil {
			m.change(slot{at, part, newFolder()})
		}
		at = at.entries[part]
		if !at.isFolder() {
			return fail("mkdir", name, syscall.ENOTDIR)
		}
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == nil && !n.isFolder() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, fail("readdir", name, err)
	}
	entries := make([]fs.DirEntry, 0, len(n.entries))
	for _, base := range slices.Sorted(maps.Keys(n.entries)) {
		entries = append(entries, fs.FileInfoToDirEntry(n.entries[base].info(base)))
	}
	return entries, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err != nil {
		return nil, fail("stat", name, err)
	}
	return n.info(path.Base(clean(name))), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == nil && !n.isFolder() {
		err = syscall.ENOTDIR
	}
	if err == nil {
		n.syncEntries()
	}
	return fail("syncdir", name, err)
}

// Lock implements FS. A crash ends all locks: its clone has none.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == syscall.ENOENT {
		n, err = m.create(name)
	}
	switch {
	case err != nil:
	case n.isFolder():
		err = syscall.EISDIR
	case n.locked:
		err = &classified{kind: ErrLocked, cause: ErrLocked}
	}
	if err != nil {
		return nil, fail("lock", name, err)
	}
	n.locked = true
	return &memLock{fsys: m, node: n, name: name}, nil
}

// Usage implements FS.
func (m *Mem) Usage(name string) (total, free int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.lookup(name); err != nil {
		return 0, 0, fail("usage", name, err)
	}
	if m.capacity == Unlimited {
		return unlimitedTotal, max(0, unlimitedTotal-m.used), nil
	}
	return m.capacity, m.free(), nil
}

// memLock is a lock held on a file.
type memLock struct {
	fsys *Mem
	node *node
	name string
	done bool
}

// Close ends the lock.
func (l *memLock) Close() error {
	l.fsys.mu.Lock()
	defer l.fsys.mu.Unlock()
	if l.done {
		return fail("unlock", l.name, fs.ErrClosed)
	}
	l.done, l.node.locked = true, false
	return nil
}
