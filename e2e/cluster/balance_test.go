package cluster

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/troupelog/troupe/testkit"
)

// share counts the replicas and the leaderships of a topic on a node.
func share(t *testing.T, c *testkit.Cluster, topic string, node int32) (replicas, leads int) {
	t.Helper()
	m, err := c.Metadata(topic)
	if err != nil {
		t.Log(err)
		return -1, -1
	}
	m.Topics.EachPartition(func(p kadm.PartitionDetail) {
		if p.Leader == node {
			leads++
		}
		for _, r := range p.Replicas {
			if r == node {
				replicas++
			}
		}
	})
	return replicas, leads
}

func TestAFourthNodeTakesItsShareAndDrainEmptiesItAgain(t *testing.T) {
	const partitions = 8
	c := testkit.StartCluster(t, 3)
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently)
	load.AwaitAcks(5000)
	fourth := c.AddNode()
	testkit.Eventually(t, "the fourth node has a quarter of replicas and leaders", func() bool {
		replicas, leads := share(t, c, "orders", fourth.ID)
		return replicas >= partitions*3/4-1 && leads >= partitions/4-1 && c.InSync("orders")
	})
	load.AwaitProgress()
	replicas, leads := share(t, c, "orders", fourth.ID)
	t.Logf("the fourth node has %d of %d replicas and leads %d of %d partitions; "+
		"writes stood still for %v at most",
		replicas, partitions*3, leads, partitions, load.Still(0, 1, 2, 3, 4, 5, 6, 7))

	load.Mark()
	fourth.Troupe("node", "drain", "4")
	testkit.Eventually(t, "the drained node has nothing", func() bool {
		replicas, leads := share(t, c, "orders", fourth.ID)
		return replicas == 0 && leads == 0 && c.InSync("orders")
	})
	load.AwaitProgress()
	t.Logf("drained; writes stood still for %v at most", load.Still(0, 1, 2, 3, 4, 5, 6, 7))
	finish(t, c, load, partitions)
}
