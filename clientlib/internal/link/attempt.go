package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// helloWait bounds how long a node takes to open a session.
const helloWait = 2 * time.Second

var (
	errBroken    = errors.New("the connection broke")
	errNoGateway = errors.New("the node has no gateway for clients: it starts, or is older")
)

// backoff is the pause after so many failures in a row, spread by chance: clients must
// not come back to a node all at once.
func backoff(failures int) time.Duration {
	d := retryMax
	if failures < 6 {
		d = min(d, retryMin<<max(failures-1, 0))
	}
	return d/2 + rand.N(d/2)
}

// pause waits, unless the link is closed before.
func (l *Link) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// openPeer begins an attempt to open a session for the requests that wait for it. The
// caller holds mu, and the peer is shut.
func (l *Link) openPeer(p *peer) {
	if l.closed {
		return
	}
	p.state, p.settled = opening, make(chan struct{})
	l.running.Go(func() {
		l.mu.Lock()
		wait := time.Until(p.retryAt)
		l.mu.Unlock()
		l.pause(wait)
		_ = l.attempt(p)
	})
}

// try opens a session at an address if there is none, and returns why it cannot.
func (l *Link) try(address string) error {
	l.mu.Lock()
	p := l.peer(address)
	switch p.state {
	case open:
		l.mu.Unlock()
		return nil
	case opening:
		settled := p.settled
		l.mu.Unlock()
		select {
		case <-settled:
		case <-l.ctx.Done():
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.state == open {
			return nil
		}
		return fmt.Errorf("%s: an attempt just failed: %w", address, messages.ErrUnavailable)
	case shut:
	}
	p.state, p.settled = opening, make(chan struct{})
	l.mu.Unlock()
	return l.attempt(p)
}

// attempt tries once to open a session; the peer is in state opening, which it ends.
func (l *Link) attempt(p *peer) error {
	welcome, err := l.greet(p.address)
	l.mu.Lock()
	defer l.unlock()
	if l.closed && err == nil {
		err = ErrClosed
	}
	if err == nil {
		err = l.welcomed(p, welcome)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", p.address, err)
		p.state = shut
		p.failed(time.Now())
		l.endQueued(p.waiting, err)
		p.waiting = nil
	}
	close(p.settled)
	return err
}

// greet says hello to a node.
func (l *Link) greet(address string) (*wire.ClientWelcome, error) {
	if err := l.net.probe(l.ctx, address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, helloWait)
	defer cancel()
	type outcome struct {
		welcome *wire.ClientWelcome
		err     error
	}
	answer := make(chan outcome, 1)
	r := &request{hello: address, deadline: time.Now().Add(2 * helloWait), // ctx ends before
		req: &wire.ClientRequest{Command: &wire.ClientRequest_Hello{
			Hello: &wire.ClientHello{ClientId: l.cfg.ClientID}}},
		done: func(resp *wire.ClientResponse, err error) {
			answer <- outcome{resp.GetWelcome(), err}
		}}
	l.mu.Lock()
	l.dispatch(actor.NewPID(address, gateway), r)
	l.remind(r.deadline)
	l.mu.Unlock()
	select {
	case a := <-answer:
		if a.err == nil && a.welcome == nil {
			a.err = fmt.Errorf("what answers is no gateway: %w", messages.ErrUnavailable)
		}
		return a.welcome, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the node does not answer at the address that this program has "+
			"(Listen, Advertise), or is busy: %w", messages.ErrUnavailable)
	}
}

// welcomed makes a session of what a node answered.
func (l *Link) welcomed(p *peer, w *wire.ClientWelcome) error {
	session := actor.NewPID(p.address, w.Session)
	if l.cluster != "" && w.ClusterId != "" && l.cluster != w.ClusterId && len(l.open) > 0 {
		l.net.send(session, &wire.ClientRequest{Command: &wire.ClientRequest_Goodbye{
			Goodbye: &wire.ClientGoodbye{}}})
		return fmt.Errorf("the node is of another cluster (%s, not %s): %w", w.ClusterId,
			l.cluster, messages.ErrUnavailable)
	}
	node := messages.NodeID(w.NodeId)
	for _, o := range slices.Clone(l.open) {
		if o.node == node { // under another name: a node has one session for a client
			l.lose(o, fmt.Errorf("node %d has another session for this program", node))
		}
	}
	if len(l.open) == 0 {
		l.version = 0 // what was true before all went away need not be
		if l.cluster != w.ClusterId {
			l.beginAnew()
		}
	}
	l.cluster = w.ClusterId
	p.state, p.session, p.node, p.since = open, session, node, time.Now()
	p.home, p.draining, p.window = l.homeOf(w), false, window{size: w.WindowBytes}
	l.open = append(l.open, p)
	l.net.watch(session)
	if w.Nodes != nil {
		l.learnNodes(w.Nodes)
	}
	if p.state != open { // by its own account it moved meanwhile
		return nil
	}
	l.handWaiting(p)
	idle := l.idle
	l.idle = nil
	for _, r := range idle {
		l.hand(p, r)
	}
	l.rouse() // for subscriptions
	select {
	case <-l.up:
	default:
		close(l.up)
	}
	l.log.Info("session with a node", "node", int(p.node), "address", p.address)
	return nil
}

// homeOf is the address of a node that welcomes as it says itself, in a list that may be
// older than the last one, or as others said; "": nobody did yet.
func (l *Link) homeOf(w *wire.ClientWelcome) string {
	for _, n := range w.GetNodes().GetNodes() {
		if n.NodeId == w.NodeId {
			return n.Address
		}
	}
	return l.nodes[messages.NodeID(w.NodeId)].Address
}

// handWaiting gives a peer that has a session what waited for it.
func (l *Link) handWaiting(p *peer) {
	waiting := p.waiting
	p.waiting = nil
	for _, r := range waiting {
		if r.to != messages.NoNode && r.to != p.node {
			l.end(r, nil, fmt.Errorf("node %d was not found at %s, but node %d: %w",
				r.to, p.address, p.node, ErrNotSent))
			continue
		}
		l.hand(p, r)
	}
}
