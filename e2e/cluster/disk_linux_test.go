package cluster

import (
	"path/filepath"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// The disk of a follower fills up while the others go on. When there is room
// again it catches up.
func TestAFollowerWhoseDiskIsFullFallsBehindAndCatchesUp(t *testing.T) {
	disk := testkit.SmallDisk(t, 24)
	c := testkit.StartCluster(t, 2, testkit.Set("replica.lag.time.max.ms", "2000"))
	small := c.AddNode(testkit.Dir(filepath.Join(disk.Dir, "data")),
		testkit.Set("replica.lag.time.max.ms", "2000"))
	createOn(t, c, "orders", []int32{1, 2, small.ID})
	load := testkit.StartLoad(t, c, "orders", gently)
	load.Mark()
	testkit.Eventually(t, "the node with the full disk is out of sync", func() bool {
		return !c.InSync("orders")
	})
	load.AwaitProgress()
	t.Logf("a disk is full, writes stood still for %v at most", load.Still(0))
	disk.Grow(2048)
	c.AwaitInSync("orders")
	load.AwaitProgress()
	finish(t, c, load, 1)
}

// A node is replaced by an empty one with its id.
func TestANodeThatComesBackEmptyIsFilledAgain(t *testing.T) {
	const partitions = 3
	c := testkit.StartCluster(t, 3)
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently)
	load.AwaitAcks(5000)
	lost := c.Leader("orders", 0)
	lost.Kill()
	load.AwaitProgress()
	lost.Restart(testkit.Dir(filepath.Join(t.TempDir(), "data")))
	c.AwaitMembers()
	load.AwaitProgress()
	finish(t, c, load, partitions)
}
