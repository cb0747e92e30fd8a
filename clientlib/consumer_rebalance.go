package clientlib

import (
	"context"
	"sync"

	"github.com/troupelog/troupe/clientlib/internal/member"
)

// rebalancer takes and gives up partitions, one step after the other, in a goroutine of
// its own: the only one that calls the hooks and callbacks until Close has ended it.
type rebalancer struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	// giveUp ends the wait for what was handed out; nil: nobody waits. mu of the consumer
	// guards it.
	giveUp context.CancelFunc
}

func (r *rebalancer) start(c *Consumer) {
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	r.done.Go(c.rebalanceLoop)
}

// stop ends the loop and waits for the callback that it is in.
func (r *rebalancer) stop() {
	if r.cancel != nil {
		r.cancel()
		r.done.Wait()
	}
}

// interrupt ends a wait: the partitions are lost. mu of the consumer is held.
func (r *rebalancer) interrupt() {
	if r.giveUp != nil {
		r.giveUp()
	}
}

func (c *Consumer) rebalanceLoop() {
	ctx := c.rebalances.ctx
	for ctx.Err() == nil {
		c.mu.Lock()
		step := c.machine.Next()
		if len(step.Assign) > 0 {
			c.machine.Assigned(step.Assign)
			c.add(step.Assign)
		}
		if len(step.Lost)+len(step.Assign)+len(step.Revoke) > 0 {
			c.stats.Rebalances++
		}
		c.mu.Unlock()
		switch {
		case len(step.Lost) > 0:
			c.lose(ctx, step.Lost)
		case len(step.Revoke) > 0:
			c.revoke(ctx, step.Revoke)
		case len(step.Assign) > 0:
			c.assign(ctx, step.Assign)
		case step.Rejoin:
		default:
			select {
			case <-ctx.Done():
			case <-c.wakeRebalancer:
			}
			continue
		}
		c.wakeHeart.set()
	}
}

// assign takes partitions that were added.
func (c *Consumer) assign(ctx context.Context, ps []member.Partition) {
	c.wakeHeart.set() // the group learns of it now
	c.watch(ps)
	c.tellLeftOut(ps)
	notify(ctx, c.cfg.OnAssigned, c.namesOf(ps))
	c.mu.Lock()
	c.activate(ps)
	c.mu.Unlock()
}

// lose forgets partitions that may be others' already.
func (c *Consumer) lose(ctx context.Context, ps []member.Partition) {
	names := c.namesOf(ps)
	c.mu.Lock()
	cancels := c.remove(names)
	lost := c.lost
	c.mu.Unlock()
	run(cancels)
	c.log.Warn("partitions were taken away", "group", c.cfg.Group, "partitions", len(ps))
	if lost != nil {
		lost(names)
	}
	notify(ctx, c.cfg.OnLost, names)
	c.mu.Lock()
	c.machine.Forgot()
	c.mu.Unlock()
}

// revoke gives partitions up: once what was handed out of them is handled and committed,
// or it has taken too long. If the member is fenced or closed meanwhile nothing is said.
func (c *Consumer) revoke(ctx context.Context, ps []member.Partition) {
	names := c.namesOf(ps)
	limited, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	c.mu.Lock()
	c.rebalances.giveUp = cancel
	c.mu.Unlock()
	c.drain(limited, names)
	c.mu.Lock()
	c.rebalances.giveUp = nil
	_, still := c.machine.Epoch()
	c.mu.Unlock()
	if ctx.Err() != nil || !still {
		return // Close goes on with it, or they are lost
	}
	if limited.Err() != nil {
		c.log.Warn("records of partitions that are given up are still being handled; "+
			"others will handle them again", "group", c.cfg.Group, "partitions", len(ps))
	}
	c.commitLast(ctx, names)
	c.handOver(ctx, ps)
	c.mu.Lock()
	c.machine.Revoked(ps)
	c.mu.Unlock()
}

// drain hands out no more of partitions, and waits until what was handed out is handled.
func (c *Consumer) drain(ctx context.Context, names []Partition) {
	c.mu.Lock()
	for _, at := range names {
		if p := c.parts[at]; p != nil {
			p.revoking = true
		}
	}
	for c.draining == nil && c.anyOut(names) && c.wait(ctx, &c.news) == nil {
	}
	draining := c.draining
	c.mu.Unlock()
	if draining != nil {
		draining(ctx, names)
	}
}

// anyOut reports whether the caller of Poll has records of one of the partitions. mu is
// held.
func (c *Consumer) anyOut(names []Partition) bool {
	for _, at := range names {
		if p := c.parts[at]; p != nil && p.out {
			return true
		}
	}
	return false
}

// handOver tells the user of partitions that are given up, and forgets them.
func (c *Consumer) handOver(ctx context.Context, ps []member.Partition) {
	names := c.namesOf(ps)
	notify(ctx, c.cfg.OnRevoked, names)
	c.mu.Lock()
	cancels := c.remove(names)
	c.mu.Unlock()
	run(cancels)
}

// notify calls one of the user's callbacks, if there is something to tell.
func notify(ctx context.Context, f func(context.Context, []Partition), names []Partition) {
	if f != nil && len(names) > 0 {
		f(ctx, names)
	}
}

// tellLeftOut tells an operator of topics that the consumer was given and does not read.
func (c *Consumer) tellLeftOut(ps []member.Partition) {
	for i, p := range ps {
		if c.cfg.leavesOut(p.Topic) && (i == 0 || ps[i-1].Topic != p.Topic) {
			c.log.Info("the topic holds dead letters, which the consumer's Pattern leaves out",
				"group", c.cfg.Group, "topic", p.Topic)
		}
	}
}

// namesOf are the names of partitions, without those that the consumer leaves out.
func (c *Consumer) namesOf(ps []member.Partition) []Partition {
	names := make([]Partition, 0, len(ps))
	for _, p := range ps {
		if !c.cfg.leavesOut(p.Topic) {
			names = append(names, Partition{Topic: p.Topic, Index: p.Index})
		}
	}
	return names
}

func run(fs []func()) {
	for _, f := range fs {
		f()
	}
}
