// Package sdk runs producers and consumers of clientlib in tests and checks what they
// saw, as package testkit does with other clients.
//
// Sender gives a testkit.Load a producer of the SDK; Readers is a group of its consumers,
// whose Deliveries are checked:
//
//	c := testkit.StartCluster(t, 3, testkit.FastGroups())
//	c.Create("orders", 6, 3, "min.insync.replicas", "2")
//	load := testkit.StartLoadWith(t, c, "orders", sdk.NewSender(t, sdk.Dial(t, sdk.ByConsul(c))))
//	readers := sdk.NewReaders(t, "orders", "billing")
//	readers.Join("amy", sdk.Dial(t, sdk.ByConsul(c)))
//	readers.Join("bob", sdk.Dial(t, sdk.ByAddress(c)))
//	load.AwaitAcks(5000)
//	load.Finish()
//	readers.Finish(load)
//
// It owns the clients it makes: they end with their test at the latest. Only tests and
// benchmarks may import it.
package sdk
