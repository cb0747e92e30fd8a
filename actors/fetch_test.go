package actors

import (
	"errors"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// A follower waits for its answer without a timer, so a leader that fails on its
// fetch must answer it on the way down.
func TestAFetchIsAnsweredThoughItsHandlingPanics(t *testing.T) {
	b := onBench(t, 1, []messages.NodeID{1, 2}, "0", nil)
	store := b.body.r.store
	b.body.r.store = nil // what there is for a fetch is read from it
	var got []*data.ReplicaFetched
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("it did not panic")
			}
		}()
		b.body.r.env.FetchReplica(&data.ReplicaFetch{Partition: messages.PartitionID{
			Topic: messages.TopicID{1}}, Follower: 2, FollowerEpoch: 1, LeaderEpoch: 3},
			func(r *data.ReplicaFetched) { got = append(got, r) })
	}()
	b.body.r.store = store
	b.send(abandoning{})
	if len(got) != 1 || !errors.Is(got[0].Err, messages.ErrNotLeader) {
		t.Errorf("answers: %+v", got)
	}
}

// The disk that failed is the leader's: the followers are what is left of the
// partition, and one of them will lead it.
func TestAStorageErrorOfTheLeaderTakesNoFollowerOffline(t *testing.T) {
	b := onBench(t, 2, []messages.NodeID{1, 2}, "0", nil)
	asked := len(b.fetches)
	b.send(fetchAnswered{q: b.fetches[asked-1], number: b.body.r.follows, life: b.body.r.life,
		r: &data.ReplicaFetched{Err: messages.ErrStorage, LeaderEpoch: messages.NoEpoch}})
	if err := b.body.r.face.fault.Load(); err != nil || b.body.Log() == nil {
		t.Fatalf("the follower is offline: %v", *err)
	}
	b.send(b.later[len(b.later)-1])
	if len(b.fetches) != asked+1 {
		t.Errorf("%d fetches after the leader's failure, want one more than %d",
			len(b.fetches), asked)
	}
}

// A follower led in between, and nothing of what it wrote came here. The leader has
// written nothing yet, and all the same knows where the follower's log parts from its
// own: else the follower would drop everything.
func TestALeaderThatHasWrittenNothingYetKnowsWhereEarlierEpochsEnd(t *testing.T) {
	for _, records := range []int{0, 2} {
		b := onBench(t, 1, []messages.NodeID{1}, "0", nil)
		b.append(records)
		p := b.topic.Partitions[0]
		p.LeaderEpoch, p.PartitionEpoch = 5, p.PartitionEpoch+1
		b.send(Assigned(b.topic, p))
		var got *data.ReplicaFetched
		b.body.r.env.FetchReplica(&data.ReplicaFetch{Partition: messages.PartitionID{
			Topic: messages.TopicID{1}}, Follower: 2, FollowerEpoch: 1, LeaderEpoch: 5, Offset: 7,
			LastEpoch: 4, MaxBytes: 4096}, func(r *data.ReplicaFetched) { got = r })
		want := data.EpochEnd{Epoch: 3, End: messages.Offset(records)}
		if records == 0 {
			want.Epoch = 4
		}
		if got == nil || got.Err != nil || got.Diverging == nil || *got.Diverging != want {
			t.Errorf("%d records: a follower is answered %+v, want it to part at %+v", records, got, want)
		}
		if end, err := b.body.Face.EpochEnd(5, 4); err != nil || end != want {
			t.Errorf("%d records: epoch 4 ends at %+v (%v), want %+v", records, end, err, want)
		}
	}
}

// A follower that was started anew has the high watermark of its last checkpoint. One
// that has every record gets no answer with records, which would bring the new one.
func TestAFollowerThatMayHaveForgottenTheHighWatermarkIsToldAgain(t *testing.T) {
	for name, again := range map[string]func(b *bench){
		"its connection broke": func(b *bench) { b.send(FollowerLost(2)) },
		"it asks twice":        func(b *bench) { b.fetch(1) },
	} {
		b := onBench(t, 1, []messages.NodeID{1, 2}, "0", nil)
		b.append(1)
		b.fetch(0)
		// late is what a fetch at the log end is answered after tellAfter; nil: nothing.
		late := func(fetch func() *data.ReplicaFetched) *data.ReplicaFetched {
			if fetch() != nil {
				t.Fatalf("%s: a fetch at the log end does not wait", name)
			}
			b.now = b.now.Add(tellAfter)
			if slices.Contains(b.later, any(tellDue{})) {
				b.later = nil
				b.send(tellDue{})
			}
			return fetch()
		}
		if res := late(b.fetch(1)); res == nil || res.Err != nil || res.HighWatermark != 1 {
			t.Fatalf("%s: the follower was told %+v", name, res)
		}
		if res := late(b.fetch(1)); res != nil {
			t.Errorf("%s: a follower that knows is told %+v", name, res)
		}
		again(b)
		if res := late(b.fetch(1)); res == nil || res.Err != nil || res.HighWatermark != 1 {
			t.Errorf("%s: the follower is told %+v", name, res)
		}
	}
}

func TestAReaderAtTheTailCostsNothing(t *testing.T) {
	b := onBench(t, 1, []messages.NodeID{1}, "0", nil)
	r := b.body.Face
	at := r.Offsets().HighWatermark
	var res data.ReadResult
	if n := testing.AllocsPerRun(100, func() {
		res = r.Read(data.Read{From: at, MaxBytes: 1000, MinOne: true, CurrentEpoch: -1, LastEpoch: -1})
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if res.Err != nil || res.View.Bytes != 0 || res.HighWatermark != at || res.LogStart != 0 {
		t.Errorf("%+v", res)
	}
	res = r.Read(data.Read{From: at + 1, CurrentEpoch: -1, LastEpoch: -1})
	if !errors.Is(res.Err, messages.ErrOffsetOutOfRange) {
		t.Errorf("behind the tail: %v", res.Err)
	}
}
