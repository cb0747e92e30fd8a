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
// StartConsul runs a Consul agent with data of its own, which can be killed,
// paused, emptied and restarted; SharedConsul one for all tests of a process.
//
// It owns the processes it starts: each ends with its test at the latest. Only
// tests and benchmarks may import it.
package testkit
