package groups

import (
	"maps"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages/group"
)

// timers are the deadlines of a classic group; zero: not set.
type timers struct {
	// session is no later than the first deadline of a member or a pending id. A
	// heartbeat only moves a deadline away, so it need not look for the first one:
	// whoever comes too early looks at all and finds the next.
	session time.Time
	join    time.Time // the joining ends
	sync    time.Time // members that did not sync are dropped

	// Of a new group that waits for more members: whether one came in the current
	// delay, how long that is, and how much of the rebalance timeout is left after.
	newcomer         bool
	delay, remaining time.Duration
}

// expectBy takes note of a deadline of a member, and returns it.
func (t *timers) expectBy(deadline time.Time) time.Time {
	t.session = earliest(t.session, deadline)
	return deadline
}

// alive gives a member its full session from now on.
func (c *classic) alive(now time.Time, m *member) {
	m.deadline = c.timers.expectBy(now.Add(millis(m.sessionMs)))
}

// unheard implements membership. A member that waits for us has no deadline, or a
// longer one.
func (c *classic) unheard(now time.Time) {
	for _, m := range c.members {
		if !m.fresh && !m.deadline.IsZero() {
			c.alive(now, m)
		}
	}
}

func (c *classic) due() time.Time {
	return earliest(c.timers.session, c.timers.join, c.timers.sync)
}

// tick does what is due. It decides one write at most, that of a group without
// members, and such a group has no other deadline.
func (c *classic) tick(now time.Time) {
	if isDue(c.timers.session, now) {
		c.expireSessions(now)
	}
	if isDue(c.timers.join, now) {
		c.joinDue(now)
	}
	if isDue(c.timers.sync, now) {
		c.dropUnsynced(now)
	}
}

// expireSessions gives up members that were not heard of, and looks when the next
// one has to be heard of.
func (c *classic) expireSessions(now time.Time) {
	before := len(c.members)
	c.timers.session = time.Time{}
	for _, id := range slices.Sorted(maps.Keys(c.pending)) {
		if isDue(c.pending[id], now) {
			delete(c.pending, id)
			continue
		}
		c.timers.expectBy(c.pending[id])
	}
	for _, m := range slices.Clone(c.members) {
		switch {
		case !isDue(m.deadline, now):
			c.timers.expectBy(m.deadline)
		case !m.fresh && (m.join != nil || m.sync != nil):
			m.deadline = time.Time{} // it waits for us, and gets a new one then
		default:
			c.g.removed(m.id, "its session is over")
			c.remove(m, c.errorf(group.ErrUnknownMember, "the session of member %q is over", m.id))
		}
	}
	c.goOn(now, len(c.members) < before)
}

// dropUnsynced gives up the members that never asked for their assignment.
func (c *classic) dropUnsynced(now time.Time) {
	c.timers.sync = time.Time{}
	late := c.errorf(group.ErrUnknownMember, "the member did not sync in time")
	for _, m := range slices.Clone(c.members) {
		if !m.synced {
			c.g.removed(m.id, "it did not sync in time")
			c.remove(m, late)
		}
	}
	c.prepare(now)
}
