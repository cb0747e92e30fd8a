package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// What docs/operations says of these events is what is tested here.

const opsPartitions = 6

// began starts three nodes, more options for each of which may follow, and a load
// on a topic that is on all of them.
func began(t *testing.T, opts ...testkit.Option) (*testkit.Cluster, *testkit.Load) {
	t.Helper()
	c := testkit.StartCluster(t, 3, opts...)
	c.Create("orders", opsPartitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently)
	load.AwaitAcks(5000)
	return c, load
}

func TestANodeWithANewDiskGetsItsReplicasBack(t *testing.T) {
	c, load := began(t)
	node := c.Leader("orders", 0)
	load.Mark()
	node.Kill()
	if err := os.RemoveAll(node.Dir); err != nil {
		t.Fatal(err)
	}
	load.AwaitProgress()
	t.Logf("writes stood still for %v", load.Still(0))
	began := time.Now()
	node.Restart()
	c.AwaitInSync("orders")
	t.Logf("in sync %v after the start on the new disk", time.Since(began))
	load.AwaitProgress()
	finish(t, c, load, opsPartitions)
}

func TestAllNodesKilledAtOnceLoseNothing(t *testing.T) {
	c, load := began(t)
	load.Mark()
	killed := time.Now()
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range c.Nodes {
		n.Restart()
	}
	t.Logf("all nodes were ready %v after they were killed", time.Since(killed))
	load.AwaitProgress()
	t.Logf("writes went on %v after they were killed", time.Since(killed))
	finish(t, c, load, opsPartitions)
}

func TestANodeThatIsCutOffComesBackByItself(t *testing.T) {
	c, load := began(t, testkit.WithNetwork())
	node := c.Leader("orders", 0)
	led := c.Led("orders", node)
	load.Mark()
	c.Isolate(node)
	began := time.Now()
	testkit.Eventually(t, "others lead", func() bool {
		return slices.Index(c.Led("orders", node), led[0]) < 0
	})
	t.Logf("others lead after %v", time.Since(began))
	load.AwaitProgressOf(led...)
	t.Logf("node %d was cut off, writes stood still for %v", node.ID, load.Still(led...))
	c.Network.Heal()
	healed := time.Now()
	c.AwaitInSync("orders")
	t.Logf("in sync %v after the links were back", time.Since(healed))
	finish(t, c, load, opsPartitions)
}

// Both nodes live and the controller hears both, so nobody is fenced; what lags
// leaves the in-sync sets.
func TestALinkBetweenTwoNodesIsCut(t *testing.T) {
	c, load := began(t, testkit.WithNetwork(), testkit.Set("replica.lag.time.max.ms", "5000"))
	load.Mark()
	controller := c.Controller()
	ends := slices.DeleteFunc(slices.Clone(c.Nodes),
		func(n *testkit.Node) bool { return n == controller })
	c.Cut(ends[0], ends[1])
	cut := time.Now()
	testkit.Eventually(t, "a follower is out of sync",
		func() bool { return c.Missing("orders", ends[0]) || c.Missing("orders", ends[1]) })
	if c.Missing("orders", controller) {
		t.Error("the node whose links are whole is out of sync")
	}
	for _, n := range c.Nodes {
		if strings.Contains(n.Log(), "node is fenced") {
			t.Errorf("node %d says that a node was fenced", n.ID)
		}
	}
	t.Logf("out of sync after %v", time.Since(cut))
	load.AwaitProgress()
	t.Logf("writes stood still for %v", load.Still(0, 1, 2, 3, 4, 5))
	c.Network.Heal()
	healed := time.Now()
	c.AwaitInSync("orders")
	t.Logf("in sync %v after the link was back", time.Since(healed))
	finish(t, c, load, opsPartitions)
}

func TestAFullDiskOfOneNodeLosesNothing(t *testing.T) {
	disk := testkit.SmallDisk(t, 16)
	c := testkit.StartCluster(t, 2, testkit.Set("replica.lag.time.max.ms", "3000"))
	small := c.AddNode(testkit.Dir(filepath.Join(disk.Dir, "data")))
	c.Create("orders", opsPartitions, 3, "min.insync.replicas", "2")
	load := testkit.StartSlowLoad(t, c, "orders")
	load.Mark()
	testkit.Eventually(t, "the small disk is full", func() bool {
		return c.Missing("orders", small) && strings.Contains(small.Log(), "data directory is full")
	})
	elsewhere := slices.Concat(c.Led("orders", c.Nodes[0]), c.Led("orders", c.Nodes[1]))
	load.AwaitProgressOf(elsewhere...)
	t.Logf("partitions %v, led elsewhere, stood still for %v", elsewhere, load.Still(elsewhere...))

	// The partitions it leads wait for room, or for another leader.
	small.Kill()
	load.AwaitProgress()
	t.Logf("all partitions are written to; they stood still for %v", load.Still(0, 1, 2, 3, 4, 5))
	disk.Grow(1024)
	small.Restart()
	grown := time.Now()
	c.AwaitInSync("orders")
	t.Logf("in sync %v after there was room", time.Since(grown))
	finish(t, c, load, opsPartitions)
}

// A file that may not grow stands in for a disk that fails: the error is not
// that of a full one.
func TestABrokenDiskOfOneNodeLosesNothing(t *testing.T) {
	c := testkit.StartCluster(t, 2, testkit.Set("replica.lag.time.max.ms", "3000"))
	broken := c.AddNode(testkit.Under("bash", "-c", `ulimit -f 3000; exec "$@"`, "bash"))
	c.Create("orders", opsPartitions, 3, "min.insync.replicas", "2")
	load := testkit.StartSlowLoad(t, c, "orders")
	load.Mark()
	testkit.Eventually(t, "writes to the disk of a node fail", func() bool {
		return c.Missing("orders", broken) && strings.Contains(broken.Log(), "file too large")
	})
	elsewhere := slices.Concat(c.Led("orders", c.Nodes[0]), c.Led("orders", c.Nodes[1]))
	load.AwaitProgressOf(elsewhere...)
	t.Logf("partitions %v, led elsewhere, stood still for %v", elsewhere, load.Still(elsewhere...))
	broken.Kill()
	load.AwaitProgress()
	t.Logf("all partitions are written to; they stood still for %v", load.Still(0, 1, 2, 3, 4, 5))
	broken.Restart(testkit.Under())
	c.AwaitInSync("orders")
	finish(t, c, load, opsPartitions)
}
