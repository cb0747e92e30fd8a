package groups

import (
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
)

// maxPending is how many ids may be out that did not come back (KIP-394). Kafka
// has no bound; each costs memory for a session timeout.
const maxPending = 10000

// join decides a JoinGroup.
func (c *classic) join(now time.Time, r *group.Join) {
	if err := c.checkJoin(r); err != nil {
		r.Refuse(err)
		return
	}
	if !c.hasRoom(r.MemberID) {
		c.turnAway(now, r)
		return
	}
	protocols := distinct(r.Protocols)
	if !c.supports(r.ProtocolType, protocols) {
		r.Refuse(c.errorf(group.ErrInconsistentProtocol, "protocol type %q with %d protocols",
			r.ProtocolType, len(protocols)))
		return
	}
	_, returns := c.pending[r.MemberID]
	switch {
	case r.MemberID == "" && r.InstanceID != "":
		c.joinStatic(now, r, protocols)
	case r.MemberID == "" && r.RequireKnownID:
		c.handOutID(now, r)
	case r.MemberID == "":
		c.joinNew(now, r, r.NewMemberID, protocols)
	case returns && r.InstanceID == "":
		c.joinNew(now, r, r.MemberID, protocols)
	default:
		c.rejoin(now, r, protocols)
	}
}

// checkJoin refuses what cannot be joined whatever the group is like.
func (c *classic) checkJoin(r *group.Join) error {
	cfg := c.g.cfg()
	session := millis(r.SessionTimeoutMs)
	if session < cfg.MinSessionTimeout || session > cfg.MaxSessionTimeout {
		return c.errorf(group.ErrInvalidSessionTimeout, "%v is not between %v and %v", session,
			cfg.MinSessionTimeout, cfg.MaxSessionTimeout)
	}
	if r.MemberID != "" && !c.g.exists() {
		return c.errorf(group.ErrUnknownMember, "member %q", r.MemberID)
	}
	if _, taken := c.byID[r.NewMemberID]; r.MemberID == "" && (taken || r.NewMemberID == "") {
		return c.errorf(messages.ErrInvalidRequest, "new member id %q", r.NewMemberID)
	}
	texts := []string{
		r.MemberID, r.NewMemberID, r.InstanceID, r.ClientID, r.ClientHost, r.ProtocolType,
	}
	for _, p := range r.Protocols {
		texts = append(texts, p.Name)
	}
	if slices.ContainsFunc(texts, func(s string) bool { return len(s) > primitive.MaxText }) {
		return c.errorf(messages.ErrInvalidRequest, "a name has more than %d bytes", primitive.MaxText)
	}
	return nil
}

// hasRoom reports whether group.max.size lets a member join. While a rebalance is
// being prepared those count who have joined: after the limit was lowered the last
// to come back are left out.
func (c *classic) hasRoom(id string) bool {
	m, limit := c.byID[id], c.g.cfg().MaxSize
	switch c.state {
	case group.Empty:
		return true
	case group.PreparingRebalance:
		return m != nil && m.join != nil || c.joining < limit
	default:
		return m != nil || len(c.members) < limit
	}
}

// turnAway refuses a join for which there is no room.
func (c *classic) turnAway(now time.Time, r *group.Join) {
	full := c.errorf(group.ErrFull, "%d members are allowed", c.g.cfg().MaxSize)
	r.Refuse(full)
	delete(c.pending, r.MemberID)
	if m := c.byID[r.MemberID]; m != nil {
		c.remove(m, full)
	}
	c.completeIfAllJoined(now)
}

// supports reports whether a joiner has a protocol in common with all members.
func (c *classic) supports(protocolType string, protocols []group.Protocol) bool {
	if c.state == group.Empty {
		return protocolType != "" && len(protocols) > 0
	}
	return protocolType == c.protocolType &&
		slices.ContainsFunc(protocols, func(p group.Protocol) bool {
			return c.votes[p.Name] == len(c.members)
		})
}

// handOutID answers a new member with its id. It is remembered: a rebalance waits
// for it, so that two members who start together make one generation.
func (c *classic) handOutID(now time.Time, r *group.Join) {
	if len(c.pending) >= maxPending {
		r.Refuse(c.errorf(group.ErrFull, "%d member ids are out already", len(c.pending)))
		return
	}
	c.pending[r.NewMemberID] = c.timers.expectBy(now.Add(millis(r.SessionTimeoutMs)))
	r.Reply(group.Joined{
		Err:        c.errorf(group.ErrMemberIDRequired, "join again with this member id"),
		Generation: group.NoGeneration, MemberID: r.NewMemberID,
	})
}

// joinNew takes in a member that was not one.
func (c *classic) joinNew(now time.Time, r *group.Join, id string, protocols []group.Protocol) {
	delete(c.pending, id)
	if len(c.members) == 0 {
		c.protocolType = r.ProtocolType
	}
	m := &member{id: id, instance: r.InstanceID, fresh: true}
	m.update(r, protocols)
	c.timers.newcomer = c.timers.newcomer || c.state == group.PreparingRebalance && c.initial
	c.add(m)
	c.park(m, r)
	// It cannot heartbeat without its id, and its connection waits for us: a join
	// whose client is gone must not stay for ever.
	m.deadline = c.timers.expectBy(now.Add(c.g.cfg().NewMemberJoinTimeout))
	c.rebalance(now)
}

// rejoin decides the join of a member.
func (c *classic) rejoin(now time.Time, r *group.Join, protocols []group.Protocol) {
	m, err := c.known(r.MemberID, r.InstanceID)
	if err != nil {
		r.Refuse(err)
		return
	}
	same := m.says(protocols)
	switch {
	case c.state == group.CompletingRebalance && same, // the answer was lost
		c.state == group.Stable && same && m.id != c.leader:
		c.alive(now, m)
		r.Reply(c.joined(m))
	default:
		c.vote(m, -1)
		m.update(r, protocols)
		c.vote(m, 1)
		c.park(m, r)
		c.rebalance(now)
	}
}

// update takes over what a member says of itself.
func (m *member) update(r *group.Join, protocols []group.Protocol) {
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.sessionMs, m.rebalanceMs = r.SessionTimeoutMs, max(r.RebalanceTimeoutMs, 0)
	m.protocols = protocols
}

// joined is what a member is told of the generation.
func (c *classic) joined(m *member) group.Joined {
	j := group.Joined{
		Generation: c.generation, ProtocolType: c.protocolType, Protocol: c.protocol,
		Leader: c.leader, MemberID: m.id,
	}
	if m.id == c.leader {
		for _, o := range c.members {
			j.Members = append(j.Members, group.JoinedMember{
				MemberID: o.id, InstanceID: o.instance, Metadata: o.metadata(c.protocol),
			})
		}
	}
	return j
}

// joinStatic decides the join of a static member that does not say its member id:
// it is new, or it was started again.
func (c *classic) joinStatic(now time.Time, r *group.Join, protocols []group.Protocol) {
	old := c.static[r.InstanceID]
	if old == nil {
		c.joinNew(now, r, r.NewMemberID, protocols)
		return
	}
	m := *old
	m.id, m.fresh, m.join, m.sync = r.NewMemberID, false, nil, nil
	m.update(r, protocols)
	if c.state == group.Stable && c.selectProtocol(c.withReplaced(old, &m)) == c.protocol {
		c.replaceQuietly(r, old, &m)
		return
	}
	// The leader may have been told the old id already, so an assignment for it
	// would not reach the new one.
	c.replace(now, old, &m)
	c.park(&m, r)
	c.rebalance(now)
}

// replaceQuietly lets a static member take its old place without a rebalance,
// once its new id is durable.
func (c *classic) replaceQuietly(r *group.Join, old, m *member) {
	record := metadataRecord(c.g.id, c.metadata(c.withReplaced(old, m), c.leaderAfter(old, m), nil))
	c.recorded = true
	c.g.write([]coord.Record{record}, func(now time.Time, err error) {
		if err != nil {
			r.Reply(group.Joined{Err: err, Generation: group.NoGeneration})
			return
		}
		leader := c.leader
		c.replace(now, old, m)
		j := c.joined(m)
		j.SkipAssignment = m.id == c.leader
		if !r.CanSkipAssignment {
			// It does not know how to lead without making an assignment, so it is
			// told that its old id leads.
			j.SkipAssignment, j.Members, j.Leader = false, nil, leader
		}
		r.Reply(j)
	})
}

// replace puts m in the place of old, which is fenced.
func (c *classic) replace(now time.Time, old, m *member) {
	c.release(old, c.errorf(group.ErrFencedInstance, "static member %q is %q now", m.instance, m.id))
	c.vote(old, -1)
	c.vote(m, 1)
	c.leader = c.leaderAfter(old, m)
	c.members[slices.Index(c.members, old)] = m
	delete(c.byID, old.id)
	c.byID[m.id], c.static[m.instance] = m, m
	c.alive(now, m)
}

func (c *classic) leaderAfter(old, m *member) string {
	if c.leader == old.id {
		return m.id
	}
	return c.leader
}

// withReplaced returns the members with m instead of old.
func (c *classic) withReplaced(old, m *member) []*member {
	members := slices.Clone(c.members)
	members[slices.Index(members, old)] = m
	return members
}

// distinct copies the protocols, of the same name the first. What a member says of
// itself is kept for long, and must not keep a whole request with it.
func distinct(protocols []group.Protocol) []group.Protocol {
	kept := make([]group.Protocol, 0, len(protocols))
	for _, p := range protocols {
		if !slices.ContainsFunc(kept, func(k group.Protocol) bool { return k.Name == p.Name }) {
			kept = append(kept, group.Protocol{Name: p.Name, Metadata: slices.Clone(p.Metadata)})
		}
	}
	return kept
}
