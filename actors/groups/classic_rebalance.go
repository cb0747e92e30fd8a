package groups

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// rebalance begins a new generation, or goes on with the one that is being
// prepared.
func (c *classic) rebalance(now time.Time) {
	if c.state == group.PreparingRebalance {
		c.completeIfAllJoined(now)
		return
	}
	c.prepare(now)
}

// prepare lets everybody join again.
func (c *classic) prepare(now time.Time) {
	c.timers.sync = time.Time{}
	c.owing = 0
	c.initial = c.state == group.Empty
	if c.state == group.CompletingRebalance {
		c.dropAssignment(now, c.errorf(group.ErrRebalanceInProgress, "the membership changed"))
	}
	c.become(now, group.PreparingRebalance)
	if c.initial {
		c.delay(now)
		return
	}
	if c.allJoined() {
		c.completeJoin(now)
		return
	}
	c.timers.join = now.Add(c.rebalanceTimeout())
}

// delay gives a new group time for more members to come before its first
// generation.
func (c *classic) delay(now time.Time) {
	delay := c.g.cfg().InitialRebalanceDelay
	if delay <= 0 {
		c.completeJoin(now)
		return
	}
	c.timers.join, c.timers.newcomer = now.Add(delay), false
	c.timers.delay, c.timers.remaining = delay, max(c.rebalanceTimeout()-delay, 0)
}

// joinDue ends the joining: a new group waits on while members keep coming.
func (c *classic) joinDue(now time.Time) {
	t := &c.timers
	if !c.initial || !t.newcomer || t.remaining == 0 {
		c.completeJoin(now)
		return
	}
	next := min(c.g.cfg().InitialRebalanceDelay, t.remaining)
	t.remaining = max(t.remaining-t.delay, 0)
	t.newcomer, t.delay = false, next
	t.join = now.Add(next)
}

// allJoined reports that nobody is waited for.
func (c *classic) allJoined() bool { return c.joining == len(c.members) && len(c.pending) == 0 }

// completeIfAllJoined ends the joining early, unless a new group is being waited for.
func (c *classic) completeIfAllJoined(now time.Time) {
	if c.state == group.PreparingRebalance && !c.initial && c.allJoined() {
		c.completeJoin(now)
	}
}

// retryJoin is the least time until it is tried again to complete a join that no
// member came to. Kafka takes the rebalance timeout, which may be 0.
const retryJoin = time.Second

// completeJoin begins the next generation with those who joined. Dynamic members
// who did not are dropped; static ones stay until their session ends.
func (c *classic) completeJoin(now time.Time) {
	c.timers.join = time.Time{}
	late := c.errorf(group.ErrUnknownMember, "the member did not join in time")
	for _, m := range slices.Clone(c.members) {
		if m.join == nil && m.instance == "" {
			c.g.removed(m.id, "it did not rejoin in time")
			c.remove(m, late)
		}
	}
	switch {
	case len(c.members) == 0:
		c.becomeEmpty(now)
	case !c.electLeader():
		c.timers.join = now.Add(max(c.rebalanceTimeout(), retryJoin))
	default:
		c.beginGeneration(now)
	}
}

// electLeader keeps the leader if it joined, else takes the first who did; false:
// nobody did.
func (c *classic) electLeader() bool {
	if m := c.byID[c.leader]; m != nil && m.join != nil {
		return true
	}
	i := slices.IndexFunc(c.members, func(m *member) bool { return m.join != nil })
	if i < 0 {
		return false
	}
	c.leader = c.members[i].id
	return true
}

// becomeEmpty ends the last generation that had members.
func (c *classic) becomeEmpty(now time.Time) {
	c.nextGeneration("")
	c.become(now, group.Empty)
	c.recorded = true
	record := metadataRecord(c.g.id, c.metadata(nil, "", nil))
	// If it is not recorded, the members of the record before time out after the
	// next load.
	c.g.write([]coord.Record{record}, func(time.Time, error) {})
}

func (c *classic) beginGeneration(now time.Time) {
	c.nextGeneration(c.selectProtocol(c.members))
	c.become(now, group.CompletingRebalance)
	c.owing = len(c.members)
	c.timers.sync = now.Add(c.rebalanceTimeout())
	for _, m := range c.members {
		m.synced, m.fresh = false, false
		c.answerJoin(m, c.joined(m))
		c.alive(now, m)
	}
}

func (c *classic) nextGeneration(protocol string) {
	c.generation++
	c.protocol, c.initial = protocol, false
	c.subscribes = subscriptionsOf(c.members, c.protocolType, protocol)
}

// selectProtocol returns the protocol that most of the members like best of those
// that all know. Of two with as many votes it is the one that the first of the
// members prefers.
func (c *classic) selectProtocol(members []*member) string {
	known, votes := map[string]int{}, map[string]int{}
	for _, m := range members {
		for _, p := range m.protocols {
			known[p.Name]++
		}
	}
	for _, m := range members {
		for _, p := range m.protocols {
			if known[p.Name] == len(members) {
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for _, p := range members[0].protocols {
		if votes[p.Name] > votes[best] {
			best = p.Name
		}
	}
	invariant.That(votes[best] > 0, "members of group %q have no protocol in common", c.g.id)
	return best
}

// rebalanceTimeout is the longest of those of the members.
func (c *classic) rebalanceTimeout() time.Duration {
	longest := int32(0)
	for _, m := range c.members {
		longest = max(longest, m.rebalanceMs)
	}
	return millis(longest)
}

// metadata is the group as its record has it. Assignments are those of the
// members, or if given others by member id.
func (c *classic) metadata(members []*member, leader string, given map[string][]byte) *metadata {
	d := &metadata{
		protocolType: c.protocolType, generation: c.generation, protocol: c.protocol,
		leader: leader, since: c.since,
	}
	for _, m := range members {
		assignment := m.assignment
		if given != nil {
			assignment = given[m.id]
		}
		d.members = append(d.members, memberMetadata{
			id: m.id, instance: m.instance, clientID: m.clientID, clientHost: m.clientHost,
			rebalanceMs: m.rebalanceMs, sessionMs: m.sessionMs,
			subscription: m.metadata(c.protocol), assignment: assignment,
		})
	}
	return d
}

func (c *classic) tombstones() []coord.Record {
	if !c.recorded {
		return nil
	}
	return []coord.Record{metadataTombstone(c.g.id)}
}

func (c *classic) replay(k Key, r coord.Replayed) error {
	if k.Version != metadataKey {
		return fmt.Errorf("key of version %d of group %q: %w", k.Version, c.g.id, ErrUnknownKey)
	}
	fresh := newClassic(c.g)
	if r.Value != nil {
		d, err := parseMetadata(r.Value)
		if err != nil {
			return fmt.Errorf("group %q: %w", c.g.id, err)
		}
		if err := fresh.restore(d); err != nil {
			return fmt.Errorf("group %q: %w", c.g.id, err)
		}
	}
	*c = *fresh
	return nil
}

// restore takes the group over from its record.
func (c *classic) restore(d *metadata) error {
	c.recorded = true
	c.protocolType, c.protocol = d.protocolType, d.protocol
	c.generation, c.since = d.generation, d.since
	for i := range d.members {
		r := &d.members[i]
		if c.byID[r.id] != nil || r.instance != "" && c.static[r.instance] != nil {
			return fmt.Errorf("member %q is there twice: %w", r.id, ErrDamaged)
		}
		m := &member{
			id: r.id, instance: r.instance, clientID: r.clientID, clientHost: r.clientHost,
			sessionMs: r.sessionMs, rebalanceMs: r.rebalanceMs, assignment: r.assignment,
			protocols: []group.Protocol{{Name: d.protocol, Metadata: r.subscription}}, synced: true,
		}
		if m.rebalanceMs < 0 { // records of version 0
			m.rebalanceMs = m.sessionMs
		}
		c.add(m)
	}
	if c.byID[d.leader] != nil {
		c.leader = d.leader
	}
	if len(c.members) > 0 {
		c.state = group.Stable
	}
	c.subscribes = subscriptionsOf(c.members, c.protocolType, c.protocol)
	return nil
}

func (c *classic) loaded(now time.Time) {
	for _, m := range c.members {
		c.alive(now, m)
	}
	if len(c.members) > c.g.cfg().MaxSize {
		c.prepare(now)
	}
}
