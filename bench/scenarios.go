//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// window is how many Produce requests a connection has under way at most; it is
// what Kafka's clients use by default.
const window = 5

// scenario is one kind of load.
type scenario struct {
	shape shape
	conns int // connections, each with a partition of its own
}

var (
	large = shape{label: "64 KiB of 1 KiB records", batchBytes: 64 << 10, recordBytes: 1 << 10}
	small = shape{label: "16 KiB of 100 B records", batchBytes: 16 << 10, recordBytes: 100}

	scenarios = []scenario{{large, 1}, {large, 8}, {small, 1}, {small, 8}}
)

func (s scenario) name() string { return fmt.Sprintf("%s, %d conns", s.shape.label, s.conns) }

func (s scenario) matches(part string) bool { return strings.Contains(s.name(), part) }

// result is what one load did to one broker.
type result struct {
	bytes     int64 // of record batches
	took      time.Duration
	brokerCPU time.Duration
	p50, p99  time.Duration // from sending a request to its answer; 0 for fetches
}

func (r result) megabytesPerSecond() float64 { return float64(r.bytes) / 1e6 / r.took.Seconds() }

func (r result) cpuPerGigabyte() float64 { return r.brokerCPU.Seconds() / (float64(r.bytes) / 1e9) }

// pair is produce and fetch.
type pair struct{ produce, fetch result }

// row is a scenario with the median of each broker.
type row struct {
	scenario      scenario
	ideal, troupe pair
}

// measure lets the brokers take turns; who begins changes every round.
func measure(ctx context.Context, s settings, sc scenario, ideal, troupe *broker) (row, error) {
	brokers := []*broker{ideal, troupe}
	seen := map[*broker][]pair{}
	for round := range s.rounds {
		for i := range brokers {
			b := brokers[(i+round)%len(brokers)]
			p, err := b.run(ctx, sc, fmt.Sprintf("bench-%d-%d", sc.conns, round), s.megabytes<<20)
			if err != nil {
				return row{}, fmt.Errorf("%s: %w", b.name, err)
			}
			seen[b] = append(seen[b], p)
		}
	}
	return row{sc, medians(seen[ideal]), medians(seen[troupe])}, nil
}

func medians(ps []pair) pair {
	var produce, fetch []result
	for _, p := range ps {
		produce, fetch = append(produce, p.produce), append(fetch, p.fetch)
	}
	return pair{median(produce), median(fetch)}
}

// median returns the run of median speed, so that its numbers belong together.
func median(rs []result) result {
	slices.SortFunc(rs, func(a, b result) int {
		return int(a.megabytesPerSecond() - b.megabytesPerSecond())
	})
	return rs[len(rs)/2]
}

type table []row

// write prints the table as Markdown, so that it can be pasted into a report.
func (t table) write(w io.Writer) error {
	if len(t) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(tw, "| load\t| ideal MB/s\t| troupe MB/s\t| ratio\t"+
		"| ideal CPU s/GB\t| troupe CPU s/GB\t| ideal p50/p99\t| troupe p50/p99\t|")
	fmt.Fprintln(tw, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range t {
		writeLine(tw, "produce "+r.scenario.name(), r.ideal.produce, r.troupe.produce)
		writeLine(tw, "fetch "+r.scenario.name(), r.ideal.fetch, r.troupe.fetch)
	}
	return tw.Flush()
}

func writeLine(w io.Writer, name string, ideal, troupe result) {
	ratio := troupe.megabytesPerSecond() / ideal.megabytesPerSecond()
	fmt.Fprintf(w, "| %s\t| %.0f\t| %.0f\t| %.2f\t| %.2f\t| %.2f\t| %s\t| %s\t|\n",
		name, ideal.megabytesPerSecond(), troupe.megabytesPerSecond(), ratio,
		ideal.cpuPerGigabyte(), troupe.cpuPerGigabyte(), latency(ideal), latency(troupe))
}

func latency(r result) string {
	if r.p50 == 0 {
		return "-"
	}
	return fmt.Sprintf("%v/%v", r.p50.Round(time.Microsecond), r.p99.Round(time.Microsecond))
}
