package wire

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// ErrMalformed means a wire value breaks the rules of its type: it was written
// by something else, or it was damaged.
var ErrMalformed = errors.New("malformed wire value")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// FromConfig returns the overrides sorted by name.
func FromConfig(c messages.Config) []*ConfigEntry {
	entries := make([]*ConfigEntry, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		entries = append(entries, &ConfigEntry{Name: name, Value: c[name]})
	}
	return entries
}

// ToConfig returns the overrides, nil when there are none. It fails with
// ErrMalformed if a name stands twice.
func ToConfig(entries []*ConfigEntry) (messages.Config, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	c := make(messages.Config, len(entries))
	for _, e := range entries {
		if _, twice := c[e.GetName()]; twice {
			return nil, malformed("setting %q stands twice", e.GetName())
		}
		c[e.GetName()] = e.GetValue()
	}
	return c, nil
}

// FromPartition returns the wire form of a partition's state.
func FromPartition(p *messages.Partition) *PartitionState {
	return &PartitionState{
		Leader:         int32(p.Leader),
		LeaderEpoch:    int32(p.LeaderEpoch),
		PartitionEpoch: int32(p.PartitionEpoch),
		Replicas:       fromNodeIDs(p.Replicas),
		Isr:            fromNodeIDs(p.ISR),
		Elr:            fromNodeIDs(p.ELR),
		Adding:         fromNodeIDs(p.Adding),
		Removing:       fromNodeIDs(p.Removing),
	}
}

// ToPartition returns a partition's state. It fails with ErrMalformed on negative
// node ids or epochs, a node that stands twice, and a node that is in sync, eligible,
// added, removed or leader although it is no replica, or in two sets of which one
// rules the other out.
func ToPartition(w *PartitionState) (messages.Partition, error) {
	p := messages.Partition{
		Leader:         messages.NodeID(w.GetLeader()),
		LeaderEpoch:    messages.LeaderEpoch(w.GetLeaderEpoch()),
		PartitionEpoch: messages.PartitionEpoch(w.GetPartitionEpoch()),
	}
	var err error
	if p.Replicas, err = toNodeIDs("replicas", w.GetReplicas()); err != nil {
		return messages.Partition{}, err
	}
	for _, set := range []struct {
		field string
		from  []int32
		to    *[]messages.NodeID
	}{
		{"isr", w.GetIsr(), &p.ISR}, {"elr", w.GetElr(), &p.ELR},
		{"adding", w.GetAdding(), &p.Adding}, {"removing", w.GetRemoving(), &p.Removing},
	} {
		if *set.to, err = toNodeIDs(set.field, set.from); err != nil {
			return messages.Partition{}, err
		}
		for _, id := range *set.to {
			if !slices.Contains(p.Replicas, id) {
				return messages.Partition{}, malformed("%s has node %d, replicas are %v",
					set.field, id, p.Replicas)
			}
		}
	}
	if p.LeaderEpoch < 0 || p.PartitionEpoch < 0 {
		return messages.Partition{}, malformed("leader epoch %d, partition epoch %d",
			p.LeaderEpoch, p.PartitionEpoch)
	}
	if p.Leader != messages.NoNode && !slices.Contains(p.Replicas, p.Leader) {
		return messages.Partition{}, malformed("leader is %d, replicas are %v", p.Leader, p.Replicas)
	}
	if overlap(p.ISR, p.ELR) || overlap(p.Adding, p.Removing) {
		return messages.Partition{}, malformed("isr %v and elr %v, or adding %v and removing %v overlap",
			p.ISR, p.ELR, p.Adding, p.Removing)
	}
	return p, nil
}

func overlap(a, b []messages.NodeID) bool {
	return slices.ContainsFunc(a, func(n messages.NodeID) bool { return slices.Contains(b, n) })
}

// FromTopic returns the wire form of a whole topic.
func FromTopic(t *messages.Topic) *Topic {
	return &Topic{
		TopicId:    t.ID[:],
		Name:       t.Name,
		Configs:    FromConfig(t.Configs),
		Partitions: fromPartitions(t.Partitions),
	}
}

// ToTopic returns a whole topic. Its errors wrap ErrMalformed and name the topic.
func ToTopic(w *Topic) (*messages.Topic, error) {
	t, err := toTopicHead(w.GetTopicId(), w.GetName(), w.GetConfigs())
	if err != nil {
		return nil, err
	}
	if t.Partitions, err = toPartitions(w.GetPartitions(), 0); err != nil {
		return nil, fmt.Errorf("topic %q: %w", w.GetName(), err)
	}
	return t, nil
}

// toTopicHead makes a topic without its partitions.
func toTopicHead(id []byte, name string, configs []*ConfigEntry) (*messages.Topic, error) {
	if name == "" {
		return nil, malformed("topic without a name")
	}
	t := &messages.Topic{Name: name}
	var err error
	if t.ID, err = toTopicID(id); err != nil {
		return nil, fmt.Errorf("topic %q: %w", name, err)
	}
	if t.ID.IsZero() {
		return nil, fmt.Errorf("topic %q: %w", name, malformed("topic id is zero"))
	}
	if t.Configs, err = ToConfig(configs); err != nil {
		return nil, fmt.Errorf("topic %q: %w", name, err)
	}
	return t, nil
}

func fromPartitions(ps []messages.Partition) []*PartitionState {
	states := make([]*PartitionState, len(ps))
	for i := range ps {
		states[i] = FromPartition(&ps[i])
	}
	return states
}

// toPartitions reads consecutive partitions, the first of which has that number.
func toPartitions(states []*PartitionState, first int) ([]messages.Partition, error) {
	ps := make([]messages.Partition, len(states))
	for i, s := range states {
		var err error
		ps[i], err = ToPartition(s)
		if err == nil && len(ps[i].Replicas) == 0 {
			err = malformed("it has no replicas")
		}
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", first+i, err)
		}
	}
	return ps, nil
}

func toTopicID(b []byte) (messages.TopicID, error) {
	var id messages.TopicID
	if len(b) != len(id) {
		return id, malformed("topic id has %d bytes, not %d", len(b), len(id))
	}
	copy(id[:], b)
	return id, nil
}

// toTopicRefID is toTopicID where no id at all stands for the zero id.
func toTopicRefID(b []byte) (messages.TopicID, error) {
	if len(b) == 0 {
		return messages.TopicID{}, nil
	}
	return toTopicID(b)
}

func fromTopicRefID(id messages.TopicID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

func fromNodeIDs(ids []messages.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

func toNodeIDs(field string, ids []int32) ([]messages.NodeID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	out := make([]messages.NodeID, 0, len(ids))
	for _, id := range ids {
		if id < 0 || slices.Contains(out, messages.NodeID(id)) {
			return nil, malformed("%s: node %d is negative or stands twice in %v", field, id, ids)
		}
		out = append(out, messages.NodeID(id))
	}
	return out, nil
}
