package vfs

import (
	"io/fs"
	"slices"
	"time"
)

// node is a file or a folder of a Mem. All fields are guarded by Mem.mu.
type node struct {
	content           // what the running system sees
	durable  content  // what a power cut leaves for sure
	lowest   int64    // the smallest size since the last Sync
	uncut    *content // before the first cut since the last Sync; nil: none
	paid     []uint16 // by block: the bytes of it that count as used
	links    int      // entries that name it
	handles  int      // open files and mappings
	locked   bool
	mappings []*memMapping

	entries map[string]*node // of a folder, else nil
	synced  map[string]*node // the entries a power cut leaves for sure
	pending []*change        // of the folder's entries since SyncDir, oldest first
}

// slot is an entry of a folder and the node it now names, nil for none.
type slot struct {
	folder *node
	base   string
	node   *node
}

// change is one atomic change to one or two entries that is not durable yet.
type change struct {
	seq   uint64 // order of all changes of a Mem
	slots []slot
}

func newFolder() *node {
	return &node{entries: map[string]*node{}, synced: map[string]*node{}}
}

func (n *node) isFolder() bool { return n.entries != nil }

// change sets entries and notes that they are not durable yet.
func (m *Mem) change(slots ...slot) {
	m.seq++
	c := &change{seq: m.seq, slots: slots}
	for _, s := range slots { // before any link goes, or a rename would free its own file
		if s.node != nil {
			s.node.links++
		}
	}
	for _, s := range slots {
		if old := s.folder.entries[s.base]; old != nil {
			old.links--
			m.release(old)
		}
		set(s.folder.entries, s.base, s.node)
		if pending := s.folder.pending; len(pending) == 0 || pending[len(pending)-1] != c {
			s.folder.pending = append(pending, c)
		}
	}
}

// set stores an entry, or removes it when n is nil.
func set(entries map[string]*node, base string, n *node) {
	if n == nil {
		delete(entries, base)
		return
	}
	entries[base] = n
}

// release gives the space of a file back once nothing names or uses it.
func (m *Mem) release(n *node) {
	if n.links > 0 || n.handles > 0 {
		return
	}
	m.used -= n.cost()
	n.paid = nil
}

// syncEntries makes the folder's entries durable. The other half of a rename
// into or out of another folder stays pending there: only the sync of both
// folders makes such a rename safe.
func (n *node) syncEntries() {
	for _, c := range n.pending {
		c.slots = slices.DeleteFunc(slices.Clone(c.slots), func(s slot) bool {
			if s.folder == n {
				set(n.synced, s.base, s.node)
			}
			return s.folder == n
		})
	}
	n.pending = nil
}

// info describes the node under its name.
func (n *node) info(base string) fs.FileInfo {
	return memInfo{base: base, size: n.size, folder: n.isFolder()}
}

// cost is the number of bytes of the disk the file takes.
func (n *node) cost() (bytes int64) {
	for _, p := range n.paid {
		bytes += int64(p)
	}
	return bytes
}

// syncData makes the content durable. Blocks become shared with the durable
// content and are copied when written next.
func (n *node) syncData() {
	n.durable = n.content.clone()
	n.lowest = n.size
	n.uncut = nil
}

// memInfo implements fs.FileInfo.
type memInfo struct {
	base   string
	size   int64
	folder bool
}

func (i memInfo) Name() string       { return i.base }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.folder }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.folder {
		return fs.ModeDir | folderPerm
	}
	return filePerm
}
