package replicas

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

// lag is replica.lag.time.max.ms of these tests.
const lag = 10 * time.Second

// nodes are registered under node epoch 1 each, unless a test says otherwise.
type nodes map[messages.NodeID]*messages.Node

func (ns nodes) Node(id messages.NodeID) *messages.Node { return ns[id] }

func threeNodes() nodes {
	return nodes{1: {ID: 1, Epoch: 1}, 2: {ID: 2, Epoch: 1}, 3: {ID: 3, Epoch: 1}}
}

func after(d time.Duration) time.Time { return noon.Add(d) }

func proposed(a *messages.AlterPartition) []messages.NodeID {
	if a == nil {
		return nil
	}
	out := []messages.NodeID{}
	for _, m := range a.ISR {
		out = append(out, m.Node)
	}
	return out
}

// threeReplicas is a leader of three replicas with ten records that all have,
// whose in-sync set is isr.
func threeReplicas(t *testing.T, isr ...messages.NodeID) *Leader {
	t.Helper()
	p := partition(4, 1, 2, 3)
	p.ISR = isr
	l := NewLeader(1, p, 1, Bounds{0, 10, 10}, noon)
	fetched(t, l, 2, 10)
	fetched(t, l, 3, 10)
	return l
}

func TestWhoBelongsInTheInSyncSet(t *testing.T) {
	for _, tt := range []struct {
		name  string
		isr   []messages.NodeID
		given func(l *Leader, ns nodes)
		at    time.Duration
		want  []messages.NodeID // nil: no proposal
	}{
		{"nothing changes while all have everything", []messages.NodeID{1, 2, 3},
			func(*Leader, nodes) {}, time.Hour, nil},
		{"a follower that lacks records has time to get them", []messages.NodeID{1, 2, 3},
			func(l *Leader, _ nodes) { l.Appended(12, after(time.Hour)) }, lag, nil},
		{"a parked follower lacked nothing until the append", []messages.NodeID{1, 2, 3},
			func(l *Leader, _ nodes) {
				l.Park(2)
				l.Park(3)
				l.Appended(12, after(time.Hour))
			}, time.Hour + lag, nil},
		{"who does not fetch for longer than the lag leaves", []messages.NodeID{1, 2, 3},
			func(l *Leader, _ nodes) {
				l.Appended(12, after(time.Second))
				_ = l.Fetched(2, 1, 12, after(time.Second))
			}, time.Hour, []messages.NodeID{1, 2}},
		{"who is always one fetch behind keeps up", []messages.NodeID{1, 2, 3},
			func(l *Leader, _ nodes) {
				l.Appended(12, after(time.Second))
				_ = l.Fetched(2, 1, 11, after(2*time.Second))
				_ = l.Fetched(3, 1, 11, after(2*time.Second))
				l.Appended(14, after(20*time.Second))
				_ = l.Fetched(2, 1, 12, after(20*time.Second)) // all there was 18 seconds ago
				_ = l.Fetched(3, 1, 11, after(20*time.Second))
			}, 12 * time.Second, []messages.NodeID{1, 2}},
		{"who has everything that was acknowledged joins", []messages.NodeID{1, 2},
			func(*Leader, nodes) {}, 0, []messages.NodeID{1, 2, 3}},
		{"a fenced node does not join", []messages.NodeID{1, 2},
			func(_ *Leader, ns nodes) { ns[3].Fenced = true }, 0, nil},
		{"a node that is leaving does not join", []messages.NodeID{1, 2},
			func(_ *Leader, ns nodes) { ns[3].Leaving = true }, 0, nil},
		{"a node that registered anew since it fetched does not join", []messages.NodeID{1, 2},
			func(_ *Leader, ns nodes) { ns[3].Epoch = 2 }, 0, nil},
		{"an unknown node does not join", []messages.NodeID{1, 2},
			func(_ *Leader, ns nodes) { delete(ns, 3) }, 0, nil},
		{"a member that comes back with less than was acknowledged leaves at once",
			[]messages.NodeID{1, 2, 3},
			func(l *Leader, _ nodes) { _ = l.Fetched(3, 1, 4, noon) }, 0, []messages.NodeID{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, ns := threeReplicas(t, tt.isr...), threeNodes()
			tt.given(l, ns)
			if got := proposed(l.Propose(lag, ns, after(tt.at))); !slices.Equal(got, tt.want) {
				t.Errorf("proposed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestANewLeadersRecordsMustBeThereBeforeAFollowerJoins(t *testing.T) {
	p := partition(4, 1, 2, 3)
	p.ISR = []messages.NodeID{1, 2}
	l := NewLeader(1, p, 1, Bounds{0, 5, 10}, noon) // what lies above 5 is not known to be everywhere
	fetched(t, l, 2, 7)
	fetched(t, l, 3, 8)
	if l.HighWatermark() != 7 || l.Settled() {
		t.Fatalf("high watermark %d, settled: %v", l.HighWatermark(), l.Settled())
	}
	if a := l.Propose(lag, threeNodes(), noon); a != nil {
		t.Errorf("a follower at 8 joins a leadership that begins at 10: %v", proposed(a))
	}
	fetched(t, l, 2, 10)
	fetched(t, l, 3, 10)
	got := proposed(l.Propose(lag, threeNodes(), noon))
	if !slices.Equal(got, []messages.NodeID{1, 2, 3}) {
		t.Errorf("proposed %v", got)
	}
	if !l.Settled() {
		t.Error("not settled though all have the log as it was at the beginning")
	}
}

// While it is not known whether the controller accepted a proposal, both sets
// hold back the high watermark: either may be the one a leader is elected from.
func TestBothTheOldAndTheProposedSetHoldBackTheHighWatermark(t *testing.T) {
	l := threeReplicas(t, 1, 2)
	if l.Propose(lag, threeNodes(), noon) == nil {
		t.Fatal("no proposal")
	}
	l.Appended(20, noon)
	fetched(t, l, 2, 20)
	if l.HighWatermark() != 10 {
		t.Errorf("high watermark %d though node 3 may be in sync and has 10", l.HighWatermark())
	}
	if l.Propose(lag, threeNodes(), after(time.Hour)) != nil {
		t.Error("a second proposal while the first is under way")
	}
	l.Answered() // refused: node 3 is not in sync after all
	if l.HighWatermark() != 20 {
		t.Errorf("high watermark %d after the refusal", l.HighWatermark())
	}

	shrinking := threeReplicas(t, 1, 2, 3)
	shrinking.Appended(20, noon)
	fetched(t, shrinking, 2, 20)
	if shrinking.Propose(lag, threeNodes(), after(time.Hour)) == nil {
		t.Fatal("no proposal")
	}
	if shrinking.HighWatermark() != 10 {
		t.Errorf("high watermark %d before node 3 is known to be out", shrinking.HighWatermark())
	}
	decided(shrinking, 1, 2)
	if shrinking.HighWatermark() != 20 || shrinking.Pending() != nil {
		t.Errorf("high watermark %d, pending %v", shrinking.HighWatermark(), shrinking.Pending())
	}
}

func TestAStrangersFetchIsRefused(t *testing.T) {
	l := threeReplicas(t, 1, 2, 3)
	if err := l.Fetched(9, 1, 10, noon); !errors.Is(err, messages.ErrIneligibleReplica) {
		t.Errorf("got %v", err)
	}
}

// Everything below the high watermark is held by every member of the set that
// the controller has, whatever happens in which order.
func TestEveryInSyncReplicaHasWhatWasAcknowledged(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := NewLeader(1, partition(0, 1, 2, 3), 1+rng.IntN(2), Bounds{}, noon)
		truth := map[messages.NodeID]messages.Offset{1: 0, 2: 0, 3: 0}
		isr := []messages.NodeID{1, 2, 3} // the controller's
		epoch := messages.PartitionEpoch(0)
		now, end := noon, messages.Offset(0)
		for range 200 {
			now = now.Add(time.Duration(rng.Int64N(int64(lag / 3))))
			n := messages.NodeID(2 + rng.IntN(2))
			switch rng.IntN(6) {
			case 0:
				end += messages.Offset(rng.IntN(5))
				truth[1] = end
				l.Appended(end, now)
			case 1, 2:
				truth[n] = min(end, truth[n]+messages.Offset(rng.IntN(8)))
				if err := l.Fetched(n, 1, truth[n], now); err != nil {
					t.Fatal(err)
				}
				if truth[n] == end {
					l.Park(n)
				}
			case 3:
				l.Unpark(n, now)
			case 4:
				l.Propose(lag, threeNodes(), now)
			case 5: // the controller decides, and may be heard of later or never
				if a := l.Pending(); a != nil && a.PartitionEpoch == epoch {
					isr, epoch = proposed(a), epoch+1
				}
				if rng.IntN(2) == 0 && epoch > l.part.PartitionEpoch {
					p := l.part
					p.ISR, p.PartitionEpoch = isr, epoch
					l.SetPartition(&p, now)
				}
			}
			for _, m := range isr {
				if truth[m] < l.HighWatermark() {
					t.Fatalf("seed %d: node %d is in sync with %d records, %d are acknowledged",
						seed, m, truth[m], l.HighWatermark())
				}
			}
		}
	}
}
