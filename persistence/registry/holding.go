package registry

import (
	"context"
	"sync"

	"github.com/troupelog/troupe/messages"
)

// holding is who is controller as the sessions of one process know it, and a
// way to wait until that changes.
type holding struct {
	mu      sync.Mutex
	now     Holder
	changed chan struct{} // closed at the next change
}

func newHolding(epoch messages.ControllerEpoch) *holding {
	return &holding{
		now:     Holder{Node: messages.NoNode, Epoch: epoch},
		changed: make(chan struct{}),
	}
}

// get returns the holder and a channel that is closed when it is another.
func (h *holding) get() (Holder, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now, h.changed
}

func (h *holding) set(now Holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now == h.now {
		return
	}
	h.now = now
	close(h.changed)
	h.changed = make(chan struct{})
}

// watch calls f until ctx or the session ends.
func (h *holding) watch(ctx context.Context, closed <-chan struct{}, f func(Holder)) error {
	for {
		now, changed := h.get()
		if err := usable(ctx, closed); err != nil {
			return err
		}
		f(now)
		select {
		case <-changed:
		case <-closed:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// usable returns why a call must not begin.
func usable(ctx context.Context, closed <-chan struct{}) error {
	select {
	case <-closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}
