package wire

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// Contents is what the registry holds, decoded.
type Contents struct {
	ClusterID    string // "" in a registry that is new
	FeatureLevel uint32
	Topics       []*messages.Topic // by name
	Nodes        []messages.Node   // by id
	NodeConfigs  map[messages.NodeID]messages.Config
	// NextProducerID is the first producer id that was never given away.
	NextProducerID messages.ProducerID
}

// Snapshot returns the contents as the delta every node can start from.
func (c *Contents) Snapshot(
	version messages.MetadataVersion, epoch messages.ControllerEpoch, controller messages.NodeID,
) *messages.Delta {
	nodes, configs := c.Nodes, c.NodeConfigs
	if nodes == nil {
		nodes = []messages.Node{}
	}
	if configs == nil {
		configs = map[messages.NodeID]messages.Config{}
	}
	return &messages.Delta{
		To:              version,
		ControllerEpoch: epoch,
		Controller:      controller,
		ClusterID:       c.ClusterID,
		Topics:          c.Topics,
		Nodes:           nodes,
		NodeConfigs:     configs,
		Snapshot:        true,
	}
}

// Decode reads everything a registry holds, in any order. It fails with
// ErrMalformed, naming the record, if a record is damaged, if a topic lacks
// partitions, or if partitions lack their topic; with ErrBadKey on a key that a
// newer version may have written.
func Decode(entries []Entry) (*Contents, error) {
	d := decoder{
		contents: Contents{NodeConfigs: map[messages.NodeID]messages.Config{}},
		topics:   map[messages.TopicID]*partialTopic{},
	}
	for _, e := range entries {
		if err := d.add(e); err != nil {
			return nil, err
		}
	}
	if err := d.joinTopics(); err != nil {
		return nil, err
	}
	slices.SortFunc(d.contents.Nodes, func(a, b messages.Node) int { return int(a.ID) - int(b.ID) })
	return &d.contents, nil
}

// decoder gathers records until all have been seen.
type decoder struct {
	contents Contents
	topics   map[messages.TopicID]*partialTopic
}

// partialTopic is a topic some of whose records have been seen.
type partialTopic struct {
	id     messages.TopicID
	topic  *messages.Topic // nil until its TopicRecord was seen
	count  int32           // how many partitions it must have
	chunks map[int32][]messages.Partition
}

func (d *decoder) add(e Entry) error {
	key, err := ParseKey(e.Key)
	if err != nil {
		return err
	}
	switch key.Kind {
	case KindCluster:
		err = d.addCluster(e)
	case KindProducerIDs:
		err = d.addProducerIDs(e)
	case KindTopic:
		err = d.addTopic(key, e)
	case KindPartitions:
		err = d.addChunk(key, e)
	case KindNode:
		err = d.addNode(key, e)
	case KindConfig:
		err = d.addConfig(key, e)
	}
	if err != nil {
		return fmt.Errorf("registry record %q: %w", e.Key, err)
	}
	return nil
}

func (d *decoder) addCluster(e Entry) error {
	var r ClusterRecord
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	d.contents.ClusterID, d.contents.FeatureLevel = r.GetClusterId(), r.GetFeatureLevel()
	return nil
}

func (d *decoder) addProducerIDs(e Entry) error {
	var r ProducerIdBlock
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	next := messages.ProducerID(r.GetFirstId() + int64(r.GetCount()))
	if r.GetFirstId() < 0 || r.GetCount() <= 0 || next < 0 {
		return malformed("%d producer ids from %d", r.GetCount(), r.GetFirstId())
	}
	d.contents.NextProducerID = next
	return nil
}

func (d *decoder) addTopic(key Key, e Entry) error {
	var r TopicRecord
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	t, err := toTopicHead(r.GetTopicId(), r.GetName(), r.GetConfigs())
	if err != nil {
		return err
	}
	if t.ID != key.Topic {
		return malformed("it is of topic %s", t.ID.Hex())
	}
	p := d.partial(key.Topic)
	p.topic, p.count = t, r.GetPartitionCount()
	return nil
}

func (d *decoder) addChunk(key Key, e Entry) error {
	var r PartitionChunk
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	id, err := toTopicID(r.GetTopicId())
	if err != nil {
		return err
	}
	first := int64(key.Chunk) * PartitionsPerChunk
	if id != key.Topic || int64(r.GetFirstPartition()) != first {
		return malformed("it is of topic %s from partition %d", id.Hex(), r.GetFirstPartition())
	}
	ps, err := toPartitions(r.GetPartitions(), int(first))
	if err != nil {
		return err
	}
	d.partial(key.Topic).chunks[key.Chunk] = ps
	return nil
}

func (d *decoder) addNode(key Key, e Entry) error {
	var r NodeRecord
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	n, err := ToNode(&r)
	if err != nil {
		return err
	}
	if n.ID != key.Node {
		return malformed("it is of node %d", n.ID)
	}
	d.contents.Nodes = append(d.contents.Nodes, n)
	return nil
}

func (d *decoder) addConfig(key Key, e Entry) error {
	var r ConfigRecord
	if err := unmarshal(e.Value, &r); err != nil {
		return err
	}
	if messages.NodeID(r.GetNodeId()) != key.Node {
		return malformed("it is of node %d", r.GetNodeId())
	}
	c, err := ToConfig(r.GetConfigs())
	if err != nil {
		return err
	}
	d.contents.NodeConfigs[key.Node] = c
	return nil
}

func (d *decoder) partial(id messages.TopicID) *partialTopic {
	p := d.topics[id]
	if p == nil {
		p = &partialTopic{id: id, chunks: map[int32][]messages.Partition{}}
		d.topics[id] = p
	}
	return p
}

// joinTopics puts each topic's chunks behind each other.
func (d *decoder) joinTopics() error {
	named := map[string]messages.TopicID{}
	for _, id := range slices.SortedFunc(maps.Keys(d.topics), compareIDs) {
		p := d.topics[id]
		if err := p.join(); err != nil {
			return err
		}
		if other, taken := named[p.topic.Name]; taken {
			return fmt.Errorf("registry: %w", malformed("topics %s and %s are both named %q",
				other.Hex(), p.topic.ID.Hex(), p.topic.Name))
		}
		named[p.topic.Name] = p.topic.ID
		d.contents.Topics = append(d.contents.Topics, p.topic)
	}
	slices.SortFunc(d.contents.Topics, func(a, b *messages.Topic) int {
		return strings.Compare(a.Name, b.Name)
	})
	return nil
}

func (p *partialTopic) join() error {
	if p.topic == nil {
		return fmt.Errorf("registry: %w",
			malformed("partitions of topic %s, but no such topic", p.id.Hex()))
	}
	t := p.topic
	for _, chunk := range slices.Sorted(maps.Keys(p.chunks)) {
		if len(t.Partitions) != int(chunk)*PartitionsPerChunk {
			return fmt.Errorf("registry record %q: %w", PartitionsKey(p.id, chunk),
				malformed("there are %d partitions before it", len(t.Partitions)))
		}
		t.Partitions = append(t.Partitions, p.chunks[chunk]...)
	}
	if len(t.Partitions) != int(p.count) {
		return fmt.Errorf("registry: topic %q: %w", t.Name,
			malformed("%d of its %d partitions are there", len(t.Partitions), p.count))
	}
	return nil
}

// compareIDs makes the error the same whichever way a map is ranged over.
func compareIDs(a, b messages.TopicID) int { return bytes.Compare(a[:], b[:]) }
