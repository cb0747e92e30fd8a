package consumer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func TestTheFirstMemberGetsEverythingAtOnce(t *testing.T) {
	w := newWorld(t, "a:3", "b:1")
	a := w.beat(join("m1", "a", "b", "nowhere"))
	w.expect(a, 1, "a:0,1,2 b:0")
	if a.HeartbeatIntervalMs != 5000 || a.MemberID != "m1" {
		t.Fatalf("%+v", a)
	}
	w.wrote("3/", "5/m1", "7/m1", "8/m1", "6/")
	if s := w.g.State(); s != group.Stable {
		t.Fatal(s)
	}
}

func TestAMemberOfVersion0JoinsWithAnIDOfTheServers(t *testing.T) {
	w := newWorld(t, "a:1")
	r := join("", "a")
	w.refused(w.beat(r), messages.ErrInvalidRequest) // v1: the client must make it
	r.NewMemberID = "made"
	if a := w.beat(r); a.Err != nil || a.MemberID != "made" {
		t.Fatalf("%+v", a)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	bad := "("
	huge := string(slices.Repeat([]byte{'a'}, regexMax+1))
	assignor := "sticky"
	for name, tt := range map[string]struct {
		change func(r *group.ConsumerHeartbeat)
		err    error
	}{
		"a join without a rebalance timeout": {func(r *group.ConsumerHeartbeat) {
			r.RebalanceTimeoutMs = -1
		}, messages.ErrInvalidRequest},
		"a join with partitions": {func(r *group.ConsumerHeartbeat) {
			r.Owned = w.set("a:0")
		}, messages.ErrInvalidRequest},
		"a join with null partitions": {func(r *group.ConsumerHeartbeat) {
			r.HasOwned = false
		}, messages.ErrInvalidRequest},
		"a join without a subscription": {func(r *group.ConsumerHeartbeat) {
			r.HasTopics = false
		}, messages.ErrInvalidRequest},
		"an epoch that does not exist": {func(r *group.ConsumerHeartbeat) {
			r.MemberEpoch = -3
		}, messages.ErrInvalidRequest},
		"a heartbeat without a member id": {func(r *group.ConsumerHeartbeat) {
			r.MemberID, r.MemberEpoch, r.NewMemberID = "", 1, "x"
		}, messages.ErrInvalidRequest},
		"a dynamic member that will be back": {func(r *group.ConsumerHeartbeat) {
			r.MemberID, r.MemberEpoch = "m1", -2
		}, messages.ErrInvalidRequest},
		"a negative rebalance timeout": {func(r *group.ConsumerHeartbeat) {
			r.RebalanceTimeoutMs = -2
		}, messages.ErrInvalidRequest},
		"an unknown assignor": {func(r *group.ConsumerHeartbeat) {
			r.Assignor = &assignor
		}, group.ErrUnsupportedAssignor},
		"a bad regular expression": {func(r *group.ConsumerHeartbeat) {
			r.Regex = &bad
		}, group.ErrInvalidRegex},
		"a huge regular expression": {func(r *group.ConsumerHeartbeat) {
			r.Regex = &huge
		}, group.ErrInvalidRegex},
		"an unknown member": {func(r *group.ConsumerHeartbeat) {
			r.MemberEpoch = 4
		}, group.ErrUnknownMember},
		"an unknown member that leaves": {func(r *group.ConsumerHeartbeat) {
			r.MemberEpoch = -1
		}, group.ErrUnknownMember},
		"an unknown instance": {func(r *group.ConsumerHeartbeat) {
			r.MemberID, r.MemberEpoch, r.InstanceID = "m1", 1, "i"
		}, group.ErrUnknownMember},
	} {
		t.Run(name, func(t *testing.T) {
			before := picture(w.g)
			r := join("new", "a")
			tt.change(&r)
			w.t = t
			w.refused(w.beat(r), tt.err)
			if after := picture(w.g); after != before {
				t.Fatalf("it changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

func TestAFullGroupTakesNoNewMember(t *testing.T) {
	w := newWorld(t, "a:2")
	w.cfg.MaxSize = 1
	w.beat(static("m1", "i", "a"))
	w.refused(w.beat(join("m2", "a")), group.ErrFull)
	w.expect(w.beat(static("m1", "i", "a")), 1, "a:0,1") // it is in
	leave := plain("m1", -2)
	leave.InstanceID = "i"
	w.beat(leave)
	w.expect(w.beat(static("m3", "i", "a")), 1, "a:0,1") // takes a place, needs none
}

// A partition goes from one member to another in two steps, and nobody has it in
// between.
func TestAPartitionIsHandedOverOnlyOnceItWasRevoked(t *testing.T) {
	w := newWorld(t, "a:4")
	w.expect(w.beat(join("m1", "a")), 1, "a:0,1,2,3")
	w.expect(w.beat(join("m2", "a")), 2, "") // all are held: it has the epoch and waits
	w.wrote("3/", "7/m1", "5/m2", "7/m2", "8/m2", "6/")
	if s := w.g.State(); s != group.Reconciling {
		t.Fatal(s)
	}
	w.expect(w.beat(plain("m2", 2)), 2, "-")

	w.expect(w.beat(plain("m1", 1)), 1, "a:1,3") // the smaller set, and the old epoch
	w.wrote("8/m1")
	w.expect(w.beat(plain("m1", 1)), 1, "-") // null partitions confirm nothing
	w.expect(w.beat(w.owning("m1", 1, "a:0,1,2,3")), 1, "-")
	w.expect(w.beat(w.owning("m1", 1, "a:1,2,3")), 1, "-")
	w.expect(w.beat(plain("m2", 2)), 2, "-")
	w.expect(w.beat(w.owning("m1", 1, "a:1,3")), 2, "-") // it did: on to the epoch

	w.expect(w.beat(plain("m2", 2)), 2, "a:0,2")
	w.expect(w.beat(w.owning("m2", 2, "a:0,2")), 2, "-")
	if s := w.g.State(); s != group.Stable {
		t.Fatal(s)
	}
	w.expect(w.beat(plain("m1", 2)), 2, "-")
	w.wrote()
}

func TestAMemberThatOwnsNothingOfItRevokesInOneStep(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	// m1 was told of both and took one so far, the one it keeps.
	keeps := w.show(w.g.members["m1"].target)
	w.expect(w.beat(w.owning("m1", 1, keeps)), 2, keeps)
}

func TestAPartitionThatComesBackWhileItIsRevokedIsAssignedAgain(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	w.expect(w.beat(plain("m1", 1)), 1, "a:1")
	w.beat(plain("m2", -1))
	w.expect(w.beat(w.owning("m1", 1, "a:1")), 3, "a:0,1")
}

func TestEpochsAreChecked(t *testing.T) {
	w := newWorld(t, "a:4")
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	w.expect(w.beat(w.owning("m1", 1, "a:1,3")), 2, "a:1,3")
	w.expect(w.beat(plain("m2", 2)), 2, "a:0,2")

	w.refused(w.beat(w.owning("m1", 3, "a:1,3")), group.ErrFencedMemberEpoch)
	w.refused(w.beat(plain("m1", 1)), group.ErrFencedMemberEpoch) // does not say what it owns
	w.refused(w.beat(w.owning("m1", 1, "a:0,1")), group.ErrFencedMemberEpoch)
	// The answer with epoch 2 was lost: it says the one before, and owns no more
	// than it may.
	w.expect(w.beat(w.owning("m1", 1, "a:1")), 2, "a:1,3")
	w.topic("a", 6)
	w.expect(w.beat(plain("m1", 2)), 3, "a:1,3,4")
	w.refused(w.beat(w.owning("m1", 1, "a:1")), group.ErrFencedMemberEpoch) // two behind
}

func TestAFencedMemberJoinsAgainUnderItsID(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	w.refused(w.beat(plain("m1", 7)), group.ErrFencedMemberEpoch)
	w.expect(w.beat(join("m1", "a")), 1, "a:0,1")
	w.expect(w.beat(static("s1", "i", "a")), 2, "")
	w.refused(w.beat(plain("s1", 7)), group.ErrFencedMemberEpoch)
	w.expect(w.beat(static("s1", "i", "a")), 2, "")
}

func TestAMemberThatLeavesIsForgotten(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	a := w.beat(plain("m1", -1))
	if a.Err != nil || a.MemberEpoch != -1 || a.HasAssigned {
		t.Fatalf("%+v", a)
	}
	w.wrote("8/m1!", "7/m1!", "5/m1!", "3/", "7/m2", "6/")
	w.expect(w.beat(plain("m2", 2)), 3, "a:0,1")
	w.beat(plain("m2", -1))
	if s := w.g.State(); s != group.Empty || !w.g.Empty() || !w.g.Exists() || w.g.epoch != 4 {
		t.Fatal(s, w.g.epoch)
	}
}

func TestAStaticMemberComesBackToWhatItHad(t *testing.T) {
	for _, id := range []string{"s1", "s2"} {
		w := newWorld(t, "a:4")
		w.beat(static("s1", "i", "a"))
		w.beat(join("m", "a"))
		w.beat(w.owning("s1", 1, "a:1,3"))
		w.expect(w.beat(plain("m", 2)), 2, "a:0,2")

		if id != "s1" {
			w.refused(w.beat(static(id, "i", "a")), group.ErrUnreleasedInstance)
		}
		leave := plain("s1", -2)
		leave.InstanceID = "i"
		if a := w.beat(leave); a.Err != nil || a.MemberEpoch != -2 {
			t.Fatalf("%+v", a)
		}
		w.wrote("8/s1")
		w.beat(leave) // again: nothing to do
		w.wrote()
		w.refused(w.beat(plain("s1", 2)), group.ErrFencedMemberEpoch)
		w.expect(w.beat(plain("m", 2)), 2, "-") // nobody takes its partitions

		w.restart()
		w.expect(w.beat(static(id, "i", "a")), 2, "a:1,3")
		if w.g.epoch != 2 {
			t.Fatalf("its return moved the group to epoch %d", w.g.epoch)
		}
		if id != "s1" {
			w.wrote("8/s1!", "7/s1!", "5/s1!", "5/s2", "7/s2", "8/s2")
			old := plain("s1", 2)
			old.InstanceID = "i"
			w.refused(w.beat(old), group.ErrFencedInstance)
			old.MemberEpoch = -1
			w.refused(w.beat(old), group.ErrFencedInstance)
			w.refused(w.beat(plain("s1", 2)), group.ErrUnknownMember)
		}
		if s := w.g.State(); s != group.Stable {
			t.Fatal(s)
		}
	}
}

func TestAStaticMemberThatComesBackWithOtherTopicsMovesTheGroup(t *testing.T) {
	w := newWorld(t, "a:2", "b:2")
	w.beat(static("s1", "i", "a"))
	leave := plain("s1", -2)
	leave.InstanceID = "i"
	w.beat(leave)
	w.expect(w.beat(static("s2", "i", "b")), 2, "b:0,1")
}

func TestAStaticMemberThatStaysAwayIsRemoved(t *testing.T) {
	w := newWorld(t, "a:4")
	w.beat(static("s1", "i", "a"))
	w.beat(join("m", "a"))
	w.beat(w.owning("s1", 1, "a:1,3"))
	leave := plain("s1", -2)
	leave.InstanceID = "i"
	w.beat(leave)
	w.pass(40 * time.Second)
	w.expect(w.beat(plain("m", 2)), 2, "a:0,2")
	w.pass(5 * time.Second)
	w.wrote("8/s1!", "7/s1!", "5/s1!", "3/", "7/m", "6/")
	w.expect(w.beat(plain("m", 2)), 3, "a:0,1,2,3")
	w.beat(static("s2", "i", "a")) // the instance id is free
}

func TestASilentMemberIsRemovedAfterItsSession(t *testing.T) {
	w := newWorld(t, "a:2")
	var told string
	w.cfg.Removed = func(memberID, why string) { told += memberID + " " + why }
	w.beat(join("m1", "a"))
	w.pass(30 * time.Second)
	w.beat(join("m2", "a"))
	if due := w.g.Due(); due.After(noon.Add(45 * time.Second)) {
		t.Fatal(due)
	}
	w.pass(15*time.Second - 1)
	w.wrote()
	w.pass(1)
	w.wrote("8/m1!", "7/m1!", "5/m1!", "3/", "7/m2", "6/")
	if told != "m1 its session is over" {
		t.Errorf("operators hear %q", told)
	}
	w.expect(w.beat(plain("m2", 2)), 3, "a:0,1")
	w.refused(w.beat(plain("m1", 1)), group.ErrUnknownMember)
	if due := w.g.Due(); !due.After(w.now) {
		t.Fatal(due)
	}
	w.pass(time.Hour)
	if !w.g.Empty() || !w.g.Due().IsZero() {
		t.Fatal(w.g.State(), w.g.Due())
	}
}

func TestTheSessionAndThePaceStayInBounds(t *testing.T) {
	w := newWorld(t, "a:1")
	w.cfg.SessionTimeout, w.cfg.MinSessionTimeout, w.cfg.MaxSessionTimeout = 1, 45e9, 60e9
	w.cfg.HeartbeatInterval, w.cfg.MinHeartbeatInterval, w.cfg.MaxHeartbeatInterval = 1e12, 5e9, 15e9
	if a := w.beat(join("m1", "a")); a.HeartbeatIntervalMs != 15000 {
		t.Fatal(a.HeartbeatIntervalMs)
	}
	if due := w.g.Due(); !due.Equal(noon.Add(45 * time.Second)) {
		t.Fatal(due)
	}
}

func TestAMemberThatDoesNotRevokeInTimeIsFenced(t *testing.T) {
	w := newWorld(t, "a:2")
	w.cfg.SessionTimeout = time.Hour
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	w.beat(plain("m1", 1)) // from here it has 60 s
	w.pass(30 * time.Second)
	w.expect(w.beat(plain("m1", 1)), 1, "-")
	w.pass(30*time.Second - 1)
	w.wrote()
	w.pass(1)
	w.wrote("8/m1!", "7/m1!", "5/m1!", "3/", "7/m2", "6/")
	w.expect(w.beat(plain("m2", 2)), 3, "a:0,1")
}

func TestTheTimeToRevokeStartsAnewAfterARestart(t *testing.T) {
	w := newWorld(t, "a:2")
	w.cfg.SessionTimeout = time.Hour
	w.beat(join("m1", "a"))
	w.beat(join("m2", "a"))
	w.beat(plain("m1", 1))
	w.restart()
	w.pass(60*time.Second - 1)
	w.wrote()
	w.pass(1)
	if w.g.members["m1"] != nil {
		t.Fatal("it is still there")
	}
}

func TestAMemberThatChangesItsTopicsGivesTheOthersUp(t *testing.T) {
	w := newWorld(t, "a:2", "b:2")
	w.beat(join("m1", "a"))
	r := plain("m1", 1)
	r.Topics, r.HasTopics = []string{"b"}, true
	w.expect(w.beat(r), 1, "")
	// While it has still to give up a, it wants none of b either.
	r.Topics = nil
	w.expect(w.beat(r), 1, "-")
	r.Topics = []string{"b"}
	w.beat(r)
	w.expect(w.beat(w.owning("m1", 1)), 4, "b:0,1")
}

func TestTopicsThatAMemberDropsAreRevokedWithTheRest(t *testing.T) {
	w := newWorld(t, "a:4", "b:2")
	w.beat(join("m1", "a", "b"))
	w.beat(join("m2", "a"))
	w.beat(plain("m1", 1)) // it must give up of a
	r := plain("m1", 1)
	r.Topics, r.HasTopics = []string{"a"}, true
	a := w.beat(r)
	if len(of(a.Assigned, w.image.Topic("b").ID)) > 0 || !a.HasAssigned || a.MemberEpoch != 1 {
		t.Fatalf("%+v", a)
	}
}

func TestMetadataThatChangesMovesTheGroup(t *testing.T) {
	w := newWorld(t, "a:2", "other:1")
	w.beat(join("m1", "a", "later"))
	w.topic("other", 5)
	w.expect(w.beat(plain("m1", 1)), 1, "-") // it does not read that
	w.wrote()
	w.topic("a", 3)
	w.expect(w.beat(plain("m1", 1)), 2, "a:0,1,2")
	w.topic("later", 1)
	w.pass(time.Second) // also without a heartbeat
	w.wrote("3/", "7/m1", "6/")
	w.expect(w.beat(plain("m1", 2)), 3, "a:0,1,2 later:0")
	w.topic("a", 0)
	w.expect(w.beat(plain("m1", 3)), 3, "later:0")
	w.expect(w.beat(w.owning("m1", 3, "later:0")), 4, "-")
	w.topic("a", 1) // another topic of that name
	w.expect(w.beat(plain("m1", 4)), 5, "a:0 later:0")
}

func TestARegularExpressionFollowsTheTopics(t *testing.T) {
	w := newWorld(t, "logs-a:1", "logs-b:1", "my-logs-a:1", "__consumer_offsets:50")
	w.expect(w.beat(join("m1", "~logs-.*")), 1, "logs-a:0 logs-b:0") // whole names
	w.wrote("16/logs-.*", "3/", "5/m1", "7/m1", "8/m1", "6/")
	if !w.g.Subscribed("logs-a") || w.g.Subscribed("my-logs-a") {
		t.Fatal("subscriptions are wrong")
	}
	w.topic("logs-c", 2)
	w.pass(regexEvery)
	w.expect(w.beat(plain("m1", 1)), 2, "logs-a:0 logs-b:0 logs-c:0,1")
	w.topic("logs-d", 1)
	w.expect(w.beat(plain("m1", 2)), 2, "-") // it was looked at just now
	w.pass(regexEvery)
	w.expect(w.beat(plain("m1", 2)), 3, "logs-a:0 logs-b:0 logs-c:0,1 logs-d:0")
	w.topic("logs-a", 0)
	w.pass(regexEvery)
	w.expect(w.beat(plain("m1", 3)), 3, "logs-b:0 logs-c:0,1 logs-d:0")

	r := w.owning("m1", 3, "logs-b:0", "logs-c:0,1", "logs-d:0")
	none := ""
	r.Regex, r.Topics, r.HasTopics = &none, []string{"logs-b"}, true
	w.beat(r)
	if len(w.g.regexes) > 0 || w.g.Subscribed("logs-c") {
		t.Fatal("nobody subscribes to the expression any more")
	}
	w.expect(w.beat(w.owning("m1", 3, "logs-b:0")), 5, "-")
}

func TestARegularExpressionFindsInternalTopicsToo(t *testing.T) {
	w := newWorld(t, "logs:1", "__consumer_offsets:2")
	w.expect(w.beat(join("m1", "~__.*")), 1, "__consumer_offsets:0,1")
}

func TestNamesAndARegularExpressionAddUp(t *testing.T) {
	w := newWorld(t, "a:1", "b:1", "c:1")
	w.expect(w.beat(join("m1", "a", "~[ab]")), 1, "a:0 b:0")
}

// What the alternation prefers must not hide that the whole name matches.
func TestTheWholeNameIsMatched(t *testing.T) {
	w := newWorld(t, "ab:1", "a:1", "xab:1")
	w.expect(w.beat(join("m1", "~a|ab")), 1, "a:0 ab:0")
}

func TestTheAssignorMostMembersAskForIsUsed(t *testing.T) {
	w := newWorld(t, "a:4", "b:4")
	rng, uni := Range, Uniform
	for i, assignor := range []*string{&rng, nil, &uni, &rng} {
		r := join(string(rune('k'+i)), "a", "b")
		r.Assignor = assignor
		w.beat(r)
	}
	if d := w.g.Describe(); d.Assignor != Range {
		t.Fatal(d.Assignor)
	}
	for id, want := range map[string]string{
		"k": "a:0 b:0", "l": "a:1 b:1", "m": "a:2 b:2", "n": "a:3 b:3",
	} {
		if got := w.show(w.g.members[id].target); got != want {
			t.Errorf("%s shall have %s, want %s", id, got, want)
		}
	}
	w.cfg.Assignors = []string{Uniform}
	if d := w.g.Describe(); d.Assignor != Uniform {
		t.Fatal(d.Assignor)
	}
}

func TestCommitsAndFetchesAreCheckedByEpoch(t *testing.T) {
	w := newWorld(t, "a:1")
	check := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
	}
	check(w.g.CheckCommit("", "", -1), nil) // of no member, into an empty group
	check(w.g.CheckFetch("", -1), nil)
	check(w.g.CheckCommit("m1", "", 1), group.ErrUnknownMember)
	w.beat(join("m1", "a"))
	w.topic("a", 2)
	w.beat(plain("m1", 1))
	check(w.g.CheckCommit("m1", "", 2), nil)
	check(w.g.CheckFetch("m1", 2), nil)
	for _, epoch := range []int32{1, 3} {
		check(w.g.CheckCommit("m1", "", epoch), group.ErrStaleMemberEpoch)
		check(w.g.CheckFetch("m1", epoch), group.ErrStaleMemberEpoch)
	}
	check(w.g.CheckCommit("", "", -1), group.ErrUnknownMember)
	check(w.g.CheckFetch("m2", 1), group.ErrUnknownMember)
	check(w.g.CheckFetch("", -1), nil)
}

func TestAFailedWriteChangesNothingAndTheNextSetsTheLogRight(t *testing.T) {
	for _, kept := range []bool{false, true} {
		w := newWorld(t, "a:4")
		w.beat(join("m1", "a"))
		before := picture(w.g)
		w.fail, w.keep = messages.ErrUnavailable, kept
		if a := w.beat(join("lost", "a")); !errors.Is(a.Err, messages.ErrUnavailable) {
			t.Fatal(a.Err)
		}
		if after := picture(w.g); after != before {
			t.Fatalf("%s\nbecame\n%s", before, after)
		}
		w.expect(w.beat(plain("m1", 1)), 1, "-")
		w.wrote() // it needs no write, so it does not wait for one
		if due := w.g.Due(); due.After(w.now.Add(retryEvery)) {
			t.Fatal(due)
		}
		w.fail, w.keep = messages.ErrUnavailable, kept
		w.pass(retryEvery)
		w.wrote("8/lost!", "7/lost!", "7/m1", "6/", "5/lost!", "3/")
		w.pass(retryEvery - 1)
		w.wrote()
		w.beat(join("m2", "a"))
		again := rebuild(t, w.log, w.config)
		again.Loaded(w.now)
		if got, want := picture(again), picture(w.g); got != want {
			t.Fatalf("the log says\n%s\nwant\n%s", got, want)
		}
		w.pass(retryEvery)
		w.wrote() // nothing is in doubt any more
	}
}

func TestAGroupWhoseWritesFailTakesNoMoreThanItCanRemember(t *testing.T) {
	w := newWorld(t, "a:1")
	for i := range doubtMax {
		w.fail = messages.ErrUnavailable
		if a := w.beat(join(string(rune('a'+i)), "a")); !errors.Is(a.Err, messages.ErrUnavailable) {
			t.Fatal(a.Err)
		}
		w.fail = nil
	}
	if n := len(w.g.doubt); n > doubtMax+10 {
		t.Fatal(n)
	}
	w.pass(retryEvery)
	w.expect(w.beat(join("m", "a")), 1, "a:0")
}

func TestAStoppedGroupAnswersWhatWaits(t *testing.T) {
	w := newWorld(t, "a:1")
	r := join("m1", "a")
	var answers []error
	r.Reply = func(a group.ConsumerHeartbeated) { answers = append(answers, a.Err) }
	w.g.Heartbeat(w.now, &r)
	write := w.g.TakeWrite()
	w.g.Stop(messages.ErrNotCoordinator)
	write.Done(w.now, nil)
	if len(answers) != 1 || !errors.Is(answers[0], messages.ErrNotCoordinator) {
		t.Fatal(answers)
	}
}

func TestTombstonesDeleteEverything(t *testing.T) {
	w := newWorld(t, "a:2")
	if w.g.Exists() {
		t.Fatal("a new group exists")
	}
	w.beat(join("m1", "a", "~a.*"))
	w.beat(static("m2", "i", "a"))
	w.fail, w.keep = messages.ErrUnavailable, true
	w.beat(join("m3", "a"))
	w.log = append(w.log, w.g.Tombstones()...)
	w.g.Forget()
	if w.g.Exists() || !w.g.Empty() || len(compacted(w.log, true)) > 0 {
		t.Fatalf("%v remain", compacted(w.log, true))
	}
	again := rebuild(t, w.log, w.config)
	if again.Exists() {
		t.Fatal(picture(again))
	}
	w.expect(w.beat(join("m1", "a")), 1, "a:0,1")
}

func TestDescribeShowsTheGroup(t *testing.T) {
	w := newWorld(t, "a:2", "b:1")
	if d := w.g.Describe(); d.State != group.Empty || len(d.Members) > 0 || d.Assignor != Uniform {
		t.Fatalf("%+v", d)
	}
	rack := "r1"
	r := static("m1", "i", "a", "~b")
	r.Rack = &rack
	w.beat(r)
	w.beat(join("m2", "a"))
	w.beat(plain("m1", 1))
	d := w.g.Describe()
	if d.State != group.Reconciling || d.Type != group.Consumer || d.Epoch != 2 ||
		d.AssignmentEpoch != 2 || d.GroupID != "g" || d.ProtocolType != "consumer" {
		t.Fatalf("%+v", d)
	}
	m := d.Members[0]
	if m.MemberID != "m1" || m.InstanceID != "i" || m.Rack != "r1" || m.Regex != "b" ||
		!slices.Equal(m.Topics, []string{"a"}) || m.Epoch != 1 || m.ClientHost != "/::1" ||
		w.show(m.Assigned) != w.show(m.Target) || m.Target[0].Name != "a" {
		t.Fatalf("%+v", m)
	}
	if m := d.Members[1]; len(m.Assigned) > 0 || size(m.Target) != 1 {
		t.Fatalf("%+v", m)
	}
	w.topic("a", 0)
	if m := w.g.Describe().Members[0]; len(m.Target) != 1 {
		t.Fatalf("%+v", m)
	}
}

func TestAHeartbeatThatChangesNothingWritesAndAllocatesNothing(t *testing.T) {
	w := newWorld(t, "a:1000")
	w.beat(join("m1", "a"))
	r := plain("m1", 1)
	r.Reply = func(a group.ConsumerHeartbeated) {
		if a.Err != nil || a.HasAssigned {
			t.Errorf("%+v", a)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		w.g.Heartbeat(w.now, &r)
		if w.g.TakeWrite() != nil {
			t.Error("a write")
		}
	}); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestOneJoinOfManyWritesOnlyTargetsThatChange(t *testing.T) {
	w := newWorld(t, "a:120")
	for i := range 50 {
		w.beat(join(string(rune('A'+i)), "a"))
	}
	w.beat(join("zz", "a"))
	targets := 0
	for _, r := range w.written {
		if k, _ := ParseKey(r.Key); k.Version == keyTarget {
			targets++
		}
	}
	if targets != 3 { // its own two partitions, and those who gave them up
		t.Fatalf("%d targets written", targets)
	}
}

func TestWithoutMetadataNothingIsDecided(t *testing.T) {
	w := newWorld(t, "a:2")
	w.beat(join("m1", "a"))
	image := w.image
	w.image = nil
	w.restart()
	w.refused(w.beat(plain("m1", 1)), messages.ErrCoordinatorLoading)
	w.pass(time.Hour)
	w.wrote()
	if due := w.g.Due(); !due.After(w.now) {
		t.Fatal(due)
	}
	if d := w.g.Describe(); len(d.Members) != 1 {
		t.Fatalf("%+v", d)
	}
	w.image = image
	w.expect(w.beat(plain("m1", 1)), 1, "-")
}
