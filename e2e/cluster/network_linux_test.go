package cluster

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// A leader is cut off from the other nodes and from Consul, and not from its
// clients. They must not be told that it took what nobody else has.
func TestALeaderThatIsCutOffIsReplacedAndRejoins(t *testing.T) {
	const partitions = 3
	c := testkit.StartCluster(t, 3, testkit.WithNetwork())
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently,
		kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second))
	load.AwaitAcks(1000)
	c.AwaitInSync("orders")
	leader := c.Leader("orders", 0)
	led := c.Led("orders", leader)
	load.Mark()
	c.Isolate(leader)
	load.AwaitProgressOf(led...)
	t.Logf("the leader of %v was cut off, writes stood still for %v", led, load.Still(led...))
	c.Network.Heal()
	c.AwaitMembers()
	finish(t, c, load, partitions)
}

func TestASlowLinkSlowsAndLosesNothing(t *testing.T) {
	const partitions = 3
	const delay = 50 * time.Millisecond
	c := testkit.StartCluster(t, 3, testkit.WithNetwork())
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently)
	load.AwaitAcks(1000)
	for i, a := range c.Nodes {
		for _, b := range c.Nodes[:i] {
			c.Slow(a, b, delay)
		}
	}
	load.AwaitProgress()
	began := time.Now()
	load.AwaitProgress()
	if took := time.Since(began); took < delay {
		t.Errorf("a round over links of %v took %v: they are not slow", delay, took)
	}
	load.AwaitAcks(1000)
	if !c.InSync("orders") {
		t.Errorf("a delay of %v takes replicas out of the in-sync set", delay)
	}
	finish(t, c, load, partitions)
}
