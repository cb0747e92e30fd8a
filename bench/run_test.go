//go:build linux

package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

func TestBrokersTakeTurnsAndSoDoTheWaysOfAWorkload(t *testing.T) {
	b := &bench{kinds: []peer.Kind{{Name: peer.Ideal}, {Name: peer.Troupe}, {Name: peer.Kafka}}}
	names := func(w *workload) (all []string) {
		for _, t := range b.contenders(w) {
			all = append(all, t.kind.Name+t.way)
		}
		return all
	}
	if got := names(&workload{peers: bothPeers}); !slices.Equal(got, []string{"troupe", "kafka"}) {
		t.Errorf("brokers: %q", got)
	}
	got := names(&workload{peers: []string{peer.Troupe}, ways: []string{franzGo, sdk}})
	if !slices.Equal(got, []string{"troupefranz-go", "troupesdk"}) {
		t.Errorf("libraries: %q", got)
	}
}

func TestHalfLoadIsHalfOfWhatTheSlowestBrokerCanDo(t *testing.T) {
	rate := func(perSecond int64) figures.Result {
		return figures.Result{Records: perSecond, Took: time.Second}
	}
	row := figures.Row{Runs: map[string][]figures.Result{
		peer.Troupe: {rate(900), rate(300), rate(800)}, // 800
		peer.Kafka:  {rate(700), rate(100), rate(9000)},
	}}
	at := turn{bench: &bench{rates: map[string]float64{}}}
	if got := at.capacity(); got != defaultCapacity {
		t.Errorf("nothing was measured, and the capacity is %f", got)
	}
	at.rates[mixedName] = least(row, figures.Result.RecordsPerSecond)
	if got := at.capacity(); got != 700 {
		t.Errorf("the capacity is %f, expected 700", got)
	}
}

func TestADocumentIsOfAWholeRun(t *testing.T) {
	whole := settings{document: "performance", peers: true}
	if err := whole.check(""); err != nil {
		t.Error(err)
	}
	if err := (settings{}).check("produce"); err != nil {
		t.Errorf("a part of a run that is only printed: %v", err)
	}
	alone, smoke := whole, whole
	alone.peers, smoke.guard = false, true
	for what, err := range map[string]error{"without peers": alone.check(""),
		"a smoke run": smoke.check(""), "some workloads": whole.check("produce")} {
		if err == nil {
			t.Errorf("%s is written into a document", what)
		}
	}
}

func TestWhatWasMeasuredBeforeAFailureIsKept(t *testing.T) {
	b := newBench(settings{rounds: 3})
	b.kinds = []peer.Kind{{Name: peer.Ideal}}
	failure := errors.New("failure")
	w := workload{name: "w", peers: []string{peer.Ideal},
		run: func(_ context.Context, t turn) (r figures.Result, err error) {
			if t.round == 2 {
				err = failure
			}
			return r, err
		}}
	row, err := b.rounds(t.Context(), &w, nil, 0)
	if !errors.Is(err, failure) || len(row.Runs[peer.Ideal]) != 2 {
		t.Errorf("kept %+v, error %v", row.Runs, err)
	}
}
