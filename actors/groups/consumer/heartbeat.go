package consumer

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/primitive"
)

// Heartbeat decides what a member is told, and answers at once if nothing must be
// written for it; else the answer waits for the write. It must not be called
// while a write waits to be taken or is under way. Errors in the answer wrap
// messages.ErrInvalidRequest and, of package group, ErrUnknownMember,
// ErrFencedMemberEpoch, ErrUnreleasedInstance, ErrFencedInstance,
// ErrUnsupportedAssignor, ErrInvalidRegex and ErrFull; to be sent again as they
// are: messages.ErrCoordinatorLoading, messages.ErrUnavailable and what a write
// ended with.
func (g *Group) Heartbeat(now time.Time, r *group.ConsumerHeartbeat) {
	g.mustBeIdle()
	if err := g.heartbeat(now, r, g.config()); err != nil {
		r.Refuse(fmt.Errorf("group %q: %w", g.id, err))
	}
}

// mustBeIdle checks what the owner promises.
func (g *Group) mustBeIdle() {
	if !g.loaded || g.decided != nil { // the check alone, as arguments are allocated
		invariant.That(false, "group %q is called before it is loaded or while a write waits", g.id)
	}
}

func (g *Group) heartbeat(now time.Time, r *group.ConsumerHeartbeat, cfg *Config) error {
	if err := valid(r, cfg); err != nil {
		return err
	}
	if len(g.doubt) > doubtMax+8*len(g.members) {
		return fmt.Errorf("its latest writes failed: %w", messages.ErrUnavailable)
	}
	if g.image(cfg) == nil {
		return fmt.Errorf("no metadata yet: %w", messages.ErrCoordinatorLoading)
	}
	m, heirOf, err := g.find(r)
	if err != nil {
		return err
	}
	if r.MemberEpoch < 0 {
		g.leave(now, r, cfg, m)
		return nil
	}
	if m == nil && heirOf == nil && cfg.MaxSize > 0 && len(g.members) >= cfg.MaxSize {
		return fmt.Errorf("it has %d members: %w", len(g.members), group.ErrFull)
	}
	if m != nil && g.settled(m, r, cfg) {
		g.alive(now, m, cfg)
		r.Reply(group.ConsumerHeartbeated{
			MemberID: m.id, MemberEpoch: m.memberEpoch, HeartbeatIntervalMs: cfg.intervalMs(),
		})
		return nil
	}
	return g.beat(now, r, cfg, m, heirOf)
}

// valid checks a heartbeat against itself.
func valid(r *group.ConsumerHeartbeat, cfg *Config) error {
	join := r.MemberEpoch == group.EpochJoin
	wrong := ""
	switch {
	case r.MemberEpoch < group.EpochLeaveStatic:
		wrong = "member epoch is below -2"
	case r.MemberID == "" && (!join || r.NewMemberID == ""):
		wrong = "member id is empty"
	case len(r.MemberID) > primitive.MaxText || len(r.NewMemberID) > primitive.MaxText:
		wrong = "member id is too long"
	case r.RebalanceTimeoutMs < -1:
		wrong = "rebalance timeout is below -1"
	case r.MemberEpoch == group.EpochLeaveStatic && r.InstanceID == "":
		wrong = "a member without an instance id cannot leave for a while"
	case join && r.RebalanceTimeoutMs == -1:
		wrong = "rebalance timeout is missing in a join"
	case join && (!r.HasOwned || len(r.Owned) > 0):
		wrong = "owned partitions must be an empty list in a join"
	case join && !r.HasTopics && r.Regex == nil:
		wrong = "topics or a regular expression must be there in a join"
	}
	if wrong != "" {
		return fmt.Errorf("%s: %w", wrong, messages.ErrInvalidRequest)
	}
	if r.Assignor != nil && !slices.Contains(cfg.assignors(), *r.Assignor) {
		return fmt.Errorf("assignor %q, there are %v: %w",
			*r.Assignor, cfg.assignors(), group.ErrUnsupportedAssignor)
	}
	return nil
}

// find returns the member that speaks, or for a newcomer nil and the static
// member whose place it takes, if there is one.
func (g *Group) find(r *group.ConsumerHeartbeat) (m, heirOf *member, err error) {
	id := r.MemberID
	join := r.MemberEpoch == group.EpochJoin
	if join && id == "" {
		id = r.NewMemberID
	}
	m = g.members[id]
	owner := g.statics[r.InstanceID]
	switch {
	case r.InstanceID != "" && owner != "" && owner != id:
		if !join {
			return nil, nil, fmt.Errorf("instance %q is member %q and not %q: %w",
				r.InstanceID, owner, id, group.ErrFencedInstance)
		}
		heirOf = g.members[owner]
		if heirOf.memberEpoch != group.EpochLeaveStatic || m != nil {
			return nil, nil, fmt.Errorf("instance %q is in use by member %q: %w",
				r.InstanceID, owner, group.ErrUnreleasedInstance)
		}
		return nil, heirOf, nil
	case join:
		return m, nil, nil
	case m == nil, r.InstanceID != "" && owner == "":
		return nil, nil, fmt.Errorf("member %q: %w", id, group.ErrUnknownMember)
	case r.MemberEpoch < 0, r.MemberEpoch == m.memberEpoch && m.state <= unreleased:
		return m, nil, nil
	case r.MemberEpoch == m.previous && r.MemberEpoch < m.memberEpoch && r.HasOwned &&
		subset(normal(r.Owned), m.assigned):
		return m, nil, nil // the answer with its new epoch was lost
	}
	return nil, nil, fmt.Errorf("member %q says epoch %d and has %d, it must join again: %w",
		id, r.MemberEpoch, m.memberEpoch, group.ErrFencedMemberEpoch)
}

// settled reports that the heartbeat changes nothing and asks for nothing: by far
// the most frequent one. It looks at no partition.
func (g *Group) settled(m *member, r *group.ConsumerHeartbeat, cfg *Config) bool {
	if r.MemberEpoch != m.memberEpoch || g.epoch != g.targetEpoch || full(r) || m.says(r) {
		return false
	}
	if image := g.image(cfg); image != g.seen || len(g.regexes) > 0 && image != g.regexSeen {
		return false
	}
	switch m.state {
	case stable:
		return m.memberEpoch == g.targetEpoch
	case unrevoked:
		return !r.HasOwned
	}
	return m.memberEpoch == g.targetEpoch && m.tried == g.released
}

// full reports whether the heartbeat tells everything: the answer does so too.
func full(r *group.ConsumerHeartbeat) bool {
	return r.RebalanceTimeoutMs != -1 && (r.HasTopics || r.Regex != nil) && r.HasOwned
}

// says reports whether the heartbeat says something new of the member.
func (m *member) says(r *group.ConsumerHeartbeat) bool {
	changed := func(said *string, known string) bool { return said != nil && *said != known }
	return r.InstanceID != "" && r.InstanceID != m.instance ||
		r.ClientID != m.clientID || r.ClientHost != m.clientHost ||
		changed(r.Rack, m.rack) || changed(r.Regex, m.regex) || changed(r.Assignor, m.assignor) ||
		r.RebalanceTimeoutMs != -1 && r.RebalanceTimeoutMs != m.rebalanceTimeoutMs ||
		r.HasTopics && !slices.Equal(r.Topics, m.topics) || m.classic
}

// hears takes over what the heartbeat says, and reports whether the member now
// reads other topics.
func (m *member) hears(r *group.ConsumerHeartbeat) (subscriptionChanged bool) {
	hear := func(said *string, known *string) bool {
		changed := said != nil && *said != *known
		if changed {
			*known = *said
		}
		return changed
	}
	if r.InstanceID != "" {
		m.instance = r.InstanceID
	}
	if r.RebalanceTimeoutMs != -1 {
		m.rebalanceTimeoutMs = r.RebalanceTimeoutMs
	}
	m.clientID, m.clientHost, m.classic = r.ClientID, r.ClientHost, false
	hear(r.Rack, &m.rack)
	hear(r.Assignor, &m.assignor)
	subscriptionChanged = hear(r.Regex, &m.regex)
	if r.HasTopics {
		if topics := sorted(r.Topics); !slices.Equal(topics, m.topics) {
			m.topics, subscriptionChanged = topics, true
		}
	}
	return subscriptionChanged
}

// beat decides a heartbeat that may change something. was is the member that
// speaks; nil: it is new, and heirOf, if any, is whose place it takes.
func (g *Group) beat(
	now time.Time, r *group.ConsumerHeartbeat, cfg *Config, was, heirOf *member,
) error {
	p := g.plan(now, cfg)
	s := &member{current: current{previous: -1}}
	switch {
	case was != nil:
		*s = *was
	case heirOf != nil:
		*s = *heirOf
		s.memberEpoch, s.previous, s.revoking = 0, -1, nil
		p.remove(heirOf.id)
	}
	if s.id = r.MemberID; s.id == "" {
		s.id = r.NewMemberID
	}
	p.speaker = s
	changed := s.hears(r)
	isNew := was == nil && heirOf == nil
	p.bump = isNew || changed || !g.exists
	if err := p.matchRegexes(); err != nil {
		return err
	}
	if changed || heirOf != nil {
		p.dropRegexes()
	}
	if p.bump || p.image != g.seen {
		p.compareMetadata()
	}
	p.assign()
	p.reconcile(r, changed)
	p.finish(was)
	answer := group.ConsumerHeartbeated{
		MemberID: s.id, MemberEpoch: s.memberEpoch, HeartbeatIntervalMs: cfg.intervalMs(),
	}
	if was == nil || full(r) || r.MemberEpoch != was.memberEpoch || !equal(s.assigned, was.assigned) {
		answer.Assigned, answer.HasAssigned = s.assigned, true
	}
	if was != nil {
		g.alive(now, was, cfg)
	}
	g.decide(p, r, answer)
	return nil
}

// leave decides a heartbeat that says farewell, for good or for a while.
func (g *Group) leave(now time.Time, r *group.ConsumerHeartbeat, cfg *Config, m *member) {
	p := g.plan(now, cfg)
	if r.MemberEpoch == group.EpochLeaveStatic {
		// Its partitions stay with it. It has stopped reading, so what it had to
		// give up is free.
		away := *m
		away.memberEpoch, away.revoking = group.EpochLeaveStatic, nil
		p.speaker = &away
		p.finish(m)
		g.alive(now, m, cfg)
	} else {
		p.removeAll([]string{m.id})
	}
	g.decide(p, r, group.ConsumerHeartbeated{MemberID: m.id, MemberEpoch: r.MemberEpoch})
}

// removeAll lets members go and divides what they had.
func (p *plan) removeAll(ids []string) {
	for _, id := range ids {
		p.remove(id)
	}
	p.bump = true
	p.dropRegexes()
	p.compareMetadata()
	p.assign()
	p.finish(nil)
}
