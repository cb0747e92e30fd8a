//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestClaimsAndPlotsAreOfWorkloadsThatThereAre(t *testing.T) {
	peers := map[string][]string{}
	for _, w := range workloads() {
		if peers[w.name] != nil {
			t.Errorf("two workloads are called %q", w.name)
		}
		peers[w.name] = w.peers
	}
	for _, c := range claims() {
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
