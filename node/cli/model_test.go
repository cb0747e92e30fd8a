package cli

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// model is a cluster of three nodes that are alive, 0 to 2, and one that is dead,
// 3, as far as the commands about clusters can see. What they ask for happens at
// once, but that replicas move takes as many looks as slow says.
type model struct {
	mu         sync.Mutex
	kafka      bool // it cannot drain, and knows no dead nodes
	dead       bool // node 3 is registered
	drained    map[string]bool
	partitions []partitionState
	minISR     map[string]string
	slow       int
	badDisk    bool
	reassigned int   // requests
	mute       int32 // the node that hangs up on whoever asks for more than metadata; 0: none
}

// newModel serves m through a real listener.
func newModel(t *testing.T, m *model) *kfake.Cluster {
	t.Helper()
	c := newCluster(t, kfake.NumBrokers(3))
	if m.drained == nil {
		m.drained = map[string]bool{}
	}
	c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		m.mu.Lock()
		defer m.mu.Unlock()
		switch req.(type) {
		case *kmsg.ApiVersionsRequest, *kmsg.MetadataRequest:
		default:
			if m.mute > 0 && m.mute == c.CurrentNode() {
				return nil, errors.New("hung up"), true
			}
		}
		resp := req.ResponseKind()
		switch r := resp.(type) {
		case *kmsg.ApiVersionsResponse:
			m.apiVersions(r)
		case *kmsg.MetadataResponse:
			m.metadata(c, req.(*kmsg.MetadataRequest), r)
		case *kmsg.DescribeClusterResponse:
			m.describeCluster(c, r)
		case *kmsg.ListPartitionReassignmentsResponse:
			m.list(r)
		case *kmsg.AlterPartitionAssignmentsResponse:
			m.alter(req.(*kmsg.AlterPartitionAssignmentsRequest), r)
		case *kmsg.ElectLeadersResponse:
			m.elect(req.(*kmsg.ElectLeadersRequest), r)
		case *kmsg.DescribeConfigsResponse:
			m.configs(req.(*kmsg.DescribeConfigsRequest), r)
		case *kmsg.IncrementalAlterConfigsResponse:
			m.alterConfigs(req.(*kmsg.IncrementalAlterConfigsRequest), r)
		case *kmsg.UnregisterBrokerResponse:
			m.dead = m.dead && req.(*kmsg.UnregisterBrokerRequest).BrokerID != 3
		case *kmsg.DescribeLogDirsResponse:
			m.logDirs(r)
		default:
			return nil, nil, false
		}
		return resp, nil, true
	})
	return c
}

// at returns a partition, or nil.
func (m *model) at(topic string, partition int32) *partitionState {
	for i := range m.partitions {
		if p := &m.partitions[i]; p.Topic == topic && p.Partition == partition {
			return p
		}
	}
	return nil
}

func (m *model) apiVersions(r *kmsg.ApiVersionsResponse) {
	for key, highest := range map[int16]int16{3: 12, 18: 3, 32: 4, 35: 4, 43: 2, 44: 1, 45: 1,
		46: 0, 60: 2, 64: 0} {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = key, highest
		r.ApiKeys = append(r.ApiKeys, k)
	}
}

func brokerAddress(c *kfake.Cluster, id int) (string, int32) {
	host, port, _ := net.SplitHostPort(c.ListenAddrs()[id])
	n, _ := strconv.Atoi(port)
	return host, int32(n)
}

func (m *model) metadata(
	c *kfake.Cluster, req *kmsg.MetadataRequest, r *kmsg.MetadataResponse,
) {
	r.ClusterID, r.ControllerID = kmsg.StringPtr("the-cluster"), 1
	for id := range 3 {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID = int32(id)
		b.Host, b.Port = brokerAddress(c, id)
		b.Rack = kmsg.StringPtr("r" + strconv.Itoa(id))
		r.Brokers = append(r.Brokers, b)
	}
	add := func(name string) {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.TopicID = kmsg.StringPtr(name), [16]byte{1, name[0]}
		for i := range m.partitions {
			if s := &m.partitions[i]; s.Topic == name {
				p := kmsg.NewMetadataResponseTopicPartition()
				p.Partition, p.Leader, p.LeaderEpoch = s.Partition, s.Leader, s.LeaderEpoch
				p.Replicas, p.ISR, p.OfflineReplicas = s.Replicas, s.ISR, s.Offline
				t.Partitions = append(t.Partitions, p)
			}
		}
		if len(t.Partitions) == 0 {
			t.ErrorCode = kerr.UnknownTopicOrPartition.Code
		}
		r.Topics = append(r.Topics, t)
	}
	var names []string
	for i := range m.partitions {
		names = append(names, m.partitions[i].Topic)
	}
	if req.Topics != nil {
		names = nil
		for i := range req.Topics {
			names = append(names, *req.Topics[i].Topic)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		add(name)
	}
}

func (m *model) describeCluster(c *kfake.Cluster, r *kmsg.DescribeClusterResponse) {
	r.ClusterID, r.ControllerID = "the-cluster", 1
	for id := range 4 {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Rack = int32(id), kmsg.StringPtr("r"+strconv.Itoa(id))
		if id < 3 {
			b.Host, b.Port = brokerAddress(c, id)
		} else {
			b.Host, b.Port, b.IsFenced = "gone.example", 9092, true
		}
		if id < 3 || m.dead && !m.kafka {
			r.Brokers = append(r.Brokers, b)
		}
	}
}

// list shows what moves, and lets it arrive after enough looks.
func (m *model) list(r *kmsg.ListPartitionReassignmentsResponse) {
	for i := range m.partitions {
		s := &m.partitions[i]
		if !s.moving() {
			continue
		}
		if m.slow--; m.slow < 0 {
			s.Replicas, s.ISR = s.target(), s.target()
			s.Adding, s.Removing = nil, nil
			continue
		}
		t := kmsg.NewListPartitionReassignmentsResponseTopic()
		t.Topic = s.Topic
		p := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		p.Partition, p.Replicas = s.Partition, s.Replicas
		p.AddingReplicas, p.RemovingReplicas = s.Adding, s.Removing
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
	}
}

func (m *model) alter(
	req *kmsg.AlterPartitionAssignmentsRequest, r *kmsg.AlterPartitionAssignmentsResponse,
) {
	m.reassigned++
	for _, rt := range req.Topics {
		t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = rp.Partition
			s := m.at(rt.Topic, rp.Partition)
			switch {
			case rp.Replicas == nil && !s.moving():
				p.ErrorCode = kerr.NoReassignmentInProgress.Code
			case rp.Replicas == nil:
				s.Replicas = missing(s.Replicas, s.Adding)
				s.Adding, s.Removing = nil, nil
			case rp.Replicas[0] == 2 && rt.Topic == "refused":
				p.ErrorCode = kerr.InvalidReplicaAssignment.Code
				p.ErrorMessage = kmsg.StringPtr("node 2 is not for this topic")
			default:
				s.Adding, s.Removing = missing(rp.Replicas, s.Replicas), missing(s.Replicas, rp.Replicas)
				s.Replicas = append(slices.Clone(rp.Replicas), s.Removing...)
			}
			t.Partitions = append(t.Partitions, p)
		}
		r.Topics = append(r.Topics, t)
	}
}

// missing returns what of a is not in b.
func missing(a, b []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(a), func(n int32) bool { return slices.Contains(b, n) })
}

func (m *model) elect(req *kmsg.ElectLeadersRequest, r *kmsg.ElectLeadersResponse) {
	for i := range m.partitions {
		s := &m.partitions[i]
		asked := slices.ContainsFunc(req.Topics, func(t kmsg.ElectLeadersRequestTopic) bool {
			return t.Topic == s.Topic && slices.Contains(t.Partitions, s.Partition)
		})
		needed := s.Leader != s.Replicas[0]
		if req.ElectionType == 1 {
			needed = s.Leader < 0
		}
		if !asked && (req.Topics != nil || !needed) {
			continue
		}
		t := kmsg.NewElectLeadersResponseTopic()
		t.Topic = s.Topic
		p := kmsg.NewElectLeadersResponseTopicPartition()
		p.Partition = s.Partition
		switch {
		case !needed:
			p.ErrorCode = kerr.ElectionNotNeeded.Code
		case req.ElectionType == 0 && !slices.Contains(s.ISR, s.Replicas[0]):
			p.ErrorCode = kerr.PreferredLeaderNotAvailable.Code
		case slices.Contains(s.Offline, s.Replicas[0]):
			p.ErrorCode = kerr.EligibleLeadersNotAvailable.Code
		default:
			s.Leader = s.Replicas[0]
		}
		at := slices.IndexFunc(r.Topics, func(o kmsg.ElectLeadersResponseTopic) bool {
			return o.Topic == t.Topic
		})
		if at < 0 {
			r.Topics, at = append(r.Topics, t), len(r.Topics)
		}
		r.Topics[at].Partitions = append(r.Topics[at].Partitions, p)
	}
}

func (m *model) configs(req *kmsg.DescribeConfigsRequest, r *kmsg.DescribeConfigsResponse) {
	for _, rr := range req.Resources {
		o := kmsg.NewDescribeConfigsResponseResource()
		o.ResourceType, o.ResourceName = rr.ResourceType, rr.ResourceName
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name = rr.ConfigNames[0]
		switch value, set := m.minISR[rr.ResourceName]; {
		case rr.ResourceType == kmsg.ConfigResourceTypeTopic && set:
			c.Value = &value
			o.Configs = append(o.Configs, c)
		case rr.ResourceType == kmsg.ConfigResourceTypeBroker && !m.kafka:
			c.Value = kmsg.StringPtr(strconv.FormatBool(m.drained[rr.ResourceName]))
			o.Configs = append(o.Configs, c)
		}
		r.Resources = append(r.Resources, o)
	}
}

// alterConfigs drains at once: what is on the node goes to node 0.
func (m *model) alterConfigs(
	req *kmsg.IncrementalAlterConfigsRequest, r *kmsg.IncrementalAlterConfigsResponse,
) {
	for _, rr := range req.Resources {
		o := kmsg.NewIncrementalAlterConfigsResponseResource()
		o.ResourceType, o.ResourceName = rr.ResourceType, rr.ResourceName
		on := rr.Configs[0].Op == kmsg.IncrementalAlterConfigOpSet
		m.drained[rr.ResourceName] = on
		id, _ := strconv.Atoi(rr.ResourceName)
		for i := range m.partitions {
			if s := &m.partitions[i]; on && slices.Contains(s.Replicas, int32(id)) {
				s.Adding, s.Removing = missing([]int32{0}, s.Replicas), []int32{int32(id)}
				s.Replicas = append(s.Replicas, s.Adding...)
			}
		}
		r.Resources = append(r.Resources, o)
	}
}

func (m *model) logDirs(r *kmsg.DescribeLogDirsResponse) {
	d := kmsg.NewDescribeLogDirsResponseDir()
	d.Dir, d.TotalBytes, d.UsableBytes = "/data", 100<<30, 40<<30
	if m.badDisk {
		d.ErrorCode = kerr.KafkaStorageError.Code
	}
	t := kmsg.NewDescribeLogDirsResponseDirTopic()
	t.Topic = "orders"
	p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
	p.Size = 3 << 20
	t.Partitions = append(t.Partitions, p)
	d.Topics = append(d.Topics, t)
	r.Dirs = append(r.Dirs, d)
}

// healthy are two topics that are as they should be.
func healthy() *model {
	return &model{minISR: map[string]string{"orders": "2"}, partitions: []partitionState{
		{Topic: "orders", Partition: 0, Leader: 0, Replicas: []int32{0, 1, 2}, ISR: []int32{0, 1, 2}},
		{Topic: "orders", Partition: 1, Leader: 1, Replicas: []int32{1, 2, 0}, ISR: []int32{0, 1, 2}},
		{Topic: "users", Partition: 0, Leader: 2, Replicas: []int32{2, 0}, ISR: []int32{2, 0}},
	}}
}

// ailing is the same after node 3, which had replicas, died.
func ailing() *model {
	three := []int32{3}
	return &model{dead: true, minISR: map[string]string{"orders": "2"},
		partitions: []partitionState{
			{Topic: "orders", Partition: 0, Leader: 0, Replicas: []int32{0, 1, 3}, ISR: []int32{0, 1},
				Offline: three},
			{Topic: "orders", Partition: 1, Leader: 1, Replicas: []int32{3, 1}, ISR: []int32{1},
				Offline: three},
			{Topic: "orders", Partition: 2, Leader: -1, Replicas: []int32{3, 2}, ISR: three,
				Offline: three},
			{Topic: "users", Partition: 0, Leader: -1, Replicas: three, ISR: three, Offline: three},
			{Topic: "users", Partition: 1, Leader: 2, Replicas: []int32{0, 2}, ISR: []int32{2, 0},
				Adding: []int32{0}},
		}, slow: 1 << 30}
}
