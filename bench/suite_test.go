//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/bench/peer"
)

func TestNamesOfWorkloadsAreUnlikeAllOthers(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range workloads() {
		if w.name == "" || w.group == "" || seen[w.name] {
			t.Errorf("a workload is called %q in group %q", w.name, w.group)
		}
		seen[w.name] = true
	}
}

// A load of NATS whose workload was renamed would be left out, and nobody would know.
func TestEveryLoadOfNATSBelongsToAWorkload(t *testing.T) {
	loads := natsLoads()
	for _, w := range workloads() {
		if _, ok := loads[w.name]; ok {
			if !slices.Contains(w.peers, peer.NATS) {
				t.Errorf("NATS does not take %q", w.name)
			}
			delete(loads, w.name)
		}
	}
	for name := range loads {
		t.Errorf("there is no workload %q", name)
	}
}

func TestALoadOfNATSIsSpelledOut(t *testing.T) {
	at := turn{bench: newBench(settings{mb: 1}), topic: "a"}
	l := natsLoads()["franz-go end to end at 10 % load"]
	at.rates[mixedName] = 5000
	const want = "-load end-to-end -topic a -partitions 12 -record 1024 -records 0 " +
		"-while 3s -skip 500ms -rate 500"
	if got := strings.Join(l.args(at, l.kind, 0), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
