package coordinator

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
)

// Bounds of what waits for a machine.
const (
	// maxQueued bounds the requests that wait for one machine. A connection has one
	// under way at a time, so it is reached only by clients that give up and come
	// again while the partition takes no writes. Notices are not counted: there is one
	// for each transaction that ends.
	maxQueued = 4096
	// maxMerged bounds the requests whose writes go into one batch.
	maxMerged = 256
)

// Host runs one machine: one decision is under way at a time, what comes
// meanwhile waits. It is the body of an actor without the actor, so that a
// simulation can run it.
//
// One goroutine at a time may call it; it starts none.
type Host struct {
	machine coord.Machine
	out     Outbox
	queue   []coord.Request
	asked   int           // of queue: all but notices
	handing coord.Request // that the machine is being handed
	writing *coord.Write  // under way
	since   time.Time     // when it began
	deaf    bool          // requests were refused since then
	stopped error
}

// Outbox is all that a Host does to the world around it.
type Outbox interface {
	// Append makes a write durable; Written of the host hears of it later, never
	// within the call.
	Append(w *coord.Write)
	// Patience is how long requests may wait for a write that does not end
	// (offsets.commit.timeout.ms).
	Patience() time.Duration
}

// NewHost returns the host of a machine that has been replayed.
func NewHost(m coord.Machine, out Outbox) *Host { return &Host{machine: m, out: out} }

// Begin lets the machine handle requests.
func (h *Host) Begin(now time.Time) {
	h.machine.Loaded(now)
	h.take(now)
}

// Handle takes one request in.
func (h *Host) Handle(now time.Time, r coord.Request) {
	switch {
	case h.stopped != nil:
		r.Refuse(h.stopped)
	case h.asked >= maxQueued && !isNotice(r):
		r.Refuse(fmt.Errorf("%d requests wait already: %w", h.asked, messages.ErrUnavailable))
	default:
		h.queue = append(h.queue, r)
		if !isNotice(r) {
			h.asked++
		}
		h.drain(now)
	}
}

func isNotice(r coord.Request) bool {
	_, ok := r.(coord.Notice)
	return ok
}

// Written tells how the write under way went.
func (h *Host) Written(now time.Time, w *coord.Write, err error) {
	if h.writing != w || h.stopped != nil {
		return // of a machine that was stopped
	}
	h.writing = nil
	w.Done(now, err)
	if m, ok := h.machine.(coord.Unheard); ok && h.deaf {
		m.Unheard(now)
	}
	h.deaf = false
	h.take(now)
	h.drain(now)
}

// Tick does what has become due.
func (h *Host) Tick(now time.Time) {
	switch {
	case h.stopped != nil:
	case h.writing == nil:
		if due := h.machine.Due(); !due.IsZero() && !due.After(now) {
			h.machine.Tick(now)
			h.take(now)
		}
		h.drain(now)
	case now.Sub(h.since) >= h.out.Patience():
		h.deaf = h.deaf || h.asked > 0
		h.refuse(isNotice, fmt.Errorf("the write before takes longer than %s: %w",
			h.out.Patience(), messages.ErrUnavailable))
	}
}

// Due is when Tick has something to do; zero: never, as far as is known.
func (h *Host) Due() time.Time {
	switch {
	case h.stopped != nil:
		return time.Time{}
	case h.writing == nil:
		return h.machine.Due()
	case h.asked > 0:
		return h.since.Add(h.out.Patience())
	}
	return time.Time{}
}

// Empty reports that there is nothing to remember and nothing under way.
func (h *Host) Empty() bool {
	return h.writing == nil && len(h.queue) == 0 && h.machine.Empty()
}

// Stop answers everything that waits with err, and all that comes after.
func (h *Host) Stop(now time.Time, err error) {
	if h.stopped != nil {
		return
	}
	h.stopped = err
	if w := h.writing; w != nil {
		h.writing = nil
		w.Done(now, err)
	}
	h.refuseHanding(err)
	h.refuse(func(coord.Request) bool { return false }, err)
	h.machine.Stop(err)
}

// refuseHanding answers the request that the machine panicked over.
func (h *Host) refuseHanding(err error) {
	r := h.handing
	if r == nil {
		return
	}
	h.handing = nil
	defer func() { _ = recover() }() // it was answered before
	r.Refuse(err)
}

// refuse answers what waits, but for what is kept.
func (h *Host) refuse(keep func(coord.Request) bool, err error) {
	kept := h.queue[:0]
	h.asked = 0
	for _, r := range h.queue {
		switch {
		case r == nil: // the machine panicked while it was drained
		case keep(r):
			kept = append(kept, r)
		default:
			r.Refuse(err)
		}
	}
	clear(h.queue[len(kept):])
	h.queue = kept
}

// drain handles what waits, until a decision has to be written. Requests that
// merge are decided together, in one write.
func (h *Host) drain(now time.Time) {
	n := 0
	for n < len(h.queue) && h.writing == nil {
		_, merges := h.queue[n].(coord.Mergeable)
		h.hand(now, n)
		n++
		for most := n + maxMerged; merges && n < len(h.queue) && n < most; n++ {
			if _, merges = h.queue[n].(coord.Mergeable); !merges {
				break
			}
			h.hand(now, n)
		}
		h.take(now)
	}
	rest := copy(h.queue, h.queue[n:])
	clear(h.queue[rest:])
	h.queue = h.queue[:rest]
}

// hand hands the machine the request at a place in the queue.
func (h *Host) hand(now time.Time, at int) {
	r := h.queue[at]
	h.queue[at] = nil
	if !isNotice(r) {
		h.asked--
	}
	h.handing = r
	h.machine.Handle(now, r)
	h.handing = nil
}

// take has the machine's next write made durable.
func (h *Host) take(now time.Time) {
	if h.writing != nil {
		return
	}
	if w := h.machine.TakeWrite(); w != nil {
		h.writing, h.since = w, now
		h.out.Append(w)
	}
}
