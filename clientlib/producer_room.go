package clientlib

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// room bounds the bytes of records that a producer has. Those who wait for it get it in
// the order in which they came.
//
// A callback may send, and then wait for room that only callbacks behind it give back. So
// when everything waits for callbacks, and nothing for a node, one record at a time may
// go above the bound: callbacks never wait for each other.
type room struct {
	limit int

	mu      sync.Mutex
	used    int // of records whose callback was not called
	sent    int // of those, what is not acknowledged, nor failed
	waiters []*roomWaiter
}

type roomWaiter struct {
	bytes int
	ready chan struct{} // gets one when the room was taken for the waiter
}

var roomWaiters = sync.Pool{New: func() any { return &roomWaiter{ready: make(chan struct{}, 1)} }}

// take takes room, and waits for it until ctx or stop ends unless refuse is set. full is
// called before it waits.
func (r *room) take(ctx context.Context, bytes int, refuse bool, stop <-chan struct{},
	full func()) error {
	r.mu.Lock()
	if len(r.waiters) == 0 && r.fits(bytes) {
		r.add(bytes)
		r.mu.Unlock()
		return nil
	}
	if refuse {
		used := r.used
		r.mu.Unlock()
		return fmt.Errorf("%d of %d bytes are used, send less or make BufferBytes larger: %w",
			used, r.limit, ErrBufferFull)
	}
	w := roomWaiters.Get().(*roomWaiter)
	w.bytes = bytes
	r.waiters = append(r.waiters, w)
	r.mu.Unlock()
	full()
	select {
	case <-w.ready:
		roomWaiters.Put(w)
		return nil
	case <-ctx.Done():
		return r.leave(w, fmt.Errorf("waiting for room in the buffer: %w", ctx.Err()))
	case <-stop:
		return r.leave(w, errProducerClosed)
	}
}

// leave ends the wait of w with err, unless it got its room meanwhile.
func (r *room) leave(w *roomWaiter, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.waiters, w)
	if i < 0 {
		<-w.ready
		roomWaiters.Put(w)
		return nil
	}
	r.waiters = slices.Delete(r.waiters, i, i+1)
	r.grant()
	roomWaiters.Put(w)
	return err
}

// fits reports whether one more record may come in. One that is larger than the whole
// buffer goes alone.
func (r *room) fits(bytes int) bool { return r.used+bytes <= r.limit || r.sent == 0 }

func (r *room) add(bytes int) {
	r.used += bytes
	r.sent += bytes
}

// answered tells that bytes wait for their callbacks only.
func (r *room) answered(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent -= bytes
	r.grant()
}

// give gives room back, of records whose callbacks are called now.
func (r *room) give(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= bytes
	r.grant()
}

func (r *room) grant() {
	n := 0
	for n < len(r.waiters) && r.fits(r.waiters[n].bytes) {
		r.add(r.waiters[n].bytes)
		r.waiters[n].ready <- struct{}{}
		n++
	}
	r.waiters = slices.Delete(r.waiters, 0, n)
}

func (r *room) buffered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}
