package messages

import (
	"maps"
	"slices"
	"strings"
)

// Node is a registered member of the cluster.
type Node struct {
	ID   NodeID
	Host string // advertised host of the Kafka listener
	Port int32
	Rack string // "" when not set

	// Epoch is that of its latest registration; see NodeEpoch.
	Epoch NodeEpoch
	// Incarnation is the process life that registered.
	Incarnation string
	// Directory is the ids of its data directories, separated by commas, in any
	// order; see LacksData.
	Directory string
	// Fenced: not alive, or not known to be. It leads nothing, is in no in-sync
	// set, and clients do not see it.
	Fenced bool
	// Leaving: it asked to be stopped; its leaderships move away.
	Leaving bool
	// Draining: an operator wants it empty; nothing new is placed on it.
	Draining bool
}

// Usable reports whether new replicas and leaderships may go to the node.
func (n *Node) Usable() bool { return !n.Fenced && !n.Leaving && !n.Draining }

// MayLead reports whether the node may lead what it is in sync with.
func (n *Node) MayLead() bool { return !n.Fenced && !n.Leaving }

// SharesData reports whether two values of Node.Directory name a data directory in
// common: they are of the same node, if maybe not of the same time.
func SharesData(a, b string) bool {
	return slices.ContainsFunc(strings.Split(a, ","), func(id string) bool {
		return slices.Contains(strings.Split(b, ","), id)
	})
}

// LacksData reports whether a data directory that a node had is not one of those it
// has now: what was in it is gone.
func LacksData(had, has string) bool {
	now := strings.Split(has, ",")
	return slices.ContainsFunc(strings.Split(had, ","), func(id string) bool {
		return !slices.Contains(now, id)
	})
}

// Partition is the state of one partition that the controller decides.
type Partition struct {
	Leader         NodeID // NoNode when leaderless
	LeaderEpoch    LeaderEpoch
	PartitionEpoch PartitionEpoch
	Replicas       []NodeID // the first is the preferred leader
	ISR            []NodeID
	// ELR are the replicas outside the ISR that still have everything that was
	// acknowledged: they left it while the ISR was at min.insync.replicas or
	// below, and the high watermark stands still since (KIP-966).
	ELR []NodeID
	// Adding and Removing are the replicas a reassignment in progress brings
	// and takes; both are part of Replicas. Nil: none is in progress.
	Adding, Removing []NodeID
}

// Reassigning reports whether a reassignment is in progress.
func (p *Partition) Reassigning() bool { return len(p.Adding)+len(p.Removing) > 0 }

// LeastISR returns how many replicas must be in sync for acks=all, given
// min.insync.replicas: as in Kafka no more than there are.
func (p *Partition) LeastISR(minInSync int) int { return min(minInSync, len(p.Replicas)) }

// Target returns the replicas once the reassignment in progress is done.
func (p *Partition) Target() []NodeID {
	return slices.DeleteFunc(slices.Clone(p.Replicas), func(n NodeID) bool {
		return slices.Contains(p.Removing, n)
	})
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
	Nodes           []Node // registered, alive or not, by id
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

// Live returns the nodes that are not fenced, by id.
func (im *Image) Live() []Node {
	return slices.DeleteFunc(slices.Clone(im.Nodes), func(n Node) bool { return n.Fenced })
}

// Node returns the registered node of that id, alive or not, or nil.
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
