package bulk

import (
	"testing"
	"time"

	"github.com/troupelog/troupe/messages/data"
)

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
		q := fetchOf(int32(i), 0, size)
		q.Throttled = true
		p.Fetch(leaderNode, q, func(f *data.ReplicaFetched) { throttled <- f })
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
		q := fetchOf(int32(i), 0, size)
		q.Throttled = true
		p.Fetch(leaderNode, q, func(f *data.ReplicaFetched) { throttled <- f })
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
