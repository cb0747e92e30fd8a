package kafka

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// fakeCoordinators keeps groups of one member and transactions in memory, and
// records what it is asked. Tests set answer to say something else.
type fakeCoordinators struct {
	mu      sync.Mutex
	asked   []fakeAsked
	answer  func(key string, r coord.Request) bool // false: answer as usual
	node    messages.NodeID                        // answered by Find
	err     error                                  // answered by all but Group and Txn while it is set
	noTopic bool                                   // __consumer_offsets is made by Find
	nextID  messages.ProducerID
	groups  map[string]*fakeGroup
	txns    map[string]*txn.Description
	marks   []txn.Markers
	now     messages.Timestamp
}

// fakeAsked is one request and who it was for.
type fakeAsked struct {
	key string
	req coord.Request
}

// fakeGroup has one member at most.
type fakeGroup struct {
	typ        group.Type
	member     *group.Member
	generation int32
	protocol   group.Protocol
	kind       string
	offsets    map[messages.TopicPartition]group.Offset
}

func newFakeCoordinators() *fakeCoordinators {
	return &fakeCoordinators{node: fakeNode, nextID: 5000, now: 1000,
		groups: map[string]*fakeGroup{}, txns: map[string]*txn.Description{}}
}

// lastAsked returns the last request, which is of type R, and its key.
func lastAsked[R coord.Request](t *testing.T, f *fakeCluster) (string, R) {
	t.Helper()
	f.coords.mu.Lock()
	defer f.coords.mu.Unlock()
	if len(f.coords.asked) == 0 {
		t.Fatal("no coordinator was asked")
	}
	last := f.coords.asked[len(f.coords.asked)-1]
	r, ok := last.req.(R)
	if !ok {
		t.Fatalf("the coordinator was asked %T", last.req)
	}
	return last.key, r
}

// count is how many requests there were.
func (c *fakeCoordinators) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// refuse makes every coordinator answer err.
func (c *fakeCoordinators) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = func(_ string, r coord.Request) bool { r.Refuse(err); return true }
}

// script makes coordinators answer requests of one type by a.
func script[R coord.Request](f *fakeCluster, a func(key string, r R)) {
	f.coords.mu.Lock()
	defer f.coords.mu.Unlock()
	f.coords.answer = func(key string, r coord.Request) bool {
		if r, ok := r.(R); ok {
			a(key, r)
			return true
		}
		return false
	}
}

// Find implements Coordinators.
func (c *fakeCoordinators) Find(context.Context, coord.Kind, string) (messages.NodeID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noTopic = false
	return c.node, c.err
}

// Partition implements Coordinators.
func (c *fakeCoordinators) Partition(kind coord.Kind, key string,
) (messages.TopicPartition, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noTopic {
		return messages.TopicPartition{}, messages.ErrUnknownTopicOrPartition
	}
	return messages.TopicPartition{Topic: kind.Topic(), Partition: coord.Partition(key, 50)}, c.err
}

// Group implements Coordinators.
func (c *fakeCoordinators) Group(id string, r coord.Request) {
	if !c.scripted(id, r) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handleGroup(id, r)
	}
}

// Txn implements Coordinators.
func (c *fakeCoordinators) Txn(id string, r coord.Request) {
	if !c.scripted(id, r) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handleTxn(id, r)
	}
}

func (c *fakeCoordinators) scripted(key string, r coord.Request) bool {
	c.mu.Lock()
	c.asked = append(c.asked, fakeAsked{key, r})
	answer := c.answer
	c.mu.Unlock()
	return answer != nil && answer(key, r)
}

// AddToTxn implements Coordinators.
func (c *fakeCoordinators) AddToTxn(ctx context.Context, id string, a txn.Add) txn.Added {
	return door.Await(ctx, c.Txn, id, func(reply func(txn.Added)) coord.Request {
		a := a
		a.Reply = reply
		return &a
	})
}

// Groups implements Coordinators.
func (c *fakeCoordinators) Groups(context.Context) ([]group.Listed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []group.Listed
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[id]
		out = append(out, group.Listed{GroupID: id, ProtocolType: g.kind, State: g.state(),
			Type: g.typ})
	}
	return out, c.err
}

// Txns implements Coordinators.
func (c *fakeCoordinators) Txns(context.Context) ([]TxnListed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []TxnListed
	for _, id := range slices.Sorted(maps.Keys(c.txns)) {
		out = append(out, *c.txns[id])
	}
	return out, c.err
}

// WriteMarkers implements Coordinators: partition 0 is always led elsewhere.
func (c *fakeCoordinators) WriteMarkers(_ context.Context, m txn.Markers) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks = append(c.marks, m)
	errs := make([]error, len(m.Partitions))
	for i, tp := range m.Partitions {
		if errs[i] = c.err; tp.Partition == 0 {
			errs[i] = messages.ErrNotLeader
		}
	}
	return errs
}

func (g *fakeGroup) state() group.State {
	if g.member == nil {
		return group.Empty
	}
	return group.Stable
}

// make returns the group, new if there was none.
func (c *fakeCoordinators) make(id string, typ group.Type) *fakeGroup {
	g := c.groups[id]
	if g == nil {
		g = &fakeGroup{typ: typ, offsets: map[messages.TopicPartition]group.Offset{}}
		c.groups[id] = g
	}
	return g
}

func (c *fakeCoordinators) handleGroup(id string, r coord.Request) {
	g := c.groups[id]
	if _, joins := r.(*group.Join); g == nil && !joins {
		c.handleNoGroup(id, r)
		return
	}
	switch r := r.(type) {
	case *group.Join:
		c.join(id, r)
	case *group.Sync:
		if err := g.check(r.MemberID, r.Generation); err != nil {
			r.Refuse(err)
			return
		}
		g.member.Assignment = r.Assignments[r.MemberID]
		r.Reply(group.Synced{ProtocolType: g.kind, Protocol: g.protocol.Name,
			Assignment: g.member.Assignment})
	case *group.Heartbeat:
		r.Reply(g.check(r.MemberID, r.Generation))
	case *group.Leave:
		g.member = nil
		r.Reply(group.Left{Errs: make([]error, len(r.Members))})
	case *group.Commit:
		c.commit(g, r.Offsets, r.Reply)
	case *group.TxnCommit:
		c.commit(g, r.Offsets, r.Reply)
	case *group.FetchOffsets:
		r.Reply(group.Fetched{Offsets: g.fetch(r.Partitions)})
	case *group.Describe:
		d := group.Description{GroupID: id, Type: g.typ, State: g.state(), ProtocolType: g.kind,
			Protocol: g.protocol.Name}
		if g.member != nil {
			d.Members = []group.Member{*g.member}
		}
		r.Reply(d)
	case *group.Delete:
		if g.member != nil {
			r.Reply(group.ErrNonEmptyGroup)
			return
		}
		delete(c.groups, id)
		r.Reply(nil)
	case *group.DeleteOffsets:
		for _, tp := range r.Partitions {
			delete(g.offsets, tp)
		}
		r.Reply(group.Committed{Errs: make([]error, len(r.Partitions))})
	default:
		r.Refuse(group.ErrGroupNotFound)
	}
}

// handleNoGroup answers for a group that does not exist.
func (c *fakeCoordinators) handleNoGroup(id string, r coord.Request) {
	switch r := r.(type) {
	case *group.Commit:
		c.commit(c.make(id, group.Classic), r.Offsets, r.Reply)
	case *group.TxnCommit:
		c.commit(c.make(id, group.Classic), r.Offsets, r.Reply)
	case *group.FetchOffsets:
		r.Reply(group.Fetched{Offsets: (&fakeGroup{}).fetch(r.Partitions)})
	case *group.ConsumerHeartbeat:
		c.make(id, group.Consumer).member = &group.Member{MemberID: r.MemberID, Epoch: 1,
			Topics: r.Topics}
		r.Reply(group.ConsumerHeartbeated{MemberID: cmp.Or(r.MemberID, r.NewMemberID),
			MemberEpoch: 1, HeartbeatIntervalMs: 5000, HasAssigned: true})
	default:
		r.Refuse(fmt.Errorf("group %q: %w", id, group.ErrGroupNotFound))
	}
}

func (c *fakeCoordinators) join(id string, r *group.Join) {
	if len(r.Protocols) == 0 {
		r.Refuse(group.ErrInconsistentProtocol)
		return
	}
	if r.MemberID == "" && r.InstanceID == "" && r.RequireKnownID {
		r.Reply(group.Joined{Err: group.ErrMemberIDRequired, MemberID: r.NewMemberID})
		return
	}
	g := c.make(id, group.Classic)
	g.kind, g.protocol = r.ProtocolType, r.Protocols[0]
	g.generation++
	g.member = &group.Member{MemberID: cmp.Or(r.MemberID, r.NewMemberID), InstanceID: r.InstanceID,
		ClientID: r.ClientID, ClientHost: r.ClientHost, Metadata: r.Protocols[0].Metadata}
	r.Reply(group.Joined{Generation: g.generation, ProtocolType: r.ProtocolType,
		Protocol: g.protocol.Name, Leader: g.member.MemberID, MemberID: g.member.MemberID,
		Members: []group.JoinedMember{{MemberID: g.member.MemberID, InstanceID: r.InstanceID,
			Metadata: g.member.Metadata}}})
}

func (g *fakeGroup) check(member string, generation int32) error {
	switch {
	case g.member == nil || g.member.MemberID != member:
		return group.ErrUnknownMember
	case g.generation != generation:
		return group.ErrIllegalGeneration
	}
	return nil
}

func (c *fakeCoordinators) commit(g *fakeGroup, offsets []group.Offset,
	reply func(group.Committed),
) {
	for _, o := range offsets {
		g.offsets[messages.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o
	}
	reply(group.Committed{Errs: make([]error, len(offsets))})
}

func (g *fakeGroup) fetch(wanted []messages.TopicPartition) (out []group.FetchedOffset) {
	if wanted == nil {
		wanted = slices.Collect(maps.Keys(g.offsets))
	}
	for _, tp := range wanted {
		o, ok := g.offsets[tp]
		if !ok {
			o = group.Offset{Topic: tp.Topic, Partition: tp.Partition, Offset: messages.NoOffset,
				Epoch: messages.NoEpoch}
		}
		out = append(out, group.FetchedOffset{Offset: o})
	}
	return out
}

func (c *fakeCoordinators) handleTxn(id string, r coord.Request) {
	d := c.txns[id]
	if _, inits := r.(*txn.Init); d == nil && !inits {
		if _, describes := r.(*txn.Describe); describes {
			r.Refuse(txn.ErrNotFound)
			return
		}
		r.Refuse(txn.ErrInvalidMapping)
		return
	}
	switch r := r.(type) {
	case *txn.Init:
		if d == nil {
			c.nextID++
			d = &txn.Description{ID: id, Producer: c.nextID, Epoch: -1,
				StartedMs: messages.NoTimestamp, UpdatedMs: c.now}
			c.txns[id] = d
		}
		d.Epoch++
		d.TimeoutMs = r.TimeoutMs
		r.Reply(txn.Initialized{Producer: d.Producer, Epoch: d.Epoch})
	case *txn.Add:
		if r.Epoch != d.Epoch {
			r.Refuse(txn.ErrProducerFenced)
			return
		}
		d.State, d.StartedMs = txn.Ongoing, c.now
		d.Partitions = append(d.Partitions, r.Partitions...)
		r.Reply(txn.Added{})
	case *txn.End:
		d.State, d.StartedMs, d.Partitions = txn.CompleteAbort, messages.NoTimestamp, nil
		if r.Commit {
			d.State = txn.CompleteCommit
		}
		if r.V2 {
			d.Epoch++
		}
		r.Reply(txn.Ended{Producer: d.Producer, Epoch: d.Epoch})
	case *txn.Describe:
		r.Reply(*d)
	default:
		r.Refuse(messages.ErrInvalidRequest)
	}
}
