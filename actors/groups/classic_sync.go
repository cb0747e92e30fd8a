package groups

import (
	"slices"
	"time"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// sync decides a SyncGroup.
func (c *classic) sync(now time.Time, r *group.Sync) {
	m, err := c.checkSync(r)
	if err != nil {
		r.Refuse(err)
		return
	}
	switch c.state {
	case group.PreparingRebalance:
		r.Refuse(c.errorf(group.ErrRebalanceInProgress, "member %q has to join", m.id))
	case group.CompletingRebalance:
		c.answerSync(m, group.Synced{
			Err: c.errorf(group.ErrRebalanceInProgress, "member %q synced again", m.id),
		})
		m.sync = r
		c.markSynced(m)
		if m.id == c.leader {
			c.assign(r)
		}
	default:
		invariant.That(c.state == group.Stable, "group %q is %s with members", c.g.id, c.state)
		c.markSynced(m)
		c.alive(now, m)
		r.Reply(c.synced(m))
	}
}

func (c *classic) checkSync(r *group.Sync) (*member, error) {
	m, err := c.known(r.MemberID, r.InstanceID)
	switch {
	case err != nil:
		return nil, err
	case r.Generation != c.generation:
		return nil, c.wrongGeneration(r.Generation)
	case r.ProtocolType != "" && r.ProtocolType != c.protocolType,
		r.Protocol != "" && r.Protocol != c.protocol:
		return nil, c.errorf(group.ErrInconsistentProtocol, "%q of type %q, it has %q of type %q",
			r.Protocol, r.ProtocolType, c.protocol, c.protocolType)
	}
	return m, nil
}

// markSynced takes note that the member knows of the generation. Once all do the
// wait for them is over.
func (c *classic) markSynced(m *member) {
	if m.synced {
		return
	}
	m.synced = true
	c.owing--
	if c.owing == 0 {
		c.timers.sync = time.Time{}
	}
}

// assign makes the leader's assignment durable and gives it to the members.
func (c *classic) assign(r *group.Sync) {
	given := make(map[string][]byte, len(c.members))
	for _, m := range c.members {
		// A member that was left out gets nothing. The copy does not keep the request.
		given[m.id] = slices.Clone(r.Assignments[m.id])
	}
	c.recorded = true
	record := metadataRecord(c.g.id, c.metadata(c.members, c.leader, given))
	generation := c.generation
	c.g.write([]coord.Record{record}, func(now time.Time, err error) {
		invariant.That(c.state == group.CompletingRebalance && c.generation == generation,
			"group %q is %s in generation %d, its assignment was of %d", c.g.id, c.state,
			c.generation, generation)
		if err != nil {
			c.dropAssignment(now, err)
			c.prepare(now)
			return
		}
		c.become(now, group.Stable)
		for _, m := range c.members {
			m.assignment = given[m.id]
			if m.sync != nil {
				c.alive(now, m)
				c.answerSync(m, c.synced(m))
			}
		}
	})
}

// dropAssignment forgets the assignment and answers those who wait for it with err.
func (c *classic) dropAssignment(now time.Time, err error) {
	for _, m := range c.members {
		m.assignment = nil
		if m.sync != nil {
			c.alive(now, m)
			c.answerSync(m, group.Synced{Err: err})
		}
	}
}

func (c *classic) synced(m *member) group.Synced {
	return group.Synced{
		ProtocolType: c.protocolType, Protocol: c.protocol, Assignment: m.assignment,
	}
}

// answerSync answers a parked sync, if there is one.
func (c *classic) answerSync(m *member, s group.Synced) {
	if m.sync != nil {
		r := m.sync
		m.sync = nil
		r.Reply(s)
	}
}
