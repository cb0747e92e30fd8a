package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func nodes(racks ...string) []messages.Node {
	out := make([]messages.Node, len(racks))
	for i, r := range racks {
		out[i] = messages.Node{ID: messages.NodeID(i + 1), Rack: r}
	}
	return out
}

func TestMoreReplicasThanNodesAreRefused(t *testing.T) {
	for _, factor := range []int{0, -1, 4} {
		if _, err := Assign(nodes("", "", ""), 1, factor, 0); !errors.Is(
			err,
			messages.ErrInvalidReplicationFactor,
		) {
			t.Errorf("factor %d: got %v", factor, err)
		}
	}
}

func TestAssignmentsAreEvenDistinctAndSpreadOverRacks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 300 {
		n := 1 + rng.IntN(9)
		racks := make([]string, n)
		for i := range racks {
			racks[i] = fmt.Sprintf("r%d", i%(1+rng.IntN(3)))
		}
		members := nodes(racks...)
		factor, count := 1+rng.IntN(n), 1+rng.IntN(60)
		got, err := Assign(members, count, factor, rng.IntN(100))
		if err != nil {
			t.Fatal(err)
		}
		leaders := map[messages.NodeID]int{}
		for p, replicas := range got {
			leaders[replicas[0]]++
			seen, rackSeen := map[messages.NodeID]bool{}, map[string]bool{}
			for _, r := range replicas {
				seen[r] = true
				rackSeen[members[r-1].Rack] = true
			}
			if len(replicas) != factor || len(seen) != factor {
				t.Fatalf("partition %d has replicas %v, want %d distinct", p, replicas, factor)
			}
			if want := min(factor, rackCount(members)); len(rackSeen) < want {
				t.Fatalf("partition %d is on %d racks of %v, want %d", p, len(rackSeen), members, want)
			}
		}
		low, high := count, 0
		for _, m := range members {
			low, high = min(low, leaders[m.ID]), max(high, leaders[m.ID])
		}
		if high-low > 1 {
			t.Fatalf("leaders are uneven: %v", leaders)
		}
	}
}

func TestSameInputGivesTheSameAssignment(t *testing.T) {
	a, _ := Assign(nodes("a", "b", "a", "b"), 12, 3, 5)
	b, _ := Assign(nodes("a", "b", "a", "b"), 12, 3, 5)
	if !slices.EqualFunc(a, b, slices.Equal) {
		t.Fatalf("%v and %v", a, b)
	}
}
