package gateway

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestABudgetKeepsItsLimitAndNeitherSideOut(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := budget{limit: 100 + r.Int64N(1000)}
		sides := [2]*int64{&b.appends, &b.fetches}
		held := [2][]int64{}
		for range 500 {
			i := r.IntN(2)
			if n := len(held[i]); n > 0 && r.IntN(3) == 0 {
				*sides[i] -= held[i][n-1]
				held[i] = held[i][:n-1]
				continue
			}
			n := 1 + r.Int64N(b.limit/4)
			alone := len(held[i]) == 0
			ok := b.take(sides[i], n)
			if ok {
				held[i] = append(held[i], n)
			}
			if alone && !ok {
				t.Fatalf("seed %d: the first %d bytes are not let in: %+v", seed, n, b)
			}
			if b.appends+b.fetches > b.limit {
				t.Fatalf("seed %d: over the limit: %+v", seed, b)
			}
		}
	}
}

func TestParkedFetchesLeaveInTheOrderOfTheirTimes(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		var p parking
		in := map[*fetch]bool{}
		start := time.Unix(1000, 0)
		for range 300 {
			switch r.IntN(3) {
			case 0, 1:
				f := &fetch{place: -1, deadline: start.Add(time.Duration(r.IntN(100)) * time.Second)}
				p.push(f)
				in[f] = true
			default:
				for f := range in { // any
					if !p.remove(f) || p.remove(f) {
						t.Fatalf("seed %d: it can be removed twice or not at all", seed)
					}
					delete(in, f)
					break
				}
			}
		}
		last := time.Time{}
		for at := p.next(); !at.IsZero(); at = p.next() {
			if p.due(at.Add(-1)) != nil {
				t.Fatalf("seed %d: one left too early", seed)
			}
			f := p.due(at)
			if f == nil || !in[f] || f.deadline.Before(last) {
				t.Fatalf("seed %d: %v left after %v", seed, f, last)
			}
			last = f.deadline
			delete(in, f)
		}
		if len(in) != 0 {
			t.Fatalf("seed %d: %d are missing", seed, len(in))
		}
	}
}
