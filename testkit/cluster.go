package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cluster is some nodes that found each other through Consul. Its methods are
// called by the test's goroutine only; they fail the test when a node does not do
// as it is told.
type Cluster struct {
	Name    string
	Nodes   []*Node  // in the order they were added; ids are 1, 2, ...
	Network *Network // nil unless asked for by WithNetwork

	tb     testing.TB
	opts   []Option
	consul string // HOST:PORT as the nodes reach it
	admin  *kadm.Client
}

// clusters numbers the clusters of a process, which may share an agent.
var clusters atomic.Int64

// StartCluster runs a cluster of some nodes and returns once all are ready and
// know each other. Options are for every node. All ends with the test, and the
// logs of the nodes are shown if it failed.
func StartCluster(tb testing.TB, nodes int, opts ...Option) *Cluster {
	tb.Helper()
	o := options{}
	for _, opt := range opts {
		opt(&o)
	}
	c := &Cluster{tb: tb, opts: opts,
		Name: fmt.Sprintf("test-%d-%06d", clusters.Add(1), rand.IntN(1_000_000))}
	if o.consul != nil {
		c.consul = o.consul.Addr
	} else {
		c.consul = SharedConsul(tb)
	}
	if o.network {
		c.Network = newNetwork(tb)
		c.consul = c.Network.proxy(c.Network.Consul, c.consul)
	}
	c.AddNodes(nodes)
	return c
}

// AddNode runs one more node, with options of its own behind those of all.
func (c *Cluster) AddNode(opts ...Option) *Node {
	c.tb.Helper()
	return c.AddNodes(1, opts...)[0]
}

// AddNodes runs more nodes at once and returns them when all nodes of the cluster
// that run know each other.
func (c *Cluster) AddNodes(count int, opts ...Option) []*Node {
	c.tb.Helper()
	first := len(c.Nodes)
	for range count {
		n := newNode(c.tb, c.options(int32(len(c.Nodes)+1), opts))
		n.ID = int32(len(c.Nodes) + 1)
		c.Nodes = append(c.Nodes, n)
		n.launch()
	}
	added := c.Nodes[first:]
	for _, n := range added {
		n.await()
	}
	c.AwaitMembers()
	return added
}

func (c *Cluster) options(id int32, more []Option) options {
	var p *port
	host := "127.0.0.1"
	if c.Network != nil {
		p = c.Network.machine()
		host = p.Addr.String()
	}
	free := net.JoinHostPort(host, "0")
	member := func(o *options) {
		o.port, o.host = p, host
		o.args = append(o.args, "--consul", c.consul, "--cluster", c.Name,
			"--node-id", strconv.Itoa(int(id)), "--actor-addr", free, "--bulk-addr", free)
	}
	return newOptions(c.tb, slices.Concat([]Option{member}, c.opts, more))
}

// Brokers returns the Kafka addresses of all nodes, to begin with.
func (c *Cluster) Brokers() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Kafka
	}
	return addrs
}

// Actors returns the addresses of all nodes for the SDK, to begin with.
func (c *Cluster) Actors() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Actor
	}
	return addrs
}

// Consul returns the address of the agent that the nodes use, HOST:PORT.
func (c *Cluster) Consul() string { return c.consul }

// Client returns a Kafka client that is closed with the test. It asks for
// metadata as often as it needs to, so that it finds a new leader at once.
func (c *Cluster) Client(opts ...kgo.Opt) *kgo.Client {
	c.tb.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers()...),
		kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		c.tb.Fatalf("testkit: %v", err)
	}
	c.tb.Cleanup(client.Close)
	return client
}

// Metadata asks the cluster what it knows of some topics; of none: only about
// nodes.
func (c *Cluster) Metadata(topics ...string) (kadm.Metadata, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	m, err := c.administrator().Metadata(ctx, topics...)
	if err == nil && len(topics) > 0 {
		err = m.Topics.Error()
	}
	return m, err
}

// administrator is a client that soon asks another node if one does not answer.
func (c *Cluster) administrator() *kadm.Client {
	if c.admin == nil {
		c.admin = kadm.NewClient(c.Client(
			kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second)))
	}
	return c.admin
}

// AwaitMembers waits until every node that runs says that just these are there.
func (c *Cluster) AwaitMembers() {
	c.tb.Helper()
	var want []int32
	for _, n := range c.Nodes {
		if n.Running() {
			want = append(want, n.ID)
		}
	}
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka))
		if err != nil {
			c.tb.Fatalf("testkit: %v", err)
		}
		var got []int32
		var last error
		what := fmt.Sprintf("node %d knows the nodes %v", n.ID, want)
		eventually(c.tb, what, func() bool {
			got, last = membersBy(client)
			return slices.Equal(got, want)
		}, func() string { return fmt.Sprintf("it knows %v, error %v", got, last) })
		client.Close()
	}
}

// membersBy asks the seed broker of a client itself, whoever else it knows.
func membersBy(client *kgo.Client) (ids []int32, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := client.SeedBrokers()[0].RetriableRequest(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, b := range resp.(*kmsg.MetadataResponse).Brokers {
		ids = append(ids, b.NodeID)
	}
	slices.Sort(ids)
	return ids, nil
}

// Create makes a topic whose partitions have the given number of replicas and
// waits until all are in sync. settings are pairs NAME, VALUE.
func (c *Cluster) Create(topic string, partitions int32, replicas int16, settings ...string) {
	c.tb.Helper()
	configs := map[string]*string{}
	for i := 0; i+1 < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	ctx, cancel := context.WithTimeout(c.tb.Context(), time.Minute)
	defer cancel()
	resp, err := c.administrator().CreateTopic(ctx, partitions, replicas, configs, topic)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		c.tb.Fatalf("testkit: create topic %s: %v", topic, err)
	}
	c.AwaitInSync(topic)
}

// InSync reports whether all replicas of some topics are in sync and all
// partitions have leaders that live.
func (c *Cluster) InSync(topics ...string) bool {
	m, err := c.Metadata(topics...)
	if err != nil {
		return false
	}
	ok := true
	m.Topics.EachPartition(func(p kadm.PartitionDetail) {
		ok = ok && p.Err == nil && p.Leader >= 0 && len(p.ISR) == len(p.Replicas)
	})
	return ok
}

// Missing reports whether a node is out of an in-sync set that it is a replica of,
// as the other nodes see it. An answer that does not come is no sign of it.
func (c *Cluster) Missing(topic string, n *Node) (missing bool) {
	m, err := c.Metadata(topic)
	if err != nil {
		return false
	}
	m.Topics.EachPartition(func(p kadm.PartitionDetail) {
		missing = missing ||
			slices.Contains(p.Replicas, n.ID) && !slices.Contains(p.ISR, n.ID)
	})
	return missing
}

// AwaitInSync waits until all replicas of some topics are in sync.
func (c *Cluster) AwaitInSync(topics ...string) {
	c.tb.Helper()
	Eventually(c.tb, fmt.Sprintf("all replicas of %v are in sync", topics),
		func() bool { return c.InSync(topics...) })
}

// Leader returns the node that leads a partition, once there is one that runs.
func (c *Cluster) Leader(topic string, partition int32) *Node {
	c.tb.Helper()
	var leader *Node
	Eventually(c.tb, fmt.Sprintf("%s-%d has a leader", topic, partition), func() bool {
		m, err := c.Metadata(topic)
		if err != nil {
			return false
		}
		leader = c.Node(m.Topics[topic].Partitions[partition].Leader)
		return leader != nil && leader.Running()
	})
	return leader
}

// Led returns the partitions of a topic that a node leads now.
func (c *Cluster) Led(topic string, by *Node) (partitions []int32) {
	c.tb.Helper()
	m, err := c.Metadata(topic)
	if err != nil {
		c.tb.Fatalf("testkit: metadata of %s: %v", topic, err)
	}
	for _, p := range m.Topics[topic].Partitions.Sorted() {
		if p.Leader == by.ID {
			partitions = append(partitions, p.Partition)
		}
	}
	return partitions
}

// Controller returns the node that is the controller, once there is one that runs.
func (c *Cluster) Controller() *Node {
	c.tb.Helper()
	var controller *Node
	Eventually(c.tb, "there is a controller", func() bool {
		m, err := c.Metadata()
		if err != nil {
			return false
		}
		controller = c.Node(m.Controller)
		return controller != nil && controller.Running()
	})
	return controller
}

// GroupCoordinator returns the node that coordinates a group, once there is one
// that runs.
func (c *Cluster) GroupCoordinator(group string) *Node {
	c.tb.Helper()
	return c.coordinator("group "+group, func(ctx context.Context) kadm.FindCoordinatorResponses {
		return c.administrator().FindGroupCoordinators(ctx, group)
	})
}

// TxnCoordinator returns the node that coordinates the transactions of a
// transactional id, once there is one that runs.
func (c *Cluster) TxnCoordinator(id string) *Node {
	c.tb.Helper()
	return c.coordinator("transactional id "+id,
		func(ctx context.Context) kadm.FindCoordinatorResponses {
			return c.administrator().FindTxnCoordinators(ctx, id)
		})
}

func (c *Cluster) coordinator(
	what string, find func(ctx context.Context) kadm.FindCoordinatorResponses,
) *Node {
	c.tb.Helper()
	var node *Node
	var last error
	eventually(c.tb, what+" has a coordinator", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, found := range find(ctx) {
			if last = found.Err; last == nil {
				node = c.Node(found.NodeID)
			}
		}
		return node != nil && node.Running()
	}, func() string { return fmt.Sprint(last) })
	return node
}

// Node returns the node with an id, or nil.
func (c *Cluster) Node(id int32) *Node {
	for _, n := range c.Nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Address returns where a node is in the cluster's Network.
func (c *Cluster) Address(n *Node) netip.Addr {
	c.tb.Helper()
	if n.opts.port == nil {
		c.tb.Fatal("testkit: links can be cut in a cluster that was started WithNetwork only")
	}
	return n.opts.port.Addr
}

// Cut makes the link between two nodes silent.
func (c *Cluster) Cut(a, b *Node) {
	c.tb.Helper()
	c.Network.Cut(c.Address(a), c.Address(b))
}

// Isolate makes all links between a node and the others silent, and the one to
// Consul. Clients still reach it.
func (c *Cluster) Isolate(n *Node) {
	c.tb.Helper()
	for _, other := range c.Nodes {
		if other != n {
			c.Cut(n, other)
		}
	}
	c.Network.Cut(c.Address(n), c.Network.Consul)
}

// Slow delays every packet between two nodes.
func (c *Cluster) Slow(a, b *Node, delay time.Duration) {
	c.tb.Helper()
	c.Network.Slow(c.Address(a), c.Address(b), delay)
}

// Stop asks all nodes that run to end, the last added first.
func (c *Cluster) Stop() {
	c.tb.Helper()
	for _, n := range slices.Backward(c.Nodes) {
		if n.Running() {
			n.Stop()
		}
	}
}
