package messages

import (
	"maps"
	"slices"
	"strings"
)

// Node is a member of the cluster as clients see it.
type Node struct {
	ID   NodeID
	Host string // advertised host of the Kafka listener
	Port int32
	Rack string // "" when not set
}

// Partition is the state of one partition that the controller decides.
type Partition struct {
	Leader         NodeID // NoNode when leaderless
	LeaderEpoch    LeaderEpoch
	PartitionEpoch PartitionEpoch
	Replicas       []NodeID // the first is the preferred leader
	ISR            []NodeID
}

// Topic is one topic with all its partitions, indexed by partition number.
type Topic struct {
	ID         TopicID
	Name       string
	Configs    map[string]string // overrides only, by Kafka's property name
	Partitions []Partition
}

// Internal reports whether clients may not write to the topic directly.
func (t *Topic) Internal() bool {
	return t.Name == "__consumer_offsets" || t.Name == "__transaction_state"
}

// Image is an immutable picture of the cluster's metadata. The controller makes
// it; every node holds the newest it has seen and answers from it. Any
// goroutine may read it; nothing in it may be changed.
type Image struct {
	Version         MetadataVersion
	ControllerEpoch ControllerEpoch
	Controller      NodeID
	ClusterID       string
	Nodes           []Node // alive, by id
	// NodeConfigs are dynamic overrides by node; NoNode holds those of all nodes.
	NodeConfigs map[NodeID]Config

	byName map[string]*Topic
	byID   map[TopicID]*Topic
}

// Config is a set of overrides by Kafka's property name.
type Config = map[string]string

// Delta takes an image from one version to the next. Topics and nodes stand
// whole: a receiver replaces, it never merges. A nil Nodes or NodeConfigs means
// unchanged.
type Delta struct {
	From, To        MetadataVersion
	ControllerEpoch ControllerEpoch
	Controller      NodeID
	ClusterID       string
	Topics          []*Topic  // created or changed
	Removed         []TopicID // deleted
	Nodes           []Node
	NodeConfigs     map[NodeID]Config
	// Snapshot means: forget what you had, this is all there is. From is 0.
	Snapshot bool
}

// NewImage returns an image of no topics.
func NewImage() *Image {
	return &Image{Controller: NoNode, byName: map[string]*Topic{}, byID: map[TopicID]*Topic{}}
}

// Apply returns the image after d. ok is false, and nothing is returned, when d
// does not follow the image's version: ask for a snapshot then. An image never
// goes back: a snapshot older than the image is refused too.
func (im *Image) Apply(d *Delta) (next *Image, ok bool) {
	if !d.Snapshot && d.From != im.Version || d.To < im.Version ||
		d.ControllerEpoch < im.ControllerEpoch {
		return nil, false
	}
	n := *im
	n.Version, n.ControllerEpoch = d.To, d.ControllerEpoch
	n.Controller, n.ClusterID = d.Controller, d.ClusterID
	if d.Snapshot {
		n.byName, n.byID = map[string]*Topic{}, map[TopicID]*Topic{}
	} else if len(d.Topics)+len(d.Removed) > 0 {
		n.byName, n.byID = maps.Clone(im.byName), maps.Clone(im.byID)
	}
	for _, id := range d.Removed {
		if t := n.byID[id]; t != nil {
			delete(n.byID, id)
			delete(n.byName, t.Name)
		}
	}
	for _, t := range d.Topics {
		n.byName[t.Name], n.byID[t.ID] = t, t
	}
	if d.Nodes != nil {
		n.Nodes = d.Nodes
	}
	if d.NodeConfigs != nil {
		n.NodeConfigs = d.NodeConfigs
	}
	return &n, true
}

// Topic returns the topic of that name, or nil.
func (im *Image) Topic(name string) *Topic { return im.byName[name] }

// TopicByID returns the topic of that id, or nil.
func (im *Image) TopicByID(id TopicID) *Topic { return im.byID[id] }

// TopicCount returns how many topics there are.
func (im *Image) TopicCount() int { return len(im.byName) }

// Topics returns all topics sorted by name.
func (im *Image) Topics() []*Topic {
	return slices.SortedFunc(
		maps.Values(im.byName),
		func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) },
	)
}

// Node returns the live node of that id, or nil.
func (im *Image) Node(id NodeID) *Node {
	i, ok := slices.BinarySearchFunc(
		im.Nodes,
		id,
		func(n Node, id NodeID) int { return int(n.ID) - int(id) },
	)
	if !ok {
		return nil
	}
	return &im.Nodes[i]
}

// Partition returns the state of a partition, or nil.
func (im *Image) Partition(id PartitionID) *Partition {
	t := im.byID[id.Topic]
	if t == nil || id.Partition < 0 || int(id.Partition) >= len(t.Partitions) {
		return nil
	}
	return &t.Partitions[id.Partition]
}
