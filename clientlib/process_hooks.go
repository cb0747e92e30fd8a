package clientlib

import (
	"context"
	"slices"
	"time"
)

// draining gives partitions up that another member gets: what runs is waited for, and
// what is handled is told, before it returns. If ctx ends before, they are as lost.
func (p *processor) draining(ctx context.Context, ps []Partition) {
	defer p.wakeAfter(ctx)()
	p.mu.Lock()
	p.giveUp(ps, p.lanes.Revoke)
	late := time.AfterFunc(fillTimeout, func() { p.cut(ps) })
	defer late.Stop()
	for p.anyBusy(ps) && ctx.Err() == nil {
		p.quiet.Wait()
	}
	p.mu.Unlock()
	p.tell()
	p.release(ps)
}

// lost gives partitions up that are another's already.
func (p *processor) lost(ps []Partition) {
	p.mu.Lock()
	p.giveUp(ps, p.lose)
	p.mu.Unlock()
	p.release(ps)
}

// lose has nothing count any more of a partition. The caller holds mu.
func (p *processor) lose(held *holding) {
	p.lanes.Lose(held)
	held.Owner.cancel()
}

// cut gives up to begin what stands below what was begun: it takes too long.
func (p *processor) cut(ps []Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range ps {
		if held := p.parts[at]; held != nil && p.going[at] {
			p.lanes.Cut(held)
		}
	}
	p.quiet.Broadcast()
}

// giveUp takes in what is on the way here, and has how drop what need not begin. The
// caller holds mu, and calls release.
func (p *processor) giveUp(ps []Partition, how func(held *holding)) {
	for _, at := range ps {
		p.going[at] = true
	}
	p.hold()
	for _, at := range ps {
		if held := p.parts[at]; held != nil {
			how(held)
		}
	}
	if p.starved && p.lanes.Bytes() <= p.cfg.BufferBytes/2 {
		p.starved = false
	}
}

// release forgets partitions that were given up, and lets the feeder go on. What still
// runs does not count any more.
func (p *processor) release(ps []Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range ps {
		delete(p.going, at)
		if held := p.parts[at]; held != nil {
			p.lose(held)
			delete(p.parts, at)
		}
	}
	p.holds--
	p.quiet.Broadcast()
}

// anyBusy says whether handlers of one of the partitions run, or are to. The caller holds
// mu.
func (p *processor) anyBusy(ps []Partition) bool {
	return slices.ContainsFunc(ps, func(at Partition) bool {
		held := p.parts[at]
		return held != nil && held.Busy()
	})
}

func busy(parts map[Partition]*holding) bool {
	for _, held := range parts {
		if held.Busy() {
			return true
		}
	}
	return false
}
