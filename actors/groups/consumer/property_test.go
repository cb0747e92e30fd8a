package consumer

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// client is a member as it sees itself.
type client struct {
	id, instance string
	epoch        int32
	topics       []string
	regex        string
	owned        map[messages.PartitionID]bool // it reads these
	told         set                           // it may own these
	said         string                        // what it last said it owns, and was heard
	all          bool                          // the next heartbeat tells everything
	dead         bool
}

// crowd is many clients of one group in a world where things fail.
type crowd struct {
	*world
	rng     *rand.Rand
	clients []*client
	made    int
	epoch   int32
}

func (c *crowd) trace(format string, args ...any) {
	c.t.Logf("%s "+format, append([]any{c.now.Sub(noon)}, args...)...)
}

func (c *crowd) chance(percent int) bool { return c.rng.IntN(100) < percent }

func (c *crowd) newClient() *client {
	c.made++
	m := &client{id: fmt.Sprintf("m%03d", c.made)}
	if c.chance(30) {
		m.instance = fmt.Sprintf("i%d", c.rng.IntN(4))
	}
	c.subscribe(m)
	return m
}

func (c *crowd) subscribe(m *client) {
	m.topics, m.regex = nil, ""
	names := []string{"t0", "t1", "t2", "t3"}
	if c.chance(50) {
		m.topics = names[:2] // so that members often read the same
	} else {
		for _, n := range names {
			if c.chance(50) {
				m.topics = append(m.topics, n)
			}
		}
	}
	if c.chance(20) {
		m.regex = []string{"t[0-2]", "t.*", "t3|x"}[c.rng.IntN(3)]
	}
}

// fates of a heartbeat.
const (
	heard = iota
	answerLost
	writeFailed
	writeFailedAndIsThere
)

// send lets the client send its next heartbeat, and take in the answer.
func (c *crowd) send(m *client, fate int) {
	r := group.ConsumerHeartbeat{
		MemberID: m.id, MemberEpoch: m.epoch, InstanceID: m.instance, ClientID: "c", ClientHost: "/h",
		RebalanceTimeoutMs: -1,
	}
	owned := m.list()
	said := fmt.Sprint(owned)
	if m.epoch == 0 || m.all {
		r.RebalanceTimeoutMs, r.HasTopics, r.Topics, r.Regex = 30_000, true, m.topics, &m.regex
		r.HasOwned, r.Owned = true, owned
	} else if said != m.said {
		r.HasOwned, r.Owned = true, owned
	}
	switch fate {
	case writeFailed, writeFailedAndIsThere:
		c.fail, c.keep = messages.ErrUnavailable, fate == writeFailedAndIsThere
	}
	a := c.beat(r)
	c.fail, c.keep = nil, false
	c.trace("%s epoch %d owns %v (said %v): epoch %d, %v %v, %v; lost %v", m.id, m.epoch, owned,
		r.HasOwned, a.MemberEpoch, a.HasAssigned, a.Assigned, a.Err, fate == answerLost)
	if fate == answerLost {
		m.all = true
		return
	}
	switch {
	case a.Err == nil:
		m.epoch, m.all = a.MemberEpoch, false
		if r.HasOwned {
			m.said = said
		}
		if a.HasAssigned {
			m.told = a.Assigned
			for _, t := range a.Assigned {
				for _, n := range t.Partitions {
					m.owned[messages.PartitionID{Topic: t.Topic, Partition: n}] = true
				}
			}
		}
	case errors.Is(a.Err, messages.ErrUnavailable), errors.Is(a.Err, group.ErrUnreleasedInstance):
		m.all = true
	case errors.Is(a.Err, group.ErrUnknownMember), errors.Is(a.Err, group.ErrFencedMemberEpoch):
		m.drop()
	case errors.Is(a.Err, group.ErrFencedInstance):
		m.drop()
		m.instance = ""
	default:
		c.t.Fatalf("%s: %v", m.id, a.Err)
	}
}

// drop gives everything up: the client joins again.
func (m *client) drop() {
	m.epoch, m.owned, m.told, m.said, m.all = 0, map[messages.PartitionID]bool{}, nil, "", false
}

// revoke stops reading what it may not own any more.
func (m *client) revoke() {
	maps.DeleteFunc(m.owned, func(p messages.PartitionID, _ bool) bool {
		return !has(m.told, p.Topic, p.Partition)
	})
}

func (m *client) list() []group.TopicPartitions {
	var listed []group.TopicPartitions
	for p := range m.owned {
		listed = append(listed, group.TopicPartitions{Topic: p.Topic, Partitions: []int32{p.Partition}})
	}
	return normal(listed)
}

func (c *crowd) step() {
	pick := func() *client {
		if len(c.clients) == 0 {
			return nil
		}
		return c.clients[c.rng.IntN(len(c.clients))]
	}
	m := pick()
	switch n := c.rng.IntN(100); {
	case m == nil || n < 3 && len(c.clients) < 7:
		m := c.newClient()
		m.drop()
		c.clients = append(c.clients, m)
	case n < 60:
		if m.dead {
			return
		}
		if c.chance(60) {
			m.revoke()
		}
		fate := heard
		if c.chance(25) {
			fate = 1 + c.rng.IntN(3)
		}
		c.send(m, fate)
	case n < 65:
		c.subscribe(m)
		m.all = true
	case n < 67:
		c.trace("%s dies", m.id)
		m.dead = true
	case n < 70:
		c.farewell(m)
	case n < 76:
		name := fmt.Sprintf("t%d", c.rng.IntN(4))
		n := c.rng.IntN(3)
		if old := c.image.Topic(name); old != nil && n > 0 {
			n += len(old.Partitions)
		}
		c.trace("topic %s gets %d partitions", name, n)
		c.topic(name, min(n, 12))
	case n < 80:
		c.trace("restart")
		c.g.Stop(messages.ErrNotCoordinator)
		c.restart()
	default:
		if c.chance(20) {
			c.fail, c.keep = messages.ErrUnavailable, c.chance(50)
		}
		c.pass(time.Duration(c.rng.IntN(4000)) * time.Millisecond)
		c.fail, c.keep = nil, false
	}
}

// farewell lets the client leave, for good or to be replaced.
func (c *crowd) farewell(m *client) {
	if m.dead || m.epoch == 0 {
		return
	}
	r := plain(m.id, -1)
	r.InstanceID = m.instance
	if m.instance != "" && c.chance(70) {
		r.MemberEpoch = -2
	}
	m.drop() // it stops reading before it says so
	a := c.beat(r)
	c.trace("%s leaves with %d: %v", m.id, r.MemberEpoch, a.Err)
	if c.chance(50) {
		c.made++
		m.id = fmt.Sprintf("m%03d", c.made) // another process
	}
	if r.MemberEpoch == -1 && c.chance(50) {
		c.clients = slices.DeleteFunc(c.clients, func(o *client) bool { return o == m })
	}
}

// check looks at everything that must always hold.
func (c *crowd) check() {
	g := c.g
	owners := map[messages.PartitionID]string{}
	for _, m := range c.clients {
		if m.dead || g.members[m.id] == nil {
			continue // the group waited as long as it had to
		}
		for p := range m.owned {
			if other := owners[p]; other != "" {
				c.t.Fatalf("%s and %s own %v", m.id, other, p)
			}
			owners[p] = m.id
		}
	}
	if g.epoch < c.epoch || g.targetEpoch > g.epoch {
		c.t.Fatalf("epoch %d after %d, target %d", g.epoch, c.epoch, g.targetEpoch)
	}
	c.epoch = g.epoch
	c.checkTarget()
	if len(g.doubt) > 0 {
		return
	}
	for _, log := range [][]int{{0}, {1}, {2}} {
		records := c.log
		if log[0] > 0 {
			records = compacted(c.log, log[0] == 2)
		}
		again := rebuild(c.t, records, c.config)
		again.Loaded(c.now)
		if got, want := picture(again), picture(g); got != want {
			c.t.Fatalf("the log (%d) says\n%s\nwant\n%s", log[0], got, want)
		}
	}
}

// checkTarget checks that the target assignment holds each partition of each topic
// that is read once, with a member that reads it.
func (c *crowd) checkTarget() {
	g := c.g
	if g.seen == nil || g.seen != c.image {
		return // the group has yet to look
	}
	wanted := map[messages.PartitionID]bool{}
	readers := map[messages.TopicID]map[string]bool{}
	for id, m := range g.members {
		names := slices.Clone(m.topics)
		if r := g.regexes[m.regex]; r != nil {
			names = append(names, r.topics...)
		}
		for _, name := range names {
			if t := g.seen.Topic(name); t != nil {
				for n := range t.Partitions {
					wanted[messages.PartitionID{Topic: t.ID, Partition: int32(n)}] = true
				}
				if readers[t.ID] == nil {
					readers[t.ID] = map[string]bool{}
				}
				readers[t.ID][id] = true
			}
		}
	}
	for id, m := range g.members {
		for _, t := range m.target {
			for _, n := range t.Partitions {
				p := messages.PartitionID{Topic: t.Topic, Partition: n}
				if !wanted[p] || !readers[t.Topic][id] {
					c.t.Fatalf("%s shall have %v, which is another's or nobody's", id, p)
				}
				delete(wanted, p)
			}
		}
	}
	if len(wanted) > 0 {
		c.t.Fatalf("nobody shall have %v", wanted)
	}
}

// settle lets nothing fail any more, until the group is at rest.
func (c *crowd) settle() {
	for range 40 {
		c.pass(5 * time.Second)
		for _, m := range c.clients {
			if !m.dead {
				m.revoke()
				c.send(m, heard)
				c.check()
			}
		}
	}
	living := 0
	for _, m := range c.clients {
		if m.dead {
			continue
		}
		if in := c.g.members[m.id]; in != nil {
			living++
			if in.memberEpoch != m.epoch || !equal(m.list(), in.target) || in.memberEpoch != c.g.epoch {
				c.t.Fatalf("%s has epoch %d and %v, the group says %d and %v", m.id, m.epoch, m.list(),
					in.memberEpoch, in.target)
			}
		}
	}
	want := group.Stable
	if living == 0 {
		want = group.Empty
	}
	if s := c.g.State(); s != want || len(c.g.members) != living {
		c.t.Fatalf("%v with %d members, %d live", s, len(c.g.members), living)
	}
}

func TestNoTwoMembersOwnAPartitionWhateverHappens(t *testing.T) {
	seeds := uint64(50)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &crowd{world: newWorld(t, "t0:3", "t1:4"), rng: rand.New(rand.NewPCG(seed, 848))}
			c.cfg.SessionTimeout = 20 * time.Second
			if seed%3 == 0 {
				c.cfg.Assignors = []string{Range, Uniform}
			}
			for range 300 {
				c.step()
				c.check()
			}
			c.settle()
		})
	}
}
