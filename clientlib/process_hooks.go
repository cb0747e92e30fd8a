package clientlib

import "context"

// draining gives partitions up that another member gets: what runs is waited for, and
// what is handled is told, before it returns. If ctx ends before, they are as lost.
func (p *processor) draining(ctx context.Context, ps []Partition) {
	defer p.wakeAfter(ctx)()
	p.mu.Lock()
	given := p.giveUp(ps, false)
	for running(given) && ctx.Err() == nil {
		p.quiet.Wait()
	}
	p.mu.Unlock()
	p.tell()
	p.release(ps)
}

// lost gives partitions up that are another's already.
func (p *processor) lost(ps []Partition) {
	p.mu.Lock()
	p.giveUp(ps, true)
	p.mu.Unlock()
	p.release(ps)
}

// giveUp drops what did not begin, and what is on the way here. The caller holds mu, and
// calls release.
func (p *processor) giveUp(ps []Partition, lost bool) []*holding {
	for _, at := range ps {
		p.going[at] = true
	}
	p.hold()
	var given []*holding
	for _, at := range ps {
		held := p.parts[at]
		switch {
		case held == nil:
			continue
		case lost:
			p.lanes.Lose(held)
			held.Owner.cancel()
		default:
			p.lanes.Revoke(held)
		}
		given = append(given, held)
	}
	if p.starved && p.lanes.Bytes() <= p.cfg.BufferBytes/2 {
		p.starved = false
	}
	return given
}

// release forgets partitions that were given up, and lets the feeder go on. What still
// runs does not count any more.
func (p *processor) release(ps []Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range ps {
		delete(p.going, at)
		if held := p.parts[at]; held != nil {
			p.lanes.Lose(held)
			held.Owner.cancel()
			delete(p.parts, at)
		}
	}
	p.holds--
	p.quiet.Broadcast()
}

func running(parts []*holding) bool {
	for _, held := range parts {
		if held.Running() > 0 {
			return true
		}
	}
	return false
}
