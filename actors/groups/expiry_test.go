package groups

import (
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func TestWhenOffsetsExpire(t *testing.T) {
	const day = 24 * time.Hour
	explicit := at("t", 0, 1)
	for _, tt := range []struct {
		name  string
		begin func(w *world)
		stays time.Duration
		gone  time.Duration
	}{
		{"those of a simple group, from the commit", func(w *world) {
			w.advance(2 * day)
			w.commitSimple(at("t", 0, 1))
		}, 7*day - time.Hour, 7*day + time.Hour},
		{"those of a group, from when it became empty", func(w *world) {
			generation := w.stable("a")
			w.commit("a", generation, at("t", 0, 1))
			for range 2000 {
				w.advance(9 * time.Second)
				wantErr(w.t, w.heartbeat("a", generation), nil)
			}
			w.leave(group.Leaving{MemberID: "a"})
		}, 7*day - time.Hour, 7*day + time.Hour},
		{"one with a time of its own, then", func(w *world) {
			explicit.ExpireMs = timestamp(w.now.Add(day))
			w.commitSimple(explicit)
		}, day - time.Hour, day + time.Hour},
		{"one with a pending offset, not before that is decided", func(w *world) {
			w.commitSimple(at("t", 0, 1))
			w.txnCommit(1, at("t", 0, 2))
			w.advance(8 * day)
			if w.offset("t", 0) != 1 {
				w.t.Fatal("it expired under a transaction")
			}
			w.endTxn(1, false)
		}, 0, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, failover := range []bool{false, true} {
				w := newWorld(t)
				tt.begin(w)
				if failover {
					w.failOver()
				}
				w.advance(tt.stays)
				if w.offset("t", 0) != 1 {
					t.Fatal("it expired too early")
				}
				w.advance(tt.gone - tt.stays)
				if w.offset("t", 0) != -1 || !w.g.Empty() || !w.rebuilt().Empty() {
					t.Fatal("it did not expire, or the group stayed")
				}
			}
		})
	}
}

func TestOffsetsThatMembersReadDoNotExpire(t *testing.T) {
	w := newWorld(t)
	w.cfg.OffsetsRetention = time.Hour
	generation := w.stable("a") // it reads t
	w.commit("a", generation, at("t", 0, 1), at("u", 0, 2))
	beat := func() {
		for range 600 {
			w.advance(9 * time.Second)
			wantErr(t, w.heartbeat("a", generation), nil)
		}
	}
	beat()
	if w.offset("t", 0) != 1 || w.offset("u", 0) != -1 {
		t.Fatalf("%v", w.fetch(false))
	}
	// Of a group of others nothing is known, so nothing expires.
	w = newWorld(t)
	w.cfg.OffsetsRetention = time.Hour
	generation = w.join("a", func(r *group.Join) { r.ProtocolType = "connect" }).one(t).Generation
	w.sync("a", generation, nil)
	w.commit("a", generation, at("u", 0, 2))
	beat()
	if w.offset("u", 0) != 2 {
		t.Fatal("it expired")
	}
}

func TestExpiryThatIsNotDurableIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.commitSimple(at("t", 0, 1))
	w.advance(7*24*time.Hour - time.Minute)
	w.fail = messages.ErrUnavailable
	w.advance(15 * time.Minute)
	if w.offset("t", 0) != 1 {
		t.Fatal("it is gone, and not durably")
	}
	w.fail = nil
	w.advance(15 * time.Minute)
	if !w.g.Empty() {
		t.Fatal("it was not tried again")
	}
}

func TestAGroupIsNotForgottenUnderATransaction(t *testing.T) {
	w := newWorld(t)
	generation := w.stable("a")
	w.leave(group.Leaving{MemberID: "a"})
	w.txnCommit(1, at("t", 0, 1))
	w.advance(time.Hour)
	if g := w.g.members.(*classic).generation; g != generation+1 {
		t.Fatalf("generation %d, the group was forgotten", g)
	}
	w.endTxn(1, false)
	w.advance(time.Hour)
	if !w.g.Empty() {
		t.Fatal("the group was not forgotten")
	}
}

func TestTheCheckWaitsForTheWriteOfAGroupThatBecomesEmpty(t *testing.T) {
	w := newWorld(t)
	w.cfg.RetentionCheckInterval, w.cfg.OffsetsRetention = 10*time.Second, 0
	generation := w.stable("a") // its session ends when the first check is due
	w.commit("a", generation, at("u", 0, 1))
	w.now = w.now.Add(20 * time.Second)
	w.g.Tick(w.now)
	w.flush()
	w.wantState(group.Empty)
	w.advance(0)
	if w.offset("u", 0) != -1 {
		t.Fatal("the check did not come")
	}
}

func TestAGroupWithNothingInItAsksForNoTick(t *testing.T) {
	w := newWorld(t)
	if !w.g.Due().IsZero() || !w.g.Empty() {
		t.Fatal("a new group wants something")
	}
	w.wantErrDescribe(group.ErrGroupNotFound)
	w.commitSimple(at("t", 0, 1))
	if due := w.g.Due(); !due.Equal(w.now.Add(10 * time.Minute)) {
		t.Fatalf("due at %v", due)
	}
}
