package consumer

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// plan is a decision in the making: the group as it would be, beside the group as
// it is. It changes nothing but itself.
type plan struct {
	g     *Group
	now   time.Time
	cfg   *Config
	image *messages.Image

	speaker *member         // who sent the heartbeat, as it will be; nil: nobody did
	gone    map[string]bool // members that are removed

	bump      bool // the group epoch must rise
	epoch     int32
	hash      int64
	target    int32 // epoch of the target assignment
	refreshed bool  // all regular expressions were matched
	compared  bool  // the hash is of image

	events []event

	topics  []*messages.Topic // of image, by name; nil: not needed yet
	matched map[string][]string
	members []*member // roll
	reads   []*subscription
}

func (g *Group) plan(now time.Time, cfg *Config) *plan {
	return &plan{
		g: g, now: now, cfg: cfg, image: g.image(cfg),
		epoch: g.epoch, hash: g.hash, target: g.targetEpoch,
	}
}

// image returns the metadata, or nil: then nothing may be decided, or the group
// would take everything from everybody.
func (*Group) image(cfg *Config) *messages.Image {
	if cfg.Image == nil {
		return nil
	}
	return cfg.Image()
}

func (p *plan) add(version int16, name string, v value) {
	p.events = append(p.events, event{key: p.g.key(version, name), value: v})
}

// remove lets a member go.
func (p *plan) remove(id string) {
	if p.gone == nil {
		p.gone = map[string]bool{}
	}
	p.gone[id] = true
	p.members = nil
	p.add(keyCurrent, id, nil)
	p.add(keyTarget, id, nil)
	p.add(keyMember, id, nil)
}

// roll returns the members as they will be, by id.
func (p *plan) roll() []*member {
	if p.members != nil {
		return p.members
	}
	roll := make([]*member, 0, len(p.g.members)+1)
	for id, m := range p.g.members { // any order: sorted below
		if !p.gone[id] && (p.speaker == nil || id != p.speaker.id) {
			roll = append(roll, m)
		}
	}
	if p.speaker != nil {
		roll = append(roll, p.speaker)
	}
	slices.SortFunc(roll, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	p.members = roll
	return roll
}

// subscription is what a member reads: topics that exist, by id. Members that
// read the same share it.
type subscription struct {
	names  []string
	regex  string
	topics []*messages.Topic
}

// readsMax bounds how many subscriptions are looked through for an equal one. What
// is not found is made anew, which costs time alone.
const readsMax = 16

func (p *plan) subscription(m *meta) *subscription {
	for _, s := range p.reads {
		if s.regex == m.regex && same(s.names, m.topics) {
			return s
		}
	}
	s := &subscription{names: m.topics, regex: m.regex}
	add := func(name string) {
		if t := p.image.Topic(name); t != nil && len(t.Partitions) > 0 {
			s.topics = append(s.topics, t)
		}
	}
	for _, name := range m.topics {
		add(name)
	}
	if m.regex != "" {
		for _, name := range p.matching(m.regex) {
			add(name)
		}
	}
	slices.SortFunc(s.topics, func(a, b *messages.Topic) int { return compareIDs(a.ID, b.ID) })
	s.topics = slices.Compact(s.topics)
	if len(p.reads) < readsMax {
		p.reads = append(p.reads, s)
	}
	return s
}

func same(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// reads reports whether the member, as it will be, reads the topic.
func (s *subscription) reads(topic messages.TopicID) bool {
	at := func(t *messages.Topic, id messages.TopicID) int { return compareIDs(t.ID, id) }
	_, ok := slices.BinarySearchFunc(s.topics, topic, at)
	return ok
}

// compareMetadata bumps the epoch if topics that members read came, went or grew.
func (p *plan) compareMetadata() {
	p.compared = true
	p.hash = p.sum()
	p.bump = p.bump || p.hash != p.g.hash
}

// sum is a hash of the topics that members read: names, ids, partition counts. It
// is 0 if there are none.
func (p *plan) sum() int64 {
	var topics []*messages.Topic
	var last *subscription
	for _, m := range p.roll() {
		if s := p.subscription(&m.meta); s != last {
			topics = append(topics, s.topics...)
			last = s
		}
	}
	if len(topics) == 0 {
		return 0
	}
	slices.SortFunc(topics, func(a, b *messages.Topic) int { return compareIDs(a.ID, b.ID) })
	h := fnv.New64a()
	var b []byte
	for _, t := range slices.Compact(topics) {
		b = append(b[:0], t.ID[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(t.Partitions)))
		b = append(append(b, t.Name...), 0)
		h.Write(b)
	}
	return int64(h.Sum64())
}

// assign raises the group epoch if it must rise, and computes the target
// assignment if it is of an earlier epoch.
func (p *plan) assign() {
	g := p.g
	if p.bump {
		p.epoch = g.epoch + 1
		p.add(keyGroup, "", groupValue{epoch: p.epoch, hash: p.hash})
		if g.legacy {
			p.add(keyPartitions, "", nil)
		}
	}
	if p.epoch == p.target {
		return
	}
	invariant.That(p.epoch > p.target, "group %q has epoch %d and a target assignment of %d",
		g.id, p.epoch, p.target)
	p.target = p.epoch
	roll := p.roll()
	claims := make([]claim, len(roll))
	for i, m := range roll {
		claims[i] = claim{
			id: m.id, instance: m.instance, topics: p.subscription(&m.meta).topics, had: m.target,
		}
	}
	for i, s := range assignBy(preferred(roll, p.cfg.assignors()), claims) {
		if m := roll[i]; m == p.speaker {
			m.target = s
		} else if !equal(s, m.target) {
			p.add(keyTarget, m.id, target(s))
		}
	}
}

// preferred returns the assignor that most members ask for; of two, the one that
// is configured first. Members without a wish do not count.
func preferred(members []*member, assignors []string) string {
	best, most := assignors[0], 0
	for _, name := range assignors {
		n := 0
		for _, m := range members {
			if m.assignor == name {
				n++
			}
		}
		if n > most {
			best, most = name, n
		}
	}
	return best
}

// finish adds the records of the speaker, and that of the target's epoch. was is
// the member as it is in the log; nil: it is not.
func (p *plan) finish(was *member) {
	if s := p.speaker; s != nil {
		if was == nil {
			was = &member{}
			p.add(keyMember, s.id, s.meta)
		} else if !s.meta.equal(&was.meta) {
			p.add(keyMember, s.id, s.meta)
		}
		if !equal(s.target, was.target) {
			p.add(keyTarget, s.id, target(s.target))
		}
		if was.id == "" || !s.current.equal(&was.current) {
			p.add(keyCurrent, s.id, s.current)
		}
	}
	if p.target != p.g.targetEpoch {
		p.add(keyTargetEpoch, "", targetEpochValue(p.target))
	}
}

func (m *meta) equal(o *meta) bool {
	return m.instance == o.instance && m.rack == o.rack && m.clientID == o.clientID &&
		m.clientHost == o.clientHost && same(m.topics, o.topics) && m.regex == o.regex &&
		m.rebalanceTimeoutMs == o.rebalanceTimeoutMs && m.assignor == o.assignor &&
		m.classic == o.classic
}

// reconcile takes the speaker a step towards its target. owned is what it says it
// owns, if it says so.
func (p *plan) reconcile(r *group.ConsumerHeartbeat, subscriptionChanged bool) {
	s := p.speaker
	if s.reconciled(p.target) {
		return
	}
	var owned set
	if r.HasOwned {
		owned = normal(r.Owned)
	}
	owns := func(given set) bool { return !r.HasOwned || overlap(owned, given) }
	if s.state == unrevoked && owns(s.revoking) {
		if subscriptionChanged {
			// What it does not want any more goes along with what it must give up.
			reads := p.subscription(&s.meta)
			kept, more := divide(s.assigned, func(t messages.TopicID, _ int32) bool {
				return reads.reads(t)
			})
			s.assigned, s.revoking = kept, union(s.revoking, more)
		}
		return
	}
	kept, revoke := split(s.assigned, s.target)
	if len(revoke) > 0 && owns(revoke) {
		s.state, s.assigned, s.revoking = unrevoked, kept, revoke
		return
	}
	_, more := split(s.target, kept)
	free, held := divide(more, func(t messages.TopicID, n int32) bool {
		owner := p.g.owner(t, n)
		return owner == nil || owner.id == s.id || p.gone[owner.id]
	})
	s.state = stable
	if len(held) > 0 {
		s.state = unreleased
	}
	if s.memberEpoch != p.target {
		s.previous, s.memberEpoch = s.memberEpoch, p.target
	}
	s.assigned, s.revoking = union(kept, free), nil
}

// sorted returns names in order, each once.
func sorted(names []string) []string {
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			return slices.Compact(slices.Sorted(slices.Values(names)))
		}
	}
	return names
}

func (g *Group) ids() []string { return slices.Sorted(maps.Keys(g.members)) }
