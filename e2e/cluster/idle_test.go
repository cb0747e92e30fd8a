package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// idleFor is how long an idle cluster is watched.
const idleFor = 10 * time.Second

func TestAnIdleClusterOfAThousandPartitionsUsesHardlyAnyCPU(t *testing.T) {
	c := testkit.StartCluster(t, 3)
	began := time.Now()
	for i := range 10 {
		c.Create(fmt.Sprintf("orders-%d", i), 100, 3)
	}
	t.Logf("1,000 partitions are in sync after %v", time.Since(began).Round(time.Millisecond))
	usage := func() (total []time.Duration) {
		for _, n := range c.Nodes {
			total = append(total, n.Usage().CPU)
		}
		return total
	}
	// What was begun by the creation of topics comes to rest first.
	const most = 0.02
	var shares []float64
	testkit.Eventually(t, "every node uses less than 2% of a CPU", func() bool {
		before := usage()
		watched := time.NewTimer(idleFor)
		<-watched.C
		shares = shares[:0]
		calm := true
		for i, after := range usage() {
			shares = append(shares, (after-before[i]).Seconds()/idleFor.Seconds())
			calm = calm && shares[i] < most
		}
		t.Logf("CPU per node: %.4f", shares)
		return calm
	})
}
