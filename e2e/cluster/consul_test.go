package cluster

import (
	"os"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// consulAway is for how long Consul is gone: CHAOS_CONSUL_AWAY, or longer than
// every timeout after which a node counts as dead.
func consulAway(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("CHAOS_CONSUL_AWAY")
	if s == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("CHAOS_CONSUL_AWAY: %v", err)
	}
	return d
}

// Consul is needed to change things, not to go on as before.
func TestConsulStoppedUnderLoadIsNotNoticedByClients(t *testing.T) {
	const partitions = 6
	consul := testkit.StartConsul(t)
	c := testkit.StartCluster(t, 3, testkit.WithConsul(consul))
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	load := testkit.StartLoad(t, c, "orders", gently)
	load.AwaitAcks(5000)
	before := leaders(t, c)
	load.Mark()
	consul.Stop()
	away := time.NewTimer(consulAway(t))
	<-away.C
	load.AwaitProgress()
	still := load.Still(0, 1, 2, 3, 4, 5)
	t.Logf("Consul was stopped for %v; writes stood still for %v at most", consulAway(t), still)
	if still > 2*time.Second {
		t.Errorf("without Consul writes stood still for %v", still)
	}
	sameLeaders(t, "without Consul", before, leaders(t, c))
	consul.Restart()
	c.AwaitMembers()
	load.AwaitProgress()
	sameLeaders(t, "after Consul came back", before, leaders(t, c))
	c.Create("payments", 3, 3)

	// And who dies now is noticed as ever.
	victim := c.Leader("orders", 0)
	victim.Kill()
	load.AwaitProgress()
	victim.Restart()
	finish(t, c, load, partitions)
}

type leadership struct{ leader, epoch int32 }

// leaders returns who leads the partitions of "orders", and as of which epoch: one
// that was declared dead, even by mistake, has another afterwards.
func leaders(t *testing.T, c *testkit.Cluster) map[int32]leadership {
	t.Helper()
	m, err := c.Metadata("orders")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int32]leadership{}
	for _, p := range m.Topics["orders"].Partitions {
		if all[p.Partition] = (leadership{p.Leader, p.LeaderEpoch}); len(p.ISR) != len(p.Replicas) {
			t.Errorf("of partition %d, %v of %v are in sync", p.Partition, p.ISR, p.Replicas)
		}
	}
	return all
}

func sameLeaders(t *testing.T, when string, before, now map[int32]leadership) {
	t.Helper()
	for p, was := range before {
		if now[p] != was {
			t.Errorf("%s partition %d is led by node %d in epoch %d; it was node %d in epoch %d",
				when, p, now[p].leader, now[p].epoch, was.leader, was.epoch)
		}
	}
}
