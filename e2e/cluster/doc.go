// Package cluster holds the end-to-end tests of several nodes: real processes, a
// real Consul and real clients, while nodes are killed, paused, cut off, stopped
// and added.
package cluster
