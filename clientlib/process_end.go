package clientlib

import (
	"context"
	"fmt"
	"maps"
)

// windDown has the workers stop once what they began is done, with what stands below it,
// or too much time has passed: over ends the contexts of the handlers then.
func (p *processor) windDown(over context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, held := range p.parts {
		p.lanes.Revoke(held)
	}
	p.winding = true
	p.quiet.Broadcast()
	late, cancel := context.WithTimeout(context.Background(), fillTimeout)
	defer cancel()
	defer p.wakeAfter(late)()
	for p.feeding != nil || busy(p.parts) && late.Err() == nil {
		p.quiet.Wait()
	}
	if late.Err() != nil {
		over()
	}
	p.stopping = true
	p.work.Broadcast()
	p.quiet.Broadcast()
}

// end commits what is handled and gives back what is not.
func (p *processor) end(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	p.awaitLetters(last)
	p.box.close(last)
	p.tell()
	var err error
	if p.cfg.CommitInterval >= 0 {
		err = p.source.commitNow(last)
	}
	p.giveBack()
	switch {
	case p.failure != nil:
		return p.failure
	case err != nil:
		return fmt.Errorf("committing what was handled: %w", err)
	default:
		return nil
	}
}

// giveBack has what is not handled read again.
func (p *processor) giveBack() {
	p.mu.Lock()
	parts, back := p.parts, p.unread
	p.parts, p.unread = map[Partition]*holding{}, map[Partition]int64{}
	for at, held := range parts {
		held.Owner.cancel()
		if first, ok := back[at]; held.Open() > 0 && (!ok || first >= held.End()) {
			back[at] = held.Mark().Offset
		}
	}
	// A hook may be at work still, which waits for what is not there any more.
	maps.DeleteFunc(back, func(at Partition, _ int64) bool { return p.going[at] })
	p.quiet.Broadcast()
	p.mu.Unlock()
	for at, offset := range back {
		p.source.rewind(at, offset)
	}
	for at := range parts {
		p.source.resume(at)
	}
}
