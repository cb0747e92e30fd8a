package cluster

import (
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// A leader is cut off from the other nodes and from Consul, and not from its clients,
// which it must not tell that it took what nobody else has.
func TestTheSDKLeavesALeaderThatIsCutOff(t *testing.T) {
	s := startService(t, testkit.WithNetwork())
	s.c.AwaitInSync("orders")
	leader := s.c.Leader("orders", 0)
	led := s.c.Led("orders", leader)
	s.Mark()
	s.c.Isolate(leader)
	s.AwaitProgressOf(led...)
	t.Logf("the leader of %v was cut off, writes stood still for %v", led, s.Still(led...))
	s.readers.AwaitRead(s.Load)
	s.c.Network.Heal()
	s.c.AwaitMembers()
	s.goesOn()
	s.finish()
}
