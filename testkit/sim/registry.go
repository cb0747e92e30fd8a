package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/persistence/registry"
)

// service is the registry as all nodes share it, Consul in a real cluster: the
// metadata, the controller's lock, and who is a member. It can be away, for all or
// for some; then nobody is dropped who is not heard.
type service struct {
	w     *World
	mem   *registry.Memory
	away  bool
	cut   map[messages.NodeID]bool
	flaky bool // some operations fail, with or without effect

	members map[messages.NodeID]time.Time // when each was heard last
	meta    *messages.Image               // what is committed
	// Commits that took effect, and those of a controller that was none any more.
	commits, refused int
}

// Times of the membership: a member that is not heard for ttl is dropped.
const (
	ttl        = 3 * time.Second
	ttlRefresh = time.Second
	ttlLook    = 500 * time.Millisecond
)

func newService(w *World) *service {
	s := &service{w: w, mem: registry.NewMemory(), cut: map[messages.NodeID]bool{},
		members: map[messages.NodeID]time.Time{}, meta: messages.NewImage()}
	w.after(ttlLook, s.look)
	return s
}

func (s *service) reachable(n messages.NodeID) bool { return !s.away && !s.cut[n] }

// look drops members that were not heard, and ends the session of a controller
// among them.
func (s *service) look() {
	defer s.w.after(ttlLook, s.look)
	if s.away {
		return
	}
	for _, n := range s.w.nodes {
		if heard, ok := s.members[n.id]; ok && s.w.now.Sub(heard) > ttl {
			s.w.note("the membership drops node %d", n.id)
			delete(s.members, n.id)
			s.expire(n.id)
		}
	}
}

// expire ends the controllership of a node.
func (s *service) expire(n messages.NodeID) {
	if s.holder().Node == n {
		s.w.note("node %d is not controller any more", n)
		s.mem.Expire()
		s.tellHolder()
	}
}

func (s *service) holder() registry.Holder {
	h, err := s.mem.Holder(context.Background())
	if err != nil {
		s.w.t.Fatalf("the registry's holder: %v", err)
	}
	return h
}

// tellHolder wakes those who watch the lock.
func (s *service) tellHolder() {
	for _, n := range s.w.nodes {
		n.do(s.w.between(time.Millisecond, 20*time.Millisecond), n.watch)
	}
}

// changed takes over what is committed, and checks it.
func (s *service) changed() {
	c, err := s.mem.Read(context.Background())
	if err != nil {
		s.w.t.Fatalf("reading the registry: %v", err)
	}
	entries := make([]wire.Entry, len(c.Entries))
	for i, e := range c.Entries {
		entries[i] = wire.Entry{Key: e.Key, Value: e.Value}
	}
	contents, err := wire.Decode(entries)
	if err != nil {
		s.w.t.Fatalf("the registry is damaged: %v", err)
	}
	h := s.holder()
	next, ok := messages.NewImage().Apply(contents.Snapshot(c.Version, h.Epoch, h.Node))
	if !ok {
		s.w.t.Fatalf("the registry makes no metadata at version %d", c.Version)
	}
	s.meta = next
	for _, t := range next.Topics() {
		for i := range t.Partitions {
			s.w.truth.decided(t, int32(i))
		}
	}
}

// store is a node's session with the registry. It implements registry.Store.
type store struct {
	*registry.Memory
	s    *service
	node messages.NodeID
}

var errAway = fmt.Errorf("the registry is away: %w", messages.ErrUnavailable)

// fails decides whether an operation fails, and whether it has an effect then.
func (st store) fails() (before, after bool) {
	if !st.s.reachable(st.node) {
		return true, false
	}
	if st.s.flaky && st.s.w.rng.IntN(5) == 0 {
		before = st.s.w.rng.IntN(2) == 0
		return before, !before
	}
	return false, false
}

// Campaign implements registry.Store.
func (st store) Campaign(ctx context.Context, n messages.NodeID) (registry.Lease, error) {
	before, after := st.fails()
	if before {
		return registry.Lease{}, errAway
	}
	l, err := st.Memory.Campaign(ctx, n)
	if err == nil {
		st.s.w.note("node %d becomes controller, epoch %d", n, l.Epoch)
		st.s.tellHolder()
	}
	if after {
		return registry.Lease{}, errAway
	}
	return l, err
}

// Read implements registry.Store.
func (st store) Read(ctx context.Context) (registry.Contents, error) {
	if before, after := st.fails(); before || after {
		return registry.Contents{}, errAway
	}
	return st.Memory.Read(ctx)
}

// Commit implements registry.Store.
func (st store) Commit(
	ctx context.Context, l registry.Lease, ops []registry.Op,
) (messages.MetadataVersion, error) {
	before, after := st.fails()
	if before {
		return 0, errAway
	}
	v, err := st.Memory.Commit(ctx, l, ops)
	switch {
	case err == nil:
		st.s.commits++
		st.s.changed()
	case errors.Is(err, messages.ErrFencedController):
		st.s.w.note("a write of node %d as controller is refused", st.node)
		st.s.refused++
	}
	if after {
		return 0, errAway
	}
	return v, err
}

// refresh is a node's word to the membership that it lives, now and again.
func (n *node) refresh() {
	defer n.do(ttlRefresh, n.refresh)
	s := n.w.service
	if !s.reachable(n.id) {
		return
	}
	_, was := s.members[n.id]
	s.members[n.id] = n.w.now
	if !was && n.joined {
		n.w.note("node %d finds out that its membership lapsed", n.id)
		n.agentDo(n.agent.Lapsed)
	}
	n.joined = true
	n.watch()
}

// watch looks who is controller, and sees to it that somebody is.
func (n *node) watch() {
	s := n.w.service
	if !s.reachable(n.id) {
		return
	}
	n.holder = s.holder()
	switch {
	case n.holder.Node == n.id:
		if n.controller == nil {
			n.activate()
		}
	case n.holder.Node != messages.NoNode:
		n.controller = nil // its home is elsewhere
	case n.joined:
		n.do(n.w.between(0, 20*time.Millisecond), n.campaign)
	}
}

// campaign tries to become controller when nobody is.
func (n *node) campaign() {
	if s := n.w.service; s.reachable(n.id) && s.holder().Node == messages.NoNode {
		_, _ = n.store.Campaign(context.Background(), n.id) // the watch says who is
	}
}

// suspectController has the node that holds the lock deposed if it is dead.
func (n *node) suspectController(dead messages.NodeID) {
	s := n.w.service
	if n.holder.Node != dead || dead == n.id {
		return
	}
	n.ping(dead, func(alive bool) {
		if !alive && s.reachable(n.id) {
			s.expire(dead)
		}
	})
}

// ConsulGoes takes the registry away from everybody; ConsulComesBack ends that.
func (w *World) ConsulGoes() {
	w.note("the registry is away")
	w.service.away = true
}

// ConsulComesBack brings the registry back with all it had.
func (w *World) ConsulComesBack() {
	w.note("the registry is back")
	w.service.away = false
	for id := range w.service.members { // any order: each is given its time anew
		w.service.members[id] = w.now
	}
}

// CutFromConsul takes the registry away from one node.
func (w *World) CutFromConsul(id messages.NodeID) {
	w.note("node %d does not reach the registry", id)
	w.service.cut[id] = true
}

// Lapse has the membership drop a node that is alive.
func (w *World) Lapse(id messages.NodeID) {
	w.note("the membership drops node %d", id)
	delete(w.service.members, id)
	w.service.expire(id)
}

// live are the members, by id.
func (s *service) live() []messages.NodeID {
	var ids []messages.NodeID
	for id := range s.members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
