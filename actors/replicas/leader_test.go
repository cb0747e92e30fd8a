package replicas

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func partition(epoch messages.LeaderEpoch, isr ...messages.NodeID) *messages.Partition {
	return &messages.Partition{Leader: 1, LeaderEpoch: epoch, Replicas: isr, ISR: isr}
}

// fetched has a follower ask at an offset, under node epoch 1.
func fetched(t *testing.T, l *Leader, follower messages.NodeID, at messages.Offset) {
	t.Helper()
	if err := l.Fetched(follower, 1, at, noon); err != nil {
		t.Fatal(err)
	}
}

// decided is the controller's next decision about the in-sync set.
func decided(l *Leader, isr ...messages.NodeID) {
	p := l.part
	p.ISR, p.PartitionEpoch = isr, p.PartitionEpoch+1
	l.SetPartition(&p, noon)
}

func TestALeaderAloneSeesItsWritesAtOnce(t *testing.T) {
	l := NewLeader(1, partition(3, 1), 1, Bounds{0, 0, 10}, noon)
	if l.HighWatermark() != 10 {
		t.Fatalf("high watermark is %d before the first write, want 10", l.HighWatermark())
	}
	l.Appended(15, noon)
	if l.HighWatermark() != 15 || l.LogEnd() != 15 || l.Epoch() != 3 {
		t.Fatalf("high watermark %d, log end %d, epoch %d", l.HighWatermark(), l.LogEnd(), l.Epoch())
	}
}

func TestTheHighWatermarkWaitsForTheSlowestInSyncReplica(t *testing.T) {
	l := NewLeader(1, partition(0, 1, 2, 3), 1, Bounds{0, 4, 10}, noon)
	if l.HighWatermark() != 4 {
		t.Fatalf(
			"a new leader that has heard of nobody moved the high watermark to %d",
			l.HighWatermark(),
		)
	}
	fetched(t, l, 2, 9)
	if l.HighWatermark() != 4 {
		t.Fatalf("high watermark %d before the third replica was heard of", l.HighWatermark())
	}
	fetched(t, l, 3, 7)
	if l.HighWatermark() != 7 {
		t.Fatalf("high watermark %d, want the slowest follower's 7", l.HighWatermark())
	}
	decided(l, 1, 2)
	if l.HighWatermark() != 9 {
		t.Fatalf("high watermark %d after the slowest left the in-sync set, want 9", l.HighWatermark())
	}
}

func TestTheHighWatermarkStandsStillBelowMinInsyncReplicas(t *testing.T) {
	p := partition(0, 1)
	p.Replicas = []messages.NodeID{1, 2}
	l := NewLeader(1, p, 2, Bounds{0, 3, 5}, noon)
	l.Appended(8, noon)
	if l.HighWatermark() != 3 {
		t.Fatalf("high watermark moved to %d with one of two required replicas", l.HighWatermark())
	}
	if err := l.CheckAppend(data.AcksAll); !errors.Is(err, messages.ErrNotEnoughReplicas) {
		t.Fatalf("acks=all: %v", err)
	}
	if err := l.CheckAppend(data.AcksLeader); err != nil {
		t.Fatalf("acks=1: %v", err)
	}
	l.SetMinISR(1)
	if l.HighWatermark() != 8 {
		t.Fatalf("high watermark %d after the requirement fell, want 8", l.HighWatermark())
	}
}

// A topic with one replica may have min.insync.replicas=2, the default of a
// whole cluster say: what there is suffices, as with Kafka 4.
func TestNoMoreReplicasAreRequiredThanThereAre(t *testing.T) {
	l := NewLeader(1, partition(0, 1), 2, Bounds{0, 3, 5}, noon)
	if err := l.CheckAppend(data.AcksAll); err != nil || l.HighWatermark() != 5 {
		t.Fatalf("high watermark %d, acks=all: %v", l.HighWatermark(), err)
	}
}

func TestTheHighWatermarkNeverFalls(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 0))
	for range 200 {
		l := NewLeader(1, partition(0, 1, 2, 3), 1+rng.IntN(3), Bounds{0, 0, 0}, noon)
		end, before := messages.Offset(0), messages.Offset(0)
		for range 100 {
			switch rng.IntN(4) {
			case 0:
				end += messages.Offset(rng.IntN(5))
				l.Appended(end, noon)
			case 1:
				fetched(t, l, messages.NodeID(2+rng.IntN(2)), messages.Offset(rng.Int64N(int64(end)+1)))
			case 2:
				sets := [][]messages.NodeID{{1}, {1, 2}, {1, 3}, {1, 2, 3}}
				decided(l, sets[rng.IntN(len(sets))]...)
			case 3:
				l.SetMinISR(1 + rng.IntN(3))
			}
			if hw := l.HighWatermark(); hw < before || hw > end {
				t.Fatalf("high watermark went from %d to %d, log end %d", before, hw, end)
			}
			before = l.HighWatermark()
		}
	}
}

func TestALogEndThatFallsIsABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("nobody noticed")
		}
	}()
	NewLeader(1, partition(0, 1), 1, Bounds{0, 0, 10}, noon).Appended(9, noon)
}

func TestFence(t *testing.T) {
	for _, tt := range []struct {
		name         string
		ours, theirs messages.LeaderEpoch
		want         error
	}{
		{"a client that does not say passes", 5, messages.NoEpoch, nil},
		{"the same epoch passes", 5, 5, nil},
		{"an old epoch is fenced", 5, 4, messages.ErrFencedLeaderEpoch},
		{"an epoch we have not heard of is unknown", 5, 6, messages.ErrUnknownLeaderEpoch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Fence(tt.ours, tt.theirs); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestDiverges(t *testing.T) {
	for _, tt := range []struct {
		name string
		from messages.Offset
		last messages.LeaderEpoch
		ours data.EpochEnd
		want bool
	}{
		{"a reader that does not say never diverges", 9, messages.NoEpoch,
			data.EpochEnd{Epoch: 1, End: 5}, false},
		{"the same history", 5, 1, data.EpochEnd{Epoch: 1, End: 9}, false},
		{"at the very end of its epoch", 9, 1, data.EpochEnd{Epoch: 1, End: 9}, false},
		{"beyond where the epoch ends here", 10, 1, data.EpochEnd{Epoch: 1, End: 9}, true},
		{"an epoch that is not in our log", 5, 2, data.EpochEnd{Epoch: 1, End: 9}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Diverges(tt.from, tt.last, tt.ours); got != tt.want {
				t.Fatalf("got %v", got)
			}
		})
	}
}

func TestCheckFetchOffset(t *testing.T) {
	for from, want := range map[messages.Offset]bool{4: false, 5: true, 7: true, 9: true, 10: false} {
		if err := CheckFetchOffset(from, 5, 9); (err == nil) != want {
			t.Errorf("offset %d in a log of 5..9: %v", from, err)
		}
	}
}
