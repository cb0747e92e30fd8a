package segment

import (
	"sync"
	"sync/atomic"
	"time"
)

// DefaultOpenFiles is the bound of a Cache made with 0: well below the usual
// limit of descriptors of a process, which sockets share.
const DefaultOpenFiles = 1024

// Cache bounds how many segment files are open and mapped. The logs of a node
// share one. A file in use by a reader stays open, so the bound is exceeded
// while more files than that are in use at once.
//
// It also deletes retired files in the background, one at a time: closing and
// unlinking a cached GiB takes tens of milliseconds.
//
// All methods are safe for concurrent use.
type Cache struct {
	max int

	count atomic.Int64 // len(open)

	mu   sync.Mutex
	open []*handle // every open file
	hand int       // where the search for a victim goes on

	reaper reaper
	outs   writeOuts
}

// NewCache returns a Cache of at most maxOpen files; 0 means DefaultOpenFiles.
func NewCache(maxOpen int) *Cache {
	if maxOpen <= 0 {
		maxOpen = DefaultOpenFiles
	}
	c := &Cache{max: maxOpen}
	c.reaper.init()
	return c
}

// Open returns how many files are open.
func (c *Cache) Open() int { return int(c.count.Load()) }

// over reports whether more files are open than should be.
func (c *Cache) over() bool { return c.count.Load() > int64(c.max) }

// Close stops what runs in the background, and waits for it. Files whose time had
// not come keep their ".deleted" name; opening their log removes them. Logs
// that use the cache are closed first.
func (c *Cache) Close() {
	c.outs.close()
	c.reaper.close()
}

// Pending returns how many retired segments wait for their deletion.
func (c *Cache) Pending() int { return c.reaper.count() }

// admit notes that h has opened its file and closes others beyond the bound.
// h.mu is held.
func (c *Cache) admit(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.slot = len(c.open)
	c.open = append(c.open, h)
	c.count.Add(1)
	// Two rounds: the first may only clear the marks of recent use.
	for tries := 2 * len(c.open); len(c.open) > c.max && tries > 0; tries-- {
		c.hand %= len(c.open)
		victim := c.open[c.hand]
		if victim != h && !victim.used.Swap(false) && victim.evict() {
			c.remove(victim)
			continue // another handle has taken the slot
		}
		c.hand++
	}
}

// forget notes that h has closed its file. h.mu is held.
func (c *Cache) forget(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(h)
}

func (c *Cache) remove(h *handle) {
	last := len(c.open) - 1
	c.open[h.slot] = c.open[last]
	c.open[h.slot].slot = h.slot
	c.open[last] = nil
	c.open = c.open[:last]
	c.count.Add(-1)
}

// reaper deletes retired files: one goroutine that lives while there are any.
type reaper struct {
	kick   chan struct{} // holds a token when something may have become due
	stop   chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	queue  []*deletion
	active bool
	closed bool
}

// deletion is one retired segment.
type deletion struct {
	handle *handle
	due    time.Time
	remove func()
}

func (r *reaper) init() {
	r.kick = make(chan struct{}, 1)
	r.stop = make(chan struct{})
}

func (r *reaper) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// add queues a deletion. After close the file is only closed.
func (r *reaper) add(d *deletion) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		d.handle.spare()
		return
	}
	r.queue = append(r.queue, d)
	if !r.active {
		r.active = true
		r.wg.Add(1)
		go r.run()
	}
	r.wake()
}

func (r *reaper) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *reaper) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
	}
	r.mu.Unlock()
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.queue {
		d.handle.spare()
	}
	r.queue = nil
}

func (r *reaper) run() {
	defer r.wg.Done()
	for {
		d, wait, more := r.next(time.Now())
		if !more {
			return
		}
		if d != nil {
			d.remove()
			r.done(d)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.kick:
		case <-r.stop:
		}
		timer.Stop()
	}
}

// pinnedRecheck bounds how long the reaper sleeps when all that is due is in
// use; it is woken when the last user lets go.
const pinnedRecheck = time.Minute

// next picks what to delete now, or says how long to wait. more is false when
// the goroutine is to end.
func (r *reaper) next(now time.Time) (d *deletion, wait time.Duration, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.queue) == 0 {
		r.active = false
		return nil, 0, false
	}
	wait = pinnedRecheck
	for _, d := range r.queue {
		if left := d.due.Sub(now); left > 0 {
			wait = min(wait, left)
		} else if !d.handle.inUse() {
			return d, 0, true
		}
	}
	return nil, wait, true
}

func (r *reaper) done(d *deletion) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.queue {
		if r.queue[i] == d {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			return
		}
	}
}
