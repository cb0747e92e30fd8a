package wire

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// Entry is one registry record: to be written, or to be deleted when Value is
// nil. No record of this package is empty, so nil is not ambiguous.
type Entry struct {
	Key   string
	Value []byte
}

// marshal encodes a record. Equal records have equal bytes, so that a write can
// be left out when nothing changed.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	invariant.That(err == nil, "registry record does not encode: %v", err)
	return b
}

// ClusterEntry returns the record that names the cluster.
func ClusterEntry(clusterID string, featureLevel uint32) Entry {
	invariant.That(clusterID != "", "cluster without an id")
	r := &ClusterRecord{ClusterId: clusterID, FeatureLevel: featureLevel}
	return Entry{KeyCluster, marshal(r)}
}

// ProducerIDsEntry returns the record of the last block of producer ids given
// away: count ids from first on.
func ProducerIDsEntry(first messages.ProducerID, count int32) Entry {
	invariant.That(first >= 0 && count > 0, "block of %d producer ids from %d", count, first)
	return Entry{KeyProducerIDs, marshal(&ProducerIdBlock{FirstId: int64(first), Count: count})}
}

// NodeEntry returns a member's record. A node advertises a host, so the record
// is never empty.
func NodeEntry(n messages.Node) Entry {
	invariant.That(n.Host != "" && n.ID >= 0, "node %d advertises no host", n.ID)
	return Entry{NodeKey(n.ID), marshal(FromNode(n))}
}

// NodeConfigEntry returns the record of a node's overrides; NoNode stands for the
// defaults of the whole cluster. Without overrides the record is deleted.
func NodeConfigEntry(id messages.NodeID, c messages.Config) Entry {
	if len(c) == 0 {
		return Entry{Key: ConfigKey(id)}
	}
	return Entry{ConfigKey(id), marshal(&ConfigRecord{NodeId: int32(id), Configs: FromConfig(c)})}
}

// TopicEntries returns the records that take the registry from one state of a
// topic to another: only those that differ, and deletions of those that are no
// longer needed. Either may be nil, for a topic that is created or deleted.
func TopicEntries(before, after *messages.Topic) []Entry {
	invariant.That(before == nil || after == nil || before.ID == after.ID,
		"two topics are not two states of one")
	old, entries := topicRecords(before), topicRecords(after)
	kept := func(e Entry) bool {
		return slices.ContainsFunc(old, func(o Entry) bool {
			return o.Key == e.Key && bytes.Equal(o.Value, e.Value)
		})
	}
	gone := func(o Entry) bool {
		return !slices.ContainsFunc(entries, func(e Entry) bool { return e.Key == o.Key })
	}
	var deletions []Entry
	for _, o := range old {
		if gone(o) {
			deletions = append(deletions, Entry{Key: o.Key})
		}
	}
	return append(slices.DeleteFunc(entries, kept), deletions...)
}

// topicRecords returns all records of a topic; none for nil.
func topicRecords(t *messages.Topic) []Entry {
	if t == nil {
		return nil
	}
	entries := []Entry{{TopicKey(t.ID), marshal(&TopicRecord{
		TopicId:        t.ID[:],
		Name:           t.Name,
		Configs:        FromConfig(t.Configs),
		PartitionCount: int32(len(t.Partitions)),
	})}}
	first := 0
	for ps := range slices.Chunk(t.Partitions, PartitionsPerChunk) {
		entries = append(entries, Entry{
			Key: PartitionsKey(t.ID, int32(first/PartitionsPerChunk)),
			Value: marshal(&PartitionChunk{
				TopicId:        t.ID[:],
				FirstPartition: int32(first),
				Partitions:     fromPartitions(ps),
			}),
		})
		first += len(ps)
	}
	return entries
}

func unmarshal(value []byte, m proto.Message) error {
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
