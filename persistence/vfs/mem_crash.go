package vfs

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashMode says what a crash takes.
type CrashMode int

const (
	// KeepAll is the death of the process: the system still has every byte and
	// name, and what was not synced is as unsafe as before.
	KeepAll CrashMode = iota
	// LoseUnsynced is a power cut that takes everything that was not synced.
	LoseUnsynced
	// Torn is a power cut that takes any part of what was not synced, in no
	// particular order: blocks, parts of blocks, sizes, names.
	Torn
)

// CrashClone returns the disk as the next start finds it; m itself stays as it
// is. What was synced is always there. The clone has no open files and no
// locks. The same seed and the same history give the same disk.
//
// Two rules bound what Torn does. A Rename within a folder, or between two that
// were not synced since, happens or does not: never half. And changes to one
// name take effect in their order; those to different names do not.
func (m *Mem) CrashClone(seed uint64, mode CrashMode) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := copier{nodes: map[*node]*node{}, changes: map[*change]*change{}}
	clone := &Mem{root: c.node(m.root), capacity: m.capacity, seq: m.seq}
	if mode != KeepAll {
		clone.cutPower(rand.New(rand.NewPCG(seed, uint64(mode))), mode)
	}
	clone.recount(clone.root, map[*node]bool{})
	return clone
}

// copier copies a tree of nodes, including those that only an unsynced change
// or a durable entry still names.
type copier struct {
	nodes   map[*node]*node
	changes map[*change]*change
}

func (c copier) node(n *node) *node {
	if n == nil {
		return nil
	}
	if done := c.nodes[n]; done != nil {
		return done
	}
	made := &node{
		content: n.frozen(n.durable),
		durable: n.durable.clone(),
		lowest:  n.lowest,
		paid:    slices.Clone(n.paid),
	}
	c.nodes[n] = made
	if n.uncut != nil {
		uncut := n.uncut.frozen(n.durable)
		made.uncut = &uncut
	}
	if n.isFolder() {
		made.entries, made.synced = c.entries(n.entries), c.entries(n.synced)
		for _, p := range n.pending {
			made.pending = append(made.pending, c.change(p))
		}
	}
	return made
}

func (c copier) entries(from map[string]*node) map[string]*node {
	to := make(map[string]*node, len(from))
	for base, n := range from {
		to[base] = c.node(n)
	}
	return to
}

func (c copier) change(p *change) *change {
	if done := c.changes[p]; done != nil {
		return done
	}
	made := &change{seq: p.seq}
	c.changes[p] = made
	for _, s := range p.slots {
		made.slots = append(made.slots, slot{c.node(s.folder), s.base, c.node(s.node)})
	}
	return made
}

// recount finds out what names each node and how much space the files take.
func (m *Mem) recount(n *node, seen map[*node]bool) {
	if !seen[n] {
		seen[n] = true
		m.used += n.cost()
	}
	for _, child := range n.entries {
		child.links++
		if !seen[child] {
			m.recount(child, seen)
		}
	}
}

// mood is how a crash treats one file or the folders. Without it nearly every
// crash of more than a few blocks would be a mixture, and the two plain
// outcomes would hardly ever be seen.
type mood int

const (
	losing mood = iota
	keeping
	mixing
	moods
)

func drawMood(r *rand.Rand, mode CrashMode) mood {
	if mode == LoseUnsynced {
		return losing
	}
	return mood(r.IntN(int(moods)))
}

// keeps draws whether one unsynced thing is kept.
func (md mood) keeps(r *rand.Rand) bool {
	return md == keeping || md == mixing && r.IntN(2) == 0
}

// cutPower settles everything that is not durable, one way or the other.
func (m *Mem) cutPower(r *rand.Rand, mode CrashMode) {
	folders, files := m.inventory()
	settleNames(r, drawMood(r, mode), folders)
	for _, f := range files {
		f.settleData(r, drawMood(r, mode))
	}
}

// inventory lists all folders and files that any outcome may name, in an order
// that does not depend on map iteration.
func (m *Mem) inventory() (folders, files []*node) {
	seen := map[*node]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		if !n.isFolder() {
			files = append(files, n)
			return
		}
		folders = append(folders, n)
		for _, base := range slices.Sorted(maps.Keys(n.synced)) {
			visit(n.synced[base])
		}
		for _, c := range n.pending {
			for _, s := range c.slots {
				visit(s.folder)
				visit(s.node)
			}
		}
	}
	visit(m.root)
	return folders, files
}

// settleNames decides which of the pending changes reached the disk.
func settleNames(r *rand.Rand, md mood, folders []*node) {
	type entry struct {
		folder *node
		base   string
	}
	lost := map[entry]bool{} // entries a change to which was lost: later ones are too
	for _, c := range pendingChanges(folders) {
		keep := md.keeps(r)
		for _, s := range c.slots {
			keep = keep && !lost[entry{s.folder, s.base}]
		}
		for _, s := range c.slots {
			if keep {
				set(s.folder.synced, s.base, s.node)
			} else {
				lost[entry{s.folder, s.base}] = true
			}
		}
	}
	for _, f := range folders {
		f.entries, f.pending = maps.Clone(f.synced), nil
	}
}

// pendingChanges returns the changes of all folders, each once, in their order.
func pendingChanges(folders []*node) []*change {
	var all []*change
	for _, f := range folders {
		all = append(all, f.pending...)
	}
	slices.SortFunc(all, func(a, b *change) int { return cmp.Compare(a.seq, b.seq) })
	return slices.Compact(all)
}

// settleData decides which unsynced bytes of a file reached the disk.
func (n *node) settleData(r *rand.Rand, md mood) {
	old, latest := n.durable, n.content
	if n.uncut != nil {
		if md.keeps(r) {
			old.cut(n.lowest) // the cut is durable: what it removed is gone for good
		} else {
			latest = *n.uncut
		}
	}
	kept := content{size: drawSize(r, md, old.size, latest.size)}
	for i := range int((kept.size + blockSize - 1) / blockSize) {
		kept.blocks = append(kept.blocks, settleBlock(r, md, old.raw(i), latest.raw(i)))
	}
	kept.cut(kept.size)
	n.content = kept
	n.syncData()
	n.repay()
}

// repay makes the used space fit the content a power cut left: written blocks
// are paid for, reserved ones stay so.
func (n *node) repay() {
	paid := make([]uint16, (n.size+blockSize-1)/blockSize)
	for i := range paid {
		end := uint16(min(blockSize, n.size-int64(i)*blockSize))
		switch {
		case n.raw(i) != nil:
			paid[i] = end
		case i < len(n.paid):
			paid[i] = min(end, n.paid[i])
		}
	}
	n.paid = paid
}

// drawSize picks the size of a file after the crash. Sizes only grow here: cuts
// were settled before.
func drawSize(r *rand.Rand, md mood, old, latest int64) int64 {
	if latest <= old || md == losing {
		return old
	}
	if md == keeping {
		return latest
	}
	switch r.IntN(3) {
	case 0:
		return old
	case 1:
		return latest
	}
	return old + r.Int64N(latest-old+1)
}

func settleBlock(r *rand.Rand, md mood, old, latest *block) *block {
	if old == latest || md == losing {
		return old
	}
	if md == keeping {
		return latest
	}
	switch r.IntN(3) {
	case 0:
		return old
	case 1:
		return latest
	}
	return tear(r, old, latest)
}

// tear mixes the sectors of two versions of a block.
func tear(r *rand.Rand, old, latest *block) *block {
	torn := new(block)
	for at := 0; at < blockSize; at += sectorSize {
		from := old
		if r.IntN(2) == 0 {
			from = latest
		}
		if from != nil {
			copy(torn[at:at+sectorSize], from[at:])
		}
	}
	return torn
}
