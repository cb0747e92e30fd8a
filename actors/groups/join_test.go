package groups

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func TestAJoinThatCannotBeIsRefused(t *testing.T) {
	long := strings.Repeat("x", 40000)
	for _, tt := range []struct {
		name    string
		members []string // of the group before
		join    func(*group.Join)
		want    error
	}{
		{"a session that is too short", nil, timeouts(5999, 1), group.ErrInvalidSessionTimeout},
		{"a session that is too long", nil, timeouts(1800001, 1), group.ErrInvalidSessionTimeout},
		{"a member id in a new group", nil, as("x"), group.ErrUnknownMember},
		{"an unknown member id", []string{"a"}, as("x"), group.ErrUnknownMember},
		{"an unknown static member with an id", []string{"a"},
			func(r *group.Join) { r.MemberID, r.InstanceID = "a", "i" }, group.ErrUnknownMember},
		{"no protocol", nil, knowing(), group.ErrInconsistentProtocol},
		{"no protocol type", nil,
			func(r *group.Join) { r.ProtocolType = "" }, group.ErrInconsistentProtocol},
		{"another protocol type", []string{"a"},
			func(r *group.Join) { r.ProtocolType = "connect" }, group.ErrInconsistentProtocol},
		{"no common protocol", []string{"a"},
			knowing(group.Protocol{Name: "sticky"}), group.ErrInconsistentProtocol},
		{"a name that no record can hold", nil,
			func(r *group.Join) { r.ClientID = long }, messages.ErrInvalidRequest},
		{"no id for a new member", nil,
			func(r *group.Join) { r.NewMemberID = "" }, messages.ErrInvalidRequest},
		{"an id for a new member that a member has", []string{"a"},
			func(r *group.Join) { r.NewMemberID = "a" }, messages.ErrInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.members != nil {
				w.stable(tt.members...)
			}
			before := membersOf(w.g)
			wantErr(t, w.join("new", tt.join).one(t).Err, tt.want)
			if after := membersOf(w.g); after != before {
				t.Errorf("%s became %s", before, after)
			}
		})
	}
}

func TestAGroupNeedsAnID(t *testing.T) {
	w := newWorld(t)
	w.g = New("", func() Config { return w.cfg })
	wantErr(t, w.join("a").one(t).Err, group.ErrInvalidGroupID)
	wantErr(t, w.heartbeat("a", 1), group.ErrInvalidGroupID)
	wantErr(t, w.sync("a", 1, nil).one(t).Err, group.ErrInvalidGroupID)
	wantErr(t, w.leave(group.Leaving{MemberID: "a"}).Err, group.ErrInvalidGroupID)
	wantErr(t, w.txnCommit(1, at("t", 0, 1)).Err, group.ErrInvalidGroupID)
	w.commitSimple(at("t", 0, 5)) // Kafka lets them, for clients of old
}

func TestAFullGroupTakesNobodyMore(t *testing.T) {
	w := newWorld(t)
	w.cfg.MaxSize = 2
	generation := w.stable("a", "b")
	wantErr(t, w.join("c").one(t).Err, group.ErrFull)
	wantErr(t, w.join("d", requireID).one(t).Err, group.ErrFull)
	wantErr(t, w.heartbeat("a", generation), nil)
}

func TestAfterTheLimitWasLoweredTheLastToRejoinAreLeftOut(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b", "c")
	w.cfg.MaxSize = 2
	w.failOver() // a group that is loaded too large is rebalanced
	w.wantState(group.PreparingRebalance)
	a := w.join("", as("a"))
	b := w.join("", as("b"))
	wantErr(t, w.join("", as("c")).one(t).Err, group.ErrFull)
	if a.one(t).Err != nil || b.one(t).Err != nil || len(w.describe().Members) != 2 {
		t.Fatalf("%+v, %+v, %+v", a, b, w.describe())
	}
}

func TestANewDynamicMemberIsToldItsIDFirst(t *testing.T) {
	w := newWorld(t)
	told := w.join("a", requireID).one(t)
	wantErr(t, told.Err, group.ErrMemberIDRequired)
	if told.MemberID != "a" || len(w.log) > 0 {
		t.Fatalf("%+v, %d records", told, len(w.log))
	}
	joined := w.join("", as("a"), requireID).one(t)
	if joined.Err != nil || joined.MemberID != "a" || joined.Leader != "a" {
		t.Fatalf("%+v", joined)
	}
}

func TestStaticMembersAndOldClientsJoinAtOnce(t *testing.T) {
	w := newWorld(t)
	if j := w.join("a", requireID, static("i")).one(t); j.Err != nil || j.MemberID != "a" {
		t.Errorf("static: %+v", j)
	}
	w = newWorld(t)
	if j := w.join("a").one(t); j.Err != nil || j.MemberID != "a" {
		t.Errorf("old: %+v", j)
	}
}

func TestARebalanceWaitsForIDsThatWereHandedOut(t *testing.T) {
	w := newWorld(t)
	w.stable("a")
	w.join("b", requireID)
	a := w.join("", as("a"))
	w.advance(9 * time.Second)
	if !a.waits() {
		t.Fatal("the join did not wait for the pending member")
	}
	b := w.join("", as("b"))
	if len(a.one(t).Members) != 2 || b.one(t).Generation != a.one(t).Generation {
		t.Fatalf("%+v, %+v", a, b)
	}
}

func TestAPendingIDIsForgottenAfterTheSessionTimeout(t *testing.T) {
	w := newWorld(t)
	w.stable("a")
	w.join("b", requireID)
	a := w.join("", as("a"))
	w.advance(10 * time.Second)
	if a.one(t).Err != nil {
		t.Fatal(a.one(t).Err)
	}
	wantErr(t, w.join("", as("b")).one(t).Err, group.ErrUnknownMember)
}

func TestAPendingIDThatIsGoneDisturbsNobody(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a")
	w.join("b", requireID)
	w.join("c", requireID)
	if l := w.leave(group.Leaving{MemberID: "b"}); l.Errs[0] != nil {
		t.Fatal(l.Errs[0])
	}
	for range 3 {
		w.advance(5 * time.Second)
		wantErr(t, w.heartbeat("a", generation), nil)
	}
}

func TestAGroupIsNotForgottenWhileAnIDIsOut(t *testing.T) {
	w := newWorld(t)
	w.stable("a")
	w.leave(group.Leaving{MemberID: "a"})
	w.advance(10*time.Minute - time.Second)
	w.join("b", requireID)
	w.advance(5 * time.Second) // there are no offsets, and the check was due
	if j := w.join("", as("b")).one(t); j.Err != nil {
		t.Fatal(j.Err)
	}
}

func TestAGroupOfPendingIDsAloneIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.join("a", requireID)
	if w.g.Empty() {
		t.Fatal("it forgot the id it handed out")
	}
	w.advance(11 * time.Second)
	if !w.g.Empty() || !w.g.Due().IsZero() {
		t.Fatal("it is not empty")
	}
}

func TestIDsAreNotHandedOutWithoutBound(t *testing.T) {
	w := newWorld(t)
	c := w.g.members.(*classic)
	for i := range maxPending {
		c.pending[string(rune('a'+i%26))+strings.Repeat("x", i/26)] = w.now
	}
	wantErr(t, w.join("one more", requireID).one(t).Err, group.ErrFull)
}

func TestANewGroupWaitsWhileMembersCome(t *testing.T) {
	w := newWorld(t)
	w.cfg.InitialRebalanceDelay = 3 * time.Second
	a := w.join("a")
	w.advance(2 * time.Second)
	b := w.join("b")
	w.advance(2 * time.Second) // extended by another 3 s at second 3
	if !a.waits() || !b.waits() {
		t.Fatal("the first rebalance did not wait for more members")
	}
	w.advance(2 * time.Second)
	if len(a.one(t).Members) != 2 || a.one(t).Generation != 1 || b.one(t).Leader != "a" {
		t.Fatalf("%+v, %+v", a, b)
	}
}

func TestTheWaitOfANewGroupIsBoundedByTheRebalanceTimeout(t *testing.T) {
	w := newWorld(t)
	w.cfg.InitialRebalanceDelay = 3 * time.Second
	a := w.join("a", timeouts(10000, 8000))
	for i := range 8 {
		if !a.waits() {
			t.Fatalf("complete after %d s", i)
		}
		w.join("m"+string(rune('0'+i)), timeouts(10000, 8000))
		w.advance(time.Second)
	}
	if a.waits() {
		t.Fatal("the first rebalance outlasts the rebalance timeout")
	}
}

func TestWithoutDelayANewGroupBeginsAtOnce(t *testing.T) {
	w := newWorld(t)
	if j := w.join("a").one(t); j.Err != nil || j.Generation != 1 {
		t.Fatalf("%+v", j)
	}
}

func TestMembersThatDoNotRejoinAreDropped(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a", "b")
	a := w.join("", as("a"), timeouts(60000, 30000))
	for range 6 { // b is alive, and does not join
		w.advance(9 * time.Second)
		wantErr(t, w.heartbeat("b", generation), group.ErrRebalanceInProgress)
		if !a.waits() {
			t.Fatal("b was not waited for")
		}
	}
	w.advance(7 * time.Second) // the rebalance timeout of b is the longer one: 60 s
	j := a.one(t)
	if j.Err != nil || len(j.Members) != 1 || j.Generation != generation+1 {
		t.Fatalf("%+v", j)
	}
	wantErr(t, w.heartbeat("b", generation+1), group.ErrUnknownMember)
}

func TestStaticMembersThatDoNotRejoinStayUntilTheirSessionEnds(t *testing.T) {
	for _, tt := range []struct {
		sessionMs int32
		after     time.Duration // the join of the other is complete
		members   int
	}{
		{40000, 30 * time.Second, 2}, // kept, the rebalance timeout is over
		{20000, 20 * time.Second, 1},
	} {
		w := newWorld(t)
		w.cfg.InitialRebalanceDelay = time.Second
		w.join("a", timeouts(600000, 30000))
		w.join("s", static("i"), timeouts(tt.sessionMs, 30000))
		w.advance(2 * time.Second)
		w.sync("a", 1, nil)
		w.sync("s", 1, nil)
		a := w.join("", as("a"), timeouts(600000, 30000))
		w.advance(tt.after - time.Second)
		if !a.waits() {
			t.Fatalf("the static member was not waited for: %+v", a)
		}
		w.advance(time.Second)
		if j := a.one(t); j.Err != nil || len(j.Members) != tt.members {
			t.Fatalf("session of %d ms: %+v", tt.sessionMs, j)
		}
	}
}

func TestWhenNobodyRejoinsTheJoinIsPutOffUntilSessionsEnd(t *testing.T) {
	w := newWorld(t)
	w.join("s", static("i"), timeouts(60000, 0)) // a rebalance timeout of nothing
	w.sync("s", 1, nil)
	w.join("a", timeouts(10000, 0))
	w.leave(group.Leaving{MemberID: "a"})
	w.wantState(group.PreparingRebalance)
	w.advance(50 * time.Second)
	w.wantState(group.PreparingRebalance)
	w.advance(20 * time.Second)
	w.wantState(group.Empty)
}

func TestTheParkedJoinOfANewMemberIsGuardedByFiveMinutes(t *testing.T) {
	w := newWorld(t)
	w.cfg.InitialRebalanceDelay = 20 * time.Minute
	a := w.join("a", timeouts(10000, 3600000))
	w.advance(4 * time.Minute)
	if !a.waits() {
		t.Fatalf("its session timeout counted: %+v", a)
	}
	w.advance(time.Minute)
	wantErr(t, a.one(t).Err, group.ErrUnknownMember)
}

func TestHeartbeatsAreNotExpectedWhileAJoinIsParked(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a", "b")
	a := w.join("", as("a"))
	for range 5 { // b keeps its place
		w.advance(9 * time.Second)
		wantErr(t, w.heartbeat("b", generation), group.ErrRebalanceInProgress)
	}
	b := w.join("", as("b"))
	if a.one(t).Err != nil || b.one(t).Err != nil {
		t.Fatalf("%+v, %+v", a, b)
	}
}

func TestTheLeaderIsTheFirstMemberAndStaysIt(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b")
	b := w.join("", as("b"), knowing(group.Protocol{Name: "range", Metadata: subscribe("u")}))
	a := w.join("", as("a"))
	if a.one(t).Leader != "a" || b.one(t).Leader != "a" {
		t.Fatalf("%+v, %+v", a, b)
	}
	if len(a.one(t).Members) != 2 || b.one(t).Members != nil {
		t.Fatal("the leader, and only it, gets the members")
	}
	if g := a.one(t).Generation; g != 2 {
		t.Fatalf("generation %d after the second join", g)
	}
}

func TestALeaderThatDoesNotRejoinIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b", "c")
	changed := knowing(group.Protocol{Name: "range", Metadata: subscribe("u")})
	c := w.join("", as("c"), changed)
	b := w.join("", as("b"), changed)
	w.advance(61 * time.Second)
	if b.one(t).Leader != "b" || c.one(t).Leader != "b" || len(b.one(t).Members) != 2 {
		t.Fatalf("%+v, %+v", b, c)
	}
}

func TestMembersVoteForTheirFirstProtocolThatAllKnow(t *testing.T) {
	p := func(names ...string) func(*group.Join) {
		var all []group.Protocol
		for _, n := range names {
			all = append(all, group.Protocol{Name: n, Metadata: []byte(n)})
		}
		return knowing(all...)
	}
	for _, tt := range []struct {
		name    string
		members []func(*group.Join)
		want    string
	}{
		{"most votes", []func(*group.Join){p("x", "y"), p("y", "x"), p("y", "x")}, "y"},
		{"a favourite that not all know does not count",
			[]func(*group.Join){p("z", "x", "y"), p("z", "y", "x"), p("y", "x")}, "y"},
		{"the first member breaks a tie", []func(*group.Join){p("y", "x"), p("x", "y")}, "y"},
		{"the same name twice is one vote", []func(*group.Join){p("x", "x", "y"), p("y", "x"),
			p("y", "x")}, "y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.InitialRebalanceDelay = time.Second
			var first *box[group.Joined]
			for i, o := range tt.members {
				b := w.join(string(rune('a'+i)), o)
				if first == nil {
					first = b
				}
			}
			w.advance(5 * time.Second)
			j := first.one(t)
			if j.Protocol != tt.want || j.ProtocolType != consumerType {
				t.Fatalf("%+v", j)
			}
			for _, m := range j.Members {
				if string(m.Metadata) != tt.want {
					t.Errorf("%s has metadata %q", m.MemberID, m.Metadata)
				}
			}
		})
	}
}

func TestWhatARejoinLeadsTo(t *testing.T) {
	changed := knowing(group.Protocol{Name: "range", Metadata: subscribe("u")})
	same := func(*group.Join) {}
	for _, tt := range []struct {
		name    string
		synced  bool // else the group is in CompletingRebalance
		member  string
		how     func(*group.Join)
		current bool // it gets the current generation back
	}{
		{"stable: the leader", true, "a", same, false},
		{"stable: a follower with the same metadata", true, "b", same, true},
		{"stable: a follower with other metadata", true, "b", changed, false},
		{"completing: the leader with the same metadata", false, "a", same, true},
		{"completing: a follower with the same metadata", false, "b", same, true},
		{"completing: other metadata", false, "b", changed, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			generation := w.stable("a", "b")
			if !tt.synced {
				w.join("", as("a"))
				w.join("", as("b"))
				generation++
				w.wantState(group.CompletingRebalance)
			}
			b := w.join("", as(tt.member), tt.how)
			if !tt.current {
				w.wantState(group.PreparingRebalance)
				if !b.waits() {
					t.Fatalf("%+v", b)
				}
				return
			}
			if j := b.one(t); j.Err != nil || j.Generation != generation ||
				(j.Members != nil) != (tt.member == "a") {
				t.Fatalf("%+v", j)
			}
		})
	}
}

func TestAJoinThatIsSentAgainReplacesTheParkedOne(t *testing.T) {
	w := newWorld(t)
	w.stable("a", "b")
	first := w.join("", as("a"))
	second := w.join("", as("a"))
	wantErr(t, first.one(t).Err, group.ErrRebalanceInProgress)
	w.join("", as("b"))
	if second.one(t).Err != nil {
		t.Fatal(second.one(t).Err)
	}
}

// staticGroup is a stable group of a static leader s, instance i, and b.
func staticGroup(t *testing.T) *world {
	w := newWorld(t)
	w.cfg.InitialRebalanceDelay = time.Second
	w.join("s", static("i"))
	w.join("b")
	w.advance(2 * time.Second)
	w.sync("s", 1, map[string][]byte{"s": []byte("of s"), "b": []byte("of b")})
	w.sync("b", 1, nil)
	w.wantState(group.Stable)
	return w
}

func TestAStaticMemberThatIsStartedAgainTakesItsOldPlace(t *testing.T) {
	for _, skips := range []bool{true, false} {
		w := staticGroup(t)
		records := len(w.log)
		again := w.join("s2", static("i"), timeouts(20000, 70000), func(r *group.Join) {
			r.ClientID, r.CanSkipAssignment = "renamed", skips
		})
		w.wantState(group.Stable)
		j := again.one(t)
		if j.Err != nil || j.Generation != 1 || j.MemberID != "s2" {
			t.Fatalf("%+v", j)
		}
		if skips && (!j.SkipAssignment || j.Leader != "s2" || len(j.Members) != 2) {
			t.Errorf("v9: %+v", j)
		}
		if !skips && (j.SkipAssignment || j.Leader != "s" || j.Members != nil) {
			t.Errorf("before v9: %+v", j)
		}
		if len(w.log) != records+1 || membersOf(w.rebuilt()) != membersOf(w.g) {
			t.Error("the new member id is not durable")
		}
		if s := w.sync("s2", 1, nil).one(t); string(s.Assignment) != "of s" {
			t.Errorf("its assignment: %+v", s)
		}
		m := w.g.members.(*classic).byID["s2"]
		if m.clientID != "renamed" || m.sessionMs != 20000 || m.rebalanceMs != 70000 {
			t.Errorf("%+v", m)
		}
	}
}

func TestTheOldMemberOfAStaticOneIsFenced(t *testing.T) {
	w := staticGroup(t)
	w.join("s2", static("i"), canSkip)
	beat, synced, left := &box[error]{}, &box[group.Synced]{}, &box[group.Left]{}
	w.do(&group.Heartbeat{MemberID: "s", InstanceID: "i", Generation: 1, Reply: beat.put})
	w.do(&group.Sync{MemberID: "s", InstanceID: "i", Generation: 1, Reply: synced.put})
	w.do(&group.Leave{Members: []group.Leaving{{MemberID: "s", InstanceID: "i"}}, Reply: left.put})
	joined := w.join("", as("s"), static("i")).one(t)
	committed := &box[group.Committed]{}
	w.do(&group.Commit{MemberID: "s", InstanceID: "i", Generation: 1,
		Offsets: []group.Offset{at("t", 0, 1)}, Reply: committed.put})
	for _, err := range []error{
		beat.one(t), synced.one(t).Err, left.one(t).Errs[0], joined.Err, committed.one(t).Err,
	} {
		wantErr(t, err, group.ErrFencedInstance)
	}
}

func TestAStaticMemberIsNotReplacedWhenThatCannotBeRecorded(t *testing.T) {
	w := staticGroup(t)
	before := membersOf(w.g)
	w.fail = messages.ErrUnavailable
	j := w.join("s2", static("i")).one(t)
	wantErr(t, j.Err, messages.ErrUnavailable)
	if j.MemberID != "" || membersOf(w.g) != before {
		t.Fatalf("%+v, %s", j, membersOf(w.g))
	}
}

func TestAStaticRejoinRebalancesWhenItHasTo(t *testing.T) {
	t.Run("another protocol would be selected", func(t *testing.T) {
		w := newWorld(t)
		both := []group.Protocol{{Name: "x"}, {Name: "y"}}
		swapped := []group.Protocol{{Name: "y"}, {Name: "x"}}
		w.join("s", static("i"), knowing(both...))
		w.sync("s", 1, nil)
		again := w.join("s2", static("i"), knowing(swapped...))
		if j := again.one(t); j.Generation != 2 || j.Protocol != "y" {
			t.Fatalf("%+v", j)
		}
	})
	t.Run("the leader may know the old id", func(t *testing.T) {
		w := staticGroup(t)
		w.join("", as("b"), knowing(group.Protocol{Name: "range", Metadata: subscribe("u")}))
		w.join("", as("s"), static("i"))
		waiting := &box[group.Synced]{}
		w.do(&group.Sync{MemberID: "b", Generation: 2, Reply: waiting.put})
		w.wantState(group.CompletingRebalance)
		again := w.join("s2", static("i"))
		w.wantState(group.PreparingRebalance)
		wantErr(t, waiting.one(t).Err, group.ErrRebalanceInProgress)
		w.join("", as("b"))
		j := again.one(t)
		ids := []string{}
		for _, m := range j.Members {
			ids = append(ids, m.MemberID)
		}
		if !slices.Equal(ids, []string{"s2", "b"}) || j.Generation != 3 {
			t.Fatalf("%+v", j)
		}
	})
	t.Run("joins are parked", func(t *testing.T) {
		w := staticGroup(t)
		first := w.join("", as("s"), static("i"))
		w.wantState(group.PreparingRebalance)
		again := w.join("s2", static("i"))
		wantErr(t, first.one(t).Err, group.ErrFencedInstance)
		w.join("", as("b"))
		if j := again.one(t); j.Err != nil || j.Leader != "s2" {
			t.Fatalf("%+v", j)
		}
	})
}
