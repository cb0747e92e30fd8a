// Package consumer decides for one group of the consumer protocol (KIP-848):
// who its members are, which partitions each of them shall have, and which it may
// have now.
//
// A Group is the whole of such a group: members, target assignment, what each
// member was told to own. It reads no clock, does no I/O and starts no goroutine.
// Its owner, the machine of package actors/groups, hands it heartbeats and the
// time. A decision changes nothing: it becomes records, TakeWrite hands them out,
// and the Done of that write applies them with the very function that replays
// them after a restart, and answers. So what was never durable was never told,
// and a Group that was read back is the Group that wrote.
//
// The records are Kafka's own, in __consumer_offsets: key versions 3 to 8 and 16.
//
// Where it differs from Kafka:
//   - the target assignment is computed in the write that bumps the group epoch,
//     so a group is Assigning only right after it was read from Kafka's records;
//   - racks are stored and shown, and no assignor looks at them;
//   - a static member that comes back with the member id it had needs not to have
//     left: it is the same process, which was fenced;
//   - the metadata hash is of our own making: a group that moves between Kafka and
//     Troupe rebalances once, and nobody has to give up a partition for it.
//
// Members that speak the classic protocol cannot be in such a group (online
// migration): only a group without members changes its type. Those found in
// Kafka's records are removed once their session ends.
//
// Only actors/groups and tests may import it; it imports messages alone.
package consumer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// Assignors that a group can use, by Kafka's names.
const (
	Uniform = "uniform"
	Range   = "range"
)

// Config is what the group may do now. The Group asks for it at each call.
type Config struct {
	// SessionTimeout is how long a member may be silent, HeartbeatInterval the
	// pace members are told; each is held within its bounds, of which 0 is none.
	SessionTimeout, MinSessionTimeout, MaxSessionTimeout          time.Duration
	HeartbeatInterval, MinHeartbeatInterval, MaxHeartbeatInterval time.Duration
	// MaxSize is the most members of the group; 0: any number.
	MaxSize int
	// Assignors that members may ask for; the first is the default. Empty: all.
	Assignors []string
	// Image returns the newest metadata, or nil when there is none yet: heartbeats
	// are told to come again then. The same metadata is the same pointer.
	Image func() *messages.Image
	// Removed hears of members that are given up; nil: nobody does.
	Removed func(memberID, why string)
}

func bounded(d, least, most time.Duration) time.Duration {
	if most > 0 {
		d = min(d, most)
	}
	return max(d, least)
}

func (c *Config) session() time.Duration {
	return bounded(c.SessionTimeout, c.MinSessionTimeout, c.MaxSessionTimeout)
}

func (c *Config) intervalMs() int32 {
	d := bounded(c.HeartbeatInterval, c.MinHeartbeatInterval, c.MaxHeartbeatInterval)
	return int32(d.Milliseconds())
}

func (c *Config) assignors() []string {
	if len(c.Assignors) == 0 {
		return []string{Uniform, Range}
	}
	return c.Assignors
}

// Group is one consumer group. Make one with New, Replay what is known of it, and
// call Loaded. It has one owner and is not safe for concurrent use.
//
// Invariants: epochs never fall; targetEpoch <= epoch; a partition has at most
// one owner; the target assignment holds each partition of a subscribed topic once.
type Group struct {
	id   string
	cfg  func() Config
	conf Config // what cfg returned last

	// What the records say.
	exists      bool  // there is a record of the group itself
	legacy      bool  // there is a record of key version 4, to be deleted
	epoch       int32 // bumped when the target assignment must change
	hash        int64 // of the subscribed topics, their ids and partition counts
	targetEpoch int32 // the group epoch of the target assignment
	members     map[string]*member
	regexes     map[string]*regex

	// Drawn from the above.
	loaded   bool
	statics  map[string]string              // member id by instance id
	owners   map[messages.TopicID][]*member // who was told to own a partition, by number
	released uint64                         // counts events that may make a partition free
	due      time.Time                      // no later than the first deadline; zero: none
	retry    time.Time                      // when to write what is in doubt; zero: nothing is
	doubt    map[Key]bool                   // keys of writes of which nobody knows the outcome

	// What was looked at last.
	seen      *messages.Image // the hash is of it
	regexSeen *messages.Image // the regular expressions were matched with it
	regexAt   time.Time       // when

	decided *decision // waits to be taken, or to be durable
}

// member is one member: what its records say, and its timers.
type member struct {
	id string
	meta
	current
	target set
	known  bool // its record of key version 5 was seen

	deadline time.Time // its session ends
	revokeBy time.Time // it must have revoked; zero: it needs not
	tried    uint64    // released when the member was reconciled last
}

// States of a member, as in its record.
const (
	stable     int8 = 0
	unrevoked  int8 = 1 // it must give up partitions before it gets the next epoch
	unreleased int8 = 2 // it has the epoch and waits for partitions of others
	// unknown is a state of a later version of Kafka: the member has to join again.
	unknown int8 = 127
)

// current is what a member was told: the value of key version 8.
type current struct {
	memberEpoch int32
	previous    int32 // the epoch before it: an answer may have been lost
	state       int8
	assigned    set // it may own these
	revoking    set // it must give these up
}

func (a *current) equal(b *current) bool {
	return a.memberEpoch == b.memberEpoch && a.previous == b.previous && a.state == b.state &&
		equal(a.assigned, b.assigned) && equal(a.revoking, b.revoking)
}

// New returns a group of which nothing is known.
func New(id string, cfg func() Config) *Group {
	g := &Group{id: id, cfg: cfg}
	g.clear()
	return g
}

// config asks what holds now.
func (g *Group) config() *Config {
	g.conf = g.cfg()
	return &g.conf
}

func (g *Group) clear() {
	*g = Group{
		id: g.id, cfg: g.cfg, loaded: g.loaded,
		members: map[string]*member{},
		regexes: map[string]*regex{},
		statics: map[string]string{},
		owners:  map[messages.TopicID][]*member{},
		doubt:   map[Key]bool{},
	}
}

// Forget makes the group one of which nothing is known: after the records of
// Tombstones are durable.
func (g *Group) Forget() {
	invariant.That(g.decided == nil, "group %q is forgotten while a write waits", g.id)
	g.clear()
}

// Exists reports whether there is anything in the log to delete.
func (g *Group) Exists() bool {
	return g.exists || g.legacy || len(g.members)+len(g.regexes)+len(g.doubt) > 0
}

// Empty reports that the group has no members. A static member that left for a
// while counts as one.
func (g *Group) Empty() bool { return len(g.members) == 0 }

// State is what tools show.
func (g *Group) State() group.State {
	if len(g.members) == 0 {
		return group.Empty
	}
	if g.epoch > g.targetEpoch {
		return group.Assigning
	}
	for _, m := range g.members { // any order: one is enough
		if !m.reconciled(g.targetEpoch) {
			return group.Reconciling
		}
	}
	return group.Stable
}

func (m *member) reconciled(epoch int32) bool {
	return m.state == stable && m.memberEpoch == epoch
}

// Subscribed reports whether a member reads the topic.
func (g *Group) Subscribed(topic string) bool {
	for _, m := range g.members { // any order: one is enough
		if _, ok := slices.BinarySearch(m.topics, topic); ok {
			return true
		}
	}
	for _, r := range g.regexes { // any order: one is enough
		if slices.Contains(r.topics, topic) {
			return true
		}
	}
	return false
}

// CheckCommit tells whether a commit under this member epoch may be stored. One of
// no member (epoch below 0) may while the group is empty. Errors wrap
// group.ErrUnknownMember and group.ErrStaleMemberEpoch; for a request that does
// not know the latter, the caller has to refuse before. The instance id is not
// looked at, as in Kafka: a member that was replaced is unknown.
func (g *Group) CheckCommit(memberID, _ string, epoch int32) error {
	if epoch < 0 && len(g.members) == 0 {
		return nil
	}
	return g.check(memberID, epoch)
}

// CheckFetch tells whether committed offsets may be read under this member epoch.
// The empty member id with an epoch below 0 always may. Errors are those of
// CheckCommit.
func (g *Group) CheckFetch(memberID string, epoch int32) error {
	if memberID == "" && epoch < 0 {
		return nil
	}
	return g.check(memberID, epoch)
}

func (g *Group) check(memberID string, epoch int32) error {
	m := g.members[memberID]
	if m == nil {
		return fmt.Errorf("member %q of group %q: %w", memberID, g.id, group.ErrUnknownMember)
	}
	if m.memberEpoch != epoch {
		return fmt.Errorf("member %q of group %q says epoch %d and has %d: %w",
			memberID, g.id, epoch, m.memberEpoch, group.ErrStaleMemberEpoch)
	}
	return nil
}

// Tombstones returns the records that delete everything of the group. Once they
// are durable, call Forget.
func (g *Group) Tombstones() []coord.Record {
	keys := slices.Collect(maps.Keys(g.doubt)) // any order: sorted below
	for id := range g.members {                // any order: sorted below
		keys = append(keys, g.key(keyCurrent, id), g.key(keyTarget, id), g.key(keyMember, id))
	}
	for source := range g.regexes { // any order: sorted below
		keys = append(keys, g.key(keyRegex, source))
	}
	if g.exists {
		keys = append(keys, g.key(keyTargetEpoch, ""), g.key(keyGroup, ""))
	}
	if g.legacy {
		keys = append(keys, g.key(keyPartitions, ""))
	}
	slices.SortFunc(keys, compareKeys)
	keys = slices.Compact(keys)
	records := make([]coord.Record, 0, len(keys))
	for _, k := range keys {
		records = append(records, event{key: k}.record())
	}
	return records
}

// Describe shows the group with its members by id. Topics that were deleted are
// left out, as their names are not known any more.
func (g *Group) Describe() group.Description {
	cfg := g.config()
	image := g.image(cfg)
	d := group.Description{
		GroupID: g.id, Type: group.Consumer, State: g.State(), ProtocolType: "consumer",
		Epoch: g.epoch, AssignmentEpoch: g.targetEpoch,
	}
	members := make([]*member, 0, len(g.members))
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		members = append(members, m)
		d.Members = append(d.Members, group.Member{
			MemberID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			Rack: m.rack, Epoch: m.memberEpoch, Topics: m.topics, Regex: m.regex, Classic: m.classic,
			Assigned: named(m.assigned, image), Target: named(m.target, image),
		})
	}
	d.Assignor = preferred(members, cfg.assignors())
	return d
}

func named(s set, image *messages.Image) []group.TopicPartitions {
	var n []group.TopicPartitions
	if image == nil {
		return n
	}
	for _, t := range s {
		if topic := image.TopicByID(t.Topic); topic != nil {
			n = append(n, group.TopicPartitions{
				Topic: t.Topic, Name: topic.Name, Partitions: t.Partitions,
			})
		}
	}
	return n
}

// Stop answers the heartbeat that waits, if any, with err. Nothing is called
// after it.
func (g *Group) Stop(err error) {
	d := g.decided
	g.decided = nil
	if d != nil && d.asked != nil {
		d.asked.Refuse(err)
	}
}

// ErrBadRecord: a record of a group does not parse. The record is of no use; the
// partition it is in was written by something else, or the disk lied.
var ErrBadRecord = errors.New("record of a consumer group is damaged")
