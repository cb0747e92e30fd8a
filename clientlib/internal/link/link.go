package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/wire"
)

// goodbyeWait bounds how long nodes may take to say goodbye.
const goodbyeWait = 300 * time.Millisecond

// Link is a program's connections to a cluster. Any goroutine may call its methods.
//
// One lock guards all of its state. Whatever is told to others (the done of requests, the
// notify of watchers) is told after it was let go: see unlock.
type Link struct {
	cfg    Config
	log    *slog.Logger
	net    network
	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	// running are the goroutines: the keeper, the seeker, attempts to open sessions, and
	// calls of watchers.
	running sync.WaitGroup
	wake    chan struct{} // the keeper has something to do before wakeAt
	seek    chan struct{} // there may be no session for requests to any node

	mu      sync.Mutex
	closed  bool
	cluster string // its id

	nodes   map[messages.NodeID]Node
	version int64 // of nodes

	peers map[string]*peer // by address
	open  []*peer          // those with a session
	turn  int              // of open, for requests to any node
	idle  []*request       // to any node, while there is no session
	up    chan struct{}    // closed with the first session
	tried []error          // what the last round of the seeker found
	hopes bool             // tried has something that may pass

	requests
	wakeAt time.Time

	topics       map[string]*topic
	lease        time.Duration // of subscriptions; they are repeated at half of it
	coordinators map[coordinated]messages.NodeID
}

// coordinated is what a coordinator is for.
type coordinated struct {
	kind coord.Kind
	key  string
}

// newLink returns a Link that does not run yet; see start.
func newLink(cfg Config) *Link {
	l := &Link{cfg: cfg, log: cfg.logger(), wake: make(chan struct{}, 1),
		seek: make(chan struct{}, 1), nodes: map[messages.NodeID]Node{},
		peers: map[string]*peer{}, up: make(chan struct{}), hopes: true,
		topics: map[string]*topic{}, lease: time.Minute,
		coordinators: map[coordinated]messages.NodeID{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	// Random, for an answer to an earlier life must miss.
	l.requests = requests{last: binary.LittleEndian.Uint64(seed[:]), pending: map[uint64]*request{}}
	return l
}

// Open connects to a cluster and returns once there is a session with one of its nodes.
// It fails when ctx ends before, or when nothing that was tried can ever be a node, with
// an error that says what was tried; or with one that wraps messages.ErrInvalidRequest
// for settings that cannot be.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	l := newLink(cfg)
	if err := l.connect(ctx); err != nil {
		l.cancel()
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		_ = l.Close(ctx)
		return nil, err
	}
	return l, nil
}

// start runs the link and waits for its first session.
func (l *Link) start(ctx context.Context) error {
	l.running.Go(l.keep)
	l.running.Go(l.seekSessions)
	for {
		select {
		case <-l.up:
			return nil
		case <-ctx.Done():
			return l.nobody(context.Cause(ctx))
		case <-time.After(sweepEvery):
			if l.hopeless() {
				return l.nobody(nil)
			}
		}
	}
}

// hopeless reports whether all that was tried is wrong rather than down.
func (l *Link) hopeless() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.tried) > 0 && !l.hopes
}

// nobody says that there is no session, and what was tried. Who gave up before anything
// was tried learns nothing of the cluster.
func (l *Link) nobody(cause error) error {
	l.mu.Lock()
	tried := slices.Clone(l.tried)
	l.mu.Unlock()
	if len(tried) == 0 && errors.Is(cause, context.Canceled) {
		return cause
	}
	err := fmt.Errorf("no node of the cluster answers: %w", messages.ErrUnavailable)
	if cause != nil {
		err = fmt.Errorf("no node of the cluster answers (%w): %w", cause, messages.ErrUnavailable)
	}
	for _, t := range tried {
		err = fmt.Errorf("%w; %w", err, t)
	}
	if len(l.cfg.Nodes) > 0 {
		err = fmt.Errorf("%w; a node listens for programs if it is started with --actor-addr "+
			"(actor.listener), and in a cluster always", err)
	}
	return err
}

// Close ends all requests with ErrClosed, says goodbye to the nodes and gives everything
// back. It waits no longer than ctx for the goodbyes, and in any case less than a second
// if Proto.Actor does not get in its way. A second call does nothing.
func (l *Link) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.endAll()
	l.unlock()
	l.cancel()
	if l.net == nil {
		return nil
	}
	l.sayGoodbye(ctx)
	l.running.Wait()
	l.net.close()
	return nil
}

// endAll ends all requests, and has everybody who waits look again.
func (l *Link) endAll() {
	for _, p := range l.peers {
		l.endRequests(p, ErrClosed)
	}
	l.endQueued(l.idle, ErrClosed)
	l.idle = nil
	l.endHellos(func(*request) bool { return true }, ErrClosed)
	for _, t := range l.topics {
		t.tell()
	}
}

// sayGoodbye ends the sessions, so that the nodes need not find out.
func (l *Link) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeWait)
	defer cancel()
	l.mu.Lock()
	answers := make(chan struct{}, len(l.open))
	for _, p := range l.open {
		l.post(p, &request{req: &wire.ClientRequest{Command: &wire.ClientRequest_Goodbye{
			Goodbye: &wire.ClientGoodbye{}}}, deadline: time.Now().Add(goodbyeWait),
			done: func(*wire.ClientResponse, error) { answers <- struct{}{} }})
	}
	l.mu.Unlock()
	for range cap(answers) {
		select {
		case <-answers:
		case <-ctx.Done():
			return
		}
	}
}

// Nodes returns the live nodes as last told, by id.
func (l *Link) Nodes() []Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	nodes := make([]Node, 0, len(l.nodes))
	for _, n := range l.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return int(a.ID) - int(b.ID) })
	return nodes
}

// keep is the one goroutine for what has its time: requests that waited long enough, and
// subscriptions.
func (l *Link) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-timer.C:
		case <-l.wake:
		}
		l.mu.Lock()
		now := time.Now()
		next := l.sweep(now)
		if due := l.tend(now); due.Before(next) {
			next = due
		}
		// Not more often: what comes due meanwhile may as well wait for its neighbours.
		if soon := now.Add(sweepEvery); next.Before(soon) {
			next = soon
		}
		l.wakeAt = next
		l.unlock()
		timer.Reset(time.Until(next))
	}
}

// remind has the keeper look at a time, or soon after. The caller holds mu.
func (l *Link) remind(at time.Time) {
	if at.Add(sweepEvery).Before(l.wakeAt) {
		l.wakeAt = at
		l.rouse()
	}
}

// rouse has the keeper look now.
func (l *Link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// unlock lets go of mu and then tells what ended meanwhile, on this goroutine.
func (l *Link) unlock() {
	ended := l.ended
	l.ended = nil
	l.mu.Unlock()
	for _, e := range ended {
		e.done(e.resp, e.err)
	}
}

// unlockLater is unlock for the goroutines of callers, who may hold locks that done needs:
// it tells on another one.
func (l *Link) unlockLater() {
	ended := l.ended
	l.ended = nil
	tell := func() {
		for _, e := range ended {
			e.done(e.resp, e.err)
		}
	}
	switch {
	case len(ended) == 0:
	case l.closed: // nobody waits for goroutines any more
		time.AfterFunc(0, tell)
	default:
		l.running.Go(tell)
	}
	l.mu.Unlock()
}
