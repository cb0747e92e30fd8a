package clientlib

import (
	"context"
	"errors"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/member"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

// closeGrace is what Close takes for the farewell if its context ends before.
const closeGrace = 2 * time.Second

// Close ends the consumer: with Process under way it waits until what was handed out is
// handled, commits what is handled unless ConsumerConfig.CommitInterval is less than 0,
// calls OnRevoked, and leaves the group, so that others get the partitions at once. A
// static member (InstanceID) keeps them for its session timeout, and so does one that is
// never closed: group.consumer.session.timeout.ms of the nodes, 45 seconds. Records of a Poll after
// which there was no other Poll and no Commit are not handled.
//
// If ctx ends meanwhile, or has ended, nothing is waited for but two seconds for the
// commit and the farewell; everything is given back all the same. A call of Poll under way
// ends with ErrClosed. Further calls wait for the first one and do nothing.
func (c *Consumer) Close(ctx context.Context) error {
	c.mu.Lock()
	select {
	case <-c.closing:
		c.mu.Unlock()
		select {
		case <-c.closed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
	}
	close(c.closing)
	c.ready.ring()
	c.news.ring()
	c.mu.Unlock()

	graced, cancel := graced(ctx)
	defer cancel()
	c.rebalances.stop()
	c.settle(ctx, graced)
	c.cancel()
	c.background.Wait()
	c.leave(graced)
	c.mu.Lock()
	cancels := c.remove(c.names())
	c.mu.Unlock()
	run(cancels)
	c.client.forget(c)
	close(c.closed)
	return nil
}

// graced returns a context that ends closeGrace after ctx.
func graced(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(closeGrace, cancel) })
	return out, func() {
		stop()
		cancel()
	}
}

// names are the partitions that the consumer has. mu is held.
func (c *Consumer) names() []Partition {
	names := make([]Partition, 0, len(c.parts))
	for at := range c.parts {
		names = append(names, at)
	}
	return names
}

// settle gives everything up, before the group hears of it. The rebalancer has ended.
func (c *Consumer) settle(ctx, graced context.Context) {
	c.mu.Lock()
	if c.machine != nil {
		if step := c.machine.Next(); len(step.Lost) > 0 {
			c.mu.Unlock()
			c.lose(graced, step.Lost)
			return
		}
	}
	for _, p := range c.given { // nobody polls any more
		p.out = false
	}
	names := c.names()
	ps := make([]member.Partition, 0, len(names))
	for at, p := range c.parts {
		ps = append(ps, member.Partition{ID: p.id, Topic: at.Topic, Index: at.Index})
	}
	c.mu.Unlock()
	if len(names) == 0 {
		return
	}
	c.drain(ctx, names)
	c.commitLast(graced, names)
	if c.machine != nil {
		c.handOver(graced, ps)
	}
}

// leave says farewell to the group.
func (c *Consumer) leave(ctx context.Context) {
	if c.machine == nil {
		return
	}
	c.mu.Lock()
	epoch, joined := c.machine.Epoch()
	farewell, ok := c.machine.Farewell()
	c.mu.Unlock()
	if !ok {
		return
	}
	_, err := c.askGroup(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_GroupHeartbeat{GroupHeartbeat: farewell},
	})
	waits := joined && epoch > 0 && c.cfg.InstanceID == "" // for a static one in any case
	if err != nil && waits && !errors.Is(err, group.ErrUnknownMember) &&
		!errors.Is(err, group.ErrGroupNotFound) && !errors.Is(err, group.ErrFencedMemberEpoch) {
		c.log.Warn("the group did not hear that the member leaves, and waits for it to time out",
			"group", c.cfg.Group, "error", err)
	}
}
