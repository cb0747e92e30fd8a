package groups

import (
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// withTopic is a world in which topic t has two partitions.
func withTopic(t *testing.T) *world {
	w := newWorld(t)
	im, _ := messages.NewImage().Apply(&messages.Delta{To: 1, Topics: []*messages.Topic{
		{ID: idExample, Name: "t", Partitions: make([]messages.Partition, 2)},
	}})
	w.cfg.Image = func() *messages.Image { return im }
	w.cfg.ConsumerSessionTimeout = 45 * time.Second
	w.cfg.ConsumerHeartbeatInterval = 5 * time.Second
	return w
}

func (w *world) consumerJoin(id string) group.ConsumerHeartbeated {
	w.t.Helper()
	b := &box[group.ConsumerHeartbeated]{}
	w.do(&group.ConsumerHeartbeat{
		MemberID: id, MemberEpoch: group.EpochJoin, ClientID: "client", ClientHost: "/10.0.0.1",
		RebalanceTimeoutMs: 60000, Topics: []string{"t"}, HasTopics: true,
		Owned: []group.TopicPartitions{}, HasOwned: true, Reply: b.put,
	})
	return b.one(w.t)
}

func (w *world) consumerLeave(id string) {
	w.t.Helper()
	b := &box[group.ConsumerHeartbeated]{}
	w.do(&group.ConsumerHeartbeat{MemberID: id, MemberEpoch: group.EpochLeave,
		RebalanceTimeoutMs: -1, Reply: b.put})
	wantErr(w.t, b.one(w.t).Err, nil)
}

func (w *world) wantType(kind group.Type) {
	w.t.Helper()
	if d := w.describe(); d.Type != kind {
		w.t.Fatalf("it is a %s group, want %s", d.Type, kind)
	}
}

func TestAGroupChangesItsProtocolWhileItIsEmptyAndKeepsItsOffsets(t *testing.T) {
	for _, failover := range []bool{false, true} {
		w := withTopic(t)
		survive := func() {
			if failover {
				w.failOver()
			}
		}
		generation := w.stable("a")
		w.commit("a", generation, at("t", 0, 5))
		w.txnCommit(3, at("t", 1, 6))
		wantErr(t, w.consumerJoin("m").Err, group.ErrGroupNotFound)
		w.leave(group.Leaving{MemberID: "a"})
		survive()

		h := w.consumerJoin("m")
		wantErr(t, h.Err, nil)
		survive()
		w.wantType(group.Consumer)
		wantErr(t, w.join("b").one(t).Err, group.ErrInconsistentProtocol)
		wantErr(t, w.heartbeat("a", generation), group.ErrUnknownMember)
		wantErr(t, w.commit("m", h.MemberEpoch, at("t", 0, 7)).Err, group.ErrUnsupported)
		b := &box[group.Committed]{}
		w.do(&group.Commit{MemberID: "m", Generation: h.MemberEpoch, Epochs: true,
			Offsets: []group.Offset{at("t", 0, 7)}, Reply: b.put})
		wantErr(t, b.one(t).Err, nil)

		w.consumerLeave("m")
		survive()
		wantErr(t, w.join("c").one(t).Err, nil)
		w.wantType(group.Classic)
		w.endTxn(3, true)
		survive()
		if w.offset("t", 0) != 7 || w.offset("t", 1) != 6 {
			t.Fatalf("%+v", w.fetch(false))
		}
		if remembers(w.rebuilt()) != remembers(w.g) {
			t.Fatal("the log says something else")
		}
	}
}

func TestAConversionThatIsNotDurableChangesNothing(t *testing.T) {
	w := withTopic(t)
	generation := w.stable("a")
	w.leave(group.Leaving{MemberID: "a"})
	w.fail = messages.ErrUnavailable
	wantErr(t, w.consumerJoin("m").Err, messages.ErrUnavailable)
	w.fail = nil
	h := w.consumerJoin("m")
	wantErr(t, h.Err, nil)
	w.consumerLeave("m")
	w.fail = messages.ErrUnavailable
	wantErr(t, w.join("b").one(t).Err, messages.ErrUnavailable)
	w.wantType(group.Consumer)
	w.fail = nil
	if j := w.join("b").one(t); j.Err != nil || j.Generation > generation {
		t.Fatalf("%+v", j)
	}
}

func TestAConsumerGroupIsDeletedWithItsOffsets(t *testing.T) {
	w := withTopic(t)
	wantErr(t, w.consumerJoin("m").Err, nil)
	b := &box[error]{}
	w.do(&group.Delete{Reply: b.put})
	wantErr(t, b.one(t), group.ErrNonEmptyGroup)
	w.consumerLeave("m")
	w.commitSimple(at("t", 0, 5))
	b = &box[error]{}
	w.do(&group.Delete{Reply: b.put})
	wantErr(t, b.one(t), nil)
	if !w.g.Empty() || !w.rebuilt().Empty() {
		t.Fatal("something is left")
	}
	wantErr(t, w.join("a").one(t).Err, nil)
}

func TestAnEmptyConsumerGroupIsForgottenWithItsLastOffset(t *testing.T) {
	w := withTopic(t)
	wantErr(t, w.consumerJoin("m").Err, nil)
	w.consumerLeave("m")
	w.commitSimple(at("t", 0, 5))
	w.advance(6 * 24 * time.Hour)
	if w.offset("t", 0) != 5 {
		t.Fatal("it expired too early")
	}
	w.advance(2 * 24 * time.Hour)
	if !w.g.Empty() || !w.rebuilt().Empty() || !w.g.Due().IsZero() {
		t.Fatal("something is left")
	}
}

func TestRecordsOfOtherGroupsOfKafkaAreNotUnderstood(t *testing.T) {
	w := newWorld(t)
	wantErr(t, w.g.Replay(replayed([]byte{0, 11, 0, 1, 'g'}, nil)), ErrUnknownKey)
	wantErr(t, w.g.Replay(replayed([]byte{0, 3, 0, 1, 'g'}, []byte{0, 9})), ErrDamaged)
}

func TestMembersThatCouldNotBeHeardOfStay(t *testing.T) {
	for _, heard := range []bool{true, false} {
		classic, modern := newWorld(t), withTopic(t)
		generation := classic.stable("a", "b")
		modern.consumerJoin("m")
		// A write takes longer than their sessions.
		for _, w := range []*world{classic, modern} {
			w.now = w.now.Add(time.Hour)
			if !heard {
				w.g.Unheard(w.now)
			}
			w.advance(time.Second)
		}
		gone := error(nil)
		if heard {
			gone = group.ErrUnknownMember
		}
		wantErr(t, classic.heartbeat("a", generation), gone)
		if d := modern.describe(); (len(d.Members) == 0) != heard {
			t.Errorf("there are %d members, heard of: %v", len(d.Members), heard)
		}
		for _, w := range []*world{classic, modern} {
			w.advance(time.Hour)
			if d := w.describe(); len(d.Members) > 0 {
				t.Errorf("members that stay silent are %+v", d.Members)
			}
		}
	}
}
