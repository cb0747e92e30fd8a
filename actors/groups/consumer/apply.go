package consumer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// doubtMax is how many records of failed writes are remembered beside eight for
// each member. Past it, members are told to ask later.
const doubtMax = 1000

// retryEvery is how often records in doubt are written anew without a heartbeat
// that does so.
const retryEvery = time.Second

// decision is a plan that waits to be durable, with the heartbeat it answers.
type decision struct {
	plan   *plan
	asked  *group.ConsumerHeartbeat // nil: nobody asked
	answer group.ConsumerHeartbeated
	taken  bool
	keys   []Key // of the write
}

// decide answers at once if there is nothing to write, else keeps the plan until
// its records are durable.
func (g *Group) decide(p *plan, r *group.ConsumerHeartbeat, answer group.ConsumerHeartbeated) {
	if len(p.events) == 0 {
		g.settle(p)
		r.Reply(answer)
		return
	}
	g.decided = &decision{plan: p, asked: r, answer: answer}
}

// settle notes what a plan looked at.
func (g *Group) settle(p *plan) {
	if p.compared {
		g.seen = p.image
	}
	if p.refreshed {
		g.regexSeen, g.regexAt = p.image, p.now
	}
	if p.speaker != nil {
		if m := g.members[p.speaker.id]; m != nil {
			m.tried = g.released
		}
	}
}

// TakeWrite returns the records of what was decided, or nil. Its Done applies them
// and answers; after an error it applies nothing and answers the error, and the
// next write repeats what the log may say wrongly.
func (g *Group) TakeWrite() *coord.Write {
	d := g.decided
	if d == nil || d.taken {
		return nil
	}
	d.taken = true
	w := &coord.Write{Producer: messages.NoProducerID}
	fresh := map[Key]bool{}
	for _, e := range d.plan.events {
		fresh[e.key] = true
	}
	doubtful := slices.SortedFunc(maps.Keys(g.doubt), compareKeys)
	for _, k := range doubtful {
		if !fresh[k] {
			w.Records = append(w.Records, g.event(k).record())
			d.keys = append(d.keys, k)
		}
	}
	for _, e := range d.plan.events {
		w.Records = append(w.Records, e.record())
		d.keys = append(d.keys, e.key)
	}
	w.Done = func(now time.Time, err error) { g.done(now, d, err) }
	return w
}

func (g *Group) done(now time.Time, d *decision, err error) {
	if g.decided != d {
		return // it was stopped
	}
	g.decided = nil
	if err != nil {
		for _, k := range d.keys {
			g.doubt[k] = true
		}
		g.retry = now.Add(retryEvery)
		g.due = g.retry // also for what was due: it failed just now
		if d.asked != nil {
			d.asked.Refuse(err)
		}
		return
	}
	clear(g.doubt)
	g.retry = time.Time{}
	for _, e := range d.plan.events {
		g.apply(e)
	}
	g.settle(d.plan)
	if s := d.plan.speaker; s != nil {
		m := g.members[s.id]
		g.alive(now, m, g.config())
		g.timeRevocation(now, m, d.plan)
	}
	if d.asked != nil {
		d.asked.Reply(d.answer)
	}
}

// timeRevocation starts the time in which the member must revoke whenever what it
// must revoke has changed.
func (g *Group) timeRevocation(now time.Time, m *member, p *plan) {
	if m.state != unrevoked || m.memberEpoch == group.EpochLeaveStatic {
		m.revokeBy = time.Time{}
		return
	}
	said := slices.ContainsFunc(p.events, func(e event) bool {
		return e.key.Version == keyCurrent && e.key.Name == m.id
	})
	if said {
		m.revokeBy = now.Add(m.rebalanceTimeout())
		g.wake(m.revokeBy)
	}
}

func (m *member) rebalanceTimeout() time.Duration {
	return time.Duration(max(m.rebalanceTimeoutMs, 0)) * time.Millisecond
}

// event returns the record that says of a key what the group knows.
func (g *Group) event(k Key) event {
	e := event{key: k}
	m := g.members[k.Name]
	r := g.regexes[k.Name]
	switch {
	case k.Version == keyGroup && g.exists:
		e.value = groupValue{epoch: g.epoch, hash: g.hash}
	case k.Version == keyTargetEpoch && g.exists:
		e.value = targetEpochValue(g.targetEpoch)
	case k.Version == keyMember && m != nil:
		e.value = m.meta
	case k.Version == keyTarget && m != nil:
		e.value = target(m.target)
	case k.Version == keyCurrent && m != nil:
		e.value = m.current
	case k.Version == keyRegex && r != nil:
		e.value = r.regexValue
	}
	return e
}

// apply is the only way the durable state changes, live and at load time.
func (g *Group) apply(e event) {
	switch e.key.Version {
	case keyGroup:
		g.applyGroup(e)
	case keyPartitions:
		g.legacy = e.value != nil
	case keyTargetEpoch:
		v, _ := e.value.(targetEpochValue)
		g.targetEpoch = int32(v)
	case keyRegex:
		g.applyRegex(e)
	case keyMember:
		g.applyMember(e)
	case keyTarget:
		if v, ok := e.value.(target); ok {
			g.member(e.key.Name).target = set(v)
		} else if m := g.members[e.key.Name]; m != nil {
			m.target = nil
		}
		g.released++
	case keyCurrent:
		g.applyCurrent(e)
	default:
		invariant.That(false, "group %q cannot apply key version %d", g.id, e.key.Version)
	}
}

func (g *Group) applyGroup(e event) {
	v, ok := e.value.(groupValue)
	if !ok {
		// Of a group that was deleted nothing remains.
		g.clear()
		return
	}
	invariant.That(!g.loaded || v.epoch > g.epoch, "group %q goes from epoch %d to %d",
		g.id, g.epoch, v.epoch)
	g.exists, g.epoch, g.hash = true, v.epoch, v.hash
}

func (g *Group) applyRegex(e event) {
	v, ok := e.value.(regexValue)
	if !ok {
		delete(g.regexes, e.key.Name)
		return
	}
	r := g.regexes[e.key.Name]
	if r == nil {
		r = &regex{}
		r.compiled, _ = compile(e.key.Name) // it did when it was written
		g.regexes[e.key.Name] = r
	}
	r.regexValue = v
}

// member returns the member of that id, which is made if a record speaks of it
// before that which makes it known.
func (g *Group) member(id string) *member {
	m := g.members[id]
	if m == nil {
		m = &member{id: id, current: current{previous: -1}}
		g.members[id] = m
	}
	return m
}

func (g *Group) applyMember(e event) {
	v, ok := e.value.(meta)
	if !ok {
		if m := g.members[e.key.Name]; m != nil {
			g.disown(m)
			g.unnameInstance(m)
			delete(g.members, m.id)
		}
		return
	}
	m := g.member(e.key.Name)
	g.unnameInstance(m)
	m.meta, m.known = v, true
	if m.instance != "" {
		g.statics[m.instance] = m.id
	}
}

func (g *Group) unnameInstance(m *member) {
	if m.instance != "" && g.statics[m.instance] == m.id {
		delete(g.statics, m.instance)
	}
}

func (g *Group) applyCurrent(e event) {
	v, ok := e.value.(current)
	if !ok {
		if m := g.members[e.key.Name]; m != nil {
			g.disown(m)
			m.current = current{previous: -1}
		}
		return
	}
	m := g.member(e.key.Name)
	invariant.That(!g.loaded || v.memberEpoch >= m.memberEpoch || v.memberEpoch == -2,
		"member %q of group %q goes from epoch %d to %d", m.id, g.id, m.memberEpoch, v.memberEpoch)
	g.disown(m)
	m.current = v
	if g.loaded {
		g.own(m)
	}
}

// owner returns who was told to own the partition and has not given it up; nil:
// nobody.
func (g *Group) owner(topic messages.TopicID, partition int32) *member {
	if o := g.owners[topic]; int(partition) < len(o) {
		return o[partition]
	}
	return nil
}

func (g *Group) own(m *member) {
	for _, s := range [...]set{m.assigned, m.revoking} {
		for _, t := range s {
			o := g.owners[t.Topic]
			if last := int(t.Partitions[len(t.Partitions)-1]); last >= len(o) {
				o = append(o, make([]*member, last+1-len(o))...)
				g.owners[t.Topic] = o
			}
			for _, n := range t.Partitions {
				if other := o[n]; other != nil {
					invariant.That(other == m, "partition %d of %v belongs to %q and to %q",
						n, t.Topic, other.id, m.id)
				}
				o[n] = m
			}
		}
	}
}

// disown makes the partitions of a member free.
func (g *Group) disown(m *member) {
	g.released++
	for _, s := range [...]set{m.assigned, m.revoking} {
		for _, t := range s {
			o := g.owners[t.Topic]
			for _, n := range t.Partitions {
				if int(n) < len(o) && o[n] == m {
					o[n] = nil
				}
			}
		}
	}
}

// Replay takes note of a record of the group, at load time, in the order of the
// log; a nil value is a tombstone. Errors wrap ErrBadRecord.
func (g *Group) Replay(k Key, value []byte) error {
	invariant.That(!g.loaded, "group %q: a record is replayed after the end", g.id)
	if k.Group != g.id {
		return fmt.Errorf("record of group %q in group %q: %w", k.Group, g.id, ErrBadRecord)
	}
	e, err := parse(k, value)
	if err != nil {
		return err
	}
	g.apply(e)
	return nil
}

// Loaded ends the replay. All members are given the time of a session.
//
// A log that was cut short or compacted may hold a member's assignment and not
// the member: it is left out and deleted with the next write. It may say twice
// who owns a partition: who has the higher epoch, does.
func (g *Group) Loaded(now time.Time) {
	cfg := g.config()
	g.loaded = true
	g.targetEpoch = min(g.targetEpoch, g.epoch)
	clear(g.owners)
	var members []*member
	for _, id := range g.ids() {
		m := g.members[id]
		if !m.known {
			delete(g.members, id)
			g.doubt[g.key(keyCurrent, id)], g.doubt[g.key(keyTarget, id)] = true, true
			g.retry = now
			g.wake(now)
			continue
		}
		members = append(members, m)
	}
	slices.SortStableFunc(members, func(a, b *member) int {
		return int(b.memberEpoch) - int(a.memberEpoch)
	})
	for _, m := range members {
		g.ownFree(m)
		g.alive(now, m, cfg)
		if m.state == unrevoked && m.memberEpoch != group.EpochLeaveStatic {
			m.revokeBy = now.Add(m.rebalanceTimeout())
			g.wake(m.revokeBy)
		}
	}
}

// ownFree makes the member the owner of what nobody owns, and takes the rest from it.
func (g *Group) ownFree(m *member) {
	free := func(t messages.TopicID, n int32) bool { return g.owner(t, n) == nil }
	m.assigned, _ = divide(m.assigned, free)
	m.revoking, _ = divide(m.revoking, free)
	m.revoking, _ = divide(m.revoking, func(t messages.TopicID, n int32) bool {
		return !has(m.assigned, t, n)
	})
	g.own(m)
}
