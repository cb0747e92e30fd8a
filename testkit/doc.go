// Package testkit runs real Troupe processes in tests and checks what clients
// saw of them.
//
// StartNode runs the binary on free ports and waits until it is ready; the Node
// can then be killed, stopped, paused and restarted on the same data. A History
// remembers what a producer was promised and tells whether consumers got it.
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
//	func TestOrdersSurviveACrash(t *testing.T) {
//		node := testkit.StartNode(t)
//		// ... produce through node.Kafka ...
//		node.Kill()
//		node.Restart()
//		// ... consume and compare ...
//	}
//
// StartCluster runs several nodes that find each other through Consul, and a Load
// writes to them while the test harms them; what the clients were promised must
// hold, and the replicas must be the same:
//
//	func TestOrdersSurviveTheDeathOfTheirLeader(t *testing.T) {
//		c := testkit.StartCluster(t, 3)
//		c.Create("orders", 6, 3, "min.insync.replicas", "2")
//		load := testkit.StartLoad(t, c, "orders")
//		load.AwaitAcks(5000)
//		leader := c.Leader("orders", 0)
//		leader.Kill()
//		load.AwaitProgress()
//		leader.Restart()
//		c.AwaitInSync("orders")
//		load.Finish()
//		c.Stop()
//		c.SameReplicas("orders", 6)
//	}
//
// StartGroup runs franz-go consumers in a group, which join, leave, die and fall
// silent as the test says, and checks what must hold of every group:
//
//	g := testkit.StartGroup(t, testkit.GroupSettings{
//		Brokers: c.Brokers(), Topic: "orders", ID: "readers"})
//	amy := g.Join("amy", testkit.Cooperative.Options()...)
//	g.Join("bob", testkit.Cooperative.Options()...)
//	g.AwaitBalanced()
//	amy.Die()
//	g.AwaitBalanced()
//	g.Finish()
//
// StartCopy runs an exactly-once copy by processes of their own that can be killed.
//
// With WithNetwork links between nodes can be cut and slowed (Cluster.Cut,
// Cluster.Slow, Cluster.Isolate); SmallDisk gives a node a disk that fills up.
//
// StartConsul runs a Consul agent with data of its own, which can be killed,
// paused, emptied and restarted; SharedConsul one for all tests of a process.
//
// It owns the processes it starts: each ends with its test at the latest. Only
// tests and benchmarks may import it.
package testkit
