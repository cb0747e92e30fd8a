package kafka

import (
	"sync/atomic"
	"time"
)

// fetchPark is what a Fetch needs while it is parked. The goroutine that parks
// owns it, but for news.
type fetchPark struct {
	more    chan struct{} // capacity 1: some partition has news
	news    []atomic.Bool // by part; set by whoever changes the partition
	cancels []func()      // by part; nil while nothing is awaited

	// left is closed when the request is not parked any more, if it is of a session and
	// somebody wants to know. It is under fetchSession.mu.
	left chan struct{}
}

// park waits until the answer should leave, and leaves what to answer in parts.
// hurry is closed when the answer must not wait any more.
func (f *fetchCall) park(hurry <-chan struct{}) {
	if f.session != nil {
		f.parkInSession(hurry)
		return
	}
	f.parked = &fetchPark{
		more:    make(chan struct{}, 1),
		news:    make([]atomic.Bool, len(f.parts)),
		cancels: make([]func(), len(f.parts)),
	}
	timer := time.NewTimer(f.wait)
	defer timer.Stop()
	defer f.stopAwaiting()
	for over := false; !over; {
		f.await()
		over = f.awaitNews(timer, hurry)
		if f.minBytes <= 1 {
			if f.heard() {
				return
			}
			if over {
				f.readAll()
			}
			continue
		}
		if (f.promising() || over) && f.readAll() {
			return
		}
	}
}

// await asks every partition that is not asked yet to say when there is more
// than was last read from it.
func (f *fetchCall) await() {
	w := f.parked
	for i := range f.parts {
		p := &f.parts[i]
		if p.from == nil || w.cancels[i] != nil {
			continue
		}
		w.cancels[i] = p.from.Await(f.level, p.visible(), func() {
			w.news[i].Store(true)
			signal(w.more)
		})
	}
}

func (f *fetchCall) stopAwaiting() {
	for _, cancel := range f.parked.cancels {
		if cancel != nil {
			cancel()
		}
	}
}

// fresh reports whether a partition has news, once.
func (f *fetchCall) fresh(i int) bool {
	if c := f.parts[i].cached; c != nil {
		news := c.Own.fresh
		c.Own.fresh = false
		return news
	}
	if !f.parked.news[i].Swap(false) {
		return false
	}
	f.parked.cancels[i] = nil // it has called, and will not again
	return true
}

// heard reads the partitions with news, and reports whether there is something to answer.
// The others had nothing when they were read and have called nobody since: a consumer of
// many partitions is told of one without a look at the rest. It serves those that want
// any byte at all, who are not parked once a partition has some.
func (f *fetchCall) heard() (enough bool) {
	left, total := f.maxBytes, 0
	for i := range f.parts {
		if !f.fresh(i) {
			continue
		}
		p := &f.parts[i]
		p.result.View.Release()
		p.read.MaxBytes, p.read.MinOne = min(p.maxBytes, max(left, 0)), total == 0
		enough = f.readPart(p) || enough
		left -= p.result.View.Bytes
		total += p.available()
	}
	return enough || total >= f.minBytes
}

// promising looks at the partitions with news, and reports whether an attempt to
// answer is worth it. A consumer that waits for many bytes from many partitions
// hears of every append: only the partition it hears of is read again.
func (f *fetchCall) promising() bool {
	total, urgent := 0, false
	for i := range f.parts {
		p := &f.parts[i]
		if f.fresh(i) {
			p.result.View.Release()
			p.read.MaxBytes, p.read.MinOne = min(p.maxBytes, f.maxBytes), true
			urgent = f.readPart(p) || urgent
		}
		total += p.available()
	}
	return urgent || total >= f.minBytes
}

// awaitNews waits for more to read, and reports whether the request is to be answered as
// it is: its time is up, others wait behind it, or the connection ends.
func (f *fetchCall) awaitNews(timer *time.Timer, hurry <-chan struct{}) (over bool) {
	select {
	case <-f.parked.more:
		return false
	case <-timer.C:
	case <-hurry:
	case <-f.conn.ctx.Done():
	}
	return true
}
