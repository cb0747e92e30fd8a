package bulk

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages/data"
)

func TestTheThrottleLetsThroughItsRate(t *testing.T) {
	epoch := time.Unix(1000, 0)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		rate := int64(1 + r.IntN(10<<20))
		var tr throttle
		now := epoch
		tr.set(now, rate)
		var used, largest int64
		var out []int // reserved and not settled
		for now.Sub(epoch) < time.Minute {
			n := 1 + r.IntN(1<<20)
			if tr.reserve(now, n) {
				out = append(out, n)
			} else if len(out) == 0 || r.IntN(2) == 0 {
				d := tr.wait(now)
				if d <= 0 {
					t.Fatalf("seed %d: refused, but the wait is %v", seed, d)
				}
				now = now.Add(d)
			}
			if len(out) > 0 && r.IntN(3) > 0 {
				k := r.IntN(out[0] + 1)
				tr.settle(out[0], k)
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
	var tr throttle
	tr.set(now, 0)
	for range 2 {
		if !tr.reserve(now, 1<<30) || tr.wait(now) != 0 {
			t.Fatal("it holds something")
		}
	}
	tr.set(now, 100)
	if !tr.reserve(now, 100) || tr.reserve(now, 1) {
		t.Fatal("switched on, it does not start full")
	}
	if d := tr.wait(now.Add(500 * time.Millisecond)); d > 2*time.Millisecond {
		t.Fatalf("an empty bucket waits for %v", d)
	}
	tr.settle(100, 300)
	if d := tr.wait(now.Add(500 * time.Millisecond)); d < 1500*time.Millisecond {
		t.Fatalf("more than was reserved is paid after %v", d)
	}
	tr.set(now.Add(time.Second), -1)
	if !tr.reserve(now, 1) {
		t.Fatal("switched off, it holds something")
	}
}

// What catches up waits; what is in sync does not notice.
func TestTheThrottleHoldsOnlyWhatItIsFor(t *testing.T) {
	const size, rate = 64 << 10, 1 << 20
	log := newLog(t, 1<<20)
	h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
		return &data.ReplicaFetched{View: log.inFile(int(q.Offset), q.MaxBytes)}
	}}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{Throttle: rate}, defaultLimits, on.Addr().String())
	const n = 24 // a second's worth is there at once, half a second's more is not
	throttled := make(chan *data.ReplicaFetched, n)
	began := time.Now()
	for i := range n {
		p.FetchThrottled(leaderNode, fetchOf(int32(i), 0, size),
			func(f *data.ReplicaFetched) { throttled <- f })
	}
	free := receive(t, p.ask(fetchOf(100, 0, size)))
	if took := time.Since(began); took > 300*time.Millisecond && len(throttled) == n {
		t.Errorf("it took %v and all that is throttled came before", took)
	}
	free.Release()
	for range n {
		f := receive(t, throttled)
		equal(t, f.Records, log.content[:size])
		f.Release()
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("%d bytes at %d per second came in %v", n*size, rate, took)
	}
	for i := range n {
		p.FetchThrottled(leaderNode, fetchOf(int32(i), 0, size),
			func(f *data.ReplicaFetched) { throttled <- f })
	}
	p.SetThrottle(0)
	began = time.Now()
	for range n {
		receive(t, throttled).Release()
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("without a throttle it took %v", took)
	}
}
