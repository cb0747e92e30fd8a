package quota

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestTheThrottleLetsThroughItsRate(t *testing.T) {
	epoch := time.Unix(1000, 0)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		rate := int64(1 + r.IntN(10<<20))
		var tr Bucket
		now := epoch
		tr.Set(now, rate)
		var used, largest int64
		var out []int // reserved and not settled
		for now.Sub(epoch) < time.Minute {
			n := 1 + r.IntN(1<<20)
			if tr.Reserve(now, n) {
				out = append(out, n)
			} else if len(out) == 0 || r.IntN(2) == 0 {
				d := tr.Wait(now)
				if d <= 0 {
					t.Fatalf("seed %d: refused, but the wait is %v", seed, d)
				}
				now = now.Add(d)
			}
			if len(out) > 0 && r.IntN(3) > 0 {
				k := r.IntN(out[0] + 1)
				tr.Settle(out[0], k)
				used, largest = used+int64(k), max(largest, int64(out[0]))
				out = out[1:]
			}
		}
		// A bucket full at the start, and the last that got through, come on top.
		most := float64(rate)*(now.Sub(epoch).Seconds()+1) + float64(largest)
		if float64(used) > most {
			t.Errorf("seed %d: %d bytes at %d per second in %v", seed, used, rate, now.Sub(epoch))
		}
	}
}

func TestAThrottleThatIsOffHoldsNothing(t *testing.T) {
	now := time.Unix(1000, 0)
	var tr Bucket
	tr.Set(now, 0)
	for range 2 {
		if !tr.Reserve(now, 1<<30) || tr.Wait(now) != 0 {
			t.Fatal("it holds something")
		}
	}
	tr.Set(now, 100)
	if !tr.Reserve(now, 100) || tr.Reserve(now, 1) {
		t.Fatal("switched on, it does not start full")
	}
	if d := tr.Wait(now.Add(500 * time.Millisecond)); d > 2*time.Millisecond {
		t.Fatalf("an empty bucket waits for %v", d)
	}
	tr.Settle(100, 300)
	if d := tr.Wait(now.Add(500 * time.Millisecond)); d < 1500*time.Millisecond {
		t.Fatalf("more than was reserved is paid after %v", d)
	}
	tr.Set(now.Add(time.Second), -1)
	if !tr.Reserve(now, 1) {
		t.Fatal("switched off, it holds something")
	}
}
