package segment

import (
	"sync"
	"time"
)

// writeOutsMost is how many write-outs may wait: hints for some GiB. What comes on top
// is left to the kernel.
const writeOutsMost = 4096

// writeOuts starts the write-out of what was appended, some time later and in the
// background. Starting it costs about a tenth of an append, and can wait: a burst is over
// by then, and what was deleted meanwhile needs none. It is one goroutine that lives while
// something waits.
type writeOuts struct {
	mu     sync.Mutex
	delay  time.Duration // 0: at once, by whoever appends
	queue  []writeOut    // in the order in which they are due
	active bool
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

// writeOut is a range of a file that was appended.
type writeOut struct {
	handle *handle
	off, n int64
	due    time.Time
}

// WriteOutLater lets the write-out of what is appended start after the delay, in the
// background, instead of at once. It is called before the cache is used.
func (c *Cache) WriteOutLater(delay time.Duration) {
	c.outs.delay, c.outs.stop = delay, make(chan struct{})
}

// add takes a range, or starts its write-out if nothing may wait.
func (w *writeOuts) add(h *handle, off, n int64) {
	if w.delay == 0 {
		writeOut{handle: h, off: off, n: n}.start()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.queue) >= writeOutsMost {
		return
	}
	w.queue = append(w.queue, writeOut{h, off, n, time.Now().Add(w.delay)})
	if !w.active {
		w.active = true
		w.wg.Go(w.run)
	}
}

func (w *writeOuts) run() {
	timer := time.NewTimer(w.delay)
	defer timer.Stop()
	for {
		next, wait, more := w.next(time.Now())
		if !more {
			return
		}
		if wait <= 0 {
			next.start()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.stop:
		}
	}
}

// next takes the first range if it is due, or says how long to wait. more is false when
// the goroutine is to end.
func (w *writeOuts) next(now time.Time) (first writeOut, wait time.Duration, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.queue) == 0 {
		w.queue, w.active = nil, false
		return first, 0, false
	}
	first = w.queue[0]
	if wait = first.due.Sub(now); wait > 0 {
		return first, wait, true
	}
	w.queue[0] = writeOut{} // or the array would keep the file
	w.queue = w.queue[1:]
	return first, 0, true
}

// start starts the write-out. A file that is gone needs none.
func (o writeOut) start() {
	f, err := o.handle.pin()
	if err != nil {
		return
	}
	f.WriteBehind(o.off, o.n)
	o.handle.unpin(nil)
}

// close ends the goroutine and waits for it. Nothing is lost: closing a log syncs it.
func (w *writeOuts) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		if w.stop != nil {
			close(w.stop)
		}
	}
	w.mu.Unlock()
	w.wg.Wait()
}
