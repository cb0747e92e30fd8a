package topics

import (
	"slices"

	"github.com/troupelog/troupe/cluster/placement"
	"github.com/troupelog/troupe/messages"
)

// Balance decides on one small step towards an even cluster and returns how many
// partitions it touched. Replicas go from crowded and draining nodes to usable
// ones, as package placement says, while no more than limit partitions are being
// reassigned; and up to limit partitions get their preferred leader back, which
// costs no copy. Call it again after a while, until it returns 0: nothing is left
// to do, or what is under way must come to its end first.
//
// A partition is left alone while it is being reassigned, has no leader, or has a
// replica on a live node that is not in sync.
func (p *Plan) Balance(limit int) (moved int) {
	return p.move(limit, placement.Balance, func(messages.NodeID) bool { return true })
}

// Drain is Balance for draining nodes alone: what they have goes to others, and all
// else stays where it is, for those who place replicas and leaders themselves.
func (p *Plan) Drain(limit int) (moved int) {
	return p.move(limit, placement.Drain, func(leader messages.NodeID) bool {
		n := p.node(leader)
		return n != nil && n.Draining
	})
}

// move makes the moves that choose says, and takes leaderships from those leaders.
func (p *Plan) move(limit int, choose mover, from func(messages.NodeID) bool) (moved int) {
	topics := p.all()
	var parts []placement.Partition
	var ids []messages.PartitionID
	copies := limit
	for number, t := range topics {
		for i := range t.Partitions {
			part := &t.Partitions[i]
			ids = append(ids, messages.PartitionID{Topic: t.ID, Partition: int32(i)})
			parts = append(parts, placement.Partition{
				Topic: number, Replicas: part.Target(), Pinned: p.busy(part),
			})
			if part.Reassigning() && !p.stalled(part) {
				copies--
			}
		}
	}
	for _, m := range choose(p.nodeSet(), parts, max(copies, 0), limit) {
		if p.Reassign(messages.Reassign{ID: ids[m.Partition], Replicas: m.Replicas}) == nil {
			moved++
		}
	}
	return moved + p.restore(ids, limit, from)
}

// mover chooses moves; package placement has some.
type mover func(
	nodes []messages.Node, parts []placement.Partition, copies, orders int,
) []placement.Move

// restore gives partitions their preferred leaders back, from some leaders.
func (p *Plan) restore(
	ids []messages.PartitionID, limit int, from func(messages.NodeID) bool,
) (moved int) {
	for _, id := range ids {
		if moved == limit {
			break
		}
		part := p.partition(id)
		if part.Leader == messages.NoNode || part.Leader == part.Replicas[0] ||
			part.Reassigning() || !from(part.Leader) {
			continue
		}
		if n := p.node(part.Replicas[0]); n == nil || !n.Usable() {
			continue
		}
		if p.Elect(messages.ElectPreferred, id) == nil {
			moved++
		}
	}
	return moved
}

// busy reports whether a partition is not to be moved now. A replica that
// catches up is waited for: a move may take one that is in sync away.
func (p *Plan) busy(part *messages.Partition) bool {
	return part.Reassigning() || part.Leader == messages.NoNode ||
		slices.ContainsFunc(part.Replicas, func(n messages.NodeID) bool {
			return p.alive(n) && !slices.Contains(part.ISR, n)
		})
}

// stalled reports whether a reassignment waits for a node that is away: it must
// not keep others from being made.
func (p *Plan) stalled(part *messages.Partition) bool {
	return part.Leader == messages.NoNode ||
		slices.ContainsFunc(part.Adding, func(n messages.NodeID) bool { return !p.alive(n) })
}

// partition returns a partition as the plan leaves it, or nil.
func (p *Plan) partition(id messages.PartitionID) *messages.Partition {
	return partition(p.topic(messages.TopicRef{ID: id.Topic}), id.Partition)
}
