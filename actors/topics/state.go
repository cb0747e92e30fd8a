// Package topics decides what happens to the cluster's metadata: topics,
// partitions, their leaders, configurations, and blocks of producer ids.
//
// It is the controller's state machine and is pure: no clock, no randomness, no
// I/O. A State answers commands with a Plan and is not changed by them; the
// controller makes the plan durable, then calls Adopt. New topic ids come in
// with the command.
package topics

import (
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/invariant"
)

// MaxPartitions bounds the partitions of one topic, so that its whole state
// fits in one metadata transaction.
const MaxPartitions = 10_000

// ProducerIDBlock is how many producer ids one durable write reserves.
const ProducerIDBlock = 1000

// Defaults are the broker settings the controller falls back to.
type Defaults struct {
	Partitions        int32 // num.partitions
	ReplicationFactor int16 // default.replication.factor
	DeleteTopics      bool  // delete.topic.enable
	// Setting returns the controller's own static value of a node setting, "" when
	// it is not set. Nil: nothing is set. All nodes must have the same values of
	// min.insync.replicas: a leader with a lower one would acknowledge records that
	// the controller does not take care of.
	Setting func(name string) string
}

// State is the metadata as of the last durable write. It has one owner.
type State struct {
	image    *messages.Image
	folded   map[string]string // topic names with '.' as '_', to the topic that has it
	nextID   messages.ProducerID
	defaults Defaults
	turn     int // where the next assignment starts
}

// New returns the state that image and the next unreserved producer id describe.
func New(image *messages.Image, nextID messages.ProducerID, d Defaults) *State {
	s := &State{image: image, nextID: nextID, defaults: d, folded: map[string]string{}}
	for _, t := range image.Topics() {
		s.folded[fold(t.Name)] = t.Name
		s.turn += len(t.Partitions)
	}
	return s
}

// Image returns the metadata as of the last Adopt.
func (s *State) Image() *messages.Image { return s.image }

// Plan collects the changes of one metadata transaction. Commands that are
// decided on the same plan see what those before them decided.
type Plan struct {
	state   *State
	topics  map[messages.TopicID]*messages.Topic // created or changed
	owned   map[messages.TopicID]bool            // of topics: the partitions are the plan's too
	ruled   map[messages.TopicID]rules           // of topics that were looked at
	names   map[string]*messages.Topic           // the same by name; nil: deleted
	folded  map[string]string                    // folded names to who took them; "": freed
	removed []messages.TopicID
	nodes   []messages.Node
	configs map[messages.NodeID]messages.Config
	nextID  messages.ProducerID
	turn    int
}

// Plan starts an empty plan.
func (s *State) Plan() *Plan {
	return &Plan{
		state: s, nextID: s.nextID, turn: s.turn,
		topics: map[messages.TopicID]*messages.Topic{},
		owned:  map[messages.TopicID]bool{},
		ruled:  map[messages.TopicID]rules{},
		names:  map[string]*messages.Topic{},
		folded: map[string]string{},
	}
}

// Empty reports whether the plan changes nothing.
func (p *Plan) Empty() bool {
	return len(p.topics)+len(p.removed) == 0 && p.nodes == nil && p.configs == nil &&
		p.nextID == p.state.nextID
}

// NextProducerID is the first producer id that stays unreserved after the plan,
// and whether the plan changes it.
func (p *Plan) NextProducerID() (next messages.ProducerID, changed bool) {
	return p.nextID, p.nextID != p.state.nextID
}

// Delta is the plan as a step of the image from its version to version `to`.
func (p *Plan) Delta(to messages.MetadataVersion, controller messages.NodeID,
	epoch messages.ControllerEpoch, clusterID string) *messages.Delta {
	d := &messages.Delta{
		From: p.state.image.Version, To: to,
		ControllerEpoch: epoch, Controller: controller, ClusterID: clusterID,
		Removed: slices.Clone(p.removed), Nodes: p.nodes, NodeConfigs: p.configs,
	}
	for _, t := range p.topics { // any order: they are sorted below
		d.Topics = append(d.Topics, t)
	}
	slices.SortFunc(d.Topics, byName)
	return d
}

// Adopt makes a durable plan the state. d is the plan's Delta.
func (s *State) Adopt(p *Plan, d *messages.Delta) {
	invariant.That(p.state == s, "a plan of another state is adopted")
	next, ok := s.image.Apply(d)
	invariant.That(ok, "delta %d->%d does not follow version %d", d.From, d.To, s.image.Version)
	for _, id := range d.Removed {
		if t := s.image.TopicByID(id); t != nil {
			delete(s.folded, fold(t.Name))
		}
	}
	for _, t := range d.Topics {
		s.folded[fold(t.Name)] = t.Name
	}
	s.image, s.nextID, s.turn = next, p.nextID, p.turn
}

// topic finds a topic as the plan leaves it, or nil.
func (p *Plan) topic(ref messages.TopicRef) *messages.Topic {
	if ref.Name != "" {
		if t, decided := p.names[ref.Name]; decided {
			return t
		}
		return p.state.image.Topic(ref.Name)
	}
	if t := p.topics[ref.ID]; t != nil {
		return t
	}
	if slices.Contains(p.removed, ref.ID) {
		return nil
	}
	return p.state.image.TopicByID(ref.ID)
}

// all returns the topics as the plan leaves them, by name.
func (p *Plan) all() []*messages.Topic {
	topics := p.state.image.Topics()
	if len(p.topics)+len(p.removed) == 0 {
		return topics
	}
	out := topics[:0]
	for _, t := range topics {
		if p.topics[t.ID] == nil && !slices.Contains(p.removed, t.ID) {
			out = append(out, t)
		}
	}
	for _, t := range p.topics { // any order: they are sorted below
		out = append(out, t)
	}
	slices.SortFunc(out, byName)
	return out
}

func byName(a, b *messages.Topic) int { return strings.Compare(a.Name, b.Name) }

// set replaces one partition of a topic.
func (p *Plan) set(t *messages.Topic, index int, part messages.Partition) {
	if !p.owned[t.ID] {
		next := *t
		next.Partitions = slices.Clone(t.Partitions)
		p.put(&next)
		p.owned[t.ID] = true
	}
	p.topics[t.ID].Partitions[index] = part
}

func (p *Plan) put(t *messages.Topic) {
	p.topics[t.ID], p.names[t.Name] = t, t
	p.folded[fold(t.Name)] = t.Name
}
