package clientlib

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/clientlib/internal/member"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// beatPace is how long the member waits between heartbeats before it was told, and
	// before it tries again after one that failed; beatTimeout bounds one attempt.
	beatPace    = 500 * time.Millisecond
	beatTimeout = 10 * time.Second
	// idlePatience is how long a member may have no partitions before an operator is told.
	idlePatience = 10 * time.Second
	// locatePace is between looks at committed offsets that an open transaction may change.
	locatePace = 200 * time.Millisecond
)

// heartLoop keeps the consumer a member of its group: one heartbeat after the other, at
// the pace that the coordinator gives, and at once when there is something to say.
func (c *Consumer) heartLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	pace := beatPace
	for {
		c.mu.Lock()
		beat := c.machine.Heartbeat()
		c.mu.Unlock()
		wait := time.Hour // until something was forgotten
		if beat != nil {
			wait = c.beat(beat, &pace)
		}
		timer.Reset(wait)
		select {
		case <-c.ctx.Done():
			return
		case <-c.wakeHeart:
		case <-timer.C:
		}
	}
}

// beat says a heartbeat and takes note of the answer. It returns how long to wait before
// the next one; pace is what the coordinator said last.
func (c *Consumer) beat(h *wire.ClientGroupHeartbeat, pace *time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(c.ctx, beatTimeout)
	defer cancel()
	resp, err := c.askGroup(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_GroupHeartbeat{GroupHeartbeat: h},
	})
	if c.ctx.Err() != nil {
		return 0
	}
	if err != nil {
		c.refusedBeat(err)
		return beatPace
	}
	c.unheard = false
	answer := resp.GetGroupHeartbeated()
	if ms := answer.GetHeartbeatIntervalMs(); ms > 0 {
		*pace = time.Duration(ms) * time.Millisecond
	}
	c.mu.Lock()
	c.machine.Answered(answer)
	c.news.ring()
	c.mu.Unlock()
	c.wakeRebalancer.set()
	return *pace
}

// refusedBeat takes note of a heartbeat that failed.
func (c *Consumer) refusedBeat(err error) {
	first := !c.unheard
	c.unheard = true
	c.mu.Lock()
	verdict := c.machine.Refused(err)
	switch verdict {
	case member.Lost:
		c.rebalances.interrupt()
	case member.Replaced:
		c.end(fmt.Errorf("group %q: %w: %w", c.cfg.Group, ErrFenced, err))
	case member.Denied:
		if !errors.Is(err, ErrGroupFull) {
			err = fmt.Errorf("%w: %w", ErrConfig, err)
		}
		c.end(fmt.Errorf("group %q does not take the member: %w", c.cfg.Group, err))
	case member.Again:
	}
	c.news.ring()
	c.mu.Unlock()
	c.wakeRebalancer.set()
	switch {
	case verdict != member.Again:
		c.log.Warn("the member is out of its group", "group", c.cfg.Group, "error", err)
	case first:
		c.log.Warn("the coordinator does not answer as it should, heartbeats go on",
			"group", c.cfg.Group, "error", err)
	}
}

// end has everybody who wants records get err. mu is held.
func (c *Consumer) end(err error) {
	c.ended = err
	c.rebalances.interrupt()
	c.ready.ring()
}

// askGroup asks the coordinator of the group, wherever it is, until ctx ends.
func (c *Consumer) askGroup(ctx context.Context, req *wire.ClientRequest) (
	*wire.ClientResponse, error,
) {
	return c.link.AskCoordinator(ctx, coord.Group, c.cfg.Group, req)
}

// lookForTopics tells an operator of topics that the member waits for in vain.
func (c *Consumer) lookForTopics() {
	for _, topic := range c.cfg.Topics {
		_, err := c.link.Route(c.ctx, topic, false)
		if errors.Is(err, ErrUnknownTopic) {
			c.missing.Add(1)
			c.log.Warn("a topic does not exist (yet); the consumer waits, and reads it once it is made",
				"group", c.cfg.Group, "topic", topic)
		}
	}
}

// tellIfIdle tells an operator, once, of a member that has nothing to read after a while.
func (c *Consumer) tellIfIdle(after time.Duration) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
		return
	case <-timer.C:
	}
	c.mu.Lock()
	_, joined := c.machine.Epoch()
	idle := joined && len(c.parts) == 0 && c.missing.Load() == 0 // or the reason was told
	c.mu.Unlock()
	if idle {
		c.log.Info("the member has no partitions yet: others have them, or the session of one that "+
			"is gone has not timed out (group.consumer.session.timeout.ms)", "group", c.cfg.Group)
	}
}

// locateLoop looks up where the group stopped in partitions that were assigned.
func (c *Consumer) locateLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if ps := c.uncommitted(); len(ps) > 0 && !c.locate(ps) {
			wait = locatePace
		}
		timer.Reset(wait)
		select {
		case <-c.ctx.Done():
			return
		case <-c.wakeLocator:
		case <-timer.C:
		}
	}
}

func (c *Consumer) uncommitted() []*part {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ps []*part
	for _, p := range c.parts {
		if p.cur.Uncommitted() {
			ps = append(ps, p)
		}
	}
	return ps
}

// locate reports whether the positions of all are known now.
func (c *Consumer) locate(ps []*part) bool {
	ctx, cancel := context.WithTimeout(c.ctx, beatTimeout)
	defer cancel()
	byTopic := map[string]*wire.PartitionNames{}
	fetch := &wire.ClientFetchOffsets{
		Group: c.cfg.Group, Stable: true, MemberEpoch: group.NoGeneration,
	}
	for _, p := range ps {
		names := byTopic[p.Topic]
		if names == nil {
			names = &wire.PartitionNames{Topic: p.Topic}
			byTopic[p.Topic] = names
			fetch.Partitions = append(fetch.Partitions, names)
		}
		names.Partitions = append(names.Partitions, p.Index)
	}
	resp, err := c.askGroup(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_FetchOffsets{FetchOffsets: fetch},
	})
	if err != nil {
		if c.ctx.Err() == nil {
			c.log.Warn("committed offsets cannot be read, they are asked for again",
				"group", c.cfg.Group, "error", err)
		}
		return false
	}
	found := map[Partition]*wire.ClientPosition{}
	for _, at := range resp.GetFetchedOffsets().GetPositions() {
		found[Partition{at.GetTopic(), at.GetPartition()}] = at
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := true
	for _, p := range ps {
		at := found[p.Partition]
		if at == nil || wire.ToError(at.GetError()) != nil {
			all = all && p.gone
			continue
		}
		epoch := at.GetLeaderEpoch()
		if id := at.GetTopicId(); len(id) > 0 && messages.TopicID(id) != p.id {
			all = false // of an earlier topic of that name
			continue
		}
		p.cur.Committed(at.GetOffset(), epoch)
		c.touch(p)
	}
	c.news.ring()
	return all
}
