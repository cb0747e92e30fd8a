package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// MoveLeader decides that an in-sync replica leads a partition: whichever an
// operator names. It fails with messages.ErrElectionNotNeeded when it leads
// already, and messages.ErrEligibleLeadersNotAvailable when it is not in sync, or
// may not lead.
func (p *Plan) MoveLeader(m messages.MoveLeader) error {
	t := p.topic(messages.TopicRef{Name: m.Topic, ID: m.ID.Topic})
	old := partition(t, m.ID.Partition)
	if old == nil {
		return fmt.Errorf("partition %d of topic %q: %w", m.ID.Partition, m.Topic,
			messages.ErrUnknownTopicOrPartition)
	}
	if old.Leader == m.To {
		return fmt.Errorf("%s-%d is led by node %d: %w", t.Name, m.ID.Partition, m.To,
			messages.ErrElectionNotNeeded)
	}
	if !slices.Contains(old.ISR, m.To) || !p.mayLead(m.To) {
		return fmt.Errorf("%s-%d: node %d cannot lead, in sync are %v: %w", t.Name, m.ID.Partition,
			m.To, old.ISR, messages.ErrEligibleLeadersNotAvailable)
	}
	c := p.begin(t, old)
	c.next.Leader = m.To
	next, _ := c.settle()
	p.set(t, int(m.ID.Partition), next)
	return nil
}
