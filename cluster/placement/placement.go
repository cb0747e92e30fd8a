// Package placement decides which nodes hold the replicas of new partitions.
//
// It is pure: the same members and the same start give the same assignment. The
// controller's state machine calls it; nothing else needs to.
package placement

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Assign places the replicas of count new partitions on nodes, the preferred
// leader of each first. Leaders and followers spread evenly over nodes, and the
// replicas of a partition over racks as far as the racks allow (KIP-36). start
// turns the wheel, so that many small topics do not all begin on one node; any
// value is fine.
//
// It fails with messages.ErrInvalidReplicationFactor when there are fewer nodes
// than replicas asked for, or none are asked for.
func Assign(nodes []messages.Node, count int, factor int, start int) ([][]messages.NodeID, error) {
	if factor < 1 {
		return nil, fmt.Errorf("replication factor %d is less than 1: %w",
			factor, messages.ErrInvalidReplicationFactor)
	}
	if factor > len(nodes) {
		return nil, fmt.Errorf("replication factor %d is more than the %d live nodes: %w",
			factor, len(nodes), messages.ErrInvalidReplicationFactor)
	}
	ring := alternateRacks(nodes)
	out := make([][]messages.NodeID, count)
	for p := range out {
		first := mod(start+p, len(ring))
		// Each turn of the wheel shifts the followers by one more, or the same
		// pairs of nodes would share all their partitions.
		shift := mod((start+p)/len(ring), len(ring))
		out[p] = pick(ring, first, shift, factor)
	}
	return out, nil
}

// pick takes the leader at first and then followers behind it, skipping racks
// that have a replica until every rack has one.
func pick(ring []messages.Node, first, shift, factor int) []messages.NodeID {
	chosen := []messages.NodeID{ring[first].ID}
	racks := map[string]bool{ring[first].Rack: true}
	total := rackCount(ring)
	for pass := 0; len(chosen) < factor && pass < 2; pass++ {
		for i := 0; i < len(ring)-1 && len(chosen) < factor; i++ {
			n := ring[mod(first+1+mod(i+shift, len(ring)-1), len(ring))]
			fresh := !racks[n.Rack] || len(racks) == total || pass == 1
			if fresh && !slices.Contains(chosen, n.ID) {
				chosen = append(chosen, n.ID)
				racks[n.Rack] = true
			}
		}
	}
	return chosen
}

// alternateRacks orders the nodes so that neighbours are in different racks
// where that can be: the first of each rack, then the second of each, and so on.
func alternateRacks(nodes []messages.Node) []messages.Node {
	byID := slices.Clone(nodes)
	slices.SortFunc(byID, func(a, b messages.Node) int { return int(a.ID) - int(b.ID) })
	var order []string
	queues := map[string][]messages.Node{}
	for _, n := range byID {
		if _, ok := queues[n.Rack]; !ok {
			order = append(order, n.Rack)
		}
		queues[n.Rack] = append(queues[n.Rack], n)
	}
	slices.Sort(order)
	ring := make([]messages.Node, 0, len(nodes))
	for len(ring) < len(nodes) {
		for _, rack := range order {
			if q := queues[rack]; len(q) > 0 {
				ring = append(ring, q[0])
				queues[rack] = q[1:]
			}
		}
	}
	return ring
}

func rackCount(nodes []messages.Node) int {
	racks := map[string]bool{}
	for _, n := range nodes {
		racks[n.Rack] = true
	}
	return len(racks)
}

func mod(a, n int) int {
	if n == 0 {
		return 0
	}
	return ((a % n) + n) % n
}
