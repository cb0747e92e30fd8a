package bulk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// peer is one leader's node, seen from the follower's: the fetches under way there
// and the connection, if there is one. A goroutine (run) connects and reads while
// somebody waits or a connection stands; otherwise there is none.
type peer struct {
	pool   *Pool
	node   messages.NodeID
	budget *budget

	// These belong to run.
	failures int       // attempts to connect in a row that led nowhere
	earliest time.Time // of the next attempt

	mu      sync.Mutex
	closed  bool
	running bool             // there is a goroutine
	last    uint64           // id of the newest fetch
	pending map[uint64]*call // not answered yet; at most MaxPending
	queue   []*call          // those of pending that no connection has sent
	link    *link            // nil: not connected
}

// call is a fetch under way.
type call struct {
	id   uint64
	q    *data.ReplicaFetch
	done func(*data.ReplicaFetched)
}

var (
	// errUnused: the connection stood idle, nobody is to be suspected.
	errUnused = errors.New("nothing was fetched for a while")
	errNoAddr = errors.New("its address is not known")
)

func newPeer(p *Pool, node messages.NodeID) *peer {
	return &peer{pool: p, node: node, budget: newBudget(p.config.ReceiveBytes),
		pending: map[uint64]*call{}}
}

func (p *peer) fetch(q *data.ReplicaFetch, done func(*data.ReplicaFetched)) {
	c := &call{q: q, done: done}
	l, err := p.enqueue(c)
	if err != nil {
		done(&data.ReplicaFetched{Err: err})
	} else if l != nil {
		l.send(c)
	}
}

// enqueue puts a call on the table. It returns the link on which the caller must
// send it, or nil when it is in the queue for the writer.
func (p *peer) enqueue(c *call) (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errPoolClosed
	}
	if len(p.pending) >= p.pool.limits.pending {
		return nil, fmt.Errorf("%d fetches from node %d are under way: %w", len(p.pending), p.node,
			messages.ErrOverloaded)
	}
	p.last++
	c.id = p.last
	p.pending[c.id] = c
	if l := p.link; l != nil && l.direct != nil && !l.sending && len(p.queue) == 0 {
		l.sending = true
		return l, nil
	}
	p.queue = append(p.queue, c)
	switch {
	case p.link != nil:
		signal(p.link.wake)
	case !p.running:
		p.running = true
		p.pool.running.Go(p.run)
	}
	return nil, nil
}

// run connects and reads until nobody waits any more.
func (p *peer) run() {
	for more := true; more; more = p.more() {
		reason := p.connectAndRead()
		if errors.Is(reason, errUnused) {
			continue // what was asked for meanwhile goes over the next connection
		}
		p.fail(fmt.Errorf("node %d: %w: %w", p.node, reason, messages.ErrUnavailable))
	}
}

// more reports whether run must go on. If not, the next fetch starts it again.
func (p *peer) more() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = len(p.pending) > 0
	return p.running
}

// fail answers everything under way.
func (p *peer) fail(err error) {
	p.mu.Lock()
	pending := p.pending
	p.pending, p.queue = map[uint64]*call{}, nil
	p.mu.Unlock()
	for _, c := range pending {
		c.done(&data.ReplicaFetched{Err: err})
	}
}

// connectAndRead returns why there is no connection, or no more.
func (p *peer) connectAndRead() error {
	l, err := p.dial()
	if err != nil {
		p.failures++
		p.earliest = time.Now().Add(p.backoff())
		p.pool.config.Log.Debug("Leader's node cannot be reached", "node", p.node, "error", err)
		return err
	}
	reason := l.serve()
	if p.pool.ctx.Err() != nil || errors.Is(reason, errUnused) {
		return reason
	}
	// A peer that says nothing is as bad as one that is not there.
	if p.failures++; l.useful.Load() {
		p.failures = 1
	}
	p.earliest = time.Now().Add(p.backoff())
	p.pool.config.Log.Info("Connection to a leader's node broke", "node", p.node, "reason", reason)
	if p.pool.config.Broken != nil {
		p.pool.config.Broken(p.node, reason)
	}
	return reason
}

// backoff doubles with every failure and is spread over half of it, so that the
// followers of a node that comes back do not all call at once.
func (p *peer) backoff() time.Duration {
	l := &p.pool.limits
	d := min(l.backoff<<min(p.failures-1, 16), l.maxDelay)
	return d/2 + rand.N(d/2+1)
}

// dial waits until it may and connects.
func (p *peer) dial() (*link, error) {
	if !pause(p.pool.ctx, time.Until(p.earliest)) {
		return nil, context.Cause(p.pool.ctx)
	}
	addr, ok := p.pool.config.Addr(p.node)
	if !ok {
		return nil, errNoAddr
	}
	nc, w, err := p.pool.connect(p.pool.ctx, addr, toFetch)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", addr, err)
	}
	if w.node != p.node {
		_ = nc.Close()
		return nil, fmt.Errorf("node %d answers at %s: %w", w.node, addr, errWrongNode)
	}
	l := newLink(p, nc)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = nc.Close()
		return nil, errStopped
	}
	p.link = l
	return l, nil
}

var errWrongNode = errors.New("another node has this address")

// check looks after the connection.
func (p *peer) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.link
	if l == nil {
		return
	}
	if l.check(&p.pool.limits, len(p.pending) > 0) {
		return
	}
	p.link = nil // fetches from now on wait for the next connection
}

// close stops the peer; run answers what is under way.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.link != nil {
		p.link.end(errStopped)
	}
}

// take gives the writer of a link what is to be sent: bytes, appended to b, and
// after them calls, in place of the ones sent. ok is false when there is nothing, or
// when another goroutine sends, which wakes the writer afterwards.
func (p *peer) take(l *link, done []*call, b []byte) (calls []*call, bytes []byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(l.rest) > 0 {
		b, l.rest = append(b, l.rest...), l.rest[:0]
	} else if l.sending {
		return done[:0], b, false
	}
	if l.ping.Swap(false) {
		b = appendEmpty(b, typePing)
	}
	calls = done[:0]
	if p.link == l {
		calls, p.queue = p.queue, calls
	}
	l.sending = len(b) > 0 || len(calls) > 0
	return calls, b, l.sending
}

// sent says that a goroutine has sent what it had to.
func (p *peer) sent(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.sending = false
	if len(p.queue) > 0 || l.ping.Load() {
		signal(l.wake)
	}
}

// left hands the writer the rest of a frame, which goes before all else.
func (p *peer) left(l *link, rest []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.rest = append(l.rest[:0], rest...)
	signal(l.wake)
}

// unlink forgets a connection that ended.
func (p *peer) unlink(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == l {
		p.link = nil
	}
}

// waits reports whether a fetch is under way.
func (p *peer) waits(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending[id] != nil
}

// answered returns the fetch that an answer is for, and takes it off the table.
func (p *peer) answered(id uint64) *call {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.pending[id]
	delete(p.pending, id)
	return c
}
