package link

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// sweepEvery is how exact the deadlines of requests are.
	sweepEvery = 100 * time.Millisecond
	// defaultWait is for requests that say nothing.
	defaultWait = 30 * time.Second
	// ghostWait is how long after its deadline an append may still be answered. Until
	// then its bytes count as sent. A session that takes longer is given up.
	ghostWait = 15 * time.Second
	// envelope is what a message may have besides the records of an append, in bytes.
	envelope = 16 << 10
)

// request is something that a node is asked. It ends once.
type request struct {
	to       messages.NodeID
	req      *wire.ClientRequest // the caller's, who may use it again: copied when sent
	bytes    int64               // of records; they count as sent until the answer
	deadline time.Time
	done     func(*wire.ClientResponse, error) // nil: nobody waits (any more)

	id    uint64
	peer  *peer  // whose session was sent it; nil of a ClientHello
	hello string // the address that a ClientHello was sent to
	parts parts
}

// requests are those under way.
type requests struct {
	last    uint64
	pending map[uint64]*request
	ended   []ended // to be told when the lock is let go
}

// ended is a request with its outcome.
type ended struct {
	done func(*wire.ClientResponse, error)
	resp *wire.ClientResponse
	err  error
}

// end has a request told its outcome, once.
func (q *requests) end(r *request, resp *wire.ClientResponse, err error) {
	if r.done != nil {
		q.ended = append(q.ended, ended{r.done, resp, err})
		r.done = nil
	}
}

// Send sends a request to a node's session, which it opens if there is none;
// messages.NoNode: any node. It returns at once. wait bounds the time until the answer; 0:
// 30 s. done is called once, from another goroutine, and must not block: with the
// response, whose error is err too, or with an error alone: ErrNotSent if no node has seen
// the request, ErrNoAnswer if one may have carried it out, messages.ErrBatchTooLarge if
// it is larger than a message may be. Appends that go to one node arrive in the order of
// the calls or not at all.
//
// The request must not change until done, and never if done tells of an error: a copy of
// it may still be on its way. It may be sent again.
func (l *Link) Send(to messages.NodeID, req *wire.ClientRequest, wait time.Duration,
	done func(resp *wire.ClientResponse, err error)) {
	if wait <= 0 {
		wait = defaultWait
	}
	now := time.Now()
	r := &request{to: to, req: req, deadline: now.Add(wait), done: done}
	if a := req.GetAppend(); a != nil {
		r.bytes = max(1, int64(len(a.Records)))
	}
	l.mu.Lock()
	defer l.unlockLater()
	if err := l.submit(r); err != nil {
		l.end(r, nil, err)
		return
	}
	l.remind(r.deadline)
}

// submit hands a request on to a session, or has it wait for one.
func (l *Link) submit(r *request) error {
	if l.closed {
		return closedError{}
	}
	if r.bytes+envelope > transport.MessageMax {
		return fmt.Errorf("a batch of %d bytes does not fit in a message of %d: %w",
			r.bytes, transport.MessageMax, messages.ErrBatchTooLarge)
	}
	p := l.choose(r.to)
	switch {
	case p != nil:
		l.hand(p, r)
	case r.to == messages.NoNode:
		l.idle = append(l.idle, r)
		l.lookOut()
	default:
		return fmt.Errorf("node %d is not among the live nodes: %w", r.to, ErrNotSent)
	}
	return nil
}

// post sends a request to the session of a peer.
func (l *Link) post(p *peer, r *request) {
	r.peer = p
	l.dispatch(p.session, r)
}

// dispatch sends a request to an actor under a new id.
func (l *Link) dispatch(to *actor.PID, r *request) {
	l.last++
	r.id = l.last
	l.pending[r.id] = r
	l.net.send(to, &wire.ClientRequest{RequestId: r.id, TimeoutMs: millis(time.Until(r.deadline)),
		Command: r.req.Command})
}

// millis is at least 1: 0 has a meaning of its own.
func millis(d time.Duration) uint32 { return uint32(min(max(d.Milliseconds(), 1), 1<<31)) }

// answered implements listener.
func (l *Link) answered(resp *wire.ClientResponse) {
	l.mu.Lock()
	defer l.unlock()
	r := l.pending[resp.RequestId]
	if r == nil {
		return // it came too late
	}
	whole, err := r.parts.add(resp)
	if whole == nil && err == nil {
		return
	}
	delete(l.pending, r.id)
	if err == nil {
		err = wire.ToError(whole.Error)
	}
	l.end(r, whole, err)
	if r.peer != nil {
		r.peer.hung = false
		l.settleBytes(r.peer, r.bytes)
	}
}

// endRequests ends what a session was asked, and what waits for it.
func (l *Link) endRequests(p *peer, cause error) {
	var sent []*request
	for _, r := range l.pending {
		if r.peer == p {
			sent = append(sent, r)
		}
	}
	l.endSent(sent, cause)
	l.endQueued(p.waiting, cause)
	l.endQueued(p.appends, cause)
	p.waiting, p.appends, p.window = nil, nil, window{}
}

// endHellos ends those that which chooses by their address.
func (l *Link) endHellos(which func(*request) bool, cause error) (n int) {
	var sent []*request
	for _, r := range l.pending {
		if r.peer == nil && which(r) {
			sent = append(sent, r)
		}
	}
	l.endSent(sent, cause)
	return len(sent)
}

// endSent ends requests that may have been carried out, in the order of their sending.
func (l *Link) endSent(sent []*request, cause error) {
	slices.SortFunc(sent, func(a, b *request) int { return cmp.Compare(a.id, b.id) })
	for _, r := range sent {
		delete(l.pending, r.id)
		l.end(r, nil, unanswered(cause, true))
	}
}

// unanswered is how a request ends without an answer; sent: a node may have it.
func unanswered(cause error, sent bool) error {
	switch {
	case errors.Is(cause, ErrClosed):
		return closedError{sent}
	case sent:
		return fmt.Errorf("%w: %w", cause, ErrNoAnswer)
	default:
		return fmt.Errorf("%w: %w", cause, ErrNotSent)
	}
}

func (l *Link) endQueued(queued []*request, cause error) {
	for _, r := range queued {
		l.end(r, nil, unanswered(cause, false))
	}
}

// sweep ends the requests that waited too long and returns when the next one will have.
func (l *Link) sweep(now time.Time) (next time.Time) {
	next = now.Add(time.Hour)
	var late []*request
	var stuck []*peer
	for _, r := range l.pending {
		switch {
		case r.deadline.After(now):
			if r.deadline.Before(next) {
				next = r.deadline
			}
		case r.bytes > 0 && r.done == nil:
			stuck = append(stuck, r.peer)
		default:
			late = append(late, r)
		}
	}
	slices.SortFunc(late, func(a, b *request) int { return cmp.Compare(a.id, b.id) })
	for _, r := range late {
		l.end(r, nil, fmt.Errorf("its time is up: %w", ErrNoAnswer))
		if r.peer != nil { // requests to any node look for another
			r.peer.hung = true
			l.lookOut()
		}
		if r.bytes > 0 {
			r.deadline = now.Add(ghostWait)
		} else {
			delete(l.pending, r.id)
		}
	}
	for _, p := range stuck {
		if p.state == open {
			l.lose(p, fmt.Errorf("node %d does not answer appends", p.node))
		}
	}
	l.idle = l.sweepQueue(l.idle, now, &next)
	for _, p := range l.peers {
		p.waiting = l.sweepQueue(p.waiting, now, &next)
		p.appends = l.sweepQueue(p.appends, now, &next)
	}
	return next
}

// sweepQueue returns the queue without those that waited too long.
func (l *Link) sweepQueue(queue []*request, now time.Time, next *time.Time) []*request {
	return slices.DeleteFunc(queue, func(r *request) bool {
		if r.deadline.After(now) {
			if r.deadline.Before(*next) {
				*next = r.deadline
			}
			return false
		}
		l.end(r, nil, fmt.Errorf("its time is up: %w", ErrNotSent))
		return true
	})
}
