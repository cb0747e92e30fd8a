package kafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/netio"
)

// exchange is one request of a connection and the answer to it. The reader
// makes it, whoever answers fills in the answer and calls pipeline.finish (or claim),
// and whoever sends it lets go of it: the writer, the reader, or who claimed it.
type exchange struct {
	header   requestHeader
	started  time.Time // when the whole frame was there
	bytesIn  int
	produces bool // those behind it, except Produces, wait for it

	// Deadline and expire answer a Produce that takes too long. The zero time
	// is none.
	deadline time.Time
	expire   interface{ expire() }

	ready  bool // under pipeline.mu: the answer stands
	answer answer
}

// answer is what is sent for an exchange. The zero answer is nothing
// at all (Produce with acks=0).
type answer struct {
	frame *netio.Buffer   // nil: no response
	head  []byte          // the frame's bytes without the records of cuts
	cuts  []cut           // records to send between the bytes of head, by position
	views []messages.View // released once they were sent, or never will be
	left  int             // bytes of the frame that have left already
	fatal bool            // close the connection instead
}

// cut says that the extents of a view belong before head[at].
type cut struct {
	at   int
	view int // index of views
}

// sendSelfMax is how many bytes of answers the reader sends itself in one go.
const sendSelfMax = 4 << 10

// small reports whether an answer is so little that sending it costs less than waking
// the writer does.
func (a *answer) small() bool {
	return len(a.cuts) == 0 && !a.fatal && len(a.head) <= sendSelfMax
}

// pipeline is the order in which a connection's answers leave: a bounded FIFO
// with the reader at one end, one sender at a time at the other, and handlers
// finishing in any order in between.
type pipeline struct {
	mu     sync.Mutex
	fifo   []*exchange // oldest first; with claims at most depth
	depth  int
	claims int    // 1: the answer before them is being sent and may come back
	bytes  int64  // requests and unsent answers in memory
	limit  int64  // bytes above which the reader waits
	live   int    // Produces not answered yet
	taken  int    // with a sender, not sent yet
	sends  bool   // somebody has taken answers: nobody else takes any
	tended bool   // the reader, who is not stuck, looks for answers before it waits
	rest   []byte // of answers that the reader could not send whole; the writer's
	closed bool   // the reader is done: nothing is pushed any more
	dead   bool   // the writer is done too: answers go to drop

	drop func(*exchange) // lets go of an answer that is not sent

	// One timer watches the deadlines. It is armed for the earliest seen, not
	// for every request, so that in the usual case it is hardly ever touched.
	timer *time.Timer
	armed time.Time // zero: not armed

	head chan struct{} // capacity 1: the oldest is ready, or closed
	room chan struct{} // capacity 1: something left, or a Produce was answered
}

func newPipeline(depth int, limit int64, drop func(*exchange)) *pipeline {
	p := &pipeline{depth: depth, limit: limit, drop: drop,
		head: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	p.timer = time.AfterFunc(time.Hour, p.alarm)
	p.timer.Stop()
	return p
}

// alarm makes the writer look at the deadline of the oldest exchange.
func (p *pipeline) alarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = time.Time{}
	signal(p.head)
}

// armLocked makes sure that the writer wakes up at the deadline, if there is one.
func (p *pipeline) armLocked(deadline time.Time) {
	if deadline.IsZero() || !p.armed.IsZero() && !deadline.Before(p.armed) {
		return
	}
	p.armed = deadline
	p.timer.Reset(time.Until(deadline))
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pressedBytes is how much memory may wait behind a parked Fetch.
const pressedBytes = 1 << 20

// pressed reports whether so much waits that a parked Fetch, which may be what
// it waits for, should not be parked any longer.
func (p *pipeline) pressed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.fifo)+p.claims >= p.depth || p.bytes >= min(p.limit, pressedBytes)
}

// admit waits until there is room for one more request, and calls pause before that.
// Only the reader calls it.
func (p *pipeline) admit(ctx context.Context, pause func()) error {
	return p.waitUntil(ctx, pause, func() bool {
		return len(p.fifo)+p.claims < p.depth && (p.bytes < p.limit || len(p.fifo) == 0)
	})
}

// awaitProduces waits until every Produce pushed before has its answer, so that
// what comes next sees its effects, and calls pause before that. Only the reader calls
// it.
func (p *pipeline) awaitProduces(ctx context.Context, pause func()) error {
	return p.waitUntil(ctx, pause, func() bool { return p.live == 0 })
}

func (p *pipeline) waitUntil(ctx context.Context, pause func(), ok func() bool) error {
	for {
		p.mu.Lock()
		done := ok()
		p.mu.Unlock()
		if done {
			return nil
		}
		pause()
		select {
		case <-p.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// push gives a request its place. Only the reader calls it, after admit.
// The reader tends the pipeline from here on: it calls leave before it waits.
func (p *pipeline) push(e *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	invariant.That(!p.closed && len(p.fifo)+p.claims < p.depth, "pipeline of %d is full", p.depth)
	p.fifo = append(p.fifo, e)
	p.tended = true
	p.armLocked(e.deadline)
	if e.produces {
		p.live++
	}
}

// charge adds n bytes of memory to what the connection holds.
func (p *pipeline) charge(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += n
	if n < 0 {
		signal(p.room)
	}
}

// finish hands the answer of e to the writer. It is called exactly once for an
// exchange, from any goroutine, and does not block.
func (p *pipeline) finish(e *exchange, a answer) {
	if p.settle(e, a) {
		p.drop(e)
	}
}

// settle records the answer and reports whether nobody will send it.
func (p *pipeline) settle(e *exchange, a answer) (dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.ready { // not in the call: its arguments would be allocated each time
		invariant.That(false, "request %d was answered twice", e.header.correlation)
	}
	e.ready, e.answer = true, a
	if e.produces {
		if p.live--; p.live == 0 {
			signal(p.room)
		}
	}
	if len(p.fifo) > 0 && p.fifo[0] == e && !p.tended && !p.sends {
		signal(p.head)
	}
	return p.dead
}

// close says that no request follows. The writer drains what there is.
func (p *pipeline) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	signal(p.head)
}

// idle reports whether every request was answered and sent.
func (p *pipeline) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.fifo)+p.taken == 0 && !p.sends && p.rest == nil
}

// leave gives the reader the answers that may leave now and that it may send
// itself, behind each other from the oldest on: small ones, if nobody is sending. The
// writer gets the others. With none, the reader does not tend the pipeline any more;
// after some, it calls sent and then leave again.
func (p *pipeline) leave(ready []*exchange) []*exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sends && p.rest == nil {
		n, size := 0, 0
		for n < len(p.fifo) && p.fifo[n].ready && p.fifo[n].answer.small() {
			if size += len(p.fifo[n].answer.head); size > sendSelfMax {
				break
			}
			n++
		}
		if n > 0 {
			return p.takeLocked(ready, n)
		}
	}
	p.untendLocked()
	return ready
}

// untend says that the reader is held up: the writer sends what it would have sent.
func (p *pipeline) untend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.untendLocked()
}

func (p *pipeline) untendLocked() {
	p.tended = false
	if p.rest != nil || !p.sends && len(p.fifo) > 0 && p.fifo[0].ready {
		signal(p.head)
	}
}

// claim is finish for somebody who sends the answer himself, without waiting for the
// client. It reports false, and does nothing, if the answer may not leave yet or somebody
// else is sending. After it he calls unclaim.
func (p *pipeline) claim(e *exchange, a answer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead || p.sends || p.rest != nil || len(p.fifo) == 0 || p.fifo[0] != e {
		return false
	}
	invariant.That(!e.ready && !e.produces, "request %d was answered twice", e.header.correlation)
	e.ready, e.answer = true, a
	p.removeLocked(1)
	p.claims = 1
	return true
}

// unclaim ends the sending of what was claimed. If it has not left as a whole it is the
// oldest again, and the writer's; or, if it reports dead, nobody's.
func (p *pipeline) unclaim(e *exchange, whole bool) (dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.sends, p.claims = false, 0
	if !whole && !p.dead {
		p.fifo = slices.Insert(p.fifo, 0, e)
	}
	signal(p.room)
	if !whole || p.closed || !p.tended && len(p.fifo) > 0 && p.fifo[0].ready {
		signal(p.head)
	}
	return !whole && p.dead
}

// takeLocked hands the n oldest to a sender.
func (p *pipeline) takeLocked(ready []*exchange, n int) []*exchange {
	ready = append(ready, p.fifo[:n]...)
	p.removeLocked(n)
	signal(p.room)
	return ready
}

// removeLocked takes the n oldest out for a sender. The writer, which may be another,
// has to hear of the deadline of what is the oldest now.
func (p *pipeline) removeLocked(n int) {
	kept := copy(p.fifo, p.fifo[n:])
	clear(p.fifo[kept:])
	p.fifo = p.fifo[:kept]
	p.taken += n
	p.sends = true
	if kept > 0 && !p.fifo[0].ready {
		p.armLocked(p.fifo[0].deadline)
	}
}

// take waits until the oldest exchange is ready, expiring it at its deadline,
// and appends it and all ready ones right behind it to ready. rest is what is to be
// sent before them. It returns neither when the pipeline is closed and drained, or ctx
// ended. Only the writer calls it.
func (p *pipeline) take(ctx context.Context, ready []*exchange) (_ []*exchange, rest []byte) {
	for {
		p.mu.Lock()
		n := 0
		for !p.sends && n < len(p.fifo) && p.fifo[n].ready {
			n++
		}
		if !p.sends && p.rest != nil {
			rest, p.rest, p.sends = p.rest, nil, true
		}
		if n > 0 {
			ready = p.takeLocked(ready, n)
		}
		late := p.lateLocked()
		drained := p.closed && len(p.fifo) == 0 && !p.sends
		p.mu.Unlock()
		if n > 0 || rest != nil || drained || ctx.Err() != nil {
			return ready, rest
		}
		if late != nil {
			late.expire.expire()
			continue
		}
		select {
		case <-p.head:
		case <-ctx.Done():
		}
	}
}

// lateLocked returns the oldest exchange if its time is up.
func (p *pipeline) lateLocked() *exchange {
	if len(p.fifo) == 0 || p.fifo[0].ready || p.fifo[0].deadline.IsZero() {
		return nil
	}
	first := p.fifo[0]
	if time.Now().Before(first.deadline) {
		p.armLocked(first.deadline)
		return nil
	}
	return first
}

// sent says that whoever took n exchanges is done with them, but for rest, a copy of
// the bytes that did not leave.
func (p *pipeline) sent(n int, rest []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken -= n
	p.sends, p.rest = false, rest
}

// abandon gives up: the connection is gone. Answers that stand are dropped now,
// the others when whoever holds them finishes them.
func (p *pipeline) abandon() {
	p.mu.Lock()
	// Which ones stand is decided before others can see that the rest is theirs to drop.
	unsent := slices.DeleteFunc(p.fifo, func(e *exchange) bool { return !e.ready })
	p.fifo, p.rest, p.closed, p.dead = nil, nil, true, true
	p.timer.Stop()
	p.mu.Unlock()
	for _, e := range unsent {
		p.drop(e)
	}
}
