package clientlib

import "context"

// signal wakes one goroutine, now or when it looks the next time.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// bell wakes all who wait for it. A lock of its owner guards it.
type bell struct {
	rung chan struct{} // nil: nobody waits
}

// ring costs nothing if nobody waits.
func (b *bell) ring() {
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// wait waits for a bell, or returns the error of ctx. mu is held, but not meanwhile.
func (c *Consumer) wait(ctx context.Context, b *bell) error {
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	rung := b.rung
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-rung:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
