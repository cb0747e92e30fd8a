package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/troupelog/troupe/messages"
)

// fakeCluster is a cluster of one node in memory: Cluster, Partitions and
// Settings in one. Tests reach into it to set the scene.
type fakeCluster struct {
	mu           sync.Mutex
	image        *messages.Image
	replicas     map[messages.PartitionID]*fakePartition
	coords       *fakeCoordinators
	coordinators Coordinators // nil: coords
	settings     map[string]Setting
	nextID       byte
	nextPID      messages.ProducerID
	dirs         []messages.LogDir
	err          error                             // of every control operation while it is set
	partitions   map[messages.TopicPartition]error // answered by Partition
}

const fakeNode messages.NodeID = 1

// fakePartitionsMax bounds a topic, as a controller does.
const fakePartitionsMax = 10000

func newFakeCluster() *fakeCluster {
	f := &fakeCluster{
		image:      messages.NewImage(),
		replicas:   map[messages.PartitionID]*fakePartition{},
		coords:     newFakeCoordinators(),
		settings:   map[string]Setting{},
		nextPID:    1000,
		partitions: map[messages.TopicPartition]error{},
	}
	f.apply(&messages.Delta{
		Controller: fakeNode,
		ClusterID:  "fake-cluster-id-000000",
		Nodes:      []messages.Node{{ID: fakeNode, Host: "127.0.0.1", Port: 9092}},
	})
	return f
}

// apply takes the image one version on. The caller holds mu or is the only one.
func (f *fakeCluster) apply(d *messages.Delta) {
	d.From, d.To = f.image.Version, f.image.Version+1
	if d.ClusterID == "" {
		d.Controller, d.ClusterID = f.image.Controller, f.image.ClusterID
	}
	next, ok := f.image.Apply(d)
	if !ok {
		panic("delta does not follow the image")
	}
	f.image = next
}

// addTopic makes a topic this node leads.
func (f *fakeCluster) addTopic(name string, partitions int) *messages.Topic {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addTopicLocked(name, partitions, nil)
}

func (f *fakeCluster) addTopicLocked(name string, partitions int, cfg messages.Config,
) *messages.Topic {
	f.nextID++
	t := &messages.Topic{ID: messages.TopicID{0: 0xfa, 15: f.nextID}, Name: name, Configs: cfg}
	f.growLocked(t, partitions)
	return f.image.Topic(name)
}

func (f *fakeCluster) growLocked(t *messages.Topic, partitions int) {
	grown := *t
	grown.Partitions = slices.Clone(t.Partitions)
	for i := len(t.Partitions); i < partitions; i++ {
		grown.Partitions = append(grown.Partitions, messages.Partition{
			Leader: fakeNode, LeaderEpoch: 3,
			Replicas: []messages.NodeID{fakeNode}, ISR: []messages.NodeID{fakeNode},
		})
		f.replicas[messages.PartitionID{Topic: t.ID, Partition: int32(i)}] = newFakePartition(3)
	}
	f.apply(&messages.Delta{Topics: []*messages.Topic{&grown}})
}

// change replaces a topic in the image by what edit makes of a copy.
func (f *fakeCluster) change(name string, edit func(*messages.Topic)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := *f.image.Topic(name)
	t.Partitions = slices.Clone(t.Partitions)
	edit(&t)
	f.apply(&messages.Delta{Topics: []*messages.Topic{&t}})
}

// leadElsewhere makes node 2 lead partition 0 of a topic, in epoch 9.
func (f *fakeCluster) leadElsewhere(topic string) {
	f.change(topic, func(t *messages.Topic) {
		t.Partitions[0].Leader, t.Partitions[0].LeaderEpoch = 2, 9
	})
}

// replica returns the fake behind a partition.
func (f *fakeCluster) replica(topic string, index int32) *fakePartition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[messages.PartitionID{Topic: f.image.Topic(topic).ID, Partition: index}]
}

// fail makes Partition answer err for one partition.
func (f *fakeCluster) fail(topic string, index int32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.partitions[messages.TopicPartition{Topic: topic, Partition: index}] = err
}

// Partition implements Partitions.
func (f *fakeCluster) Partition(t *messages.Topic, index int32) (Partition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.partitions[messages.TopicPartition{Topic: t.Name, Partition: index}]; err != nil {
		return nil, err
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrUnknownTopicOrPartition)
	}
	if t.Partitions[index].Leader != fakeNode {
		return nil, fmt.Errorf("%s-%d: %w", t.Name, index, messages.ErrNotLeader)
	}
	return f.replicas[messages.PartitionID{Topic: t.ID, Partition: index}], nil
}

// Image implements Cluster.
func (f *fakeCluster) Image() *messages.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.image
}

// Self implements Cluster.
func (f *fakeCluster) Self() messages.NodeID { return fakeNode }

// CreateTopics implements Cluster.
func (f *fakeCluster) CreateTopics(_ context.Context, topics []messages.CreateTopic,
	validateOnly bool) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, c := range topics {
		n := max(c.Partitions, 1)
		if len(c.Assignment) > 0 {
			n = int32(len(c.Assignment))
		}
		results[i] = messages.TopicResult{Name: c.Name, Partitions: n, ReplicationFactor: 1,
			Configs: c.Configs}
		switch {
		case f.image.Topic(c.Name) != nil:
			results[i].Err = fmt.Errorf("topic %q: %w", c.Name, messages.ErrTopicAlreadyExists)
		case n > fakePartitionsMax:
			results[i].Err = fmt.Errorf("%d partitions: %w", n, messages.ErrInvalidPartitions)
		case c.ReplicationFactor > 1:
			results[i].Err = fmt.Errorf("one node is alive: %w", messages.ErrInvalidReplicationFactor)
		case !validateOnly:
			results[i].ID = f.addTopicLocked(c.Name, int(n), c.Configs).ID
		}
	}
	return results, nil
}

// AutoCreate implements Cluster.
func (f *fakeCluster) AutoCreate(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if f.image.Topic(name) == nil {
		f.addTopicLocked(name, 1, nil)
	}
	return nil
}

// DeleteTopics implements Cluster.
func (f *fakeCluster) DeleteTopics(_ context.Context, topics []messages.TopicRef,
) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, ref := range topics {
		t, err := f.image.Topic(ref.Name), messages.ErrUnknownTopicOrPartition
		if ref.Name == "" {
			t, err = f.image.TopicByID(ref.ID), messages.ErrUnknownTopicID
		}
		results[i] = messages.TopicResult{Name: ref.Name, ID: ref.ID}
		if t == nil {
			results[i].Err = err
			continue
		}
		results[i].Name, results[i].ID = t.Name, t.ID
		f.apply(&messages.Delta{Removed: []messages.TopicID{t.ID}})
	}
	return results, nil
}

// CreatePartitions implements Cluster.
func (f *fakeCluster) CreatePartitions(_ context.Context, topics []messages.CreatePartitions,
	validateOnly bool) ([]messages.TopicResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	results := make([]messages.TopicResult, len(topics))
	for i, c := range topics {
		results[i] = messages.TopicResult{Name: c.Topic}
		t := f.image.Topic(c.Topic)
		switch {
		case t == nil:
			results[i].Err = messages.ErrUnknownTopicOrPartition
		case int(c.Count) <= len(t.Partitions), c.Count > fakePartitionsMax:
			results[i].Err = fmt.Errorf("topic %q has %d partitions: %w",
				c.Topic, len(t.Partitions), messages.ErrInvalidPartitions)
		case !validateOnly:
			f.growLocked(t, int(c.Count))
		}
	}
	return results, nil
}

// AlterConfigs implements Cluster.
func (f *fakeCluster) AlterConfigs(_ context.Context, reqs []messages.AlterConfigs,
	validateOnly bool) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	errs := make([]error, len(reqs))
	for i, r := range reqs {
		t := f.image.Topic(r.Resource.Name)
		if r.Resource.Type != messages.ConfigTopic || t == nil {
			errs[i] = messages.ErrUnknownTopicOrPartition
			continue
		}
		next := *t
		next.Configs = maps.Clone(t.Configs)
		if r.Replace || next.Configs == nil {
			next.Configs = messages.Config{}
		}
		for _, c := range r.Changes {
			if c.Op == messages.ConfigDelete {
				delete(next.Configs, c.Key)
			} else {
				next.Configs[c.Key] = c.Value
			}
		}
		if !validateOnly {
			f.apply(&messages.Delta{Topics: []*messages.Topic{&next}})
		}
	}
	return errs, nil
}

// ElectLeaders implements Cluster: the first replica is elected if it is in sync.
func (f *fakeCluster) ElectLeaders(_ context.Context, kind messages.ElectionType,
	partitions []messages.PartitionID) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	errs := make([]error, len(partitions))
	for i, id := range partitions {
		p := f.image.Partition(id)
		switch first := p.Replicas[0]; {
		case p.Leader == first, kind == messages.ElectUnclean && p.Leader != messages.NoNode:
			errs[i] = messages.ErrElectionNotNeeded
		case kind == messages.ElectPreferred && !slices.Contains(p.ISR, first):
			errs[i] = messages.ErrPreferredLeaderNotAvailable
		default:
			f.changePartition(id, func(p *messages.Partition) { p.Leader = first })
		}
	}
	return errs, nil
}

// Reassign implements Cluster: nothing is ever finished.
func (f *fakeCluster) Reassign(_ context.Context, reqs []messages.Reassign) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	errs := make([]error, len(reqs))
	for i, r := range reqs {
		p := f.image.Partition(r.ID)
		switch {
		case r.Replicas == nil && !p.Reassigning():
			errs[i] = messages.ErrNoReassignmentInProgress
		case r.Replicas != nil && len(r.Replicas) == 0:
			errs[i] = messages.ErrInvalidReplicaAssignment
		case r.Replicas == nil:
			f.changePartition(r.ID, func(p *messages.Partition) { p.Adding, p.Removing = nil, nil })
		default:
			f.changePartition(r.ID, func(p *messages.Partition) {
				p.Replicas, p.Adding, p.Removing = r.Replicas, r.Replicas[1:], p.Replicas
			})
		}
	}
	return errs, nil
}

// changePartition is change for one partition. The caller holds mu.
func (f *fakeCluster) changePartition(id messages.PartitionID, edit func(*messages.Partition)) {
	t := *f.image.TopicByID(id.Topic)
	t.Partitions = slices.Clone(t.Partitions)
	edit(&t.Partitions[id.Partition])
	f.apply(&messages.Delta{Topics: []*messages.Topic{&t}})
}

// Unregister implements Cluster.
func (f *fakeCluster) Unregister(_ context.Context, n messages.NodeID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch node := f.image.Node(n); {
	case f.err != nil:
		return f.err
	case node == nil:
		return fmt.Errorf("node %d: %w", n, messages.ErrUnknownNode)
	case !node.Fenced:
		return fmt.Errorf("node %d is alive: %w", n, messages.ErrInvalidRequest)
	}
	f.apply(&messages.Delta{Nodes: slices.DeleteFunc(slices.Clone(f.image.Nodes),
		func(o messages.Node) bool { return o.ID == n })})
	return nil
}

// NewProducerID implements Cluster.
func (f *fakeCluster) NewProducerID(context.Context) (messages.ProducerID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextPID++
	return f.nextPID, f.err
}

// LogDirs implements Cluster.
func (f *fakeCluster) LogDirs(context.Context) ([]messages.LogDir, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirs, f.err
}

// Broker implements Settings.
func (f *fakeCluster) Broker() []Setting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.settings), func(a, b Setting) int {
		return slices.Compare([]string{a.Name}, []string{b.Name})
	})
}

// Value implements Settings.
func (f *fakeCluster) Value(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settings[name].Value
}

// set puts a broker setting in force.
func (f *fakeCluster) set(name, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings[name] = Setting{Name: name, Value: value, Static: true, Default: value}
}
