package segment

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/persistence/vfs"
)

// handle is one log file, opened and mapped when someone needs it and closed by
// the Cache when nobody does.
//
// Lock order: reaper.mu, handle.mu, Cache.mu; the Cache only tries the locks of
// handles.
type handle struct {
	cache *Cache
	fsys  vfs.FS
	used  atomic.Bool // since the cache's hand last passed
	slot  int         // index in cache.open; guarded by cache.mu

	mu     sync.Mutex
	name   string
	file   vfs.File // nil while closed
	mapped *mapping // the newest one, nil when there is none
	pins   int      // users of file
	dead   bool     // refuses new users; its file closes with the last one
	doomed bool     // the reaper closes and deletes it
	closed func()   // nil, or called when the file was closed
}

// mapping is a mapped range of the file. Readers may hold an old, shorter one
// while a new one serves others.
type mapping struct {
	vfs.Mapping
	bytes []byte
	refs  int // readers, plus one while it is the newest; guarded by handle.mu
}

// noMapping is the mapping of an empty file.
type noMapping struct{}

func (noMapping) Bytes() []byte               { return nil }
func (noMapping) Populate(off, n int64) error { return nil }
func (noMapping) Unmap() error                { return nil }

// pin opens the file if need be and keeps it open until unpin.
func (h *handle) pin() (vfs.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pinLocked()
}

func (h *handle) pinLocked() (vfs.File, error) {
	if h.dead {
		return nil, ErrRetired
	}
	if h.file == nil {
		f, err := h.fsys.OpenWrite(h.name)
		if errors.Is(err, vfs.ErrReadOnly) {
			f, err = h.fsys.Open(h.name)
		}
		if err != nil {
			return nil, ioError("open", h.name, 0, err)
		}
		h.file = f
		h.cache.admit(h)
	}
	h.pins++
	h.used.Store(true)
	return h.file, nil
}

// adopt takes up the file of a new segment, which is open already.
func (h *handle) adopt(f vfs.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.file = f
	h.cache.admit(h)
}

// pinMapped is pin and a mapping of at least the first n bytes. All of the file
// is mapped, so that a growing one is mapped again only when it was extended.
func (h *handle) pinMapped(n int64) (vfs.File, *mapping, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := h.pinLocked()
	if err != nil {
		return nil, nil, err
	}
	if h.mapped == nil || int64(len(h.mapped.bytes)) < n {
		if err := h.remap(f, n); err != nil {
			h.pins--
			return nil, nil, ioError("map", h.name, 0, err)
		}
	}
	h.mapped.refs++
	return f, h.mapped, nil
}

// mapTries bounds how often the file may be cut while it is being mapped: the
// owner does that when it seals the segment and after a failed write.
const mapTries = 4

func (h *handle) remap(f vfs.File, n int64) error {
	var m vfs.Mapping
	for try := 1; ; try++ {
		size, err := f.Size()
		if err != nil {
			return err
		}
		if size < n {
			return &CorruptError{File: h.name, At: size, Offset: messages.NoOffset, Err: errShrunk}
		}
		if size == 0 { // nothing cannot be mapped
			m = noMapping{}
			break
		}
		if m, err = f.Map(size); err == nil {
			break
		}
		if now, sizeErr := f.Size(); sizeErr != nil || now >= size || try == mapTries {
			return err
		}
	}
	if h.mapped != nil {
		h.drop(h.mapped)
	}
	h.mapped = &mapping{Mapping: m, bytes: m.Bytes(), refs: 1}
	return nil
}

// unpin undoes pin (m nil) or pinMapped.
func (h *handle) unpin(m *mapping) {
	h.mu.Lock()
	if m != nil {
		h.drop(m)
	}
	h.pins--
	if h.pins < 0 {
		invariant.That(false, "%s was released more often than taken", h.name)
	}
	wake := h.doomed && h.pins == 0
	if h.pins == 0 && !h.doomed && (h.dead || h.cache.over()) {
		h.releaseLocked()
	}
	h.mu.Unlock()
	if wake {
		h.cache.reaper.wake()
	}
}

func (h *handle) drop(m *mapping) {
	m.refs--
	if m.refs == 0 {
		// Nothing can be done about a failure here, and nothing depends on it.
		_ = m.Unmap()
	}
}

// evict closes the file for the cache if nobody uses it. cache.mu is held.
func (h *handle) evict() bool {
	if !h.mu.TryLock() {
		return false
	}
	defer h.mu.Unlock()
	if h.pins > 0 || h.file == nil {
		return false
	}
	h.closeLocked()
	return true
}

// rename gives the file another name. Who opens it waits meanwhile.
func (h *handle) rename(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fsys.Rename(h.name, name); err != nil {
		return ioError("rename", h.name, 0, err)
	}
	h.name = name
	return nil
}

// release closes the file if nobody uses it.
func (h *handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.releaseLocked()
}

func (h *handle) releaseLocked() {
	if h.pins > 0 || h.file == nil {
		return
	}
	h.closeLocked()
	h.cache.forget(h)
}

func (h *handle) closeLocked() {
	if h.mapped != nil {
		invariant.That(h.mapped.refs == 1, "%s is closed while mapped by readers", h.name)
		h.drop(h.mapped)
		h.mapped = nil
	}
	// The bytes were made durable by Sync, or are not meant to be yet.
	_ = h.file.Close()
	h.file = nil
	if h.closed != nil {
		h.closed()
	}
}

// kill refuses new users from now on and closes the file with the last one.
func (h *handle) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
	h.releaseLocked()
}

// doom refuses new users from now on and leaves the closing to the reaper: the
// last user is a connection, which must not wait for a large file to go.
func (h *handle) doom(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.name, h.dead, h.doomed = name, true, true
}

// spare undoes doom as far as the reaper goes: the file closes with its last user.
func (h *handle) spare() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doomed = false
	h.releaseLocked()
}

func (h *handle) retired() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

func (h *handle) inUse() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pins > 0
}
