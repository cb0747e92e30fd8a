package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
	"github.com/troupelog/troupe/testkit/sdk"
)

// sdkPartitions are those of the topic "orders" in tests of the SDK.
const sdkPartitions = 6

// service is what a program with the SDK does, and more than one of them: it writes to a
// topic all the time, and two members of a group read from it.
type service struct {
	*testkit.Load
	readers *sdk.Readers
	t       *testing.T
	c       *testkit.Cluster
}

// startService starts it on a new cluster. One reader has found the nodes through Consul,
// as the writer, and the other by their addresses.
func startService(t *testing.T, opts ...testkit.Option) *service {
	t.Helper()
	c := testkit.StartCluster(t, 3,
		append([]testkit.Option{testkit.FastGroups(), testkit.KeepActorAddr()}, opts...)...)
	c.Create("orders", sdkPartitions, 3, "min.insync.replicas", "2")
	// So little under way that a long run does not write more than the history can hold.
	sender := sdk.NewSender(t, sdk.Dial(t, sdk.ByConsul(c)),
		clientlib.ProducerConfig{BatchBytes: 64 << 10, BufferBytes: 256 << 10})
	s := &service{t: t, c: c, Load: testkit.StartLoadWith(t, c, "orders", sender),
		readers: sdk.NewReaders(t, "orders", "billing")}
	s.readers.Join("amy", sdk.Dial(t, sdk.ByConsul(c)))
	s.readers.Join("bob", sdk.Dial(t, sdk.ByAddress(c)))
	s.readers.AwaitShares(sdkPartitions/2, "amy", "bob")
	s.AwaitAcks(5000)
	return s
}

// goesOn waits until what is written from now on is acknowledged and read.
func (s *service) goesOn() {
	s.t.Helper()
	s.AwaitProgress()
	s.readers.AwaitRead(s.Load)
}

// finish ends all of it and checks what clients saw, and the replicas.
func (s *service) finish() sdk.Again {
	s.t.Helper()
	s.c.AwaitInSync("orders")
	s.Finish()
	again := s.readers.Finish(s.Load)
	s.c.Stop()
	s.c.SameReplicas("orders", sdkPartitions)
	return again
}

func TestTheSDKLosesDoublesAndReordersNothingWhenLeadersDie(t *testing.T) {
	s := startService(t)
	var outages times
	for i := range number(t, "SDK_KILLS", 3) {
		s.AwaitAcks(5000)
		s.c.AwaitInSync("orders", "__consumer_offsets")
		victim := s.c.Leader("orders", int32(i)%sdkPartitions)
		led := s.c.Led("orders", victim)
		s.Mark()
		victim.Kill()
		s.AwaitProgressOf(led...)
		outages = append(outages, s.Still(led...))
		t.Logf("kill %d: node %d led %v, writes stood still for %v; delivered again: %+v",
			i+1, victim.ID, led, outages[i].Round(time.Millisecond), s.readers.Again())
		s.readers.AwaitRead(s.Load)
		victim.Restart()
		s.c.AwaitInSync("orders")
		s.goesOn()
	}
	again := s.finish()
	t.Logf("%d leaders killed; writes stood still for %v", len(outages), outages)
	if again.AfterRevocation > 0 {
		t.Errorf("%d records came again to a member that got a partition which another had "+
			"given back", again.AfterRevocation)
	}
	if m := outages.median(); m > goalMedian {
		t.Errorf("writes stood still for %v at the median, more than %v", m, goalMedian)
	}
	if m := slices.Max(outages); m > goalMaximum {
		t.Errorf("writes stood still for %v once, more than %v", m, goalMaximum)
	}
}

// Node after node is asked to stop and started again, and then killed and started again:
// nobody sees an error.
func TestTheSDKSurvivesTheRestartOfEveryNode(t *testing.T) {
	s := startService(t)
	for _, kill := range []bool{false, true} {
		for _, n := range s.c.Nodes {
			s.AwaitAcks(2000)
			s.Mark()
			if kill {
				n.Kill()
			} else {
				n.Stop()
			}
			s.goesOn()
			n.Restart()
			s.c.AwaitMembers()
			s.c.AwaitInSync("orders", "__consumer_offsets")
			s.goesOn()
			t.Logf("node %d restarted (killed: %v); writes stood still for %v at most", n.ID, kill,
				s.Still(0, 1, 2, 3, 4, 5).Round(time.Millisecond))
		}
	}
	s.finish()
}

func TestTheSDKGoesOnWhenAllNodesWereDown(t *testing.T) {
	const down = 10 * time.Second
	s := startService(t)
	for _, n := range s.c.Nodes {
		n.Kill()
	}
	back := time.NewTimer(down)
	<-back.C
	for _, n := range s.c.Nodes { // none is ready before the others are there
		n.Launch()
	}
	for _, n := range s.c.Nodes {
		n.Await()
	}
	began := time.Now()
	s.goesOn()
	t.Logf("the service went on %v after the nodes were back", time.Since(began))
	s.finish()
}

func TestTheSDKDoesNotNoticeThatConsulIsAway(t *testing.T) {
	consul := testkit.StartConsul(t)
	s := startService(t, testkit.WithConsul(consul))
	s.Mark()
	consul.Stop()
	away := time.NewTimer(consulAway(t))
	<-away.C
	s.goesOn()
	still := s.Still(0, 1, 2, 3, 4, 5)
	t.Logf("Consul was stopped for %v; writes stood still for %v at most", consulAway(t), still)
	if still > 2*time.Second {
		t.Errorf("without Consul writes stood still for %v", still)
	}
	consul.Restart()
	s.c.AwaitMembers()
	victim := s.c.Leader("orders", 0)
	victim.Kill()
	s.goesOn()
	victim.Restart()
	s.finish()
}

// A leader is frozen for so long that another leads, and wakes.
func TestTheSDKLeavesALeaderThatIsFrozen(t *testing.T) {
	s := startService(t)
	frozen := s.c.Leader("orders", 0)
	led := s.c.Led("orders", frozen)
	woken := time.NewTimer(pausedFor)
	s.Mark()
	t.Logf("%s: node %d, the leader of %v, is frozen; node %d coordinates the group",
		time.Now().Format("15:04:05.000"), frozen.ID, led, s.c.GroupCoordinator("billing").ID)
	frozen.Pause()
	s.AwaitProgressOf(led...)
	t.Logf("writes stood still for %v", s.Still(led...))
	s.readers.AwaitRead(s.Load)
	<-woken.C
	frozen.Resume()
	s.c.AwaitMembers()
	s.goesOn()
	s.finish()
}
