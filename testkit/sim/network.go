package sim

import (
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
)

// network carries messages between nodes over connections, as TCP does: in order,
// or not at all once the connection broke. Who waits for an answer learns of a
// broken connection, at once when the peer's process died, else late.
type network struct {
	w     *World
	links map[link]*connection
	cut   map[link]bool          // no packet passes in this direction
	slow  map[link]time.Duration // added to each packet
	lossy bool                   // now and then a control message is lost, or comes twice
	last  map[link]time.Time     // when the latest control message arrives
	// packets counts what replicas sent to each other.
	packets int
	// mute is a node whose markers do not reach the leaders on others; NoNode: none is.
	mute messages.NodeID
}

type link struct{ from, to messages.NodeID }

// connection is one life of a link.
type connection struct {
	broken  bool
	arrival time.Time // of the packet sent last, so that none overtakes it
	failed  []waiter  // what the requests under way do when it breaks
}

type waiter struct {
	lost func()
	over func() bool
}

// Ping times of idle connections: how long a black hole stays unnoticed.
const (
	noticeLeast = 2 * time.Second
	noticeMost  = 4 * time.Second
)

func newNetwork(w *World) *network {
	return &network{w: w, mute: messages.NoNode, links: map[link]*connection{}, cut: map[link]bool{},
		slow: map[link]time.Duration{}, last: map[link]time.Time{}}
}

// waits has f called when the connection breaks, unless it is over by then.
func (c *connection) waits(f func(), over func() bool) { c.failed = waiting(c.failed, f, over) }

// waiting adds to a list of waiters, and drops those of whom all is over.
func waiting(list []waiter, f func(), over func() bool) []waiter {
	if len(list) >= 64 {
		list = slices.DeleteFunc(list, func(w waiter) bool { return w.over() })
	}
	return append(list, waiter{f, over})
}

// loses decides whether a control message meets a connection that just breaks.
func (n *network) loses(from, to messages.NodeID) bool {
	return n.lossy && from != to && n.w.rng.IntN(20) == 0
}

// datagram carries a control message to the process that is there now. Those of
// one sender arrive in their order, but some may be lost.
func (n *network) datagram(from, to messages.NodeID, deliver func()) {
	target, l := n.w.node(to), link{from, to}
	if !target.up || n.loses(from, to) {
		return
	}
	life := target.life
	at := n.w.now.Add(n.w.between(50*time.Microsecond, 3*time.Millisecond) + n.slow[l])
	if at.Before(n.last[l]) {
		at = n.last[l]
	}
	n.last[l] = at
	n.w.after(at.Sub(n.w.now), func() {
		if !n.cut[l] {
			target.run(life, deliver)
		}
	})
}

// reachable reports whether packets pass both ways.
func (n *network) reachable(a, b messages.NodeID) bool {
	return !n.cut[link{a, b}] && !n.cut[link{b, a}]
}

// connect returns the connection from one node to another, nil if there can be none.
func (n *network) connect(from, to messages.NodeID) *connection {
	if !n.reachable(from, to) || !n.w.node(to).alive() {
		return nil
	}
	l := link{from, to}
	c := n.links[l]
	if c == nil || c.broken {
		c = &connection{arrival: n.w.now}
		n.links[l] = c
	}
	return c
}

// send delivers a packet over c, unless c breaks or a cut swallows it first.
func (n *network) send(c *connection, from, to messages.NodeID, deliver func()) {
	at := n.w.now.Add(n.w.between(20*time.Microsecond, 500*time.Microsecond) + n.slow[link{from, to}])
	if at.Before(c.arrival) {
		at = c.arrival
	}
	c.arrival = at
	n.packets++
	n.w.after(at.Sub(n.w.now), func() {
		if !c.broken && !n.cut[link{from, to}] {
			deliver()
		}
	})
}

// breakAll ends the connections that match, and tells whoever waits on them
// after a delay.
func (n *network) breakAll(late bool, match func(link) bool) {
	for _, a := range n.w.nodes {
		for _, b := range n.w.nodes {
			l := link{a.id, b.id}
			c := n.links[l]
			if c == nil || c.broken || !match(l) {
				continue
			}
			delay := n.w.soon()
			if late {
				delay = n.w.between(noticeLeast, noticeMost)
			}
			n.w.after(delay, func() { n.breakNow(l, c) })
		}
	}
}

func (n *network) breakNow(l link, c *connection) {
	if c.broken {
		return
	}
	c.broken = true
	for _, failed := range c.failed {
		failed.lost()
	}
	c.failed = nil
	n.w.node(l.to).followerLost(l.from)
	n.w.node(l.from).suspect(l.to)
	n.w.node(l.to).suspect(l.from)
}

// Cut lets no packet pass between two nodes, in either direction.
func (w *World) Cut(a, b messages.NodeID) {
	w.note("the link between %d and %d is cut", a, b)
	for _, l := range []link{{a, b}, {b, a}} {
		w.net.cut[l] = true
	}
	w.net.breakAll(true, func(l link) bool { return l == link{a, b} || l == link{b, a} })
}

// CutOneWay swallows the packets from one node to another.
func (w *World) CutOneWay(from, to messages.NodeID) {
	w.note("packets from %d to %d are swallowed", from, to)
	w.net.cut[link{from, to}] = true
	w.net.breakAll(true, func(l link) bool { return l == link{from, to} || l == link{to, from} })
}

// Slow adds a delay to every packet between two nodes.
func (w *World) Slow(a, b messages.NodeID, by time.Duration) {
	w.note("the link between %d and %d is slow: %s", a, b, by)
	w.net.slow[link{a, b}], w.net.slow[link{b, a}] = by, by
}

// Isolate cuts a node off from all others, and from the registry.
func (w *World) Isolate(id messages.NodeID) {
	for _, n := range w.nodes {
		if n.id != id {
			w.Cut(id, n.id)
		}
	}
	w.CutFromConsul(id)
}

// Heal mends every link.
func (w *World) Heal() {
	w.note("the network is healed")
	clear(w.net.cut)
	clear(w.net.slow)
	clear(w.service.cut)
	w.service.flaky, w.net.lossy = false, false
	if w.service.away {
		w.ConsulComesBack()
	}
}
