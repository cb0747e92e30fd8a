package cluster

import (
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// The node that coordinates a group is killed: another one takes over what the group
// was, members keep their partitions, and what they had committed is there.
func TestAGroupSurvivesTheDeathOfItsCoordinator(t *testing.T) {
	c := testkit.StartCluster(t, 3, testkit.FastGroups())
	for _, protocol := range []testkit.Protocol{
		testkit.Eager, testkit.Cooperative, testkit.ServerSide,
	} {
		t.Run(string(protocol), func(t *testing.T) {
			topic := "orders-" + string(protocol)
			c.Create(topic, 6, 3, "min.insync.replicas", "2")
			g := testkit.StartGroup(t, testkit.GroupSettings{
				Brokers: c.Brokers(), Topic: topic, ID: topic + "-readers"})
			g.Join("amy", protocol.Options()...)
			bob := g.Join("bob", protocol.Options()...)
			g.AwaitBalanced()
			for range 2 {
				g.AwaitConsumed()
				c.AwaitInSync(topic, "__consumer_offsets")
				began := time.Now()
				g.Mark()
				victim := c.GroupCoordinator(g.ID)
				victim.Kill()
				g.AwaitConsumed()
				heir := c.GroupCoordinator(g.ID)
				g.AwaitConsumed()
				if n := len(g.Untouched(topic, began)); n != 6 {
					t.Errorf("%d of 6 partitions stayed where they were", n)
				}
				t.Logf("node %d died, node %d took over; consumption stood still for %v at the most",
					victim.ID, heir.ID, longest(g.Still(0, 1, 2, 3, 4, 5)))
				victim.Restart()
			}
			bob.Leave() // the heir has to know of it
			g.AwaitBalanced()
			if losses := g.Losses(); losses > 0 {
				t.Errorf("%d partitions were lost, and no member had died", losses)
			}
			g.Finish()
		})
	}
}

func longest(still []time.Duration) (most time.Duration) {
	for _, d := range still {
		most = max(most, d)
	}
	return most.Round(time.Millisecond)
}
