package clientlib

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

const (
	// commitTimeout bounds a commit of the background; stalePace is how long one waits at
	// most for the epoch that it lacked.
	commitTimeout = 15 * time.Second
	stalePace     = 100 * time.Millisecond
)

// Commit has the group keep the positions after these records, and returns once it has.
// Earlier records of their partitions count as handled, too; of two commits the later
// position stays. Without records it commits what is handled: all that Poll has returned
// so far, or, while Process runs, what its handlers have handled. Errors: ErrInvalidRequest
// for records while Process runs, for others before them may still be with a handler;
// ErrNotAssigned for records of partitions that are not the consumer's any more (the
// others are committed), ErrConfig without a group, ErrClosed, that of ctx.
func (c *Consumer) Commit(ctx context.Context, records ...*Record) error {
	if c.cfg.Group == "" {
		return fmt.Errorf("consumer has no Group to commit to: %w", ErrConfig)
	}
	if len(records) > 0 && c.processing.Load() {
		return fmt.Errorf("what is handled is for Process to say while it runs, call Commit without "+
			"records: %w", ErrInvalidRequest)
	}
	var strange error
	c.mu.Lock()
	parts := map[*part]bool{}
	if len(records) == 0 {
		for _, p := range c.parts {
			if !c.processing.Load() { // else it says what is handled
				p.cur.HandledAll()
			}
			parts[p] = true
		}
	}
	for _, r := range records {
		if r == nil {
			strange = errNoRecord
			continue
		}
		at := Partition{Topic: r.Topic, Index: r.Partition}
		p := c.parts[at]
		if p == nil {
			strange = notAssigned(at)
			continue
		}
		p.cur.Handled(r.Offset+1, r.epoch)
		parts[p] = true
	}
	c.news.ring()
	c.mu.Unlock()
	if c.isClosed() {
		return fmt.Errorf("consumer: %w", ErrClosed)
	}
	err := c.commit(ctx, func(p *part) bool { return parts[p] })
	if err == nil && strange == nil {
		strange = c.tooLate(parts)
	}
	return errors.Join(err, strange)
}

// tooLate names a partition that was taken away before it was committed.
func (c *Consumer) tooLate(parts map[*part]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range parts {
		if _, _, open := p.cur.ToCommit(); p.gone && open {
			return notAssigned(p.Partition)
		}
	}
	return nil
}

// isClosed reports whether Close has returned.
func (c *Consumer) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// handled says that all below next is done; epoch is of the record before next. It is
// ignored for partitions that are not assigned, for positions that were said before, and
// for those beyond what next gave out.
func (c *Consumer) handled(at Partition, next int64, epoch int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[at]; p != nil && p.cur.Handled(next, epoch) {
		c.news.ring()
	}
}

// commitNow commits what is handled and was not committed, if there is a group.
func (c *Consumer) commitNow(ctx context.Context) error {
	if c.cfg.Group == "" {
		return nil
	}
	return c.commit(ctx, func(*part) bool { return true })
}

// committedAs takes note of positions that a transaction has committed.
func (c *Consumer) committedAs(ps []*wire.ClientPosition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range ps {
		if p := c.parts[Partition{at.GetTopic(), at.GetPartition()}]; p != nil {
			p.cur.CommittedAs(at.GetOffset())
		}
	}
}

// toCommit returns what is handled and not committed of some parts, and these. mu is held.
func (c *Consumer) toCommit(which func(*part) bool) (ps []*wire.ClientPosition, of []*part) {
	for at, p := range c.parts {
		offset, epoch, ok := p.cur.ToCommit()
		if ok && which(p) {
			ps = append(ps, &wire.ClientPosition{
				Topic: at.Topic, Partition: at.Index, TopicId: p.id[:],
				Offset: offset, LeaderEpoch: epoch,
			})
			of = append(of, p)
		}
	}
	return ps, of
}

// commitLoop commits what is handled from time to time.
func (c *Consumer) commitLoop() {
	ticker := time.NewTicker(c.cfg.CommitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(c.ctx, commitTimeout)
		err := c.commitNow(ctx)
		cancel()
		if err != nil && c.ctx.Err() == nil {
			c.log.Warn("offsets were not committed, it is tried again",
				"group", c.cfg.Group, "error", err)
		}
	}
}

// commitLast commits what is handled of partitions that are given up, unless the user
// commits.
func (c *Consumer) commitLast(ctx context.Context, names []Partition) {
	if c.cfg.Group == "" || c.cfg.CommitInterval < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	going := map[Partition]bool{}
	for _, at := range names {
		going[at] = true
	}
	err := c.commit(ctx, func(p *part) bool { return going[p.Partition] })
	if err != nil {
		c.log.Warn("offsets of partitions that are given up were not committed; "+
			"others will handle records again", "group", c.cfg.Group, "error", err)
	}
}

// commit commits what is handled of some parts. One commit at a time is under way, and
// each attempt is made of what is handled then: a position never falls.
func (c *Consumer) commit(ctx context.Context, which func(*part) bool) error {
	select {
	case c.committing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.committing }()
	for {
		c.mu.Lock()
		ps, of := c.toCommit(which)
		who := c.memberNow()
		c.mu.Unlock()
		if len(ps) == 0 {
			return nil
		}
		err := c.sendCommit(ctx, who, ps, of)
		if err == nil || !errors.Is(err, group.ErrStaleMemberEpoch) || ctx.Err() != nil {
			return err
		}
		if err := c.awaitEpoch(ctx, who.epoch); err != nil {
			return err
		}
	}
}

// sendCommit commits positions of parts, which may be gone when it is done. Errors are
// those of the request, or the first of a position.
func (c *Consumer) sendCommit(
	ctx context.Context, who groupMember, ps []*wire.ClientPosition, of []*part,
) error {
	resp, err := c.askGroup(ctx, &wire.ClientRequest{
		Command: &wire.ClientRequest_CommitOffsets{CommitOffsets: &wire.ClientCommitOffsets{
			Group: c.cfg.Group, MemberId: who.id, InstanceId: who.instance,
			MemberEpoch: who.epoch, Positions: ps,
		}},
	})
	errs := wire.ToErrors(resp.GetErrors())
	if err == nil && len(errs) != len(ps) && len(errs) > 0 {
		err = fmt.Errorf("%d answers for %d offsets: %w", len(errs), len(ps), messages.ErrUnavailable)
	}
	c.mu.Lock()
	for i, at := range ps {
		if err == nil && (len(errs) == 0 || errs[i] == nil) {
			of[i].cur.CommittedAs(at.GetOffset())
		}
	}
	c.mu.Unlock()
	for i := 0; err == nil && i < len(errs); i++ {
		err = errs[i]
	}
	if errors.Is(err, group.ErrUnknownMember) || errors.Is(err, group.ErrFencedMemberEpoch) {
		c.wakeHeart.set() // which hears it, too, and loses the partitions
		err = fmt.Errorf("%w: %w", ErrNotAssigned, err)
	}
	if err != nil {
		return fmt.Errorf("commit to group %q: %w", c.cfg.Group, err)
	}
	c.mu.Lock()
	c.stats.Commits++
	c.mu.Unlock()
	return nil
}

// awaitEpoch waits until the member has another epoch, for a while.
func (c *Consumer) awaitEpoch(ctx context.Context, not int32) error {
	c.wakeHeart.set()
	limited, cancel := context.WithTimeout(ctx, stalePace)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.memberNow().epoch == not {
		if c.wait(limited, &c.news) != nil {
			break
		}
	}
	return ctx.Err()
}
