package gateway

import (
	"container/heap"
	"time"
)

// parking holds the fetches of a session that wait for records, by when they have waited
// long enough. It belongs to the session's goroutine.
type parking struct{ byDeadline deadlines }

// push parks a fetch.
func (p *parking) push(f *fetch) { heap.Push(&p.byDeadline, f) }

// remove takes a fetch out, and reports whether it was there.
func (p *parking) remove(f *fetch) bool {
	if f.place < 0 {
		return false
	}
	heap.Remove(&p.byDeadline, f.place)
	return true
}

// next is when the first one has waited long enough; zero: none is parked.
func (p *parking) next() time.Time {
	if len(p.byDeadline) == 0 {
		return time.Time{}
	}
	return p.byDeadline[0].deadline
}

// due takes out one that has waited long enough; nil: there is none.
func (p *parking) due(now time.Time) *fetch {
	if len(p.byDeadline) == 0 || now.Before(p.byDeadline[0].deadline) {
		return nil
	}
	return p.pop()
}

// pop takes out the one that has waited longest enough; nil: there is none.
func (p *parking) pop() *fetch {
	if len(p.byDeadline) == 0 {
		return nil
	}
	return heap.Pop(&p.byDeadline).(*fetch)
}

// deadlines is a heap of parked fetches, each of which knows its place.
type deadlines []*fetch

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	f := x.(*fetch)
	f.place = len(*d)
	*d = append(*d, f)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	f := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	f.place = -1
	return f
}
