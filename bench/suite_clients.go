//go:build linux

package main

// clientWorkloads are those of real clients.
func clientWorkloads() []workload { return nil }
