package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Reassign decides to move a partition to other replicas: those to add are added
// at once, those to remove are removed when all added ones are in sync, which
// AlterPartition notices. A second target replaces the first. Without replicas it
// takes back a reassignment in progress.
//
// It fails with messages.ErrUnknownTopicOrPartition, with
// ErrInvalidReplicaAssignment for replicas that cannot be, or if taking back
// would leave no one who has all records, and with ErrNoReassignmentInProgress.
func (p *Plan) Reassign(r messages.Reassign) error {
	t := p.topic(messages.TopicRef{Name: r.Topic, ID: r.ID.Topic})
	old := partition(t, r.ID.Partition)
	if old == nil {
		name := r.Topic
		if name == "" {
			name = r.ID.Topic.String()
		}
		return fmt.Errorf("partition %d of topic %s: %w", r.ID.Partition, name,
			messages.ErrUnknownTopicOrPartition)
	}
	c := p.begin(t, old)
	var err error
	switch {
	case r.Replicas == nil:
		err = c.takeBack()
	case len(r.Replicas) == 0:
		err = fmt.Errorf("the list of replicas is empty: %w", messages.ErrInvalidReplicaAssignment)
	default:
		if err = p.checkReplicas(r.Replicas, len(r.Replicas)); err == nil {
			c.aim(r.Replicas)
		}
	}
	if err != nil {
		return fmt.Errorf("%s-%d: %w", t.Name, r.ID.Partition, err)
	}
	if next, changed := c.settle(); changed {
		p.set(t, int(r.ID.Partition), next)
	}
	return nil
}

// aim sets the target of a reassignment. What an earlier one was adding and this
// one does not want goes at once; only what has all records stays until others do.
func (c *change) aim(target []messages.NodeID) {
	n := &c.next
	original := without(n.Replicas, n.Adding...)
	unwanted := without(n.Adding, target...)
	if len(without(n.ISR, unwanted...)) == 0 {
		unwanted = slices.DeleteFunc(unwanted, c.has)
	}
	n.ISR = without(n.ISR, unwanted...)
	n.Replicas = without(n.Replicas, unwanted...)
	n.Adding = without(target, original...)
	n.Removing = without(n.Replicas, target...)
	n.Replicas = append(slices.Clone(target), n.Removing...)
}

// has reports whether a replica has all that was acknowledged.
func (c *change) has(r messages.NodeID) bool {
	return slices.Contains(c.next.ISR, r) || slices.Contains(c.next.ELR, r)
}

// takeBack returns to the replicas of before the reassignment.
func (c *change) takeBack() error {
	n := &c.next
	if !n.Reassigning() {
		return messages.ErrNoReassignmentInProgress
	}
	back := without(n.Replicas, n.Adding...)
	unclean := c.rules.unclean && slices.ContainsFunc(back, c.plan.mayLead)
	if !slices.ContainsFunc(back, c.has) && !unclean {
		return fmt.Errorf("only replicas being added, of %v, have all records: wait until it is "+
			"done: %w", n.Adding, messages.ErrInvalidReplicaAssignment)
	}
	n.ISR = without(n.ISR, n.Adding...)
	n.Replicas, n.Adding, n.Removing = back, nil, nil
	return nil
}
