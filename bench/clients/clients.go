// Package clients drives brokers with real client libraries: franz-go, the SDK, the
// native client of NATS. The commands of bench may call it.
package clients
