package kafka

import (
	"context"
	"sync"

	"github.com/troupelog/troupe/messages/invariant"
)

// budget bounds the memory that requests and responses of all connections take
// together (queued.max.request.bytes).
//
// A frame takes its share step by step while its bytes arrive, so several can
// hold a part each and wait for more: left alone, they would wait for each
// other for ever. Therefore one frame at a time, and only one that already
// holds a part, may exceed the limit until it is complete. Memory stays below
// the limit plus one frame, plus responses that are already made: those are
// charged without waiting, because holding back a finished response frees
// nothing. Whoever holds a share either is making progress or loses its
// connection to a deadline, so every wait ends.
//
// Any goroutine may use it.
type budget struct {
	mu        sync.Mutex
	limit     int64 // bytes
	used      int64
	overdraft *claim   // the frame that may exceed the limit
	growing   []*claim // hold a part and wait for more, oldest first
	fresh     []*claim // hold nothing and wait, oldest first; come after growing
}

// claim is one frame's share of a budget. It has one owner; the budget fills in
// a grant under its lock.
type claim struct {
	from  *budget
	held  int64
	want  int64
	ready chan struct{} // made when the claim first has to wait; capacity 1
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

// stats returns the bytes in use and the limit.
func (b *budget) stats() (used, limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.limit
}

// crowded reports whether any frame waits for memory.
func (b *budget) crowded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.growing)+len(b.fresh) > 0
}

// stepFactor is how much more than it filled a frame may take next.
func (b *budget) stepFactor() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > b.limit/2 {
		return scarceFactor
	}
	return stepFactor
}

// grow adds n bytes to the claim. It waits for its turn until ctx ends, and
// then returns the reason; the claim holds what it held. pause, if not nil, is
// called before it waits.
func (c *claim) grow(ctx context.Context, n int64, pause func()) error {
	b := c.from
	b.mu.Lock()
	c.want = n
	first := len(b.growing) == 0 && (len(b.fresh) == 0 || c.held > 0)
	// Who may exceed the limit never queues: those before it wait for it.
	if (first || b.overdraft == c) && b.grantLocked(c) {
		b.mu.Unlock()
		return nil
	}
	if c.ready == nil {
		c.ready = make(chan struct{}, 1)
	}
	if c.held > 0 {
		b.growing = append(b.growing, c)
	} else {
		b.fresh = append(b.fresh, c)
	}
	b.mu.Unlock()
	if pause != nil {
		pause()
	}
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.want == 0 { // granted at the same moment
		<-c.ready
		return nil
	}
	c.want = 0
	b.growing, b.fresh = without(b.growing, c), without(b.fresh, c)
	b.serveLocked()
	return context.Cause(ctx)
}

// grantLocked gives c what it wants if it may have it now.
func (b *budget) grantLocked(c *claim) bool {
	switch {
	case b.used+c.want <= b.limit, b.used == 0, b.overdraft == c:
	case c.held > 0 && b.overdraft == nil:
		b.overdraft = c
	default:
		return false
	}
	b.used += c.want
	c.held += c.want
	c.want = 0
	return true
}

// serveLocked grants the waiters in turn, up to the first that has to wait on.
func (b *budget) serveLocked() {
	for _, queue := range []*[]*claim{&b.growing, &b.fresh} {
		for len(*queue) > 0 {
			c := (*queue)[0]
			if !b.grantLocked(c) {
				return
			}
			*queue = without(*queue, c)
			c.ready <- struct{}{}
		}
	}
}

// force adds n bytes to the claim without waiting, for memory that is already
// in use.
func (c *claim) force(n int64) {
	c.from.charge(n)
	c.held += n
}

// shrink gives back n bytes of the claim.
func (c *claim) shrink(n int64) {
	b := c.from
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > c.held { // not in the call: its arguments would be allocated each time
		invariant.That(false, "claim of %d bytes gives back %d", c.held, n)
	}
	c.held -= n
	b.used -= n
	b.serveLocked()
}

// complete says that the frame needs no more, so that another may exceed the limit.
func (c *claim) complete() {
	b := c.from
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.overdraft == c {
		b.overdraft = nil
		b.serveLocked()
	}
}

// release gives back everything. Releasing twice is harmless.
func (c *claim) release() {
	c.complete()
	c.shrink(c.held)
}

// charge takes n bytes without waiting, for memory that is already in use; a
// negative n gives them back.
func (b *budget) charge(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if b.used < 0 {
		invariant.That(false, "budget in use is %d bytes", b.used)
	}
	if n < 0 {
		b.serveLocked()
	}
}

// spare takes n bytes, for memory that is of use but not needed, unless half of all is
// taken. It reports whether it did.
func (b *budget) spare(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit/2 {
		return false
	}
	b.used += n
	return true
}

func without(queue []*claim, c *claim) []*claim {
	for i, q := range queue {
		if q == c {
			return append(queue[:i], queue[i+1:]...)
		}
	}
	return queue
}
