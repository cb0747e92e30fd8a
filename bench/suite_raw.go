//go:build linux

package main

// rawWorkloads are those of the raw driver.
func rawWorkloads() []workload { return nil }
