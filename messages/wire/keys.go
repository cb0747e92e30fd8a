package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// PartitionsPerChunk is how many partitions share one registry record. A chunk
// with five replicas each stays far below the 512 KiB a registry value may have.
const PartitionsPerChunk = 256

// Keys of the records that exist once.
const (
	KeyCluster     = "cluster"      // ClusterRecord
	KeyProducerIDs = "producer-ids" // ProducerIdBlock: the last block given away
)

// ErrBadKey means a registry key is none of those this package makes.
var ErrBadKey = errors.New("unknown registry key")

// KeyKind says which record a key holds.
type KeyKind int8

// The kinds of keys.
const (
	KindCluster     KeyKind = iota + 1 // "cluster"
	KindProducerIDs                    // "producer-ids"
	KindTopic                          // "topics/<topic id in hex>"
	KindPartitions                     // "partitions/<topic id in hex>/<chunk>"
	KindNode                           // "nodes/<node id>"
	KindConfig                         // "configs/<node id>" or "configs/default"
)

// Key is a parsed registry key. Which fields mean something depends on Kind.
type Key struct {
	Kind  KeyKind
	Topic messages.TopicID // KindTopic, KindPartitions
	Chunk int32            // KindPartitions: counted from 0
	Node  messages.NodeID  // KindNode, KindConfig; NoNode for "configs/default"
}

const defaultConfigs = "default"

// TopicKey returns the key of a topic's TopicRecord.
func TopicKey(id messages.TopicID) string { return "topics/" + id.Hex() }

// PartitionsKey returns the key of the PartitionChunk of that number, which
// starts with partition chunk*PartitionsPerChunk.
func PartitionsKey(id messages.TopicID, chunk int32) string {
	return "partitions/" + id.Hex() + "/" + strconv.Itoa(int(chunk))
}

// NodeKey returns the key of a node's NodeRecord.
func NodeKey(id messages.NodeID) string { return "nodes/" + strconv.Itoa(int(id)) }

// ConfigKey returns the key of a node's ConfigRecord; NoNode stands for the
// defaults of the whole cluster.
func ConfigKey(id messages.NodeID) string {
	if id == messages.NoNode {
		return "configs/" + defaultConfigs
	}
	return "configs/" + strconv.Itoa(int(id))
}

// String returns the key as the registry stores it.
func (k Key) String() string {
	switch k.Kind {
	case KindCluster:
		return KeyCluster
	case KindProducerIDs:
		return KeyProducerIDs
	case KindTopic:
		return TopicKey(k.Topic)
	case KindPartitions:
		return PartitionsKey(k.Topic, k.Chunk)
	case KindNode:
		return NodeKey(k.Node)
	case KindConfig:
		return ConfigKey(k.Node)
	default:
		return fmt.Sprintf("invalid key of kind %d", k.Kind)
	}
}

// ParseKey reads a key of the registry. It accepts exactly what the functions of
// this file write, and fails with ErrBadKey otherwise.
func ParseKey(s string) (Key, error) {
	kind, rest, _ := strings.Cut(s, "/")
	k, err := Key{}, error(nil)
	switch kind {
	case KeyCluster:
		k.Kind = KindCluster
	case KeyProducerIDs:
		k.Kind = KindProducerIDs
	case "topics":
		k.Kind = KindTopic
		k.Topic, err = messages.ParseTopicIDHex(rest)
	case "partitions":
		k, err = parsePartitionsKey(rest)
	case "nodes":
		k.Kind = KindNode
		k.Node, err = parseNodeID(rest)
	case "configs":
		k.Kind, k.Node = KindConfig, messages.NoNode
		if rest != defaultConfigs {
			k.Node, err = parseNodeID(rest)
		}
	default:
		err = errors.New("no such kind")
	}
	if err == nil && k.String() != s { // 007, upper case, a trailing slash
		err = fmt.Errorf("would be written %q", k.String())
	}
	if err != nil {
		return Key{}, fmt.Errorf("%w %q: %w", ErrBadKey, s, err)
	}
	return k, nil
}

func parsePartitionsKey(rest string) (Key, error) {
	id, number, _ := strings.Cut(rest, "/")
	topic, err := messages.ParseTopicIDHex(id)
	if err != nil {
		return Key{}, err
	}
	chunk, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return Key{}, err
	}
	return Key{Kind: KindPartitions, Topic: topic, Chunk: int32(chunk)}, nil
}

func parseNodeID(s string) (messages.NodeID, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return messages.NodeID(n), err
}
