package consumer

import "time"

// Due is when Tick has something to do at the earliest; zero: nothing is to come.
// Deadlines move with every heartbeat and Due does not, so Tick may find nothing.
func (g *Group) Due() time.Time { return g.due }

func (g *Group) wake(at time.Time) {
	if g.due.IsZero() || at.Before(g.due) {
		g.due = at
	}
}

// alive starts a member's session anew.
func (g *Group) alive(now time.Time, m *member, cfg *Config) {
	m.deadline = now.Add(cfg.session())
	g.wake(m.deadline)
}

// Unheard starts the sessions of all members anew: their heartbeats were refused.
func (g *Group) Unheard(now time.Time) {
	cfg := g.config()
	for _, m := range g.members { // any order: each is changed alone
		g.alive(now, m, cfg)
	}
}

// Tick removes members that were silent for too long or did not revoke in time,
// and takes note of changed metadata. It must not be called while a write waits to
// be taken or is under way.
func (g *Group) Tick(now time.Time) {
	g.mustBeIdle()
	cfg := g.config()
	if g.image(cfg) == nil {
		if !g.due.IsZero() && !now.Before(g.due) {
			g.due = now.Add(retryEvery)
		}
		return
	}
	if !g.due.IsZero() && !now.Before(g.due) {
		late := g.late(now)
		retry := !g.retry.IsZero() && !now.Before(g.retry)
		if len(late) > 0 {
			p := g.plan(now, cfg)
			p.removeAll(late)
			g.decided = &decision{plan: p}
			return
		}
		if retry {
			g.decided = &decision{plan: g.plan(now, cfg)}
			return
		}
	}
	g.checkMetadata(now, cfg)
}

// checkMetadata bumps the group epoch if what members read has changed.
func (g *Group) checkMetadata(now time.Time, cfg *Config) {
	image := g.image(cfg)
	if len(g.members) == 0 || image == g.seen && (len(g.regexes) == 0 || image == g.regexSeen) {
		return
	}
	p := g.plan(now, cfg)
	if err := p.matchRegexes(); err != nil {
		return // there is no speaker that could bring a bad one
	}
	if p.bump || p.image != g.seen {
		p.compareMetadata()
	}
	p.assign()
	p.finish(nil)
	if len(p.events) == 0 {
		g.settle(p)
		return
	}
	g.decided = &decision{plan: p}
}

// late returns the members whose time is up, and notes when that of the next is.
func (g *Group) late(now time.Time) []string {
	var late []string
	g.due = time.Time{}
	if !g.retry.IsZero() {
		g.wake(g.retry)
	}
	for _, id := range g.ids() {
		m := g.members[id]
		first := m.deadline
		if !m.revokeBy.IsZero() && m.revokeBy.Before(first) {
			first = m.revokeBy
		}
		if !now.Before(first) {
			late = append(late, id)
			g.removed(id, first.Before(m.deadline))
			continue
		}
		g.wake(first)
	}
	return late
}

// removed tells that a member is given up.
func (g *Group) removed(memberID string, revoking bool) {
	tell := g.conf.Removed
	switch {
	case tell == nil:
	case revoking:
		tell(memberID, "it did not give up its partitions in time")
	default:
		tell(memberID, "its session is over")
	}
}
