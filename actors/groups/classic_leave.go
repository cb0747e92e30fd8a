package groups

import (
	"time"

	"github.com/troupelog/troupe/messages/group"
)

// leave decides a LeaveGroup. It is answered when the group that is left, if that
// is an empty one, is durable.
func (c *classic) leave(now time.Time, r *group.Leave) {
	errs := make([]error, len(r.Members))
	before := len(c.members)
	for i, l := range r.Members {
		if _, pending := c.pending[l.MemberID]; pending && l.InstanceID == "" {
			delete(c.pending, l.MemberID)
			continue
		}
		m, err := c.leaver(l)
		if err != nil {
			errs[i] = err
			continue
		}
		c.remove(m, c.errorf(group.ErrUnknownMember, "member %q left", m.id))
	}
	c.goOn(now, len(c.members) < before)
	c.g.afterwards(func(err error) {
		if err != nil {
			r.Refuse(err)
			return
		}
		r.Reply(group.Left{Errs: errs})
	})
}

// leaver returns the member that is to leave. An operator removes a static one by
// its instance id alone.
func (c *classic) leaver(l group.Leaving) (*member, error) {
	if l.MemberID == "" {
		if m := c.static[l.InstanceID]; m != nil && l.InstanceID != "" {
			return m, nil
		}
		return nil, c.errorf(group.ErrUnknownMember, "static member %q", l.InstanceID)
	}
	return c.known(l.MemberID, l.InstanceID)
}

// goOn goes on when ids that were waited for, or with fewer also members, are gone.
func (c *classic) goOn(now time.Time, fewer bool) {
	if c.state == group.PreparingRebalance {
		c.completeIfAllJoined(now)
	} else if fewer {
		c.prepare(now)
	}
}
