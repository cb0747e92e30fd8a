// Package e2e tests the troupe binary as its users meet it: real processes, real
// Kafka clients, real disks, kill -9. It holds tests only.
//
// The tests need kcat and two Python clients; "make test" installs them. Those
// named OnASmallDisk and OnAReadOnlyDisk mount file systems and need root.
package e2e
