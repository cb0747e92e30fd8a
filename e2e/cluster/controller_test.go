package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

// The controller dies; partitions that have no replica on it do not notice, and
// another controller takes over.
func TestTheDeathOfTheControllerLeavesTheDataPathAlone(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	victim := c.Controller()
	var others []int32
	for _, n := range c.Nodes {
		if n != victim {
			others = append(others, n.ID)
		}
	}
	createOn(t, c, "orders", others)
	load := testkit.StartLoad(t, c, "orders")
	load.AwaitAcks(5000)
	load.Mark()
	began := time.Now()
	victim.Kill()
	c.Client() // clients that come now find their way
	next := c.Controller()
	took := time.Since(began)
	createOn(t, c, "payments", others) // it works
	load.AwaitProgress()
	t.Logf("node %d is controller after %v, its first topic was there after %v; "+
		"writes stood still for %v at most", next.ID, took.Round(time.Millisecond),
		time.Since(began).Round(time.Millisecond), load.Still(0))
	if next == victim {
		t.Errorf("the dead node %d is the controller", victim.ID)
	}
	if still := load.Still(0); still > time.Second {
		t.Errorf("writes stood still for %v", still)
	}
	if took > 5*time.Second {
		t.Errorf("another controller came after %v only", took)
	}
	victim.Restart()
	c.AwaitMembers()
	finish(t, c, load, 1)
}

// createOn makes a topic of one partition whose replicas are on these nodes.
func createOn(t *testing.T, c *testkit.Cluster, topic string, nodes []int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	req.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: topic, NumPartitions: -1,
		ReplicationFactor: -1, ReplicaAssignment: []kmsg.CreateTopicsRequestTopicReplicaAssignment{
			{Partition: 0, Replicas: nodes}}}}
	client := c.Client()
	resp, err := req.RequestWith(patient(t), client)
	if err == nil && resp.Topics[0].ErrorCode != 0 {
		err = fmt.Errorf("error code %d", resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s on %v: %v", topic, nodes, err)
	}
	c.AwaitInSync(topic)
}

// Two activations of one identity: the controller is frozen until another one
// has been elected. When it wakes, a request to it lies in its socket already. It
// must not change anything as the controller that it was.
func TestTheFirstWriteOfAStaleControllerIsRefused(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	c.Create("orders", 3, 3, "min.insync.replicas", "2")
	stale := c.Controller()
	direct := c.Client(kgo.RequestRetries(0), kgo.RequestTimeoutOverhead(time.Minute))
	broker := direct.Broker(int(stale.ID))
	if _, err := broker.Request(patient(t), kmsg.NewPtrApiVersionsRequest()); err != nil {
		t.Fatal(err)
	}
	stale.Pause()
	answered := make(chan *kmsg.CreateTopicsResponse, 1)
	go func() {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 60_000
		req.Topics = []kmsg.CreateTopicsRequestTopic{
			{Topic: "late", NumPartitions: 1, ReplicationFactor: 3}}
		resp, err := req.RequestWith(t.Context(), broker)
		if err != nil {
			resp = nil // the connection broke: it has said nothing
		}
		answered <- resp
	}()
	testkit.Eventually(t, "another controller is active", func() bool {
		m, err := c.Metadata()
		return err == nil && m.Controller >= 0 && m.Controller != stale.ID
	})
	// The new one decides something that the stale one knows nothing of.
	c.Create("payments", 1, 2)
	stale.Resume()
	resp := <-answered
	c.AwaitMembers()
	c.AwaitInSync("orders")
	promised := resp != nil && resp.Topics[0].ErrorCode == 0
	t.Logf("the topic that the stale controller was asked for: created %v", promised)
	admin := kadm.NewClient(c.Client())
	topics, err := admin.ListTopics(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"orders", "payments"} {
		if !topics.Has(topic) {
			t.Errorf("topic %s is gone: the stale controller overwrote it", topic)
		}
	}
	if promised {
		c.AwaitInSync("late")
	}
	sameTopics(t, c)
}

// sameTopics waits until all nodes say the same of all topics.
func sameTopics(t *testing.T, c *testkit.Cluster) {
	t.Helper()
	describe := func(n *testkit.Node) string {
		return n.Troupe("topic", "list", "-o", "json")
	}
	testkit.Eventually(t, "all nodes say the same of all topics", func() bool {
		first := describe(c.Nodes[0])
		for _, n := range c.Nodes[1:] {
			if describe(n) != first {
				return false
			}
		}
		return true
	})
}
