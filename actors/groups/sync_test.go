package groups

import (
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// completing is a group of a and b in CompletingRebalance, and its generation.
func completing(t *testing.T) (*world, int32) {
	w := newWorld(t)
	generation := w.stable("a", "b")
	w.join("", as("a"))
	w.join("", as("b"))
	w.wantState(group.CompletingRebalance)
	return w, generation + 1
}

func TestASyncThatCannotBeIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		sync group.Sync
		want error
	}{
		{"a wrong generation", group.Sync{MemberID: "a", Generation: 7}, group.ErrIllegalGeneration},
		{"an unknown member", group.Sync{MemberID: "x", Generation: 2}, group.ErrUnknownMember},
		{"an unknown instance", group.Sync{MemberID: "a", InstanceID: "i", Generation: 2},
			group.ErrUnknownMember},
		{"another protocol type",
			group.Sync{MemberID: "a", Generation: 2, ProtocolType: "connect", Protocol: "range"},
			group.ErrInconsistentProtocol},
		{"another protocol",
			group.Sync{MemberID: "a", Generation: 2, ProtocolType: "consumer", Protocol: "sticky"},
			group.ErrInconsistentProtocol},
	} {
		w, _ := completing(t)
		b := &box[group.Synced]{}
		tt.sync.Reply = b.put
		w.do(&tt.sync)
		wantErr(t, b.one(t).Err, tt.want)
	}
	w := newWorld(t)
	wantErr(t, w.sync("a", 1, nil).one(t).Err, group.ErrUnknownMember)
	generation := w.stable("a", "b")
	w.join("", as("a"))
	wantErr(t, w.sync("b", generation, nil).one(t).Err, group.ErrRebalanceInProgress)
}

func TestTheLeadersAssignmentIsDurableBeforeAnybodyGetsIt(t *testing.T) {
	w, generation := completing(t)
	b := w.sync("b", generation, nil)
	a := &box[group.Synced]{}
	w.g.Handle(w.now, &group.Sync{MemberID: "a", Generation: generation, Reply: a.put,
		ProtocolType: "consumer", Protocol: "range",
		Assignments: map[string][]byte{"b": []byte("all"), "stranger": []byte("x")}})
	write := w.g.TakeWrite()
	if !a.waits() || !b.waits() || write == nil || w.g.TakeWrite() != nil {
		t.Fatal("it was answered before it was written, or is not written once")
	}
	m, err := parseMetadata(write.Records[0].Value)
	if err != nil || string(m.members[1].assignment) != "all" || m.generation != generation {
		t.Fatalf("%+v, %v", m, err)
	}
	write.Done(w.now, nil)
	if s := b.one(t); string(s.Assignment) != "all" || s.Protocol != "range" ||
		s.ProtocolType != "consumer" {
		t.Errorf("b got %+v", s)
	}
	if s := a.one(t); s.Err != nil || len(s.Assignment) != 0 {
		t.Errorf("a, which the leader left out, got %+v", s)
	}
	w.wantState(group.Stable)
	if s := w.sync("b", generation, nil).one(t); string(s.Assignment) != "all" {
		t.Errorf("once more b got %+v", s)
	}
}

func TestAnAssignmentThatCannotBeRecordedLeadsToARebalance(t *testing.T) {
	w, generation := completing(t)
	b := w.sync("b", generation, nil)
	w.fail = messages.ErrUnavailable
	a := w.sync("a", generation, map[string][]byte{"b": []byte("all")})
	wantErr(t, a.one(t).Err, messages.ErrUnavailable)
	wantErr(t, b.one(t).Err, messages.ErrUnavailable)
	w.wantState(group.PreparingRebalance)
	w.fail = nil
	a2, b2 := w.join("", as("a")), w.join("", as("b"))
	if a2.one(t).Generation != generation+1 || b2.one(t).Err != nil {
		t.Fatalf("%+v, %+v", a2, b2)
	}
}

func TestMembersThatNeverSyncAreDropped(t *testing.T) {
	w, generation := completing(t)
	a := w.sync("a", generation, nil)
	w.wantState(group.Stable) // the leader synced, b did not
	for range 6 {
		w.advance(9 * time.Second)
		wantErr(t, w.heartbeat("a", generation), nil)
		wantErr(t, w.heartbeat("b", generation), nil)
	}
	w.advance(7 * time.Second)
	w.wantState(group.PreparingRebalance)
	wantErr(t, w.heartbeat("a", generation), group.ErrRebalanceInProgress)
	wantErr(t, w.heartbeat("b", generation), group.ErrUnknownMember)
	if j := w.join("", as("a")).one(t); len(j.Members) != 1 || a.one(t).Err != nil {
		t.Fatalf("%+v", j)
	}
}

func TestTheWaitForSyncsEndsWithItsGeneration(t *testing.T) {
	w, generation := completing(t)
	w.sync("a", generation, nil) // b does not sync, it has 60 s
	w.advance(4 * time.Second)
	c := w.join("c")
	for range 14 { // until second 60
		w.advance(4 * time.Second)
		wantErr(t, w.heartbeat("a", generation), group.ErrRebalanceInProgress)
		wantErr(t, w.heartbeat("b", generation), group.ErrRebalanceInProgress)
	}
	if !c.waits() {
		t.Fatalf("the newcomer was dropped: %+v", c)
	}
}

func TestSyncsThatWaitForALeaderThatIsGoneAreAnswered(t *testing.T) {
	w, generation := completing(t)
	b := w.sync("b", generation, nil)
	w.advance(11 * time.Second)
	wantErr(t, b.one(t).Err, group.ErrRebalanceInProgress)
	w.wantState(group.PreparingRebalance)

	w, generation = completing(t)
	b = w.sync("b", generation, nil)
	if l := w.leave(group.Leaving{MemberID: "b"}); l.Errs[0] != nil {
		t.Fatalf("%+v", l)
	}
	wantErr(t, b.one(t).Err, group.ErrUnknownMember)

	w, generation = completing(t)
	b = w.sync("b", generation, nil)
	again := w.sync("b", generation, nil)
	wantErr(t, b.one(t).Err, group.ErrRebalanceInProgress)
	w.sync("a", generation, nil)
	wantErr(t, again.one(t).Err, nil)
}

func TestWhatAHeartbeatIsAnswered(t *testing.T) {
	w := newWorld(t)
	wantErr(t, w.heartbeat("a", 1), group.ErrUnknownMember)
	generation := w.stable("a", "b")
	wantErr(t, w.heartbeat("a", generation), nil)
	wantErr(t, w.heartbeat("a", generation+1), group.ErrIllegalGeneration)
	wantErr(t, w.heartbeat("x", generation), group.ErrUnknownMember)
	w.join("", as("a"))
	wantErr(t, w.heartbeat("b", generation), group.ErrRebalanceInProgress)
	w.join("", as("b"))
	w.wantState(group.CompletingRebalance)
	wantErr(t, w.heartbeat("b", generation+1), nil)
	w.leave(group.Leaving{MemberID: "a"}, group.Leaving{MemberID: "b"})
	w.wantState(group.Empty)
	wantErr(t, w.heartbeat("b", generation+2), group.ErrUnknownMember)
}

func TestAMemberThatIsSilentIsGivenUp(t *testing.T) {
	w := newWorld(t)
	var told []string
	w.cfg.Removed = func(groupID, memberID, why string) { told = append(told, memberID+": "+why) }
	generation := w.stable("a", "b")
	defer func() {
		want := []string{"b: its session is over", "a: its session is over"}
		if !slices.Equal(told, want) {
			t.Errorf("operators hear %q, want %q", told, want)
		}
	}()
	for range 3 {
		w.advance(6 * time.Second)
		wantErr(t, w.heartbeat("a", generation), ignoreRebalance(w))
	}
	d := w.describe()
	if len(d.Members) != 1 || d.Members[0].MemberID != "a" {
		t.Fatalf("%+v", d)
	}
	w.advance(11 * time.Second)
	if d := w.describe(); len(d.Members) != 0 || d.State != group.Empty {
		t.Fatalf("%+v", d)
	}
}

func ignoreRebalance(w *world) error {
	if w.g.members.(*classic).state == group.PreparingRebalance {
		return group.ErrRebalanceInProgress
	}
	return nil
}

func TestAfterALoadMembersHaveTheirWholeSession(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a", "b")
	want := membersOf(w.g)
	w.advance(8 * time.Second)
	w.failOver()
	if got := membersOf(w.g); got != want {
		t.Fatalf("loaded\n%s, was\n%s", got, want)
	}
	w.advance(8 * time.Second)
	wantErr(t, w.heartbeat("b", generation), nil)
	w.advance(3 * time.Second)
	w.wantState(group.PreparingRebalance)
	if s := w.describe().Members; len(s) != 1 || s[0].MemberID != "b" {
		t.Fatalf("%+v", s)
	}
}

func TestWhoLeaves(t *testing.T) {
	w := staticGroup(t) // s, instance i, and b
	w.join("c", requireID)
	left := w.leave(
		group.Leaving{MemberID: "x"},                  // nobody
		group.Leaving{InstanceID: "j"},                // nobody
		group.Leaving{},                               // only static ones may do without an id
		group.Leaving{MemberID: "b", InstanceID: "i"}, // s has that
		group.Leaving{InstanceID: "i"},
		group.Leaving{MemberID: "c"}, // pending
	)
	if left.Err != nil {
		t.Fatal(left.Err)
	}
	for i, want := range []error{group.ErrUnknownMember, group.ErrUnknownMember,
		group.ErrUnknownMember, group.ErrFencedInstance, nil, nil} {
		wantErr(t, left.Errs[i], want)
	}
	if d := w.describe(); d.State != group.PreparingRebalance || len(d.Members) != 1 {
		t.Fatalf("%+v", d)
	}
	if c := w.join("", as("c")); c.one(t).Err == nil {
		t.Fatal("a pending member that left is still known")
	}
}

func TestALeaveLetsTheOthersGoOn(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b")
	a := w.join("", as("a"))
	w.leave(group.Leaving{MemberID: "b"})
	if j := a.one(t); len(j.Members) != 1 {
		t.Fatalf("%+v", j)
	}
}

func TestTheLastMemberLeavesAnEmptyGroupOfTheNextGeneration(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a")
	b := &box[group.Left]{}
	w.g.Handle(w.now, &group.Leave{Members: []group.Leaving{{MemberID: "a"}}, Reply: b.put})
	if !b.waits() {
		t.Fatal("it is answered before the empty group is durable")
	}
	w.flush()
	if l := b.one(t); l.Err != nil || l.Errs[0] != nil {
		t.Fatalf("%+v", l)
	}
	w.wantState(group.Empty)
	again := w.rebuilt().members.(*classic)
	if again.generation != generation+1 || again.state != group.Empty ||
		again.protocolType != consumerType || again.protocol != "" || again.leader != "" {
		t.Fatalf("%+v", again)
	}
	if j := w.join("b").one(t); j.Generation != generation+2 {
		t.Fatalf("%+v", j)
	}
}

func TestALeaveWhoseEmptyGroupIsNotRecordedSaysSo(t *testing.T) {
	w := newWorld(t)
	w.stable("a")
	w.fail = messages.ErrUnavailable
	wantErr(t, w.leave(group.Leaving{MemberID: "a"}).Err, messages.ErrUnavailable)
	w.wantState(group.Empty)
	w.fail = nil
	w.advance(8 * 24 * time.Hour)
	if !w.g.Empty() || !w.rebuilt().Empty() {
		t.Fatal("the record of the last generation stays for ever")
	}
}

func TestStopAnswersEverybody(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b")
	joining := w.join("", as("a"))
	w.g.Stop(messages.ErrNotCoordinator)
	wantErr(t, joining.one(t).Err, messages.ErrNotCoordinator)

	w, generation := completing(t)
	syncing := w.sync("b", generation, nil)
	leading := &box[group.Synced]{}
	w.g.Handle(w.now, &group.Sync{MemberID: "a", Generation: generation, Reply: leading.put})
	write := w.g.TakeWrite()
	w.g.Stop(messages.ErrNotCoordinator)
	wantErr(t, syncing.one(t).Err, messages.ErrNotCoordinator)
	wantErr(t, leading.one(t).Err, messages.ErrNotCoordinator)
	write.Done(w.now, nil) // it comes too late to change anything
	leading.one(t)

	w = newWorld(t)
	committed := &box[group.Committed]{}
	w.g.Handle(w.now, &group.Commit{Generation: -1, Offsets: []group.Offset{at("t", 0, 1)},
		Reply: committed.put})
	w.g.Stop(messages.ErrNotCoordinator)
	wantErr(t, committed.one(t).Err, messages.ErrNotCoordinator)
}

func TestAThousandMembersDoNotMakeAHeartbeatSlow(t *testing.T) {
	w := newWorld(t)
	w.cfg.MaxSize = 1000
	w.cfg.InitialRebalanceDelay = time.Second
	var ids []string
	for i := range 1000 {
		ids = append(ids, "m"+string(rune('a'+i%26))+string(rune('a'+i/26)))
		w.g.Handle(w.now, first(newJoin(ids[i])))
	}
	w.advance(10 * time.Second)
	for _, id := range ids {
		w.g.Handle(w.now, &group.Sync{MemberID: id, Generation: 1, Reply: func(group.Synced) {}})
		w.flushFast()
	}
	beat := &group.Heartbeat{MemberID: ids[500], Generation: 1, Reply: func(error) {}}
	due := w.g.Due()
	w.now = w.now.Add(time.Second)
	w.g.Handle(w.now, beat)
	if !w.g.Due().Equal(due) {
		t.Fatal("a heartbeat looked for the first deadline of all members")
	}
	if n := testing.AllocsPerRun(100, func() { w.g.Handle(w.now, beat) }); n > 0 {
		t.Errorf("a heartbeat allocates %v times", n)
	}
}

func first[A, B any](a A, _ B) A { return a }

// flushFast is flush without looking at every member.
func (w *world) flushFast() {
	if write := w.g.TakeWrite(); write != nil {
		write.Done(w.now, nil)
	}
}
