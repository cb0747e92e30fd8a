package consumer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

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
