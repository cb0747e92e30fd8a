package groups

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/primitive"
)

const groupID = "g"

// world is a group with the log it writes to and the clock it goes by.
type world struct {
	t   testing.TB
	g   *Group
	cfg Config
	now time.Time
	log []entry
	// fail is the outcome of the next writes; nil: they succeed.
	fail error
}

// entry is a record of the log or, with end, a marker.
type entry struct {
	coord.Replayed
	end    bool
	commit bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: time.UnixMilli(1_700_000_000_000), cfg: Config{
		MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute, MaxSize: 100,
		NewMemberJoinTimeout: 5 * time.Minute, OffsetsRetention: 7 * 24 * time.Hour,
		RetentionCheckInterval: 10 * time.Minute, OffsetMetadataMaxBytes: 4096,
	}}
	w.g = w.fresh()
	w.g.Loaded(w.now)
	return w
}

func (w *world) fresh() *Group { return New(groupID, func() Config { return w.cfg }) }

// do hands requests over before their write is taken, and makes it durable.
func (w *world) do(requests ...coord.Request) {
	w.t.Helper()
	for _, r := range requests {
		w.g.Handle(w.now, r)
	}
	w.flush()
}

// flush makes durable what was decided.
func (w *world) flush() {
	w.t.Helper()
	for {
		write := w.g.TakeWrite()
		if write == nil {
			w.check()
			return
		}
		if len(write.Records) == 0 {
			w.t.Fatal("a write of no records")
		}
		if w.fail == nil {
			for _, r := range write.Records {
				w.log = append(w.log, entry{Replayed: coord.Replayed{
					Record: r, Timestamp: timestamp(w.now), Producer: write.Producer, Epoch: write.Epoch,
				}})
			}
		}
		write.Done(w.now, w.fail)
	}
}

// advance lets time pass, and ticks whenever something is due.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	until := w.now.Add(d)
	for range 100000 {
		due := w.g.Due()
		if due.IsZero() || due.After(until) {
			w.now = until
			return
		}
		if due.After(w.now) {
			w.now = due
		}
		w.g.Tick(w.now)
		w.flush()
	}
	w.t.Fatalf("the group ticks without end, it is due at %v", w.g.Due())
}

// endTxn writes a marker.
func (w *world) endTxn(producer messages.ProducerID, commit bool) {
	w.log = append(w.log, entry{
		Replayed: coord.Replayed{Producer: producer}, end: true, commit: commit,
	})
	w.do(&group.TxnEnded{Producer: producer, Commit: commit})
}

// rebuilt is a group made of the log alone.
func (w *world) rebuilt() *Group {
	w.t.Helper()
	g := w.fresh()
	for _, e := range w.log {
		if e.end {
			g.ReplayEnd(e.Producer, e.commit)
		} else if err := g.Replay(e.Replayed); err != nil {
			w.t.Fatal(err)
		}
	}
	g.Loaded(w.now)
	return g
}

// failOver puts a group made of the log in the place of this one.
func (w *world) failOver() {
	w.t.Helper()
	g := w.rebuilt()
	w.g.Stop(messages.ErrNotCoordinator)
	w.g = g
}

// check asserts that the counters of the group are what they count.
func (w *world) check() {
	w.t.Helper()
	w.checkPending()
	c, ok := w.g.members.(*classic)
	if !ok {
		return
	}
	joining, owing, votes := 0, 0, map[string]int{}
	for _, m := range c.members {
		if m.join != nil {
			joining++
		}
		if !m.synced {
			owing++
		}
		for _, p := range m.protocols {
			votes[p.Name]++
		}
		if c.byID[m.id] != m || m.instance != "" && c.static[m.instance] != m {
			w.t.Fatalf("member %q is not found by its names", m.id)
		}
		if !m.deadline.IsZero() && (c.timers.session.IsZero() || c.timers.session.After(m.deadline)) {
			w.t.Fatalf("nobody looks at member %q when its session ends", m.id)
		}
	}
	if c.state == group.PreparingRebalance {
		owing = 0
	}
	if joining != c.joining || owing != c.owing || !maps.Equal(votes, c.votes) ||
		len(c.members) != len(c.byID) || len(c.members) < len(c.static) {
		w.t.Fatalf("counted %d joins, %d syncs, %v votes: %+v", joining, owing, votes, c)
	}
	if (c.leader == "") != (len(c.members) == 0) || c.leader != "" && c.byID[c.leader] == nil {
		w.t.Fatalf("leader %q is not one of %d members", c.leader, len(c.members))
	}
}

func (w *world) checkPending() {
	w.t.Helper()
	unstable := map[messages.TopicPartition]int{}
	for _, txn := range w.g.offsets.pending {
		for tp := range txn {
			unstable[tp]++
		}
	}
	if !maps.Equal(unstable, w.g.offsets.unstable) {
		w.t.Fatalf("pending are %v, counted %v", unstable, w.g.offsets.unstable)
	}
}

// remembers is what has to survive the node: offsets, pending ones, and the group
// unless a rebalance is under way, which members then begin anew.
func remembers(g *Group) string {
	var b strings.Builder
	for _, tp := range g.offsets.partitions() {
		fmt.Fprintf(&b, "%v\n", g.offsets.committed[tp].Offset)
	}
	for _, producer := range g.offsets.producers() {
		txn := g.offsets.pending[producer]
		for _, tp := range slices.SortedFunc(maps.Keys(txn), byPartition) {
			fmt.Fprintf(&b, "pending of %d: %v\n", producer, txn[tp].Offset)
		}
	}
	return b.String()
}

func membersOf(g *Group) string {
	c := g.members.(*classic)
	var b strings.Builder
	fmt.Fprintf(&b, "%s, generation %d, %q %q, leader %q\n", c.state, c.generation, c.protocolType,
		c.protocol, c.leader)
	for _, m := range c.members {
		fmt.Fprintf(&b, "%s %q of %s at %s, %d %d, %q, %q\n", m.id, m.instance, m.clientID,
			m.clientHost, m.sessionMs, m.rebalanceMs, m.metadata(c.protocol), m.assignment)
	}
	return b.String()
}

// box keeps the answers to one request.
type box[T any] struct{ got []T }

func (b *box[T]) put(v T) { b.got = append(b.got, v) }

func (b *box[T]) waits() bool { return len(b.got) == 0 }

// one returns the only answer.
func (b *box[T]) one(t testing.TB) T {
	t.Helper()
	if len(b.got) != 1 {
		t.Fatalf("%d answers, want one", len(b.got))
	}
	return b.got[0]
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
}

// subscribe is the metadata of a consumer that reads topics.
func subscribe(topics ...string) []byte {
	return append(primitive.Classic.AppendTexts([]byte{0, 3}, topics), "and so on"...)
}

// newJoin is a join of a dynamic consumer that does not want to be told its id.
func newJoin(newID string) (*group.Join, *box[group.Joined]) {
	b := &box[group.Joined]{}
	return &group.Join{
		NewMemberID: newID, ClientID: "client", ClientHost: "/10.0.0.1", SessionTimeoutMs: 10000,
		RebalanceTimeoutMs: 60000, ProtocolType: consumerType,
		Protocols: []group.Protocol{{Name: "range", Metadata: subscribe("t")}}, Reply: b.put,
	}, b
}

// join joins as a new member, changed by the options.
func (w *world) join(newID string, options ...func(*group.Join)) *box[group.Joined] {
	w.t.Helper()
	r, b := newJoin(newID)
	for _, o := range options {
		o(r)
	}
	w.do(r)
	return b
}

func as(memberID string) func(*group.Join) {
	return func(r *group.Join) { r.MemberID = memberID }
}

func static(instance string) func(*group.Join) {
	return func(r *group.Join) { r.InstanceID = instance }
}

func knowing(protocols ...group.Protocol) func(*group.Join) {
	return func(r *group.Join) { r.Protocols = protocols }
}

func requireID(r *group.Join) { r.RequireKnownID = true }

func canSkip(r *group.Join) { r.CanSkipAssignment = true }

func timeouts(sessionMs, rebalanceMs int32) func(*group.Join) {
	return func(r *group.Join) { r.SessionTimeoutMs, r.RebalanceTimeoutMs = sessionMs, rebalanceMs }
}

func (w *world) sync(id string, generation int32,
	assignments map[string][]byte) *box[group.Synced] {
	w.t.Helper()
	b := &box[group.Synced]{}
	w.do(&group.Sync{
		MemberID: id, Generation: generation, Assignments: assignments, Reply: b.put,
	})
	return b
}

func (w *world) heartbeat(id string, generation int32) error {
	w.t.Helper()
	b := &box[error]{}
	w.do(&group.Heartbeat{MemberID: id, Generation: generation, Reply: b.put})
	return b.one(w.t)
}

func (w *world) leave(members ...group.Leaving) group.Left {
	w.t.Helper()
	b := &box[group.Left]{}
	w.do(&group.Leave{Members: members, Reply: b.put})
	return b.one(w.t)
}

func at(topic string, partition int32, offset messages.Offset) group.Offset {
	return group.Offset{
		Topic: topic, Partition: partition, Offset: offset, Epoch: messages.NoEpoch,
		CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp,
	}
}

func (w *world) commit(id string, generation int32, offsets ...group.Offset) group.Committed {
	w.t.Helper()
	b := &box[group.Committed]{}
	w.do(&group.Commit{MemberID: id, Generation: generation, Offsets: offsets, Reply: b.put})
	return b.one(w.t)
}

// commitSimple commits as a client that is no member.
func (w *world) commitSimple(offsets ...group.Offset) {
	w.t.Helper()
	if c := w.commit("", group.NoGeneration, offsets...); c.Err != nil || c.Errs != nil {
		w.t.Fatalf("commit: %+v", c)
	}
}

func (w *world) txnCommit(producer messages.ProducerID, offsets ...group.Offset) group.Committed {
	w.t.Helper()
	b := &box[group.Committed]{}
	w.do(&group.TxnCommit{
		Producer: producer, Generation: group.NoGeneration, Offsets: offsets, Reply: b.put,
	})
	return b.one(w.t)
}

func (w *world) fetch(stable bool, partitions ...messages.TopicPartition) []group.FetchedOffset {
	w.t.Helper()
	b := &box[group.Fetched]{}
	w.do(&group.FetchOffsets{Partitions: partitions, Stable: stable,
		MemberEpoch: group.NoGeneration, Reply: b.put})
	f := b.one(w.t)
	if f.Err != nil {
		w.t.Fatal(f.Err)
	}
	return f.Offsets
}

// offset is the committed offset of a partition.
func (w *world) offset(topic string, partition int32) messages.Offset {
	w.t.Helper()
	return w.fetch(false, messages.TopicPartition{Topic: topic, Partition: partition})[0].Offset.Offset
}

func (w *world) describe() group.Description {
	w.t.Helper()
	b := &box[group.Description]{}
	w.do(&group.Describe{Reply: b.put})
	return b.one(w.t)
}

func (w *world) wantState(s group.State) {
	w.t.Helper()
	if d := w.describe(); d.State != s {
		w.t.Fatalf("group is %s, want %s", d.State, s)
	}
}

// stable makes a group of the members, which are dynamic; the first leads. It
// returns the generation.
func (w *world) stable(ids ...string) int32 {
	w.t.Helper()
	var all []*box[group.Joined]
	delay := w.cfg.InitialRebalanceDelay
	w.cfg.InitialRebalanceDelay = time.Second
	for _, id := range ids {
		all = append(all, w.join(id))
	}
	for all[0].waits() {
		w.advance(time.Second)
	}
	w.cfg.InitialRebalanceDelay = delay
	generation := all[0].one(w.t).Generation
	assignments := map[string][]byte{}
	for _, id := range ids {
		assignments[id] = []byte("of " + id)
	}
	for _, id := range ids {
		if s := w.sync(id, generation, assignments).one(w.t); s.Err != nil {
			w.t.Fatal(s.Err)
		}
		assignments = nil
	}
	w.wantState(group.Stable)
	return generation
}

func replayed(key, value []byte) coord.Replayed {
	return coord.Replayed{
		Record: coord.Record{Key: key, Value: value}, Producer: messages.NoProducerID, Epoch: -1,
	}
}
