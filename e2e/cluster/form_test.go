package cluster

import (
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestThreeNodesFormAClusterThatKeepsEveryRecordThreeTimes(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	c.Create("orders", 3, 3)
	load := testkit.StartLoad(t, c, "orders")
	load.AwaitAcks(20_000)
	finish(t, c, load, 3)
}
