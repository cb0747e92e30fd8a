//go:build linux

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

func TestHalfALoadIsThatOfAWorkloadThatRanBefore(t *testing.T) {
	names := map[string]bool{}
	for _, w := range workloads() {
		if strings.Contains(w.name, "half load") && !names[halfLoad.name()] {
			t.Errorf("%q runs before %q", w.name, halfLoad.name())
		}
		names[w.name] = true
	}
}

func TestTheIdealBrokerTakesEveryLoadOfProducersAndConsumers(t *testing.T) {
	b := newBench(settings{mb: 4, rounds: 2, only: regexp.MustCompile("")})
	b.kinds, b.root = []peer.Kind{peer.NewIdeal()}, t.TempDir()
	ideal, err := b.kinds[0].Start(t.Context(), peer.Options{Dir: b.root + "/ideal", Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer ideal.Stop()
	running := map[string]*peer.Broker{peer.Ideal: ideal}
	for i, w := range slices.Concat(rawWorkloads(), manyWorkloads()) {
		if !slices.Contains(w.peers, peer.Ideal) || w.group != "produce" && w.name != oneFetch {
			continue
		}
		row, err := b.rounds(t.Context(), &w, running, i)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		runs := row.Runs[peer.Ideal]
		if len(runs) != b.settings.rounds {
			t.Fatalf("%s ran %d times", w.name, len(runs))
		}
		for _, r := range runs {
			if r.Bytes == 0 || r.Records < r.Requests || r.Requests == 0 || r.Took <= 0 || r.RSS == 0 ||
				w.group == "produce" && (r.P50 <= 0 || r.P50 > r.P99) {
				t.Errorf("%s: %+v", w.name, r)
			}
		}
		if b.rate(w.name, -1) <= 0 {
			t.Errorf("%s left no rate for others", w.name)
		}
	}
}

// oneFetch is the shortest of the loads of consumers: it reads everything once.
const oneFetch = "consume 64 KiB of 1 KiB records from the disk, 1 connection, 1 partition"

func TestTheSlowestBrokerIsTheOneWhoseMedianIs(t *testing.T) {
	runs := func(requests ...int64) (rs []figures.Result) {
		for _, n := range requests {
			rs = append(rs, figures.Result{Requests: n, Took: 1e9})
		}
		return rs
	}
	row := figures.Row{Runs: map[string][]figures.Result{"a": runs(1, 50, 60), "b": runs(40, 40, 40)}}
	if got := least(row, figures.Result.RequestsPerSecond); got != 40 {
		t.Errorf("the slowest answers %v a second", got)
	}
	if got := least(figures.Row{}, figures.Result.RequestsPerSecond); got != 0 {
		t.Errorf("nobody answers %v a second", got)
	}
}
