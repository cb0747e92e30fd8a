package topics

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// RegisterNode decides that a node, with this process as its new incarnation, is
// alive. It leads again what it led before, under a new leader epoch: what the
// earlier life had not made durable may be gone, and clients that read it must
// be able to tell (KIP-320). Leaderless partitions that it is in sync with get
// it as their leader.
func (p *Plan) RegisterNode(n messages.Node) {
	nodes := slices.DeleteFunc(
		slices.Clone(p.aliveNodes()),
		func(o messages.Node) bool { return o.ID == n.ID },
	)
	nodes = append(nodes, n)
	slices.SortFunc(nodes, func(a, b messages.Node) int { return int(a.ID) - int(b.ID) })
	p.nodes = nodes
	for _, t := range p.state.image.Topics() {
		next := *t
		next.Partitions = slices.Clone(t.Partitions)
		changed := false
		for i := range next.Partitions {
			part := &next.Partitions[i]
			leads := part.Leader == n.ID
			canLead := part.Leader == messages.NoNode && slices.Contains(part.ISR, n.ID)
			if leads || canLead {
				part.Leader = n.ID
				part.LeaderEpoch++
				part.PartitionEpoch++
				changed = true
			}
		}
		if changed {
			p.put(&next)
		}
	}
}

func (p *Plan) aliveNodes() []messages.Node {
	if p.nodes != nil {
		return p.nodes
	}
	return p.state.image.Nodes
}

// ReserveProducerIDs decides to hand the next block of producer ids to a node
// and returns its first; the block has ProducerIDBlock ids.
func (p *Plan) ReserveProducerIDs() messages.ProducerID {
	first := p.nextID
	p.nextID += ProducerIDBlock
	return first
}
