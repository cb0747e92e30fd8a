// Package topics decides what happens to the cluster's metadata: topics,
// partitions, their leaders, configurations, and blocks of producer ids.
//
// It is the controller's state machine and is pure: no clock, no randomness, no
// I/O. A State answers commands with a Plan and is not changed by them; the
// controller makes the plan durable, then calls Adopt. New topic ids come in
// with the command.
package topics

import (
	"fmt"
	"slices"
	"strings"

	"github.com/troupelog/troupe/cluster/placement"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/invariant"
)

// MaxPartitions bounds the partitions of one topic, so that its whole state
// fits in one metadata transaction.
const MaxPartitions = 10_000

// maxNameLength is Kafka's bound: with the partition number the name must still
// fit into a file name.
const maxNameLength = 249

// kafkaMetadata is a name that no topic may have.
const kafkaMetadata = "__cluster_metadata"

// ProducerIDBlock is how many producer ids one durable write reserves.
const ProducerIDBlock = 1000

// Defaults are the broker settings the controller falls back to.
type Defaults struct {
	Partitions        int32 // num.partitions
	ReplicationFactor int16 // default.replication.factor
	DeleteTopics      bool  // delete.topic.enable
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
	slices.SortFunc(
		d.Topics,
		func(a, b *messages.Topic) int { return strings.Compare(a.Name, b.Name) },
	)
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

func (p *Plan) put(t *messages.Topic) {
	p.topics[t.ID], p.names[t.Name] = t, t
	p.folded[fold(t.Name)] = t.Name
}

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
	for _, replicas := range assignment {
		t.Partitions = append(t.Partitions, p.newPartition(replicas))
	}
	p.put(t)
	r.Configs = t.Configs
	r.Partitions = int32(len(t.Partitions))
	r.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	return r
}

// newPartition starts with all live replicas in sync: there is nothing to copy yet.
func (p *Plan) newPartition(replicas []messages.NodeID) messages.Partition {
	part := messages.Partition{Leader: messages.NoNode, Replicas: replicas}
	for _, n := range replicas {
		if p.state.image.Node(n) != nil {
			part.ISR = append(part.ISR, n)
		}
	}
	if len(part.ISR) > 0 {
		part.Leader = part.ISR[0]
	} else {
		part.ISR = replicas
	}
	return part
}

func (p *Plan) checkName(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if name == kafkaMetadata {
		return fmt.Errorf("%q is the name of Kafka's metadata log, which tools take it for: %w",
			name, messages.ErrInvalidRequest)
	}
	if p.topic(messages.TopicRef{Name: name}) != nil {
		return fmt.Errorf("topic %q: %w", name, messages.ErrTopicAlreadyExists)
	}
	other, decided := p.folded[fold(name)]
	if !decided {
		other = p.state.folded[fold(name)]
	}
	if other != "" {
		return fmt.Errorf("topic %q differs from topic %q only in '.' and '_', which metrics "+
			"cannot tell apart: choose another name: %w", name, other, messages.ErrInvalidTopic)
	}
	return nil
}

// CheckName checks a topic's name by Kafka's rules: 1 to 249 characters of
// a-z, A-Z, 0-9, '.', '_' and '-', and neither "." nor "..". It fails with
// messages.ErrInvalidTopic.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty: %w", messages.ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf(
			"the name %q is a folder of the file system: %w",
			name,
			messages.ErrInvalidTopic,
		)
	case len(name) > maxNameLength:
		return fmt.Errorf("the name has %d characters, at most %d are allowed: %w",
			len(name), maxNameLength, messages.ErrInvalidTopic)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf(
				"the name %q contains %q; only letters, digits, '.', '_' and '-' are allowed: %w",
				name,
				string(rune(c)),
				messages.ErrInvalidTopic,
			)
		}
	}
	return nil
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
	out, err := placement.Assign(p.state.image.Nodes, int(count), int(factor), p.turn)
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
		if p.state.image.Node(n) == nil {
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
	factor := len(t.Partitions[0].Replicas)
	assignment := c.Assignment
	if assignment == nil {
		assignment, r.Err = placement.Assign(p.state.image.Nodes, added, factor, p.turn)
		p.turn += added
	} else if len(assignment) != added {
		r.Err = fmt.Errorf("%d assignments for %d new partitions: %w",
			len(assignment), added, messages.ErrInvalidReplicaAssignment)
	}
	grown := *t
	grown.Partitions = slices.Clone(t.Partitions)
	for i := 0; i < len(assignment) && r.Err == nil; i++ {
		if r.Err = p.checkReplicas(assignment[i], factor); r.Err == nil {
			grown.Partitions = append(grown.Partitions, p.newPartition(assignment[i]))
		}
	}
	if r.Err == nil {
		p.put(&grown)
	}
	r.Partitions, r.ReplicationFactor = int32(len(grown.Partitions)), int16(factor)
	return r
}

func fold(name string) string { return strings.ReplaceAll(name, ".", "_") }
