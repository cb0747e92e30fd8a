package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// elect finds the leader of c.next: the present one as long as it may lead, then
// the in-sync replicas in their order, the preferred one first; one that is about
// to leave only if no other is there. Then come the eligible replicas (KIP-966),
// which have all that was acknowledged, and last, at the price of records and
// only if the topic allows it, any live replica.
func (c *change) elect() {
	n := &c.next
	inSync := func(fit func(messages.NodeID) bool) func(messages.NodeID) bool {
		return func(r messages.NodeID) bool { return slices.Contains(n.ISR, r) && fit(r) }
	}
	fit, alive := inSync(c.plan.mayLead), inSync(c.plan.alive)
	first := n.Replicas[0]
	switch {
	case c.preferred && fit(first):
		n.Leader = first
	case fit(n.Leader):
	case slices.ContainsFunc(n.Replicas, fit):
		n.Leader = n.Replicas[slices.IndexFunc(n.Replicas, fit)]
	case alive(n.Leader):
	case slices.ContainsFunc(n.Replicas, alive):
		n.Leader = n.Replicas[slices.IndexFunc(n.Replicas, alive)]
	default:
		c.electOutside()
	}
}

// electOutside elects a replica that is not in sync, or none.
func (c *change) electOutside() {
	n := &c.next
	n.Leader = messages.NoNode
	for _, r := range n.Replicas {
		if slices.Contains(n.ELR, r) && c.plan.mayLead(r) {
			n.Leader, n.ELR, n.ISR = r, with(n.ISR, n.ELR), []messages.NodeID{r}
			c.cutELR()
			return
		}
	}
	if !c.rules.unclean {
		return
	}
	// Replicas that are being added may have nothing yet: they come last.
	for _, r := range with(without(n.Replicas, n.Adding...), n.Replicas) {
		if c.plan.mayLead(r) {
			// What the new leader lacks is lost, and no one else may bring it back.
			n.Leader, n.ELR, n.ISR = r, nil, []messages.NodeID{r}
			return
		}
	}
}

// Elect decides an election an operator asks for. ElectPreferred makes the first
// replica the leader: messages.ErrElectionNotNeeded when it leads already,
// messages.ErrPreferredLeaderNotAvailable when it is not in sync and live.
// ElectUnclean gives a leaderless partition any live replica as leader, eligible
// ones first and those being added last: messages.ErrElectionNotNeeded when it has a leader,
// messages.ErrEligibleLeadersNotAvailable when no replica lives.
func (p *Plan) Elect(kind messages.ElectionType, id messages.PartitionID) error {
	t := p.topic(messages.TopicRef{ID: id.Topic})
	old := partition(t, id.Partition)
	if old == nil {
		return fmt.Errorf("partition %d of topic id %s: %w", id.Partition, id.Topic,
			messages.ErrUnknownTopicOrPartition)
	}
	c := p.begin(t, old)
	unavailable := messages.ErrPreferredLeaderNotAvailable
	switch kind {
	case messages.ElectPreferred:
		c.preferred = true
		if old.Leader == old.Replicas[0] {
			return fmt.Errorf("%s-%d is led by its preferred leader %d: %w",
				t.Name, id.Partition, old.Leader, messages.ErrElectionNotNeeded)
		}
	case messages.ElectUnclean:
		c.rules.unclean = true
		unavailable = messages.ErrEligibleLeadersNotAvailable
		if old.Leader != messages.NoNode {
			return fmt.Errorf("%s-%d is led by node %d: %w",
				t.Name, id.Partition, old.Leader, messages.ErrElectionNotNeeded)
		}
	default:
		return fmt.Errorf("election type %d: %w", kind, messages.ErrInvalidRequest)
	}
	next, _ := c.settle()
	if next.Leader == old.Leader {
		return fmt.Errorf("%s-%d: replicas are %v, in sync are %v: %w",
			t.Name, id.Partition, old.Replicas, old.ISR, unavailable)
	}
	p.set(t, int(id.Partition), next)
	return nil
}

// partition returns a partition of a topic, or nil if either is not there.
func partition(t *messages.Topic, index int32) *messages.Partition {
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return nil
	}
	return &t.Partitions[index]
}
