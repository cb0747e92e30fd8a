// Package lanes decides which records of a consumer may be handled now, so that those that
// belong together keep their order, and how far a partition is handled.
//
// A record waits in its lane, which is its key's or its partition's, until those before it
// are done, whatever became of them; a record that is to be tried again keeps its place.
// The mark of a partition is where its first record stands that is not done: a position
// up to which everything may be committed. Partitions that hold too much are to be paused.
//
// Lanes reads no clock, starts no goroutine and takes no lock: its owner does, who hands it
// what was read and what became of it. Package clientlib alone uses it.
package lanes

import (
	"container/heap"
	"time"

	"github.com/troupelog/troupe/messages/invariant"
)

// Limits bound what a partition holds. Both are at least 1.
type Limits struct {
	// Open is how many records of a partition may be not done before it is paused. The
	// records that were read together all come in.
	Open int
	// Window is how far, in offsets, a partition may be read beyond its mark: that much
	// is handled again after a crash.
	Window int64
}

// Lanes are the records that were read and are not done. P is what the owner knows of a
// partition, R what is to be handled. It has one owner and is not safe for concurrent use.
type Lanes[P, R any] struct {
	limits  Limits
	ready   queue[P, R]
	later   later[P, R]
	changed []*Partition[P, R]
	slab    []Task[P, R] // what is left of it
	bytes   int          // of what is not done
}

// slabTasks are allocated at a time.
const slabTasks = 128

// New returns lanes without records.
func New[P, R any](limits Limits) *Lanes[P, R] {
	invariant.That(limits.Open > 0 && limits.Window > 0, "limits of lanes are %+v", limits)
	return &Lanes[P, R]{limits: limits}
}

// Task is something to handle: a record, or several of a partition, one behind the other.
// From Start on until Done, Retry or Abandon it belongs to whoever started it.
type Task[P, R any] struct {
	Item R
	// Partition is where it is from.
	Partition *Partition[P, R]
	// Tries is how often it was started.
	Tries int

	span  Span
	state state
	epoch int32     // of the record before; -1: not known
	due   time.Time // when it is ready again

	behind       *Task[P, R] // next in its lane
	link         *Task[P, R] // next in the queue
	older, newer *Task[P, R] // of the partition's tasks that are not done
}

// Span is where records stand that are handled together: those with the offsets from
// First to Last.
type Span struct {
	First, Last    int64
	Records, Bytes int
	// Lane is that of their key. Free: they wait for none.
	Lane uint64
	Free bool
	// Epoch of the last one's leader.
	Epoch int32
}

type state int8

const (
	waiting state = iota // for those before it in its lane
	queued
	running
	resting // until it is tried again
	ended
)

// Offer takes in what was read of a partition, behind what it has. It may be started at
// once if its lane is empty. The owner asks Changes afterwards.
func (l *Lanes[P, R]) Offer(p *Partition[P, R], span Span, item R) {
	invariant.That(!p.gone, "records of a partition that was given up")
	if span.First < p.end || span.Last < span.First || span.Records < 1 { // allocates
		invariant.That(false, "%d records from %d to %d behind %d",
			span.Records, span.First, span.Last, p.end)
	}
	t := l.newTask()
	t.Item, t.Partition, t.span, t.epoch = item, p, span, p.epoch
	p.push(t)
	l.bytes += span.Bytes
	if p.held(l.limits) && !p.paused {
		p.paused = true
		l.change(p)
	}
	if span.Free {
		l.enqueue(t)
		return
	}
	tail := p.tails[span.Lane]
	p.tails[span.Lane] = t
	if tail == nil {
		l.enqueue(t)
		return
	}
	tail.behind = t
}

// Start returns the next task to handle, nil if there is none now.
func (l *Lanes[P, R]) Start() *Task[P, R] {
	for {
		t := l.ready.pop()
		if t == nil {
			return nil
		}
		p := t.Partition
		if p.gone && !p.wants(t) {
			continue
		}
		if p.gone {
			p.left--
		}
		t.state = running
		t.Tries++
		p.running++
		p.begun = max(p.begun, t.span.Last)
		return t
	}
}

// Ready is at most how many tasks Start returns now.
func (l *Lanes[P, R]) Ready() int { return l.ready.n }

// Bytes are those of what is not done and was not given up.
func (l *Lanes[P, R]) Bytes() int { return l.bytes }

// Done says that a task is handled. The next in its lane may start, and the mark of its
// partition may move: the owner asks Changes afterwards.
func (l *Lanes[P, R]) Done(t *Task[P, R]) {
	p := l.stop(t)
	t.state = ended
	t.Item = *new(R)
	if !p.gone {
		l.bytes -= t.span.Bytes
	}
	p.bytes -= t.span.Bytes
	if p.lost {
		return
	}
	if p.remove(t) || p.paused && p.mayResume(l.limits) {
		l.change(p)
	}
	l.advance(t)
}

// advance starts the lane behind a task that is done.
func (l *Lanes[P, R]) advance(t *Task[P, R]) {
	p, next := t.Partition, t.behind
	t.behind = nil
	switch {
	case t.span.Free:
	case next == nil:
		delete(p.tails, t.span.Lane)
	case !p.gone:
		l.enqueue(next)
	case p.wants(next):
		p.left++
		l.enqueue(next)
	}
}

// Retry says that a task has failed and is to be started again, not before due. It keeps
// its place in its lane.
func (l *Lanes[P, R]) Retry(t *Task[P, R], due time.Time) {
	if p := l.stop(t); p.gone {
		t.state = ended
		return
	}
	t.state, t.due = resting, due
	heap.Push(&l.later, t)
}

// Abandon says that a task was started and nobody will know what became of it: it is not
// done, and holds its lane and the mark of its partition until that is given up.
func (l *Lanes[P, R]) Abandon(t *Task[P, R]) {
	l.stop(t)
	t.state = ended
}

// Wake makes ready what is due, and says when the next one is; false: there is none.
func (l *Lanes[P, R]) Wake(now time.Time) (next time.Time, ok bool) {
	for len(l.later) > 0 {
		t := l.later[0]
		if !t.Partition.gone && t.due.After(now) {
			return t.due, true
		}
		heap.Pop(&l.later)
		if !t.Partition.gone {
			l.enqueue(t)
		}
	}
	return time.Time{}, false
}

// Changes calls f for each partition whose mark has moved, or that is to be paused or
// resumed, since it was asked last.
func (l *Lanes[P, R]) Changes(f func(c Change[P, R])) {
	for i, p := range l.changed {
		l.changed[i] = nil
		p.changed = false
		f(p.change(l.limits))
	}
	l.changed = l.changed[:0]
}

// Changed says whether Changes has any.
func (l *Lanes[P, R]) Changed() bool { return len(l.changed) > 0 }

// stop ends that a task runs.
func (l *Lanes[P, R]) stop(t *Task[P, R]) *Partition[P, R] {
	invariant.That(t.state == running, "a task ends that does not run")
	t.Partition.running--
	return t.Partition
}

func (l *Lanes[P, R]) enqueue(t *Task[P, R]) {
	t.state = queued
	l.ready.push(t)
}

func (l *Lanes[P, R]) change(p *Partition[P, R]) {
	if !p.changed {
		p.changed = true
		l.changed = append(l.changed, p)
	}
}

func (l *Lanes[P, R]) newTask() *Task[P, R] {
	if len(l.slab) == 0 {
		l.slab = make([]Task[P, R], slabTasks)
	}
	t := &l.slab[0]
	l.slab = l.slab[1:]
	return t
}

// queue is first in, first out.
type queue[P, R any] struct {
	head, tail *Task[P, R]
	n          int
}

func (q *queue[P, R]) push(t *Task[P, R]) {
	t.link = nil
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.link = t
	}
	q.tail = t
	q.n++
}

func (q *queue[P, R]) pop() *Task[P, R] {
	t := q.head
	if t == nil {
		return nil
	}
	q.head, t.link = t.link, nil
	if q.head == nil {
		q.tail = nil
	}
	q.n--
	return t
}

// later is a heap of tasks by when they are due.
type later[P, R any] []*Task[P, R]

func (h later[P, R]) Len() int           { return len(h) }
func (h later[P, R]) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h later[P, R]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *later[P, R]) Push(x any)        { *h = append(*h, x.(*Task[P, R])) }
func (h *later[P, R]) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
