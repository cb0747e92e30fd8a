// Package clients holds tests that drive real nodes with clients that are not
// written in Go: Kafka's own Java consumer, producer, Streams and command line
// tools, and kafkajs. The Go files start the nodes and judge; what runs against
// them is under java and node.
//
// "make clients" runs them. They fetch jars and npm packages, so they have the build
// tag clients and are no part of "make test". Nobody imports the package.
package clients
