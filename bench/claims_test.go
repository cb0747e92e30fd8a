//go:build linux

package main

import (
	"slices"
	"testing"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

func TestClaimsAndPlotsAreOfWorkloadsThatThereAre(t *testing.T) {
	peers := map[string][]string{}
	for _, w := range workloads() {
		if peers[w.name] != nil {
			t.Errorf("two workloads are called %q", w.name)
		}
		peers[w.name] = w.peers
	}
	for _, c := range append(claims(), smokeClaims()...) {
		for _, name := range []string{c.Own, c.Base} {
			if name != "" && !slices.Contains(peers[c.Workload], name) {
				t.Errorf("claim %q: %q is not run by %q", c.Text, c.Workload, name)
			}
		}
		if c.Least == 0 && c.Most == 0 {
			t.Errorf("claim %q bounds nothing", c.Text)
		}
	}
	for name, p := range plots() {
		if len(p.Rows) == 0 || p.Value == nil {
			t.Errorf("plot %q shows nothing", name)
		}
	}
}

func TestTheGuardFailsOnWhatDoesNotHoldAndOnWhatWasNotMeasured(t *testing.T) {
	claim := figures.Claim{Text: "claim", Workload: "w", Own: peer.Troupe, Most: 2,
		Value: figures.Result.AllocsPerRequest}
	run := func(allocs float64) *figures.Run {
		return &figures.Run{Rows: []figures.Row{{Workload: "w", Runs: map[string][]figures.Result{
			peer.Troupe: {{Allocs: allocs, Requests: 10}}}}}}
	}
	if err := failed(run(20).Judge([]figures.Claim{claim})); err != nil {
		t.Errorf("2 allocations: %v", err)
	}
	if err := failed(run(21).Judge([]figures.Claim{claim})); err == nil {
		t.Error("2.1 allocations passed")
	}
	if err := failed(run(0).Judge([]figures.Claim{claim})); err == nil {
		t.Error("no allocations passed: nobody counted them")
	}
	if err := failed((&figures.Run{}).Judge([]figures.Claim{claim})); err == nil {
		t.Error("what was not measured passed")
	}
}
