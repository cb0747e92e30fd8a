package consumer

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
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is a group with its log, a clock and metadata.
type world struct {
	t       testing.TB
	now     time.Time
	g       *Group
	cfg     Config
	image   *messages.Image
	log     []coord.Record
	written []coord.Record // by the latest call
	fail    error          // of the next write
	keep    bool           // the next write fails and is in the log all the same
}

func newWorld(t testing.TB, topics ...string) *world {
	w := &world{t: t, now: noon, image: messages.NewImage()}
	w.cfg = Config{
		SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second,
		Image: func() *messages.Image { return w.image },
	}
	for _, topic := range topics {
		name, n := topic, 0
		if i := strings.IndexByte(topic, ':'); i >= 0 {
			name = topic[:i]
			fmt.Sscanf(topic[i+1:], "%d", &n)
		}
		w.topic(name, n)
	}
	w.restart()
	return w
}

func (w *world) config() Config { return w.cfg }

// restart reads the group back from its log.
func (w *world) restart() {
	w.g = rebuild(w.t, w.log, w.config)
	w.g.Loaded(w.now)
}

func rebuild(t testing.TB, log []coord.Record, cfg func() Config) *Group {
	g := New("g", cfg)
	for _, r := range log {
		k, err := ParseKey(r.Key)
		if err == nil {
			err = g.Replay(k, r.Value)
		}
		if err != nil {
			t.Fatalf("replay: %v", err)
		}
	}
	return g
}

// idOf makes the id of a topic from its name and its life.
func idOf(name string, life byte) (id messages.TopicID) {
	copy(id[:15], name)
	id[15] = life
	return id
}

// topic creates a topic, or makes it grow, or with n of 0 deletes it.
func (w *world) topic(name string, n int) {
	d := &messages.Delta{From: w.image.Version, To: w.image.Version + 1}
	old := w.image.Topic(name)
	switch {
	case n == 0 && old != nil:
		d.Removed = []messages.TopicID{old.ID}
	case n > 0:
		t := &messages.Topic{
			Name: name, ID: idOf(name, byte(d.To)), Partitions: make([]messages.Partition, n),
		}
		if old != nil {
			t.ID = old.ID
		}
		d.Topics = []*messages.Topic{t}
	}
	next, ok := w.image.Apply(d)
	if !ok {
		w.t.Fatal("delta does not apply")
	}
	w.image = next
}

// flush makes what was decided durable, or fails to.
func (w *world) flush() {
	w.written = nil
	write := w.g.TakeWrite()
	if write == nil {
		return
	}
	if w.g.TakeWrite() != nil {
		w.t.Fatal("a write is taken twice")
	}
	if len(write.Records) == 0 {
		w.t.Fatal("a write without records")
	}
	w.written = write.Records
	err := w.fail
	if err == nil || w.keep {
		w.log = append(w.log, write.Records...)
	}
	w.fail, w.keep = nil, false
	write.Done(w.now, err)
	if w.g.TakeWrite() != nil {
		w.t.Fatal("a write after the end of another")
	}
}

// beat sends a heartbeat and returns the answer.
func (w *world) beat(r group.ConsumerHeartbeat) group.ConsumerHeartbeated {
	w.t.Helper()
	var answers []group.ConsumerHeartbeated
	r.Reply = func(a group.ConsumerHeartbeated) { answers = append(answers, a) }
	w.g.Heartbeat(w.now, &r)
	w.flush()
	if len(answers) != 1 {
		w.t.Fatalf("%d answers", len(answers))
	}
	return answers[0]
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.g.Tick(w.now)
	w.flush()
}

// join is the first heartbeat of a member; topics are names, or a regular
// expression after a "~".
func join(id string, topics ...string) group.ConsumerHeartbeat {
	r := group.ConsumerHeartbeat{
		MemberID: id, RebalanceTimeoutMs: 60_000, HasOwned: true, ClientID: "c", ClientHost: "/::1",
		HasTopics: true,
	}
	for _, t := range topics {
		if source, ok := strings.CutPrefix(t, "~"); ok {
			r.Regex = &source
		} else {
			r.Topics = append(r.Topics, t)
		}
	}
	return r
}

func static(id, instance string, topics ...string) group.ConsumerHeartbeat {
	r := join(id, topics...)
	r.InstanceID = instance
	return r
}

func plain(id string, epoch int32) group.ConsumerHeartbeat {
	return group.ConsumerHeartbeat{
		MemberID: id, MemberEpoch: epoch, RebalanceTimeoutMs: -1, ClientID: "c", ClientHost: "/::1",
	}
}

// owning is a heartbeat that says what the member owns: "topic:0,1".
func (w *world) owning(id string, epoch int32, owned ...string) group.ConsumerHeartbeat {
	r := plain(id, epoch)
	r.HasOwned, r.Owned = true, w.set(owned...)
	return r
}

func (w *world) set(parts ...string) set {
	var s set
	for _, part := range parts {
		name, list, _ := strings.Cut(part, ":")
		t := group.TopicPartitions{Topic: w.image.Topic(name).ID}
		for n := range strings.SplitSeq(list, ",") {
			var p int32
			fmt.Sscanf(n, "%d", &p)
			t.Partitions = append(t.Partitions, p)
		}
		s = append(s, t)
	}
	return normal(s)
}

// show writes a set as set reads it, topics by name.
func (w *world) show(s set) string {
	var parts []string
	for _, t := range s {
		name := "?"
		if topic := w.image.TopicByID(t.Topic); topic != nil {
			name = topic.Name
		}
		parts = append(parts, name+":"+strings.Join(strings.Fields(strings.Trim(
			fmt.Sprint(t.Partitions), "[]")), ","))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// expect checks an answer: its epoch and what it assigns; "-": nothing new.
func (w *world) expect(a group.ConsumerHeartbeated, epoch int32, assigned string) {
	w.t.Helper()
	got := "-"
	if a.HasAssigned {
		got = w.show(a.Assigned)
	}
	if a.Err != nil || a.MemberEpoch != epoch || got != assigned {
		w.t.Fatalf("epoch %d, %q, %v; want epoch %d, %q", a.MemberEpoch, got, a.Err, epoch, assigned)
	}
}

func (w *world) refused(a group.ConsumerHeartbeated, err error) {
	w.t.Helper()
	if !errors.Is(a.Err, err) {
		w.t.Fatalf("answer is %v, want %v", a.Err, err)
	}
	if len(w.written) > 0 {
		w.t.Fatalf("a refused heartbeat wrote %d records", len(w.written))
	}
}

// wrote checks which keys the latest call wrote, in order: "version/name" with a
// "!" for a tombstone.
func (w *world) wrote(want ...string) {
	w.t.Helper()
	var got []string
	for _, r := range w.written {
		k, err := ParseKey(r.Key)
		if err != nil {
			w.t.Fatal(err)
		}
		s := fmt.Sprintf("%d/%s", k.Version, k.Name)
		if r.Value == nil {
			s += "!"
		}
		got = append(got, s)
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("wrote %v, want %v", got, want)
	}
}

// compacted keeps the last record of each key, and drops tombstones if told to.
func compacted(log []coord.Record, dropTombstones bool) []coord.Record {
	last := map[string]int{}
	for i, r := range log {
		last[string(r.Key)] = i
	}
	var kept []coord.Record
	for _, i := range slices.Sorted(maps.Values(last)) {
		if log[i].Value != nil || !dropTombstones {
			kept = append(kept, log[i])
		}
	}
	return kept
}

// picture is all that is durable of a group, to compare two.
func picture(g *Group) string {
	var b strings.Builder
	fmt.Fprintf(&b, "exists %v epoch %d hash %x target %d legacy %v\n",
		g.exists, g.epoch, g.hash, g.targetEpoch, g.legacy)
	for _, id := range g.ids() {
		m := g.members[id]
		fmt.Fprintf(&b, "%s %+v %v %d/%d state %d has %v gives up %v shall have %v\n",
			id, m.meta, m.known, m.memberEpoch, m.previous, m.state, m.assigned, m.revoking, m.target)
	}
	for _, s := range slices.Sorted(maps.Keys(g.regexes)) {
		fmt.Fprintf(&b, "%q %v\n", s, g.regexes[s].regexValue)
	}
	for _, i := range slices.Sorted(maps.Keys(g.statics)) {
		fmt.Fprintf(&b, "instance %s is %s\n", i, g.statics[i])
	}
	for _, id := range slices.SortedFunc(maps.Keys(g.owners), compareIDs) {
		for n, m := range g.owners[id] {
			if m != nil {
				fmt.Fprintf(&b, "%v-%d of %s\n", id, n, m.id)
			}
		}
	}
	return b.String()
}
