package bulk

import (
	"sync"

	"github.com/troupelog/troupe/messages/invariant"
)

// budget bounds the bytes received from one peer and not released yet. One
// goroutine takes, any may give back.
type budget struct {
	limit int64

	mu   sync.Mutex
	used int64
	room chan struct{} // capacity 1: something was given back
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, room: make(chan struct{}, 1)}
}

// tryTake takes n bytes if there is room. What is larger than the limit gets it
// when nothing else is out.
func (b *budget) tryTake(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// take waits for room, or returns false when gone is closed.
func (b *budget) take(n int64, gone <-chan struct{}) bool {
	for !b.tryTake(n) {
		select {
		case <-b.room:
		case <-gone:
			return false
		}
	}
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	invariant.That(b.used >= 0, "receive budget in use is %d bytes", b.used)
	b.mu.Unlock()
	signal(b.room)
}

func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
