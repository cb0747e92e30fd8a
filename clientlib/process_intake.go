package clientlib

import (
	"context"
	"sync"
)

// intake is where records come from the consumer to who handles them. While partitions are
// given up, nothing may be on the way, so the hook holds the intake: it interrupts who
// asks, who takes in what it was given, and does not ask again.
type intake struct {
	mu      sync.Mutex
	quiet   *sync.Cond         // somebody took something in, or something else has ended
	holds   int                // hooks that do not let anybody ask
	feeding context.CancelFunc // interrupts who asks; nil: nobody does
}

// ask returns the context to ask the consumer with. The caller holds mu, and calls took
// once it is answered.
func (i *intake) ask(ctx context.Context) context.Context {
	asking, cancel := context.WithCancel(ctx)
	i.feeding = cancel
	return asking
}

// took says that the answer is there. The caller holds mu until it has taken it in.
func (i *intake) took() {
	i.feeding()
	i.feeding = nil
	i.quiet.Broadcast()
}

// hold waits until nobody asks and keeps it so until holds is lowered again. The caller
// holds mu.
func (i *intake) hold() {
	i.holds++
	for i.feeding != nil {
		i.feeding()
		i.quiet.Wait()
	}
}

// wakeAfter wakes who waits for quiet when ctx ends, until stop.
func (i *intake) wakeAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.quiet.Broadcast()
	})
}
