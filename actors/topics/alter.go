package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// AlterPartition decides on the in-sync set that the leader `from` proposes.
//
// It refuses with messages.ErrUnknownTopicID or ErrUnknownTopicOrPartition;
// ErrNotController when the proposal is based on a newer state than this one;
// ErrFencedLeaderEpoch under an older leadership; ErrInvalidRequest from a node
// that does not lead, and for sets without the leader, with strangers or with a
// node twice; ErrInvalidUpdateVersion when the partition changed meanwhile; and
// ErrIneligibleReplica for nodes that are fenced, leaving, or registered again
// since they fetched (KIP-903). ErrNewLeaderElected comes with an accepted
// proposal: it completed a reassignment that takes the leader away.
func (p *Plan) AlterPartition(
	from messages.NodeID, a messages.AlterPartition,
) (r messages.AlterPartitionResult) {
	t := p.topic(messages.TopicRef{ID: a.ID.Topic})
	old := partition(t, a.ID.Partition)
	switch {
	case t == nil:
		r.Err = fmt.Errorf("topic id %s: %w", a.ID.Topic, messages.ErrUnknownTopicID)
		return r
	case old == nil:
		r.Err = fmt.Errorf("%s-%d: %w", t.Name, a.ID.Partition,
			messages.ErrUnknownTopicOrPartition)
		return r
	}
	r.Partition = *old
	if err := p.checkProposal(from, &a, old); err != nil {
		r.Err = fmt.Errorf("%s-%d: %w", t.Name, a.ID.Partition, err)
		return r
	}
	c := p.begin(t, old)
	c.next.ISR = nil
	for _, m := range a.ISR {
		c.next.ISR = append(c.next.ISR, m.Node)
	}
	next, changed := c.settle()
	if changed {
		p.set(t, int(a.ID.Partition), next)
	}
	r.Partition = next
	if next.Leader != from {
		r.Err = fmt.Errorf("%s-%d is led by node %d now: %w",
			t.Name, a.ID.Partition, next.Leader, messages.ErrNewLeaderElected)
	}
	return r
}

// checkProposal checks in Kafka's order.
func (p *Plan) checkProposal(
	from messages.NodeID, a *messages.AlterPartition, now *messages.Partition,
) error {
	switch {
	case a.LeaderEpoch > now.LeaderEpoch || a.PartitionEpoch > now.PartitionEpoch:
		return fmt.Errorf("leader epoch %d and partition epoch %d are ahead of %d and %d: %w",
			a.LeaderEpoch, a.PartitionEpoch, now.LeaderEpoch, now.PartitionEpoch,
			messages.ErrNotController)
	case a.LeaderEpoch < now.LeaderEpoch:
		return fmt.Errorf("leader epoch %d, now is %d: %w",
			a.LeaderEpoch, now.LeaderEpoch, messages.ErrFencedLeaderEpoch)
	case from != now.Leader:
		return fmt.Errorf("node %d proposes, node %d leads: %w",
			from, now.Leader, messages.ErrInvalidRequest)
	case a.PartitionEpoch < now.PartitionEpoch:
		return fmt.Errorf("partition epoch %d, now is %d: %w",
			a.PartitionEpoch, now.PartitionEpoch, messages.ErrInvalidUpdateVersion)
	}
	led := false
	for i, m := range a.ISR {
		led = led || m.Node == from
		twice := slices.ContainsFunc(a.ISR[:i], func(o messages.ISRMember) bool {
			return o.Node == m.Node
		})
		if twice || !slices.Contains(now.Replicas, m.Node) {
			return fmt.Errorf("node %d stands twice or is none of the replicas %v: %w",
				m.Node, now.Replicas, messages.ErrInvalidRequest)
		}
	}
	if !led {
		return fmt.Errorf("the leader %d is missing in the in-sync set: %w",
			from, messages.ErrInvalidRequest)
	}
	return p.checkMembers(from, a.ISR)
}

// checkMembers refuses nodes that may not be in an in-sync set. The leader may
// be about to leave: others must be able to catch up with it and take over.
func (p *Plan) checkMembers(leader messages.NodeID, isr []messages.ISRMember) error {
	for _, m := range isr {
		n := p.node(m.Node)
		why := ""
		switch {
		case n == nil:
			why = "is not registered"
		case n.Fenced:
			why = "is fenced"
		case n.Leaving && m.Node != leader:
			why = "is leaving"
		case m.Epoch != messages.NoNodeEpoch && m.Epoch != n.Epoch:
			why = fmt.Sprintf("fetched under epoch %d and has epoch %d now", m.Epoch, n.Epoch)
		}
		if why != "" {
			return fmt.Errorf("node %d %s: %w", m.Node, why, messages.ErrIneligibleReplica)
		}
	}
	return nil
}
