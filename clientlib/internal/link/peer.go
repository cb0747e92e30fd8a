package link

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// Attempts to open a session come after pauses that grow to retryMax. One that held for
// soundAfter was sound: the next attempt need not wait.
const (
	retryMin   = 50 * time.Millisecond
	retryMax   = time.Second
	soundAfter = 5 * time.Second
)

type state int8

const (
	shut state = iota
	opening
	open
)

// peer is an address of a node, and the session there.
type peer struct {
	address  string // as it is dialled
	state    state
	settled  chan struct{} // closed when an attempt to open a session has ended
	failures int           // in a row
	retryAt  time.Time

	// Of the session.
	session  *actor.PID
	node     messages.NodeID
	home     string // address of the node among the live nodes; "": not seen there
	since    time.Time
	draining bool
	hung     bool // it left a request unanswered, and has answered none since
	window   window

	waiting []*request // for the session, in order
	appends []*request // for room in the window, in order
}

// window bounds the bytes that a session was sent and has not answered.
type window struct {
	size, used int64
	unfenced   int64 // of used, by appends that are not answered
}

// fits reports whether n more may be sent. The first ones always may.
func (w *window) fits(n int64) bool { return w.used == 0 || w.used+n <= w.size }

// fences reports whether it is time to ask whether unanswered appends arrived.
func (w *window) fences() bool { return w.unfenced > w.size/4 }

// peer returns the one of an address.
func (l *Link) peer(address string) *peer {
	p := l.peers[address]
	if p == nil {
		p = &peer{address: address}
		l.peers[address] = p
	}
	return p
}

// choose returns who a request to a node goes to; nil: nobody is known.
func (l *Link) choose(to messages.NodeID) *peer {
	if to == messages.NoNode {
		return l.chooseAny()
	}
	for _, p := range l.open {
		if p.node == to {
			return p
		}
	}
	if n, ok := l.nodes[to]; ok {
		return l.peer(n.Address)
	}
	return nil
}

// chooseAny takes turns among the sessions, and those that do not serve well only if
// there are no others.
func (l *Link) chooseAny() (p *peer) {
	for range l.open {
		l.turn++
		p = l.open[l.turn%len(l.open)]
		if p.serves() {
			return p
		}
	}
	return p
}

// serves reports whether the session is going to stay, and answers.
func (p *peer) serves() bool { return !p.draining && !p.hung }

// usable reports whether there is a session that serves.
func (l *Link) usable() bool { return slices.ContainsFunc(l.open, (*peer).serves) }

// hand gives a request to a peer, to be sent now or in its turn.
func (l *Link) hand(p *peer, r *request) {
	switch p.state {
	case shut:
		p.waiting = append(p.waiting, r)
		l.openPeer(p)
	case opening:
		p.waiting = append(p.waiting, r)
	case open:
		if r.bytes == 0 {
			l.post(p, r)
			return
		}
		p.appends = append(p.appends, r)
		l.drainAppends(p)
	}
}

// drainAppends sends the appends for which there is room.
func (l *Link) drainAppends(p *peer) {
	for len(p.appends) > 0 && p.window.fits(p.appends[0].bytes) {
		r := p.appends[0]
		p.appends[0] = nil
		p.appends = p.appends[1:]
		p.window.used += r.bytes
		if r.req.GetAppend().GetAcks() != 0 {
			l.post(p, r)
			continue
		}
		l.postUnanswered(p, r)
	}
	if p.window.fences() || len(p.appends) > 0 && p.window.unfenced > 0 {
		l.fence(p)
	}
}

// postUnanswered sends an append that gets no answer: it ends as if it got one.
func (l *Link) postUnanswered(p *peer, r *request) {
	l.post(p, r)
	delete(l.pending, r.id)
	p.window.unfenced += r.bytes
	l.end(r, &wire.ClientResponse{RequestId: r.id, Result: &wire.ClientResponse_Appended{
		Appended: &wire.ClientAppended{BaseOffset: -1, LogAppendTimeMs: -1}}}, nil)
}

// fence asks the session something that it answers, behind appends that it does not
// answer: when it has, it has those.
func (l *Link) fence(p *peer) {
	bytes := p.window.unfenced
	p.window.unfenced = 0
	l.post(p, &request{req: &wire.ClientRequest{}, bytes: bytes,
		deadline: time.Now().Add(defaultWait), done: func(*wire.ClientResponse, error) {}})
}

// settleBytes takes back bytes that were answered, and sends what waits for them.
func (l *Link) settleBytes(p *peer, bytes int64) {
	if bytes > 0 && p.state == open {
		p.window.used -= bytes
		l.drainAppends(p)
	}
}

// lose ends a session that is no more.
func (l *Link) lose(p *peer, cause error) {
	p.state, p.hung = shut, false
	l.open = slices.DeleteFunc(l.open, func(o *peer) bool { return o == p })
	l.endRequests(p, cause)
	if time.Since(p.since) >= soundAfter {
		p.failures, p.retryAt = 0, time.Time{}
	} else {
		p.failed(time.Now())
	}
	// Actors of topics may have lived at the node.
	l.resubscribe()
	l.lookOut()
	if !l.closed { // else it is what Close does
		l.log.Info("session with a node ended", "node", int(p.node), "address", p.address,
			"cause", cause)
	}
}

// failed notes an attempt that led to nothing, or to little.
func (p *peer) failed(now time.Time) {
	p.failures++
	p.retryAt = now.Add(backoff(p.failures))
}

// broken implements listener.
func (l *Link) broken(address string, cause error) {
	l.mu.Lock()
	defer l.unlock()
	l.endHellos(func(r *request) bool { return r.hello == address }, cause)
	if p := l.peers[address]; p != nil && p.state == open {
		l.lose(p, fmt.Errorf("node %d: %w", p.node, cause))
	}
}

// missing implements listener.
func (l *Link) missing(address, name string) {
	l.mu.Lock()
	defer l.unlock()
	if name == gateway {
		// The node names itself as it does, which may not be how it was dialled.
		if l.endHellos(func(r *request) bool { return r.hello == address }, errNoGateway) == 0 {
			l.endHellos(func(*request) bool { return true }, errNoGateway)
		}
		return
	}
	for _, p := range l.open {
		if p.session.Id == name && (p.address == address || p.home == address || p.home == "") {
			l.lose(p, fmt.Errorf("node %d: its session is over", p.node))
			return
		}
	}
}

// pushed implements listener.
func (l *Link) pushed(push *wire.ClientPush) {
	l.mu.Lock()
	defer l.unlock()
	switch {
	case l.closed:
	case push.GetRoute() != nil:
		l.routed(push.GetRoute())
	case push.GetNodes() != nil:
		l.learnNodes(push.GetNodes())
	case push.GetDraining() != nil:
		for _, p := range l.open {
			if p.node == messages.NodeID(push.GetDraining().NodeId) {
				p.draining = true
				l.resubscribe()
				l.lookOut()
			}
		}
	}
}

// learnNodes takes the list of live nodes, if it is newer than the last one.
func (l *Link) learnNodes(list *wire.ClientNodes) {
	if list.GetVersion() <= l.version || len(list.Nodes) == 0 {
		return
	}
	l.version = list.Version
	before := l.nodes
	l.nodes = make(map[messages.NodeID]Node, len(list.Nodes))
	addresses := map[string]bool{}
	changed := len(before) != len(list.Nodes)
	for _, n := range list.Nodes {
		id := messages.NodeID(n.NodeId)
		l.nodes[id] = Node{ID: id, Address: n.Address, Rack: n.Rack, Kafka: n.Kafka}
		addresses[n.Address] = true
		changed = changed || before[id].Address != n.Address
	}
	for _, p := range slices.Clone(l.open) {
		now := l.nodes[p.node].Address
		if p.home != "" && p.home != now {
			l.lose(p, fmt.Errorf("node %d left, or moved to another address", p.node))
		} else {
			p.home = now
		}
	}
	for address, p := range l.peers {
		if p.state == shut && !addresses[address] {
			delete(l.peers, address)
		}
	}
	if changed {
		l.resubscribe() // actors of topics move with the nodes
	}
}
