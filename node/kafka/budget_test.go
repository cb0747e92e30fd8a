package kafka

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/testkit"
)

func (c *claim) waits() bool {
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	return c.want > 0
}

func grow(t *testing.T, c *claim, n int64) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.grow(t.Context(), n, nil) }()
	return done
}

func granted(t *testing.T, done <-chan error) {
	t.Helper()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestABudgetMakesNewcomersWaitTheirTurn(t *testing.T) {
	b := newBudget(100)
	first, second, third := &claim{from: b}, &claim{from: b}, &claim{from: b}
	granted(t, grow(t, first, 80))
	big := grow(t, second, 50)
	testkit.Eventually(t, "the second waits", second.waits)
	small := grow(t, third, 10) // would fit, but would overtake
	testkit.Eventually(t, "the third waits", third.waits)
	first.release()
	granted(t, big)
	granted(t, small)
	second.release()
	third.release()
	if used, _ := b.stats(); used != 0 {
		t.Fatalf("%d bytes are used", used)
	}
}

func TestOneFrameUnderWayMayExceedTheBudgetSoThatNoneWaitsForEver(t *testing.T) {
	b := newBudget(100)
	one, two := &claim{from: b}, &claim{from: b}
	granted(t, grow(t, one, 50))
	granted(t, grow(t, two, 50))
	granted(t, grow(t, one, 40)) // exceeds
	waits := grow(t, two, 40)
	testkit.Eventually(t, "the other waits", two.waits)
	granted(t, grow(t, one, 40)) // the same may go on, past those that wait
	if used, _ := b.stats(); used != 180 {
		t.Fatalf("%d bytes are used", used)
	}
	one.complete()
	granted(t, waits)
	one.release()
	two.release()
}

func TestAWaitForTheBudgetEndsWithItsContext(t *testing.T) {
	b := newBudget(100)
	one, two, three := &claim{from: b}, &claim{from: b}, &claim{from: b}
	granted(t, grow(t, one, 80))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- two.grow(ctx, 90, nil) }()
	testkit.Eventually(t, "it waits", two.waits)
	behind := grow(t, three, 20)
	testkit.Eventually(t, "another waits behind", three.waits)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	granted(t, behind)
	one.release()
	two.release()
	three.release()
	if used, _ := b.stats(); used != 0 {
		t.Fatalf("%d bytes are used", used)
	}
}

func TestResponsesAreChargedWithoutWaitingAndHoldBackRequests(t *testing.T) {
	b := newBudget(100)
	b.charge(500)
	c := &claim{from: b}
	waits := grow(t, c, 10)
	testkit.Eventually(t, "the request waits", c.waits)
	b.charge(-500)
	granted(t, waits)
	c.release()
}

func TestManyFramesAgainstASmallBudgetAllComplete(t *testing.T) {
	b := newBudget(1000)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 300 {
				c := &claim{from: b}
				for range 1 + r.IntN(5) {
					ctx, cancel := context.WithCancel(t.Context())
					if r.IntN(10) == 0 {
						cancel()
					}
					_ = c.grow(ctx, 1+r.Int64N(400), nil)
					cancel()
				}
				c.complete()
				if r.IntN(2) == 0 {
					c.shrink(c.held / 2)
				}
				c.release()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("frames wait for each other")
	}
	if used, _ := b.stats(); used != 0 || b.overdraft != nil {
		t.Fatalf("%d bytes are used", used)
	}
}
