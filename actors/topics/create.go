package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/cluster/placement"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/invariant"
)

// CreateTopic decides a new topic with the given id, or says why not.
func (p *Plan) CreateTopic(c messages.CreateTopic, id messages.TopicID) messages.TopicResult {
	r := messages.TopicResult{Name: c.Name, ID: id}
	invariant.That(!id.IsZero(), "topic %q is created without an id", c.Name)
	if r.Err = p.checkName(c.Name); r.Err != nil {
		return r
	}
	assignment, err := p.assignment(c)
	if err != nil {
		r.Err = err
		return r
	}
	if r.Err = configs.CheckTopic(c.Configs); r.Err != nil {
		return r
	}
	t := &messages.Topic{ID: id, Name: c.Name, Configs: configs.CanonicalTopic(c.Configs)}
	for i, replicas := range assignment {
		part, err := p.newPartition(replicas)
		if err != nil {
			r.Err = fmt.Errorf("partition %d: %w", i, err)
			return r
		}
		t.Partitions = append(t.Partitions, part)
	}
	p.put(t)
	p.owned[id] = true
	r.Configs = t.Configs
	r.Partitions = int32(len(t.Partitions))
	r.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	return r
}

// newPartition starts with all live replicas in sync: there is nothing to copy
// yet. It fails with messages.ErrInvalidReplicaAssignment if none may lead.
func (p *Plan) newPartition(replicas []messages.NodeID) (messages.Partition, error) {
	part := messages.Partition{Leader: messages.NoNode, Replicas: replicas}
	for _, n := range replicas {
		if p.mayLead(n) {
			part.ISR = append(part.ISR, n)
		}
	}
	if len(part.ISR) == 0 {
		return part, fmt.Errorf("all of its nodes %v are fenced or leaving: %w",
			replicas, messages.ErrInvalidReplicaAssignment)
	}
	part.Leader = part.ISR[0]
	return part, nil
}

func (p *Plan) assignment(c messages.CreateTopic) ([][]messages.NodeID, error) {
	if c.Assignment != nil {
		return p.manualAssignment(c)
	}
	count, factor := c.Partitions, c.ReplicationFactor
	if count == -1 {
		count = p.state.defaults.Partitions
	}
	if factor == -1 {
		factor = p.state.defaults.ReplicationFactor
	}
	if err := checkCount(count); err != nil {
		return nil, err
	}
	out, err := placement.Assign(p.usable(), int(count), int(factor), p.turn)
	p.turn += int(count)
	return out, err
}

func checkCount(count int32) error {
	if count < 1 || count > MaxPartitions {
		return fmt.Errorf(
			"%d partitions; a topic has 1 to %d: %w",
			count,
			MaxPartitions,
			messages.ErrInvalidPartitions,
		)
	}
	return nil
}

func (p *Plan) manualAssignment(c messages.CreateTopic) ([][]messages.NodeID, error) {
	if c.Partitions != -1 || c.ReplicationFactor != -1 {
		return nil, fmt.Errorf("with a manual assignment the partition count and the replication factor "+
			"must both be -1: %w", messages.ErrInvalidRequest)
	}
	if len(c.Assignment) == 0 || len(c.Assignment) > MaxPartitions {
		return nil, checkCount(int32(len(c.Assignment)))
	}
	out := make([][]messages.NodeID, len(c.Assignment))
	for i := range out {
		replicas, ok := c.Assignment[int32(i)]
		if !ok {
			return nil, fmt.Errorf(
				"the assignment leaves out partition %d: %w",
				i,
				messages.ErrInvalidReplicaAssignment,
			)
		}
		if err := p.checkReplicas(replicas, len(c.Assignment[0])); err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
		out[i] = slices.Clone(replicas)
	}
	return out, nil
}

func (p *Plan) checkReplicas(replicas []messages.NodeID, factor int) error {
	if len(replicas) == 0 || len(replicas) != factor {
		return fmt.Errorf("%d replicas where %d are expected: %w",
			len(replicas), factor, messages.ErrInvalidReplicaAssignment)
	}
	for i, n := range replicas {
		if p.node(n) == nil {
			return fmt.Errorf("there is no node %d: %w", n, messages.ErrInvalidReplicaAssignment)
		}
		if slices.Contains(replicas[:i], n) {
			return fmt.Errorf("node %d stands twice: %w", n, messages.ErrInvalidReplicaAssignment)
		}
	}
	return nil
}

// DeleteTopic decides to remove a topic, named or by id.
func (p *Plan) DeleteTopic(ref messages.TopicRef) messages.TopicResult {
	r := messages.TopicResult{Name: ref.Name, ID: ref.ID}
	t := p.topic(ref)
	switch {
	case !p.state.defaults.DeleteTopics:
		r.Err = fmt.Errorf("delete.topic.enable is false: %w", messages.ErrTopicDeletionDisabled)
	case t == nil && ref.Name == "":
		r.Err = fmt.Errorf("topic id %s: %w", ref.ID, messages.ErrUnknownTopicID)
	case t == nil:
		r.Err = fmt.Errorf("topic %q: %w", ref.Name, messages.ErrUnknownTopicOrPartition)
	default:
		r.Name, r.ID = t.Name, t.ID
		delete(p.topics, t.ID)
		p.names[t.Name] = nil
		p.folded[fold(t.Name)] = ""
		p.removed = append(p.removed, t.ID)
	}
	return r
}

// CreatePartitions decides to grow a topic.
func (p *Plan) CreatePartitions(c messages.CreatePartitions) messages.TopicResult {
	r := messages.TopicResult{Name: c.Topic}
	t := p.topic(messages.TopicRef{Name: c.Topic})
	if t == nil {
		r.Err = fmt.Errorf("topic %q: %w", c.Topic, messages.ErrUnknownTopicOrPartition)
		return r
	}
	r.ID = t.ID
	have := len(t.Partitions)
	added := int(c.Count) - have
	if added <= 0 {
		r.Err = fmt.Errorf("topic %q has %d partitions, which %d would not raise: %w",
			c.Topic, have, c.Count, messages.ErrInvalidPartitions)
		return r
	}
	if r.Err = checkCount(c.Count); r.Err != nil {
		return r
	}
	factor := len(t.Partitions[0].Target())
	assignment := c.Assignment
	if assignment == nil {
		assignment, r.Err = placement.Assign(p.usable(), added, factor, p.turn)
		p.turn += added
	} else if len(assignment) != added {
		r.Err = fmt.Errorf("%d assignments for %d new partitions: %w",
			len(assignment), added, messages.ErrInvalidReplicaAssignment)
	}
	grown := *t
	grown.Partitions = slices.Clone(t.Partitions)
	for i := 0; i < len(assignment) && r.Err == nil; i++ {
		if r.Err = p.checkReplicas(assignment[i], factor); r.Err != nil {
			break
		}
		var part messages.Partition
		if part, r.Err = p.newPartition(slices.Clone(assignment[i])); r.Err == nil {
			grown.Partitions = append(grown.Partitions, part)
		}
	}
	if r.Err == nil {
		p.put(&grown)
		p.owned[grown.ID] = true
	}
	r.Partitions, r.ReplicationFactor = int32(len(grown.Partitions)), int16(factor)
	return r
}
