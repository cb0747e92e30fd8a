package groups

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/primitive"
)

// consumerType is the protocol type of consumers, whose metadata a group can read.
const consumerType = "consumer"

// classic is the membership of a classic group: members join until all are there,
// the leader among them makes the assignment, and they sync to get it.
//
//	Empty -> PreparingRebalance -> CompletingRebalance -> Stable
//
// Anything that changes the membership leads back to PreparingRebalance.
type classic struct {
	g *Group

	state group.State
	// initial: the group was Empty before it began to prepare this rebalance.
	initial bool
	// since is when the group came into its state; NoTimestamp: not known.
	since        messages.Timestamp
	generation   int32  // completed joins; never falls
	protocolType string // "": there never was a member
	protocol     string // of the generation; "": none
	leader       string // "": there are no members

	members []*member // in the order they came
	byID    map[string]*member
	static  map[string]*member // by instance id
	votes   map[string]int     // how many members know a protocol
	joining int                // members whose join is parked
	// owing counts the members that have not synced in this generation.
	owing int
	// pending are ids that were handed out and did not come back yet (KIP-394),
	// with the time until which they may.
	pending map[string]time.Time

	subscribes subscription
	// recorded: the log may hold a record of the group that is no tombstone.
	recorded bool

	timers timers
}

// member is a member of a classic group.
type member struct {
	id          string
	instance    string // "": a dynamic one
	clientID    string
	clientHost  string
	sessionMs   int32
	rebalanceMs int32
	protocols   []group.Protocol
	assignment  []byte
	// fresh: its first join is still parked, so it is not expected to heartbeat.
	fresh  bool
	synced bool
	// join and sync are parked; nil: none is.
	join *group.Join
	sync *group.Sync
	// deadline is when it is given up unless it is heard of; zero: it waits for us.
	deadline time.Time
}

func newClassic(g *Group) *classic {
	return &classic{
		g: g, state: group.Empty, since: messages.NoTimestamp,
		byID: map[string]*member{}, static: map[string]*member{}, votes: map[string]int{},
		pending: map[string]time.Time{},
	}
}

func (c *classic) kind() group.Type { return group.Classic }

func (c *classic) handle(now time.Time, r coord.Request) bool {
	switch r.(type) {
	case *group.Join, *group.Sync, *group.Heartbeat, *group.Leave:
		if id := c.g.id; id == "" || len(id) > primitive.MaxText {
			r.Refuse(fmt.Errorf("group id of %d bytes: %w", len(id), group.ErrInvalidGroupID))
			return true
		}
	}
	switch r := r.(type) {
	case *group.Join:
		c.join(now, r)
	case *group.Sync:
		c.sync(now, r)
	case *group.Heartbeat:
		r.Reply(c.heartbeat(now, r))
	case *group.Leave:
		c.leave(now, r)
	default:
		return false
	}
	return true
}

// become changes the state.
func (c *classic) become(now time.Time, s group.State) {
	c.state, c.since = s, timestamp(now)
	invariant.That((s == group.Empty) == (len(c.members) == 0) || s == group.PreparingRebalance,
		"group %q is %s with %d members", c.g.id, s, len(c.members))
}

// add takes a member in.
func (c *classic) add(m *member) {
	if len(c.members) == 0 {
		c.leader = m.id
	}
	c.members = append(c.members, m)
	c.byID[m.id] = m
	if m.instance != "" {
		c.static[m.instance] = m
	}
	c.vote(m, 1)
}

// remove lets a member go and answers what it waits for with err.
func (c *classic) remove(m *member, err error) {
	c.release(m, err)
	if !m.synced && c.owing > 0 {
		c.owing--
	}
	c.vote(m, -1)
	delete(c.byID, m.id)
	if m.instance != "" {
		delete(c.static, m.instance)
	}
	i := slices.Index(c.members, m)
	c.members = slices.Delete(c.members, i, i+1)
	if c.leader == m.id {
		c.leader = ""
		if len(c.members) > 0 {
			c.leader = c.members[0].id
		}
	}
}

// vote counts the protocols of a member in, or out with -1.
func (c *classic) vote(m *member, n int) {
	for _, p := range m.protocols {
		c.votes[p.Name] += n
		if c.votes[p.Name] == 0 {
			delete(c.votes, p.Name)
		}
	}
}

// park keeps a join until the phase is complete. One that the member sent before
// was given up by it, or it would not have sent another.
func (c *classic) park(m *member, r *group.Join) {
	if m.join != nil {
		m.join.Refuse(c.errorf(group.ErrRebalanceInProgress, "member %q joined again", m.id))
	} else {
		c.joining++
	}
	m.join = r
}

// answerJoin answers a parked join, if there is one.
func (c *classic) answerJoin(m *member, j group.Joined) {
	if m.join != nil {
		r := m.join
		m.join = nil
		c.joining--
		r.Reply(j)
	}
}

// release answers all that a member waits for with err.
func (c *classic) release(m *member, err error) {
	c.answerJoin(m, group.Joined{Err: err, Generation: group.NoGeneration, MemberID: m.id})
	c.answerSync(m, group.Synced{Err: err})
}

// known returns the member that a request speaks for.
func (c *classic) known(id, instance string) (*member, error) {
	if instance != "" {
		switch m := c.static[instance]; {
		case m == nil:
			return nil, c.errorf(group.ErrUnknownMember, "static member %q", instance)
		case m.id != id:
			return nil, c.errorf(group.ErrFencedInstance, "static member %q is %q now, not %q",
				instance, m.id, id)
		}
	}
	m := c.byID[id]
	if m == nil {
		return nil, c.errorf(group.ErrUnknownMember, "member %q", id)
	}
	return m, nil
}

func (c *classic) errorf(err error, format string, args ...any) error {
	return fmt.Errorf("group %q: %s: %w", c.g.id, fmt.Sprintf(format, args...), err)
}

func (c *classic) wrongGeneration(generation int32) error {
	return c.errorf(group.ErrIllegalGeneration, "generation %d, it is at %d", generation, c.generation)
}

func (c *classic) heartbeat(now time.Time, r *group.Heartbeat) error {
	m, err := c.known(r.MemberID, r.InstanceID)
	switch {
	case err != nil:
		return err
	case r.Generation != c.generation:
		return c.wrongGeneration(r.Generation)
	}
	c.alive(now, m)
	if c.state == group.PreparingRebalance {
		return c.errorf(group.ErrRebalanceInProgress, "member %q has to join", m.id)
	}
	return nil
}

func (c *classic) mayCommit(now time.Time, by *committer) error {
	if by.generation < 0 && c.state == group.Empty {
		return nil // Kafka does not look at the member then
	}
	if by.generation < 0 && by.memberID == "" && by.instanceID == "" {
		if by.txn {
			return nil // old producers do not say which member they work for
		}
		return c.errorf(group.ErrUnknownMember, "it has members, and only they may commit")
	}
	m, err := c.known(by.memberID, by.instanceID)
	switch {
	case err != nil:
		return err
	case by.generation != c.generation:
		return c.wrongGeneration(by.generation)
	case by.txn:
		return nil
	case c.state == group.CompletingRebalance:
		return c.errorf(group.ErrRebalanceInProgress, "member %q commits before it synced", m.id)
	}
	c.alive(now, m)
	return nil
}

// mayFetch implements membership: everybody may.
func (c *classic) mayFetch(string, int32) error { return nil }

func (c *classic) mayDeleteOffsets() error {
	if c.state != group.Empty && c.protocolType != consumerType {
		return c.errorf(group.ErrNonEmptyGroup, "what members of type %q read is not known",
			c.protocolType)
	}
	return nil
}

func (c *classic) subscribed(topic string) bool {
	if c.protocolType != consumerType {
		return false
	}
	return c.subscribes.has(topic)
}

func (c *classic) retention() retention {
	switch {
	case len(c.pending) > 0:
		return retention{}
	case c.protocolType == "":
		return retention{expires: true, since: messages.NoTimestamp}
	case c.state == group.Empty:
		return retention{expires: true, since: c.since}
	case c.state == group.Stable && c.protocolType == consumerType && c.subscribes.known:
		return retention{expires: true, since: messages.NoTimestamp}
	}
	return retention{}
}

func (c *classic) vacant() bool { return c.state == group.Empty }

func (c *classic) exists() bool {
	return c.recorded || c.state != group.Empty || len(c.pending) > 0
}

func (c *classic) describe(d *group.Description) {
	d.State, d.ProtocolType = c.state, c.protocolType
	d.Simple = c.protocolType == "" && c.g.offsets.len() > 0
	stable := c.state == group.Stable
	if stable {
		d.Protocol = c.protocol
	}
	for _, m := range c.members {
		shown := group.Member{
			MemberID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
		}
		if stable {
			shown.Metadata, shown.Assignment = m.metadata(c.protocol), m.assignment
		}
		d.Members = append(d.Members, shown)
	}
}

func (c *classic) stop(err error) {
	for _, m := range c.members {
		c.release(m, err)
	}
}

// metadata is what a member says of itself in a protocol.
func (m *member) metadata(protocol string) []byte {
	i := m.rank(protocol)
	if i < 0 {
		return nil
	}
	return m.protocols[i].Metadata
}

// rank is the place of a protocol among the member's favourites; -1: not known.
func (m *member) rank(protocol string) int {
	return slices.IndexFunc(m.protocols, func(p group.Protocol) bool { return p.Name == protocol })
}

// says reports whether the member has said just this of itself before.
func (m *member) says(protocols []group.Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b group.Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}
