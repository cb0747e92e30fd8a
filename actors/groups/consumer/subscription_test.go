package consumer

import (
	"testing"
	"time"
)

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
