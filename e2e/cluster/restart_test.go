package cluster

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// Node after node is asked to stop and started again, as for a new version. The
// clients have default settings and see nothing of it.
func TestARollingRestartCausesNoClientError(t *testing.T) {
	const partitions = 6
	c := testkit.StartCluster(t, 3)
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	defaults := kgo.MetadataMinAge(5 * time.Second)
	load := testkit.StartLoad(t, c, "orders", defaults)
	for _, n := range c.Nodes {
		load.AwaitAcks(5000)
		load.Mark()
		n.Stop()
		load.AwaitProgress()
		n.Restart()
		c.AwaitMembers()
		c.AwaitInSync("orders")
		load.AwaitProgress()
		t.Logf("node %d restarted; writes stood still for %v at most", n.ID,
			load.Still(0, 1, 2, 3, 4, 5))
	}
	finish(t, c, load, partitions)
}
