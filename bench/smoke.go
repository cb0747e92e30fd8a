//go:build linux

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

// The smoke run is for CI: some workloads beside the ideal broker, with margins that a
// busy machine stays within, but not a node that does twice the work.
const (
	smokeRounds = 3
	smokeMB     = 256

	smokeThroughput = 0.25 // of the ideal broker, at least
	smokeCPU        = 2.5  // times that of the ideal broker, at most
)

// smokeLoads are the workloads and how often a node may allocate for one request, which
// no busy machine changes: it is 13 for a Produce, and less than 20 for a Fetch.
var smokeLoads = map[string]float64{
	"produce 64 KiB of 1 KiB records, 1 connection, 1 partition":     30,
	"produce 64 KiB of 1 KiB records, 16 connections, 16 partitions": 30,
	"produce 16 KiB of 100 B records, 1 connection, 1 partition":     30,
	"consume 64 KiB of 1 KiB records, 1 connection, 1 partition":     30,
}

// smoke makes a run a smoke run.
func (s *settings) smoke() {
	var names []string
	for name := range smokeLoads {
		names = append(names, regexp.QuoteMeta(name))
	}
	s.only = regexp.MustCompile("^(" + strings.Join(names, "|") + ")$")
	s.rounds, s.mb, s.peers, s.guard = smokeRounds, smokeMB, false, true
}

func smokeClaims() (all []figures.Claim) {
	for name, allocs := range smokeLoads {
		all = append(all,
			beside(peer.Ideal, name, throughput, figures.Result.MBPerSecond, smokeThroughput, 0),
			beside(peer.Ideal, name, cpu, figures.Result.CPUPerGB, 0, smokeCPU),
			figures.Claim{Text: name + ": allocations per request", Workload: name,
				Own: peer.Troupe, Value: figures.Result.AllocsPerRequest, Most: allocs})
	}
	return all
}

// failed returns an error that names the claims which did not hold, or which nobody
// measured: a guard that sees nothing is none.
func failed(verdicts []figures.Verdict) error {
	var errs []error
	for _, v := range verdicts {
		if !v.Held || v.Seen == 0 {
			errs = append(errs, fmt.Errorf("%s: %.3g, at least %.3g, at most %.3g (0: no bound)",
				v.Text, v.Seen, v.Least, v.Most))
		}
	}
	return errors.Join(errs...)
}
