package groups

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors/groups/consumer"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
)

// consumers is the membership of a consumer group (KIP-848).
type consumers struct {
	g *Group
	c *consumer.Group
}

var _ membership = (*consumers)(nil)

func newConsumers(g *Group) *consumers {
	return &consumers{g: g, c: consumer.New(g.id, func() consumer.Config {
		cfg := g.cfg()
		return consumer.Config{
			SessionTimeout:       cfg.ConsumerSessionTimeout,
			MinSessionTimeout:    cfg.ConsumerMinSessionTimeout,
			MaxSessionTimeout:    cfg.ConsumerMaxSessionTimeout,
			HeartbeatInterval:    cfg.ConsumerHeartbeatInterval,
			MinHeartbeatInterval: cfg.ConsumerMinHeartbeatInterval,
			MaxHeartbeatInterval: cfg.ConsumerMaxHeartbeatInterval,
			MaxSize:              cfg.ConsumerMaxSize, Assignors: cfg.ConsumerAssignors,
			Image: cfg.Image, Removed: g.removed,
		}
	})}
}

func (m *consumers) kind() group.Type { return group.Consumer }

func (m *consumers) handle(now time.Time, r coord.Request) bool {
	h, ok := r.(*group.ConsumerHeartbeat)
	if ok {
		m.c.Heartbeat(now, h)
		m.pass()
	}
	return ok
}

// pass hands on what was decided.
func (m *consumers) pass() {
	if w := m.c.TakeWrite(); w != nil {
		m.g.decide(*w, w.Done)
	}
}

func (m *consumers) tick(now time.Time) {
	if isDue(m.c.Due(), now) {
		m.c.Tick(now)
		m.pass()
	}
}

func (m *consumers) due() time.Time { return m.c.Due() }

func (m *consumers) mayCommit(_ time.Time, by *committer) error {
	if by.generation < 0 && (m.c.Empty() || by.txn && by.memberID == "") {
		return nil // a tool, or a producer that does not say which member it works for
	}
	if !by.txn && !by.epochs {
		return fmt.Errorf("group %q is a consumer group: %w", m.g.id, group.ErrUnsupported)
	}
	return m.c.CheckCommit(by.memberID, by.instanceID, by.generation)
}

func (m *consumers) mayFetch(memberID string, epoch int32) error {
	if memberID == "" && epoch < 0 {
		return nil
	}
	return m.c.CheckFetch(memberID, epoch)
}

func (m *consumers) mayDeleteOffsets() error { return nil }

func (m *consumers) subscribed(topic string) bool { return m.c.Subscribed(topic) }

// retention counts from the commit, as Kafka does for groups of this protocol; of
// topics that a member reads nothing expires.
func (m *consumers) retention() retention {
	return retention{expires: true, since: messages.NoTimestamp}
}

func (m *consumers) vacant() bool { return m.c.Empty() }

func (m *consumers) exists() bool { return m.c.Exists() }

func (m *consumers) describe(d *group.Description) { *d = m.c.Describe() }

func (m *consumers) tombstones() []coord.Record { return m.c.Tombstones() }

func (m *consumers) replay(k Key, r coord.Replayed) error {
	own, err := consumer.ParseKey(r.Key)
	if err != nil {
		return fmt.Errorf("key of version %d of group %q: %w: %w", k.Version, m.g.id, ErrDamaged, err)
	}
	if err := m.c.Replay(own, r.Value); err != nil {
		return fmt.Errorf("group %q: %w: %w", m.g.id, ErrDamaged, err)
	}
	return nil
}

func (m *consumers) loaded(now time.Time) {
	m.c.Loaded(now)
	m.pass()
}

func (m *consumers) unheard(now time.Time) { m.c.Unheard(now) }

func (m *consumers) stop(err error) { m.c.Stop(err) }

// replayMembers takes in a record of the members. The protocol of a group is that
// of the records that are not tombstones.
func (g *Group) replayMembers(k Key, r coord.Replayed) error {
	isClassic := g.members.kind() == group.Classic
	switch {
	case k.isConsumer() == !isClassic:
	case r.Value == nil:
		return nil // the end of what it was before
	case isClassic:
		g.members = newConsumers(g)
	default:
		g.members = newClassic(g)
	}
	return g.members.replay(k, r)
}

// convert lets a group without members change its protocol. It reports whether the
// request was taken over.
func (g *Group) convert(now time.Time, r coord.Request) bool {
	if !g.members.vacant() {
		return false
	}
	switch r := r.(type) {
	case *group.ConsumerHeartbeat:
		if r.MemberEpoch == group.EpochJoin {
			g.toConsumers(now, r)
			return true
		}
	case *group.Join:
		g.toClassic(now, r)
		return true
	}
	return false
}

// toConsumers has the first member of a consumer group join: the records of the
// classic group that was here go in the same write.
func (g *Group) toConsumers(now time.Time, r *group.ConsumerHeartbeat) {
	before, next := g.members, newConsumers(g)
	next.c.Loaded(now)
	g.members = next
	next.handle(now, r)
	if g.next == nil { // it was refused
		g.members = before
		return
	}
	w := &g.next.write
	w.Records = append(before.tombstones(), w.Records...)
	g.next.done = append(g.next.done, func(_ time.Time, err error) {
		switch {
		case err == nil:
			before.stop(fmt.Errorf("group %q is a consumer group now: %w", g.id,
				group.ErrInconsistentProtocol))
		case !next.c.Exists():
			g.members = before
		}
	})
}

// toClassic forgets a consumer group without members, then has the first member of
// a classic one join.
func (g *Group) toClassic(now time.Time, r *group.Join) {
	records := g.members.tombstones()
	if len(records) == 0 {
		g.members = newClassic(g)
		g.members.handle(now, r)
		return
	}
	g.write(records, func(now time.Time, err error) {
		if err != nil {
			r.Refuse(err)
			return
		}
		g.members = newClassic(g)
		g.members.handle(now, r)
	})
}
