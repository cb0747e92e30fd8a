package sim

import (
	"fmt"
	"testing"
	"time"
)

// transacting is a World of three nodes whose only partition has two transactional
// producers and a plain one.
func transacting(t *testing.T, seed uint64) (*World, []*transactor) {
	w := New(t, seed, 3)
	orders(w)
	w.Produce("orders", 0, -1)
	return w, []*transactor{w.Transact("orders", 0, true), w.Transact("orders", 0, false)}
}

func verifyAll(w *World, all []*transactor) {
	w.t.Helper()
	w.Rest()
	w.Verify()
	for _, t := range all {
		t.Verify()
	}
}

func TestTransactionsSurviveLeadersThatAreKilledInTurn(t *testing.T) {
	w, all := transacting(t, Seed(t))
	for range 20 {
		w.RunFor(w.between(500*time.Millisecond, 2*time.Second))
		w.RunUntil("somebody leads and all are in sync", w.settledSize)
		old := w.Leader("orders", 0)
		w.Crash(old, []Loss{KeepingAll, LosingUnsynced, Torn}[w.rng.IntN(3)])
		w.RunUntil("another node leads", func() bool {
			n, _ := w.leading("orders", 0)
			return n != nil && n.id != old
		})
		for _, tx := range all {
			tx.look()
		}
		w.Start(old)
	}
	verifyAll(w, all)
	if len(all[0].committed)+len(all[1].committed) == 0 {
		t.Error("nothing was committed")
	}
}

// Processes die, stand still and stop, links break and clocks jump, and readers of
// committed records see what was committed and nothing else.
func TestTransactionsInRandomWorlds(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w, all := transacting(t, seed+1000)
			for until := w.now.Add(90 * time.Second); w.now.Before(until); {
				w.RunFor(w.between(time.Millisecond, 2*time.Second))
				switch w.rng.IntN(6) {
				case 0, 1:
					w.breakProcess(w.anyNode())
				case 2, 3:
					w.mend(w.anyNode())
				case 4:
					w.breakLink(w.anyNode().id, w.anyNode().id)
				case 5:
					w.disturb(w.anyNode(), w.anyNode())
				}
				for _, tx := range all {
					tx.look()
				}
			}
			verifyAll(w, all)
		})
	}
}
