// Package groups decides what a group of consumers does next: who is a member,
// which generation and assignment are in force, and which offsets are committed.
//
// A Group is one group's machine (messages/coord). It owns the committed offsets,
// those that are pending in transactions, and the members of a classic group; the
// members of a consumer group (KIP-848) are for package consumer. The offsets stand
// apart from the protocol of the members: see membership.
//
// A Group reads no clock, starts no goroutine and touches no disk. Its owner, an
// actor of the shard that leads the group's partition of __consumer_offsets, hands
// it requests and the time, and makes durable what it decides. What is in the
// records changes only once they are; joins and heartbeats, which Kafka keeps in
// memory too, change at once.
//
// Only the actors and tests may import it.
package groups

import (
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/invariant"
)

// Config is what a Group goes by; the names of Kafka's settings stand beside it.
type Config struct {
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	MaxSize               int           // group.max.size, members of a classic group
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	// NewMemberJoinTimeout is how long the join of a new member may wait for the
	// others; Kafka has 5 minutes for it and no setting.
	NewMemberJoinTimeout   time.Duration
	OffsetsRetention       time.Duration // offsets.retention.minutes
	RetentionCheckInterval time.Duration // offsets.retention.check.interval.ms
	OffsetMetadataMaxBytes int           // offset.metadata.max.bytes

	// Of consumer groups: group.consumer.session.timeout.ms with its bounds,
	// group.consumer.heartbeat.interval.ms with its own, group.consumer.max.size and
	// group.consumer.assignors.
	ConsumerSessionTimeout       time.Duration
	ConsumerMinSessionTimeout    time.Duration
	ConsumerMaxSessionTimeout    time.Duration
	ConsumerHeartbeatInterval    time.Duration
	ConsumerMinHeartbeatInterval time.Duration
	ConsumerMaxHeartbeatInterval time.Duration
	ConsumerMaxSize              int
	ConsumerAssignors            []string

	// Image is the newest metadata, for looking topics up; nil: there is none.
	Image func() *messages.Image
	// Removed hears of members that are given up, not of those that leave: operators
	// want to know why a group rebalanced. Nil: nobody does.
	Removed func(groupID, memberID, why string)
}

// removed tells that a member is given up.
func (g *Group) removed(memberID, why string) {
	if tell := g.cfg().Removed; tell != nil {
		tell(g.id, memberID, why)
	}
}

// Group is the machine of one group. Make one with New. It has one owner and is
// not safe for concurrent use.
type Group struct {
	id      string
	cfg     func() Config
	now     time.Time // of the last call
	offsets offsets
	members membership
	// next is decided and not taken yet; inFlight is taken and not done.
	next, inFlight *decision
	// checkDue is when expired offsets are looked for; zero: there is nothing to expire.
	checkDue time.Time
}

var (
	_ coord.Machine = (*Group)(nil)
	_ coord.Unheard = (*Group)(nil)
)

// decision is a write with what its outcome leads to.
type decision struct {
	write   coord.Write
	commits bool                             // offset commits alone, more may be added
	done    []func(now time.Time, err error) // in the order of the records
}

// New returns the machine of group id, which knows nothing yet. Settings can
// change while it runs, so cfg is called for each use.
func New(id string, cfg func() Config) *Group {
	g := &Group{id: id, cfg: cfg, offsets: newOffsets()}
	g.members = newClassic(g)
	return g
}

// Replay implements coord.Machine. Errors wrap ErrUnknownKey or ErrDamaged.
func (g *Group) Replay(r coord.Replayed) error {
	k, err := ParseKey(r.Key)
	if err != nil {
		return err
	}
	invariant.That(k.Group == g.id, "record of group %q is replayed to %q", k.Group, g.id)
	if !k.isOffset() {
		return g.replayMembers(k, r)
	}
	if r.Value == nil {
		g.offsets.remove(k.partition())
		return nil
	}
	o, err := parseOffsetValue(k.partition(), r.Value)
	if err != nil {
		return fmt.Errorf("group %q: %w", g.id, err)
	}
	g.offsets.apply(r.Producer, []group.Offset{o})
	return nil
}

// ReplayEnd takes note of a transaction marker that is in the partition, at load
// time, in order with the records.
func (g *Group) ReplayEnd(producer messages.ProducerID, commit bool) {
	g.offsets.end(producer, commit)
}

// PendingProducers returns the producers with pending offsets here, ascending:
// the markers of their transactions concern this group.
func (g *Group) PendingProducers() []messages.ProducerID { return g.offsets.producers() }

// Loaded implements coord.Machine.
func (g *Group) Loaded(now time.Time) {
	g.now = now
	if g.members.kind() == group.Consumer && !g.members.exists() {
		g.members = newClassic(g)
	}
	g.members.loaded(now)
	g.settle()
}

// Unheard implements coord.Unheard: heartbeats were among what was refused.
func (g *Group) Unheard(now time.Time) { g.members.unheard(now) }

// Handle implements coord.Machine. Only a *group.Commit may come while another
// one's write was not taken.
func (g *Group) Handle(now time.Time, r coord.Request) {
	invariant.That(g.inFlight == nil, "a group is asked while a write is under way")
	g.now = now
	switch r := r.(type) {
	case *group.Commit:
		g.commit(now, r)
	case *group.TxnCommit:
		g.txnCommit(now, r)
	case *group.TxnEnded:
		g.offsets.end(r.Producer, r.Commit)
	case *group.FetchOffsets:
		g.fetch(r)
	case *group.Describe:
		r.Reply(g.describe())
	case *group.List:
		g.list(r)
	case *group.Delete:
		g.delete(r)
	case *group.DeleteOffsets:
		g.deleteOffsets(r)
	case *group.TopicsDeleted:
		g.topicsDeleted(r)
	default:
		if !g.members.handle(now, r) && !g.convert(now, r) {
			g.refuseForeign(r)
		}
	}
	g.settle()
}

// refuseForeign answers what the protocol of the group does not know.
func (g *Group) refuseForeign(r coord.Request) {
	kind := g.members.kind()
	switch r := r.(type) {
	case *group.Join:
		r.Refuse(fmt.Errorf("group %q is a %s group: %w", g.id, kind, group.ErrInconsistentProtocol))
	case *group.ConsumerHeartbeat:
		if !g.exists() { // it expired, or was deleted: the member joins again
			r.Refuse(fmt.Errorf("group %q is not there: %w", g.id, group.ErrUnknownMember))
			return
		}
		r.Refuse(fmt.Errorf("group %q is a %s group: %w", g.id, kind, group.ErrGroupNotFound))
	case *group.Sync, *group.Heartbeat, *group.Leave:
		r.Refuse(fmt.Errorf("group %q is a %s group: %w", g.id, kind, group.ErrUnknownMember))
	default:
		invariant.That(false, "a group is asked %T", r)
	}
}

// Tick implements coord.Machine.
func (g *Group) Tick(now time.Time) {
	invariant.That(g.inFlight == nil && g.next == nil,
		"group %q ticks while a write is under way", g.id)
	g.now = now
	g.members.tick(now)
	if g.next == nil && isDue(g.checkDue, now) {
		g.expire(now)
	}
	g.settle()
}

// Due implements coord.Machine.
func (g *Group) Due() time.Time { return earliest(g.members.due(), g.checkDue) }

// settle arms the search for expired offsets if there is something to find.
func (g *Group) settle() {
	leftover := g.members.vacant() && g.members.exists()
	switch {
	case g.offsets.len() == 0 && !leftover:
		g.checkDue = time.Time{}
	case g.checkDue.IsZero():
		g.checkDue = g.now.Add(g.cfg().RetentionCheckInterval)
	}
}

// decide sets what is to be made durable next. done is called with its outcome.
func (g *Group) decide(w coord.Write, done func(now time.Time, err error)) {
	invariant.That(g.next == nil && g.inFlight == nil, "group %q decides twice", g.id)
	g.next = &decision{write: w, done: []func(time.Time, error){done}}
}

// write is decide for records that are part of no transaction.
func (g *Group) write(records []coord.Record, done func(now time.Time, err error)) {
	g.decide(coord.Write{Records: records, Producer: messages.NoProducerID, Epoch: -1}, done)
}

// afterwards calls f once what was just decided is done, or at once if nothing was.
func (g *Group) afterwards(f func(err error)) {
	if g.next == nil {
		f(nil)
		return
	}
	g.next.done = append(g.next.done, func(_ time.Time, err error) { f(err) })
}

// TakeWrite implements coord.Machine.
func (g *Group) TakeWrite() *coord.Write {
	d := g.next
	if d == nil {
		return nil
	}
	g.next, g.inFlight = nil, d
	d.write.Done = func(now time.Time, err error) {
		if g.inFlight == d { // else the machine was stopped, and everybody answered
			g.inFlight = nil
			g.now = now
			d.finish(now, err)
			g.settle()
		}
	}
	return &d.write
}

func (d *decision) finish(now time.Time, err error) {
	for _, done := range d.done {
		done(now, err)
	}
}

// Empty implements coord.Machine.
func (g *Group) Empty() bool {
	return g.next == nil && g.inFlight == nil && !g.exists()
}

// exists reports whether there is anything to the group.
func (g *Group) exists() bool { return !g.offsets.empty() || g.members.exists() }

// Stop implements coord.Machine.
func (g *Group) Stop(err error) {
	stopped := []*decision{g.inFlight, g.next}
	g.inFlight, g.next = nil, nil
	for _, d := range stopped {
		if d != nil {
			d.finish(g.now, err)
		}
	}
	g.members.stop(err)
	g.next = nil
}

// isDue reports whether a deadline is reached; the zero one never is.
func isDue(deadline, now time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

// earliest returns the first of the deadlines that are set; zero: none is.
func earliest(deadlines ...time.Time) time.Time {
	var first time.Time
	for _, d := range deadlines {
		if first.IsZero() || !d.IsZero() && d.Before(first) {
			first = d
		}
	}
	return first
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

func timestamp(t time.Time) messages.Timestamp { return messages.Timestamp(t.UnixMilli()) }
