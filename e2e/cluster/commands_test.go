package cluster

import (
	"strings"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// An operator's whole day, with the commands alone: what they say stands in the
// output, and what they do in the next one's.
func TestTheCommandsLookAfterACluster(t *testing.T) {
	// The balancer must not move what the commands did; it empties nodes all the same.
	c := testkit.StartCluster(t, 4, testkit.Set("auto.leader.rebalance.enable", "false"))
	one := c.Node(1)
	says := func(what string, args ...string) {
		t.Helper()
		if out := one.Troupe(args...); !strings.Contains(out, what) {
			t.Errorf("troupe %s says\n%s\nnot %q", strings.Join(args, " "), out, what)
		}
	}
	c.Create("orders", 3, 3, "min.insync.replicas", "2")
	c.AwaitInSync("orders")
	says("All is well.", "cluster", "status", "--check")

	says("orders:0 has its replicas on 4,1,2",
		"partition", "reassign", "orders:0", "--replicas", "4,1,2", "--wait")
	says("node 2 leads orders:0", "partition", "transfer", "orders:0", "--to", "2")
	says("orders:0 has its leader already", "partition", "elect", "orders:0")
	says("node 2 leads orders:0 already", "partition", "transfer", "orders:0", "--to", "2")

	says("node 4 is drained", "node", "drain", "4", "--wait")
	c.Node(4).Kill()
	testkit.Eventually(t, "the cluster knows that node 4 is dead", func() bool {
		_, err := one.TryTroupe("", "cluster", "status", "--check")
		return err != nil && strings.Contains(one.Troupe("cluster", "status"), "node 4 is dead")
	})
	says("removed node 4", "node", "remove", "4")
	says("All is well.", "cluster", "status", "--check")

	c.Node(3).Kill()
	testkit.Eventually(t, "the cluster knows that replicas are missing", func() bool {
		return strings.Contains(one.Troupe("cluster", "status"),
			"3 partitions are under-replicated: replicas lag or are dead")
	})
	says("under-replicated", "partition", "list", "--under-replicated", "--topic", "orders")
	if _, err := one.TryTroupe("", "node", "remove", "3"); err == nil {
		t.Error("a node with replicas was removed")
	}
	c.Node(3).Restart()
	c.AwaitInSync("orders")
	says("All is well.", "cluster", "status", "--check")
}
