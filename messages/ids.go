// Package messages holds the words every other package speaks: ids, offsets
// and epochs as types of their own, the sentinel errors, the metadata image,
// and the messages actors exchange inside a node.
//
// It owns no behaviour and no state, and imports nothing of ours. Anything may
// import it. Messages are passed by pointer between goroutines, so a message
// and all it refers to is immutable once sent.
package messages

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// NodeID names a node (Kafka's broker id). It is never negative; NoNode stands
// for "none", as on the wire.
type NodeID int32

// NoNode is the leader of a partition that has none.
const NoNode NodeID = -1

// Offset is the position of a record in a partition, counted from 0.
type Offset int64

// NoOffset stands for "unknown" or "none", as on the wire.
const NoOffset Offset = -1

// LeaderEpoch counts the leaderships of one partition. It never falls.
type LeaderEpoch int32

// NoEpoch means the speaker does not know or does not check the epoch.
const NoEpoch LeaderEpoch = -1

// PartitionEpoch counts the changes of one partition's state (leader or ISR).
type PartitionEpoch int32

// ControllerEpoch counts controllerships of the cluster. Every metadata write
// carries it and is refused once a higher one is known.
type ControllerEpoch int64

// NodeEpoch tells one registration of a node from the next (Kafka's broker epoch,
// KIP-903): the metadata version that took it in. What a node asks under an
// earlier epoch is refused, and a replica is taken into an in-sync set only under
// the epoch it fetched with.
type NodeEpoch int64

// NoNodeEpoch is the epoch of a node that is not registered.
const NoNodeEpoch NodeEpoch = -1

// MetadataVersion counts committed metadata transactions. Deltas apply in order.
type MetadataVersion int64

// ProducerID names an idempotent or transactional producer.
type ProducerID int64

// NoProducerID marks batches of producers that are not idempotent.
const NoProducerID ProducerID = -1

// ProducerEpoch fences earlier lives of one producer id.
type ProducerEpoch int16

// Sequence numbers the records a producer sent to one partition; it wraps from
// 2147483647 to 0.
type Sequence int32

// NoSequence is the base sequence of a batch without one.
const NoSequence Sequence = -1

// Timestamp is milliseconds since the Unix epoch; NoTimestamp means none.
type Timestamp int64

// NoTimestamp stands for "none", as on the wire.
const NoTimestamp Timestamp = -1

// TopicID is a topic's UUID (KIP-516). A re-created topic gets a new one.
type TopicID [16]byte

// ErrBadTopicID means a text is not a topic id.
var ErrBadTopicID = errors.New("topic id is not 22 characters of URL-safe base64")

// String returns the id as Kafka prints it: 22 characters of URL-safe base64.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex returns the id as 32 lower-case hexadecimal digits, for identities and
// file names where '-' and '_' would be ambiguous.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether the id is unset.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// ParseTopicID reads what String wrote.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q: %w", s, ErrBadTopicID)
	}
	copy(id[:], b)
	return id, nil
}

// ParseTopicIDHex reads what Hex wrote.
func ParseTopicIDHex(s string) (TopicID, error) {
	var id TopicID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not a topic id of 32 hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// TopicPartition names a partition as clients do.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns "topic-partition", the name Kafka gives a partition's folder.
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// ParseTopicPartition reads what TopicPartition.String wrote.
func ParseTopicPartition(s string) (TopicPartition, error) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 {
		return TopicPartition{}, fmt.Errorf("%q is not topic-partition", s)
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 31)
	if err != nil {
		return TopicPartition{}, fmt.Errorf("%q is not topic-partition: %w", s, err)
	}
	return TopicPartition{Topic: s[:i], Partition: int32(n)}, nil
}

// PartitionID names a partition of one life of a topic: unlike a name, an id is
// never reused.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

// ReplicaID names one copy of a partition: the identity of a replica actor.
type ReplicaID struct {
	PartitionID
	Node NodeID
}

// Identity returns the replica's actor identity, "<topic id in hex>/<partition>/<node>".
func (r ReplicaID) Identity() string {
	return fmt.Sprintf("%s/%d/%d", r.Topic.Hex(), r.Partition, r.Node)
}

// ParseReplicaIdentity reads what ReplicaID.Identity wrote.
func ParseReplicaIdentity(s string) (ReplicaID, error) {
	var r ReplicaID
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return r, fmt.Errorf("%q is not a replica identity", s)
	}
	id, err := ParseTopicIDHex(parts[0])
	if err != nil {
		return r, fmt.Errorf("replica identity %q: %w", s, err)
	}
	partition, err := strconv.ParseUint(parts[1], 10, 31)
	if err != nil {
		return r, fmt.Errorf("replica identity %q: %w", s, err)
	}
	node, err := strconv.ParseUint(parts[2], 10, 31)
	if err != nil {
		return r, fmt.Errorf("replica identity %q: %w", s, err)
	}
	r.Topic, r.Partition, r.Node = id, int32(partition), NodeID(node)
	return r, nil
}
