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
