package bulk

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/quota"
	"github.com/troupelog/troupe/netio"
)

// PoolConfig is what a Pool needs to know. Zero values mean the defaults.
type PoolConfig struct {
	Identity
	// Addr tells where a node's bulk listener is; ok is false when nobody knows.
	Addr func(messages.NodeID) (addr string, ok bool)
	// Broken says that an established connection broke, and why: its node may be
	// dead. It must not block. Nil: nobody wants to know.
	Broken       func(node messages.NodeID, reason error)
	TLS          *tls.Config // as in ServerConfig, of the client's side
	ReceiveBytes int64       // per peer; DefaultReceiveBytes
	MaxRecords   int         // as in ServerConfig; DefaultMaxRecords
	// Throttle bounds what throttled fetches receive, in bytes per second; 0: no bound.
	Throttle int64
	// Now is the clock of the throttle; time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Pool is the follower's side of a node: a connection to each leader's node that
// somebody asked for. Its methods may be called by any goroutine.
type Pool struct {
	config  PoolConfig
	limits  limits
	buffers netio.Buffers

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup // goroutines of the pool

	mu       sync.Mutex
	closed   bool
	peers    map[messages.NodeID]*peer // kept: there are as many as nodes
	throttle quota.Bucket
	held     []heldFetch   // by the throttle, oldest first; at most MaxPending
	retime   chan struct{} // capacity 1: the throttle's next moment changed
}

// heldFetch waits for the throttle.
type heldFetch struct {
	leader messages.NodeID
	q      *data.ReplicaFetch
	done   func(*data.ReplicaFetched)
}

// NewPool returns a Pool without connections.
func NewPool(config PoolConfig) *Pool { return newPool(config, defaultLimits) }

func newPool(config PoolConfig, l limits) *Pool {
	orDefault(&config.ReceiveBytes, DefaultReceiveBytes)
	orDefault(&config.MaxRecords, DefaultMaxRecords)
	config.Log = orDiscard(config.Log)
	if config.Now == nil {
		config.Now = time.Now
	}
	p := &Pool{
		config: config,
		limits: l,
		peers:  map[messages.NodeID]*peer{},
		retime: make(chan struct{}, 1),
	}
	p.throttle.Set(config.Now(), config.Throttle)
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.running.Go(p.watch)
	p.running.Go(p.unhold)
	return p
}

// Fetch sends q to the leader's node, under the pool's throttle if q says so. done
// is called once with the answer, or with an error that wraps
// messages.ErrUnavailable when the node cannot be reached or the connection breaks,
// or messages.ErrOverloaded. It must not block, nor wait for Close; an answer that
// is known at once is given before Fetch returns. q stays as it is until then.
func (p *Pool) Fetch(
	leader messages.NodeID, q *data.ReplicaFetch, done func(*data.ReplicaFetched),
) {
	invariant.That(q.Follower == p.config.Node, "node %d fetches in the name of node %d",
		p.config.Node, q.Follower)
	if q.Throttled {
		p.fetchThrottled(leader, q, done)
		return
	}
	p.fetch(leader, q, done)
}

func (p *Pool) fetch(
	leader messages.NodeID, q *data.ReplicaFetch, done func(*data.ReplicaFetched),
) {
	peer := p.peer(leader)
	if peer == nil {
		done(&data.ReplicaFetched{Err: errPoolClosed})
		return
	}
	peer.fetch(q, done)
}

var errPoolClosed = fmt.Errorf("this node stops: %w", messages.ErrUnavailable)

// fetchThrottled is Fetch under the pool's throttle: what is over its rate waits
// here, and holds up nothing else. It is for replicas that catch up.
func (p *Pool) fetchThrottled(
	leader messages.NodeID, q *data.ReplicaFetch, done func(*data.ReplicaFetched),
) {
	p.mu.Lock()
	if p.closed || len(p.held) >= p.limits.pending {
		err := errPoolClosed
		if !p.closed {
			err = fmt.Errorf("%d fetches wait for the replication throttle: %w", len(p.held),
				messages.ErrOverloaded)
		}
		p.mu.Unlock()
		done(&data.ReplicaFetched{Err: err})
		return
	}
	if len(p.held) > 0 || !p.throttle.Reserve(p.config.Now(), q.MaxBytes) {
		p.held = append(p.held, heldFetch{leader, q, done})
		p.mu.Unlock()
		signal(p.retime)
		return
	}
	p.mu.Unlock()
	p.fetchReserved(heldFetch{leader, q, done})
}

// fetchReserved sends what the throttle let through, and settles with it.
func (p *Pool) fetchReserved(h heldFetch) {
	p.fetch(h.leader, h.q, func(f *data.ReplicaFetched) {
		p.mu.Lock()
		p.throttle.Settle(h.q.MaxBytes, len(f.Records))
		p.mu.Unlock()
		signal(p.retime)
		h.done(f)
	})
}

// SetThrottle changes the rate of throttled fetches, in bytes per second; 0: no bound.
func (p *Pool) SetThrottle(rate int64) {
	p.mu.Lock()
	p.throttle.Set(p.config.Now(), rate)
	p.mu.Unlock()
	signal(p.retime)
}

// unhold sends what the throttle held back as soon as it may leave.
func (p *Pool) unhold() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		now := p.config.Now()
		var free []heldFetch
		for len(p.held) > 0 && p.throttle.Reserve(now, p.held[0].q.MaxBytes) {
			free = append(free, p.held[0])
			p.held = p.held[1:]
		}
		wait := time.Hour
		if len(p.held) > 0 {
			wait = p.throttle.Wait(now)
		} else {
			p.held = nil
		}
		p.mu.Unlock()
		for _, h := range free {
			p.fetchReserved(h)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.retime:
		case <-p.ctx.Done():
			return
		}
	}
}

// peer returns the node's peer, or nil when the pool is closed.
func (p *Pool) peer(node messages.NodeID) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.peers[node] == nil {
		p.peers[node] = newPeer(p, node)
	}
	return p.peers[node]
}

// watch looks at every connection now and then.
func (p *Pool) watch() {
	ticker := time.NewTicker(p.limits.check)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		for _, peer := range p.peers {
			peer.check()
		}
		p.mu.Unlock()
	}
}

// Close answers what is under way with messages.ErrUnavailable, closes every
// connection and waits for the goroutines. No answer is given after it. Records
// that were answered before stay valid until their Release.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	held := p.held
	p.held = nil
	p.stop()
	for _, peer := range p.peers {
		peer.close()
	}
	p.mu.Unlock()
	for _, h := range held {
		h.done(&data.ReplicaFetched{Err: errPoolClosed})
	}
	p.running.Wait()
}

// Pong is what a living node says about itself.
type Pong struct {
	Node        messages.NodeID
	Incarnation string
}

// Ping asks the process at addr whether it lives, on a connection of its own and
// in one round trip. It fails at once where nobody listens, and at the end of ctx,
// or after three seconds, where nobody answers.
func (p *Pool) Ping(ctx context.Context, addr string) (Pong, error) {
	nc, w, err := p.connect(ctx, addr, toProbe)
	if err != nil {
		return Pong{}, fmt.Errorf("probe of %s: %w", addr, err)
	}
	_ = nc.Close()
	return Pong{Node: w.node, Incarnation: w.incarnation}, nil
}

// connect dials and shakes hands.
func (p *Pool) connect(ctx context.Context, addr string, to purpose) (net.Conn, welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limits.handshake)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	var d net.Dialer
	socket, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, welcome{}, err
	}
	live := within(ctx, socket, p.limits.handshake)
	nc, err := secured(ctx, socket, p.clientTLS(addr), tls.Client)
	var w welcome
	if err == nil {
		w, err = p.config.introduce(nc, to)
	}
	if !live() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = socket.Close()
		return nil, w, err
	}
	return nc, w, nil
}

// clientTLS fills in whose certificate is expected, as tls.Dial does.
func (p *Pool) clientTLS(addr string) *tls.Config {
	config := p.config.TLS
	if config == nil || config.ServerName != "" || config.InsecureSkipVerify {
		return config
	}
	config = config.Clone()
	config.ServerName, _, _ = net.SplitHostPort(addr)
	return config
}
