//go:build linux

package main

// startWorkloads start what they measure: start, idle memory, many partitions.
func startWorkloads() []workload { return nil }
