package wire

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// FromCreateTopics returns the command that creates topics with these ids.
func FromCreateTopics(topics []messages.CreateTopic, ids []messages.TopicID) *CreateTopics {
	w := &CreateTopics{}
	for i := range topics {
		w.Topics = append(w.Topics, fromCreateTopic(&topics[i], ids[i][:]))
	}
	return w
}

// ToCreateTopics reads what FromCreateTopics wrote. Whether the topics can be
// created is the controller's to say.
func ToCreateTopics(w *CreateTopics) ([]messages.CreateTopic, []messages.TopicID, error) {
	topics := make([]messages.CreateTopic, len(w.GetTopics()))
	ids := make([]messages.TopicID, len(topics))
	for i, wt := range w.GetTopics() {
		t, err := toCreateTopic(wt)
		if err != nil {
			return nil, nil, err
		}
		if ids[i], err = toTopicID(wt.GetTopicId()); err == nil && ids[i].IsZero() {
			err = malformed("topic id is zero")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("topic %q: %w", wt.GetName(), err)
		}
		topics[i] = t
	}
	return topics, ids, nil
}

// FromDeleteTopics returns the command that deletes topics.
func FromDeleteTopics(topics []messages.TopicRef) *DeleteTopics {
	w := &DeleteTopics{}
	for _, t := range topics {
		w.Topics = append(w.Topics, &TopicRef{Name: t.Name, TopicId: fromTopicRefID(t.ID)})
	}
	return w
}

// ToDeleteTopics reads what FromDeleteTopics wrote.
func ToDeleteTopics(w *DeleteTopics) ([]messages.TopicRef, error) {
	refs := make([]messages.TopicRef, len(w.GetTopics()))
	for i, wt := range w.GetTopics() {
		id, err := toTopicRefID(wt.GetTopicId())
		if err != nil {
			return nil, fmt.Errorf("topic %q: %w", wt.GetName(), err)
		}
		refs[i] = messages.TopicRef{Name: wt.GetName(), ID: id}
	}
	return refs, nil
}

// FromCreatePartitions returns the command that grows topics.
func FromCreatePartitions(topics []messages.CreatePartitions) *CreatePartitions {
	w := &CreatePartitions{}
	for _, t := range topics {
		g := &TopicGrowth{Name: t.Topic, Count: t.Count}
		for i, replicas := range t.Assignment {
			g.Assignment = append(g.Assignment,
				&ReplicaAssignment{Partition: int32(i), NodeIds: fromNodeIDs(replicas)})
		}
		w.Topics = append(w.Topics, g)
	}
	return w
}

// ToCreatePartitions reads what FromCreatePartitions wrote.
func ToCreatePartitions(w *CreatePartitions) ([]messages.CreatePartitions, error) {
	topics := make([]messages.CreatePartitions, len(w.GetTopics()))
	for i, g := range w.GetTopics() {
		topics[i] = messages.CreatePartitions{Topic: g.GetName(), Count: g.GetCount()}
		for n, a := range g.GetAssignment() {
			if int(a.GetPartition()) != n {
				return nil, fmt.Errorf("topic %q: %w", g.GetName(),
					malformed("new partition %d stands at place %d", a.GetPartition(), n))
			}
			topics[i].Assignment = append(topics[i].Assignment, rawNodeIDs(a.GetNodeIds()))
		}
	}
	return topics, nil
}

// FromAlterConfigs returns the command that changes configurations.
func FromAlterConfigs(reqs []messages.AlterConfigs) *AlterConfigs {
	w := &AlterConfigs{}
	for _, r := range reqs {
		c := &ResourceChange{
			Type:    ConfigResourceType(r.Resource.Type),
			Name:    r.Resource.Name,
			Replace: r.Replace,
		}
		for _, ch := range r.Changes {
			c.Changes = append(c.Changes,
				&ConfigChange{Name: ch.Key, Op: ConfigOp(ch.Op) + ConfigOp_CONFIG_OP_SET, Value: ch.Value})
		}
		w.Resources = append(w.Resources, c)
	}
	return w
}

// ToAlterConfigs reads what FromAlterConfigs wrote. It fails with ErrMalformed on
// a resource type or an operation this version does not know.
func ToAlterConfigs(w *AlterConfigs) ([]messages.AlterConfigs, error) {
	reqs := make([]messages.AlterConfigs, len(w.GetResources()))
	for i, c := range w.GetResources() {
		switch c.GetType() {
		case ConfigResourceType_CONFIG_RESOURCE_TYPE_TOPIC,
			ConfigResourceType_CONFIG_RESOURCE_TYPE_BROKER:
		default:
			return nil, malformed("configuration of resource type %d", c.GetType())
		}
		reqs[i] = messages.AlterConfigs{
			Resource: messages.ConfigResource{
				Type: messages.ConfigResourceType(c.GetType()),
				Name: c.GetName(),
			},
			Replace: c.GetReplace(),
		}
		for _, ch := range c.GetChanges() {
			op := ch.GetOp()
			if op < ConfigOp_CONFIG_OP_SET || op > ConfigOp_CONFIG_OP_SUBTRACT {
				return nil, malformed("operation %d on setting %q", op, ch.GetName())
			}
			reqs[i].Changes = append(reqs[i].Changes, messages.ConfigChange{
				Key:   ch.GetName(),
				Op:    messages.ConfigOp(op - ConfigOp_CONFIG_OP_SET),
				Value: ch.GetValue(),
			})
		}
	}
	return reqs, nil
}

// FromTopicResults returns the outcome of an operation on topics.
func FromTopicResults(results []messages.TopicResult) *TopicResults {
	w := &TopicResults{}
	for _, r := range results {
		t := &TopicResult{
			Name:              r.Name,
			TopicId:           fromTopicRefID(r.ID),
			Partitions:        r.Partitions,
			ReplicationFactor: int32(r.ReplicationFactor),
			Configs:           FromConfig(r.Configs),
			HasConfigs:        r.Configs != nil,
		}
		if r.Err != nil {
			t.Error = FromError(r.Err)
		}
		w.Topics = append(w.Topics, t)
	}
	return w
}

// ToTopicResults reads what FromTopicResults wrote.
func ToTopicResults(w *TopicResults) ([]messages.TopicResult, error) {
	results := make([]messages.TopicResult, len(w.GetTopics()))
	for i, t := range w.GetTopics() {
		r := messages.TopicResult{
			Name:       t.GetName(),
			Partitions: t.GetPartitions(),
			Err:        ToError(t.GetError()),
		}
		var err error
		if r.ID, err = toTopicRefID(t.GetTopicId()); err != nil {
			return nil, fmt.Errorf("topic %q: %w", t.GetName(), err)
		}
		if r.ReplicationFactor, err = toReplicationFactor(t.GetReplicationFactor()); err != nil {
			return nil, fmt.Errorf("topic %q: %w", t.GetName(), err)
		}
		if r.Configs, err = ToConfig(t.GetConfigs()); err != nil {
			return nil, fmt.Errorf("topic %q: %w", t.GetName(), err)
		}
		if r.Configs == nil && t.GetHasConfigs() {
			r.Configs = messages.Config{}
		}
		results[i] = r
	}
	return results, nil
}

// FromErrors returns one outcome for each item, in order; nil means it worked.
func FromErrors(errs []error) *ErrorList {
	w := &ErrorList{}
	for _, err := range errs {
		w.Errors = append(w.Errors, FromError(err))
	}
	return w
}

// ToErrors reads what FromErrors wrote.
func ToErrors(w *ErrorList) []error {
	errs := make([]error, len(w.GetErrors()))
	for i, e := range w.GetErrors() {
		errs[i] = ToError(e)
	}
	return errs
}

func fromAssignment(m map[int32][]messages.NodeID) []*ReplicaAssignment {
	var out []*ReplicaAssignment
	for _, p := range slices.Sorted(maps.Keys(m)) {
		out = append(out, &ReplicaAssignment{Partition: p, NodeIds: fromNodeIDs(m[p])})
	}
	return out
}

func toAssignment(ws []*ReplicaAssignment) (map[int32][]messages.NodeID, error) {
	if len(ws) == 0 {
		return nil, nil
	}
	m := make(map[int32][]messages.NodeID, len(ws))
	for _, a := range ws {
		if _, twice := m[a.GetPartition()]; twice {
			return nil, malformed("partition %d is assigned twice", a.GetPartition())
		}
		m[a.GetPartition()] = rawNodeIDs(a.GetNodeIds())
	}
	return m, nil
}

// rawNodeIDs keeps even ids that cannot be: a client asked for them, and the
// controller refuses them with an error of the right kind.
func rawNodeIDs(ids []int32) []messages.NodeID {
	out := make([]messages.NodeID, len(ids))
	for i, id := range ids {
		out[i] = messages.NodeID(id)
	}
	return out
}

func toReplicationFactor(n int32) (int16, error) {
	if n < math.MinInt16 || n > math.MaxInt16 {
		return 0, malformed("replication factor %d", n)
	}
	return int16(n), nil
}
