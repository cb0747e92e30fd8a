package cluster

import (
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// The node that coordinates a group is killed: another one takes over what the group
// was, members keep their partitions, and what they had committed is there. The same
// when the node is back and coordinates the group again.
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
				began, losses := time.Now(), g.Losses()
				g.Mark()
				victim := c.GroupCoordinator(g.ID)
				victim.Kill()
				g.AwaitConsumed()
				heir := c.GroupCoordinator(g.ID)
				g.AwaitConsumed()
				t.Logf("node %d died, node %d took over; consumption stood still for %v at the most",
					victim.ID, heir.ID, longest(g.Still(0, 1, 2, 3, 4, 5)))
				victim.Restart()
				testkit.Eventually(t, "the group is coordinated where it was", func() bool {
					return c.GroupCoordinator(g.ID) == victim
				})
				g.AwaitConsumed()
				// A classic member of franz-go that finds nobody at the old coordinator's
				// address gives its partitions up by itself and joins again.
				stayed, given := len(g.Untouched(topic, began)), g.Losses()-losses
				if given == 0 && stayed < 6 || given > 0 && protocol == testkit.ServerSide {
					t.Errorf("%d of 6 partitions stayed, %d were given up", stayed, given)
				}
			}
			// Both coordinators have to know of it. A member may lose its partitions and
			// join anew if the coordinator moves just now.
			bob.Leave()
			g.AwaitBalanced()
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
