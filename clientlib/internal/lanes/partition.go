package lanes

import "github.com/troupelog/troupe/messages/invariant"

// Partition is what the lanes hold of a partition from when it was assigned until it is
// given up. It belongs to the owner of the lanes.
type Partition[P, R any] struct {
	// Owner is whatever the owner knows of it.
	Owner P

	oldest, newest *Task[P, R] // not done, in the order of their offsets
	tails          map[uint64]*Task[P, R]
	open, bytes    int   // records that are not done
	running        int   // tasks
	left           int   // tasks that are queued, once it is given up, and are to start still
	begun          int64 // offset up to which something was started; -1: nothing is to be
	end            int64
	epoch          int32 // of the record before end; -1: not known
	mark           Mark
	told           int64 // the mark's offset when Changes had it last

	paused, toldPaused bool
	changed            bool
	gone, lost         bool
}

// Mark is a position in a partition: all records before Offset are done.
type Mark struct {
	Offset int64
	// Epoch of the leader that wrote the record before; -1: not known.
	Epoch int32
}

// Change is what is new of a partition.
type Change[P, R any] struct {
	Partition *Partition[P, R]
	// Moved: the mark is another one than before.
	Moved bool
	Mark  Mark
	// Pause it, or Resume it.
	Pause, Resume bool
}

// NewPartition returns a partition of which nothing was read.
func NewPartition[P, R any](owner P) *Partition[P, R] {
	return &Partition[P, R]{
		Owner: owner, tails: map[uint64]*Task[P, R]{},
		begun: -1, epoch: -1, mark: Mark{Epoch: -1},
	}
}

// Revoke gives a partition up so that the next reader handles nothing twice, if all goes
// well: what stands behind all that was started is dropped, and so is what is to be tried
// again, with its lane. The rest may start still, and the mark moves with it. The owner
// waits until the partition is not Busy.
func (l *Lanes[P, R]) Revoke(p *Partition[P, R]) {
	if p.gone {
		return
	}
	p.gone = true
	l.bytes -= p.bytes
	for t := p.oldest; t != nil && p.wants(t); t = t.newer {
		if t.state == queued {
			p.left++
		}
	}
}

// Cut drops what has not started of a partition that was given up.
func (l *Lanes[P, R]) Cut(p *Partition[P, R]) {
	l.Revoke(p)
	p.left, p.begun = 0, -1
}

// Lose gives a partition up that is another's already: nothing of it counts any more.
func (l *Lanes[P, R]) Lose(p *Partition[P, R]) {
	l.Cut(p)
	p.lost = true
}

// wants says whether a task is to start though its partition is given up.
func (p *Partition[P, R]) wants(t *Task[P, R]) bool { return t.span.First <= p.begun }

// Busy says whether one of its tasks runs, or, if it was given up, is to start still.
func (p *Partition[P, R]) Busy() bool { return p.running > 0 || p.left > 0 }

// Open is how many of its records are not done.
func (p *Partition[P, R]) Open() int { return p.open }

// End is behind the last record that was offered.
func (p *Partition[P, R]) End() int64 { return p.end }

// Mark is how far it is done.
func (p *Partition[P, R]) Mark() Mark { return p.mark }

// Gone says whether it was given up.
func (p *Partition[P, R]) Gone() bool { return p.gone }

// push adds a task behind all others.
func (p *Partition[P, R]) push(t *Task[P, R]) {
	if p.newest == nil {
		p.oldest = t
		if p.end == 0 && p.mark.Offset == 0 { // nothing was read before
			p.mark.Offset, p.told = t.span.First, t.span.First
		}
	} else {
		p.newest.newer, t.older = t, p.newest
	}
	p.newest = t
	p.open += t.span.Records
	p.bytes += t.span.Bytes
	p.end, p.epoch = t.span.Last+1, t.span.Epoch
}

// remove takes a task out that is done, and says whether the mark has moved.
func (p *Partition[P, R]) remove(t *Task[P, R]) (moved bool) {
	first := t == p.oldest
	if first {
		p.oldest = t.newer
	} else {
		t.older.newer = t.newer
	}
	if t == p.newest {
		p.newest = t.older
	} else {
		t.newer.older = t.older
	}
	t.older, t.newer = nil, nil
	p.open -= t.span.Records
	if !first {
		return false
	}
	next := Mark{Offset: p.end, Epoch: p.epoch}
	if p.oldest != nil {
		next = Mark{Offset: p.oldest.span.First, Epoch: p.oldest.epoch}
	}
	if next.Offset <= p.mark.Offset || p.open < 0 { // allocates
		invariant.That(false, "mark goes from %d to %d, %d records are open",
			p.mark.Offset, next.Offset, p.open)
	}
	p.mark = next
	return true
}

// held says whether it holds as much as it may.
func (p *Partition[P, R]) held(most Limits) bool {
	return p.open >= most.Open || p.end-p.mark.Offset >= most.Window
}

// mayResume says whether it is worth to read on.
func (p *Partition[P, R]) mayResume(most Limits) bool {
	return p.open <= most.Open/2 && p.end-p.mark.Offset <= most.Window/2
}

// change brings what was told of the partition up to date.
func (p *Partition[P, R]) change(most Limits) Change[P, R] {
	if p.paused && p.mayResume(most) {
		p.paused = false
	}
	c := Change[P, R]{
		Partition: p, Mark: p.mark, Moved: p.mark.Offset != p.told && !p.lost,
		Pause:  p.paused && !p.toldPaused && !p.gone,
		Resume: !p.paused && p.toldPaused && !p.gone,
	}
	p.told, p.toldPaused = p.mark.Offset, p.paused
	return c
}
