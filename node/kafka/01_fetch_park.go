package kafka

import (
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/messages/data"
)

// fetchPark is what a Fetch needs while it is parked. The goroutine that parks
// owns it, but for news.
type fetchPark struct {
	more    chan struct{} // capacity 1: some partition has news
	news    []atomic.Bool // by part; set by whoever changes the partition
	cancels []func()      // by part; nil while nothing is awaited
}

// park waits until the answer should leave, and leaves what to answer in parts.
// hurry is closed when the answer must not wait any more.
func (f *fetchCall) park(hurry <-chan struct{}) {
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
		select {
		case <-f.parked.more:
		case <-timer.C:
			over = true
		case <-hurry:
			over = true
		case <-f.conn.ctx.Done():
			over = true
		}
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
		visible := p.result.HighWatermark
		if f.level == data.ReadCommitted {
			visible = p.result.LastStable
		}
		w.cancels[i] = p.from.Await(f.level, visible, func() {
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

// heard reads the partitions with news, and reports whether there is something to answer.
// The others had nothing when they were read and have called nobody since: a consumer of
// many partitions is told of one without a look at the rest. It serves those that want
// any byte at all, who are not parked once a partition has some.
func (f *fetchCall) heard() (enough bool) {
	left, total := f.maxBytes, 0
	for i := range f.parts {
		if !f.parked.news[i].Swap(false) {
			continue
		}
		f.parked.cancels[i] = nil // it has called, and will not again
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
		if f.parked.news[i].Swap(false) {
			f.parked.cancels[i] = nil // it has called, and will not again
			p.result.View.Release()
			p.read.MaxBytes, p.read.MinOne = min(p.maxBytes, f.maxBytes), true
			urgent = f.readPart(p) || urgent
		}
		total += p.available()
	}
	return urgent || total >= f.minBytes
}
