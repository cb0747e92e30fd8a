package topics

import (
	"slices"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// offsetsOn is a cluster of nodes 1 to n, and an internal topic of 6 partitions that
// was made when there was only node 1.
func offsetsOn(n messages.NodeID, racks ...string) *State {
	d := &messages.Delta{To: 1, Snapshot: true, Controller: 1}
	for id := messages.NodeID(1); id <= n; id++ {
		node := messages.Node{ID: id, Host: "h", Port: 1, Epoch: messages.NodeEpoch(id),
			Incarnation: "a", Directory: "d"}
		if int(id) <= len(racks) {
			node.Rack = racks[id-1]
		}
		d.Nodes = append(d.Nodes, node)
	}
	one := messages.Partition{Leader: 1, LeaderEpoch: 1, Replicas: nodeIDs{1}, ISR: nodeIDs{1}}
	for i, name := range []string{"__consumer_offsets", "orders"} {
		d.Topics = append(d.Topics, &messages.Topic{ID: messages.TopicID{byte(i + 1)}, Name: name,
			Partitions: slices.Repeat([]messages.Partition{one}, 6)})
	}
	image, _ := messages.NewImage().Apply(d)
	return New(image, 0, Defaults{Partitions: 1, ReplicationFactor: 1})
}

func three(string) int { return 3 }

func TestInternalTopicsGetTheirReplicasWhenNodesJoin(t *testing.T) {
	w := &world{t: t, state: offsetsOn(4)}
	w.repeat(2, func(p *Plan, limit int) int { return p.Widen(limit, three) })
	counts := map[messages.NodeID]int{}
	for _, topic := range w.state.Image().Topics() {
		for i, p := range topic.Partitions {
			want := 1
			if topic.Internal() {
				want = 3
			}
			if len(p.Replicas) != want || len(p.ISR) != want || p.Replicas[0] != 1 {
				t.Errorf("%s-%d has replicas %v, in sync %v, want %d", topic.Name, i, p.Replicas,
					p.ISR, want)
			}
			for _, n := range p.Replicas {
				counts[n]++
			}
		}
	}
	if counts[2] != 4 || counts[3] != 4 || counts[4] != 4 {
		t.Errorf("the new replicas are on %v, want 4 on each new node", counts)
	}
}

func TestInternalTopicsGetNoMoreReplicasThanThereAreNodes(t *testing.T) {
	w := &world{t: t, state: offsetsOn(2)}
	w.repeat(10, func(p *Plan, limit int) int { return p.Widen(limit, three) })
	for _, p := range w.state.Image().Topic("__consumer_offsets").Partitions {
		if !slices.Equal(p.Replicas, nodeIDs{1, 2}) {
			t.Errorf("replicas %v", p.Replicas)
		}
	}
}

func TestReplicasOfInternalTopicsGoToOtherRacks(t *testing.T) {
	w := &world{t: t, state: offsetsOn(4, "a", "a", "a", "b")}
	w.repeat(10, func(p *Plan, limit int) int {
		return p.Widen(limit, func(string) int { return 2 })
	})
	for _, p := range w.state.Image().Topic("__consumer_offsets").Partitions {
		if !slices.Equal(p.Replicas, nodeIDs{1, 4}) {
			t.Errorf("replicas %v, node 4 alone is of another rack", p.Replicas)
		}
	}
}
