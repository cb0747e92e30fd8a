package actors

import (
	"context"
	"sync/atomic"
	"time"
)

// pauses notices when the whole process stood still: it was stopped by a signal
// or a debugger, or its machine was. Others may have taken over meanwhile what
// this node led, and its appends must not be acknowledged as if nothing had been.
// Those with acks=all are safe by the high watermark; this keeps the promise for
// the others, and spares clients what would be truncated.
//
// A replica takes appends only while it has heard from the node's agent since the
// last pause; the agent registers the node anew first. What was appended before the
// pause and waits for a flush (flush.messages=1) is acknowledged after it; with
// acks=1 another leader may lack it, as always.
type pauses struct {
	limit  time.Duration // 0: nobody watches
	begun  time.Time
	pulse  atomic.Int64 // when the watch ran last, since begun
	count  atomic.Int64 // pauses so far
	agreed atomic.Int64 // those that the agent knows of
}

// WatchPauses begins to watch. A process that stands still for longer than limit
// counts as paused; noticed is told so. It returns when ctx ends; call it once,
// before the first replica runs, and run the watch it returns.
func (e *Env) WatchPauses(limit time.Duration, noticed func()) (watch func(context.Context)) {
	p := &e.pauses
	p.limit, p.begun = limit, time.Now()
	return func(ctx context.Context) {
		tick := time.NewTicker(limit / 8)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if p.beat() {
					noticed()
				}
			}
		}
	}
}

// beat notes that the process runs, and reports whether it stood still before.
func (p *pauses) beat() (paused bool) {
	now := time.Since(p.begun)
	if paused = now-time.Duration(p.pulse.Load()) > p.limit; paused {
		p.count.Add(1) // first, so that no append falls between
	}
	p.pulse.Store(int64(now))
	return paused
}

// since reports whether the process stood still after the pauses that a replica
// knows of.
func (p *pauses) since(known int64) bool {
	return p.limit > 0 && (p.count.Load() != known ||
		time.Since(p.begun)-time.Duration(p.pulse.Load()) > p.limit)
}
