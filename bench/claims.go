//go:build linux

package main

import (
	"strings"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

// Names of client libraries, which are compared on one node.
const (
	franzGo = "franz-go"
	sdk     = "sdk"
)

// Figures that claims are made of.
func p99(r figures.Result) float64     { return float64(r.P99) }
func rss(r figures.Result) float64     { return float64(r.RSS) }
func first(r figures.Result) float64   { return r.Extra[firstRecordMs] }
func restart(r figures.Result) float64 { return r.Extra[restartMs] }
func idle(r figures.Result) float64    { return r.Extra[idleCPU] }

// claims are what has to hold on a machine of two CPUs.
func claims() (all []figures.Claim) {
	all = append(all, produceClaims()...)
	all = append(all, consumeClaims()...)
	all = append(all, latencyClaims()...)
	return append(all, operationClaims()...)
}

// beside is a claim of Troupe beside another broker.
func beside(
	base, workload, what string, value func(figures.Result) float64, least, most float64,
) figures.Claim {
	return figures.Claim{Text: workload + ": " + what + " beside " + base, Workload: workload,
		Own: peer.Troupe, Base: base, Value: value, Least: least, Most: most}
}

const (
	throughput = "MB/s"
	cpu        = "CPU per GB"
)

func produceClaims() (all []figures.Claim) {
	const one, many = "1 connection, 1 partition", "16 connections, 16 partitions"
	for _, shape := range []string{"64 KiB of 1 KiB records", "16 KiB of 100 B records"} {
		for _, conns := range []string{one, many} {
			name := "produce " + shape + ", " + conns
			all = append(all,
				beside(peer.Ideal, name, throughput, figures.Result.MBPerSecond, 0.8, 0),
				beside(peer.Ideal, name, cpu, figures.Result.CPUPerGB, 0, 1.4),
				beside(peer.Kafka, name, throughput, figures.Result.MBPerSecond, 1.5, 0),
				beside(peer.Kafka, name, cpu, figures.Result.CPUPerGB, 0, 0.5))
		}
		short := strings.TrimSuffix(shape, " records")
		name := "franz-go produce " + short + ", acks=1"
		all = append(all,
			beside(peer.Kafka, name, throughput, figures.Result.MBPerSecond, 1.5, 0),
			beside(peer.Kafka, name, cpu, figures.Result.CPUPerGB, 0, 0.5))
	}
	const replicated = "produce 64 KiB of 1 KiB records to three replicas, " +
		"16 connections, 12 partitions"
	return append(all,
		beside(peer.Kafka, replicated, throughput, figures.Result.MBPerSecond, 1, 0),
		beside(peer.Kafka, replicated, cpu, figures.Result.CPUPerGB, 0, 0.5))
}

func consumeClaims() (all []figures.Claim) {
	for _, conns := range []string{"1 connection, 1 partition", "16 connections, 16 partitions"} {
		name := "consume 64 KiB of 1 KiB records, " + conns
		all = append(all,
			beside(peer.Ideal, name, throughput, figures.Result.MBPerSecond, 0.85, 0),
			beside(peer.Kafka, name, throughput, figures.Result.MBPerSecond, 1.2, 0),
			beside(peer.Kafka, name, cpu, figures.Result.CPUPerGB, 0, 0.5))
	}
	return all
}

func latencyClaims() []figures.Claim {
	const (
		tail  = "end to end 64 KiB of 1 KiB records at half load, 16 connections, 16 partitions"
		small = "produce 1 KiB of one record at 1000/s, 16 connections, 16 partitions"
		flush = "produce 1 KiB of one record with flush.messages=1, 16 connections, 100 partitions"
	)
	return []figures.Claim{
		beside(peer.Kafka, tail, "p99", p99, 0, 0.5),
		beside(peer.Kafka, "franz-go end to end at 50 % load", "p99", p99, 0, 0.5),
		beside(peer.Kafka, small, "p99", p99, 0, 0.5),
		beside(peer.Kafka, "franz-go produce one record of 1 KiB, linger 0", "p99", p99, 0, 0.5),
		beside(peer.Kafka, flush, "acknowledgements", figures.Result.RequestsPerSecond, 3, 0),
	}
}

func operationClaims() []figures.Claim {
	const start, idleName = "start to the first acknowledged record, empty", "idle memory"
	const many = "partitions: 10,000"
	return []figures.Claim{
		beside(peer.Kafka, start, "time", first, 0, 0.1),
		beside(peer.Kafka, idleName, "resident memory", rss, 0, 0.2),
		{Text: many + ": resident memory", Workload: many, Own: peer.Troupe, Unit: "MB",
			Value: func(r figures.Result) float64 { return rss(r) / 1e6 }, Most: 1000},
		{Text: many + ": restart", Workload: many, Own: peer.Troupe, Unit: "ms",
			Value: restart, Most: 5000},
		{Text: many + ": idle CPU", Workload: many, Own: peer.Troupe, Unit: "% of a CPU",
			Value: idle, Most: 2},
	}
}

// plots are the pictures of the document, by name.
func plots() map[string]figures.Plot {
	const mbs = "MB/s"
	of := func(group string) (names []string) {
		for _, w := range workloads() {
			if w.group == group {
				names = append(names, w.name)
			}
		}
		return names
	}
	return map[string]figures.Plot{
		"produce": {Title: "Produce, raw driver", Unit: mbs, Rows: of("produce"),
			Value: figures.Result.MBPerSecond},
		"produce-cpu": {Title: "Produce, raw driver", Unit: "broker CPU s/GB",
			Rows: of("produce"), Value: figures.Result.CPUPerGB},
		"consume": {Title: "Consume, raw driver", Unit: mbs, Rows: of("consume"),
			Value: figures.Result.MBPerSecond},
		"franz-go": {Title: "franz-go as the client", Unit: mbs, Rows: of(clientGroup),
			Value: figures.Result.MBPerSecond},
		"latency": {Title: "Latency, raw driver", Unit: "p99", Rows: of("latency"),
			Value: p99, Log: true},
		"client-latency": {Title: "Latency, franz-go", Unit: "p99", Rows: of(latencyGroup),
			Value: p99, Log: true},
	}
}
