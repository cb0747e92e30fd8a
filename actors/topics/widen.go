package topics

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Widen decides to give partitions of internal topics more replicas and returns
// how many it touched: up to copies(topic), or as many as there are nodes to take
// them. An internal topic is made when the first group comes, maybe before the
// second node has joined; what it keeps must not stay on one node because of that.
// No more than limit partitions are being reassigned at a time. Call it again after
// a while, as Balance.
func (p *Plan) Widen(limit int, copies func(topic string) int) (moved int) {
	usable := p.usable()
	counts := map[messages.NodeID]int{} // of replicas of internal topics
	var internal []*messages.Topic
	for _, t := range p.all() {
		if !t.Internal() {
			continue
		}
		internal = append(internal, t)
		for i := range t.Partitions {
			if t.Partitions[i].Reassigning() {
				moved++ // it counts for the limit
			}
			for _, n := range t.Partitions[i].Replicas {
				counts[n]++
			}
		}
	}
	already := moved
	for _, t := range internal {
		want := min(copies(t.Name), len(usable))
		for i := range t.Partitions {
			part := &t.Partitions[i]
			if moved >= limit || len(part.Replicas) >= want || p.busy(part) {
				continue
			}
			replicas := slices.Clone(part.Replicas)
			for len(replicas) < want {
				replicas = append(replicas, leastOf(usable, replicas, counts))
			}
			id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			if p.Reassign(messages.Reassign{ID: id, Replicas: replicas}) == nil {
				moved++
			}
		}
	}
	return moved - already
}

// leastOf returns the usable node with the fewest replicas that has none of this
// partition, of another rack than those that have if there is one, and counts it.
// There is one: the caller wants no more replicas than nodes.
func leastOf(
	usable []messages.Node, replicas []messages.NodeID, counts map[messages.NodeID]int,
) messages.NodeID {
	racks := map[string]bool{}
	for _, n := range usable {
		if slices.Contains(replicas, n.ID) {
			racks[n.Rack] = true
		}
	}
	best := messages.NoNode
	bestRack := false
	for _, n := range usable {
		if slices.Contains(replicas, n.ID) {
			continue
		}
		fresh := !racks[n.Rack]
		if best == messages.NoNode || fresh && !bestRack ||
			fresh == bestRack && counts[n.ID] < counts[best] {
			best, bestRack = n.ID, fresh
		}
	}
	counts[best]++
	return best
}
