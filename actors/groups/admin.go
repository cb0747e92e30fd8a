package groups

import (
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// fetch answers an OffsetFetch: every partition that is asked for, whether it has
// an offset or not.
func (g *Group) fetch(r *group.FetchOffsets) {
	if g.exists() {
		if err := g.members.mayFetch(r.MemberID, r.MemberEpoch); err != nil {
			r.Refuse(err)
			return
		}
	}
	cfg := g.cfg()
	asked := r.Partitions
	if asked == nil {
		asked = g.offsets.partitions()
	}
	answer := make([]group.FetchedOffset, len(asked))
	for i, tp := range asked {
		answer[i] = g.fetchOne(&cfg, tp, r.Stable)
	}
	r.Reply(group.Fetched{Offsets: answer})
}

func (g *Group) fetchOne(cfg *Config, tp messages.TopicPartition, stable bool) group.FetchedOffset {
	none := group.FetchedOffset{Offset: group.Offset{
		Topic: tp.Topic, Partition: tp.Partition, Offset: messages.NoOffset,
		Epoch: messages.NoEpoch, CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp,
	}}
	if stable && g.offsets.isPending(tp) {
		none.Err = fmt.Errorf("%s: %w", tp, group.ErrUnstableOffset)
		return none
	}
	o, ok := g.offsets.committed[tp]
	if !ok {
		return none
	}
	// An offset of a topic that was deleted says nothing about one that was
	// created under its name since.
	id := cfg.topicID(tp.Topic)
	if !o.TopicID.IsZero() && !id.IsZero() && o.TopicID != id {
		return none
	}
	return group.FetchedOffset{Offset: o.Offset}
}

func (g *Group) describe() group.Description {
	d := group.Description{GroupID: g.id, Type: g.members.kind(), State: group.Dead}
	if !g.exists() {
		d.Err = fmt.Errorf("group %q: %w", g.id, group.ErrGroupNotFound)
		return d
	}
	g.members.describe(&d)
	return d
}

func (g *Group) list(r *group.List) {
	if !g.exists() {
		r.Reply(group.Listed{}, false)
		return
	}
	d := g.describe()
	r.Reply(group.Listed{
		GroupID: g.id, ProtocolType: d.ProtocolType, State: d.State, Type: d.Type,
	}, true)
}

// delete forgets a group that has no members.
func (g *Group) delete(r *group.Delete) {
	switch {
	case !g.exists():
		r.Reply(fmt.Errorf("group %q: %w", g.id, group.ErrGroupNotFound))
		return
	case !g.members.vacant():
		r.Reply(fmt.Errorf("group %q: %w", g.id, group.ErrNonEmptyGroup))
		return
	}
	all := g.offsets.recorded()
	records := append(offsetTombstones(g.id, all), g.members.tombstones()...)
	if len(records) == 0 {
		g.forget(nil)
		r.Reply(nil)
		return
	}
	g.write(records, func(_ time.Time, err error) {
		if err == nil {
			g.forget(all)
		}
		r.Reply(err)
	})
}

// forget applies the tombstones of a whole group.
func (g *Group) forget(all []messages.TopicPartition) {
	g.removeOffsets(all)
	g.members.stop(fmt.Errorf("group %q was deleted: %w", g.id, group.ErrUnknownMember))
	g.members = newClassic(g)
}

func (g *Group) removeOffsets(tps []messages.TopicPartition) {
	for _, tp := range tps {
		g.offsets.remove(tp)
	}
}

// deleteOffsets forgets offsets of topics that no member reads. One that is
// pending in a transaction goes with them.
func (g *Group) deleteOffsets(r *group.DeleteOffsets) {
	if !g.exists() {
		r.Refuse(fmt.Errorf("group %q: %w", g.id, group.ErrGroupNotFound))
		return
	}
	if err := g.members.mayDeleteOffsets(); err != nil {
		r.Refuse(err)
		return
	}
	errs := make([]error, len(r.Partitions))
	var gone []messages.TopicPartition
	for i, tp := range r.Partitions {
		switch {
		case g.members.subscribed(tp.Topic):
			errs[i] = fmt.Errorf("%s: %w", tp, group.ErrSubscribed)
		case g.offsets.has(tp):
			gone = append(gone, tp)
		}
	}
	g.forgetOffsets(gone, func(err error) { r.Reply(outcome(err, errs)) })
}

// topicsDeleted forgets the offsets of topics that are gone. If that fails they
// are left to expire; they are not answered for a topic of another id.
func (g *Group) topicsDeleted(r *group.TopicsDeleted) {
	gone := slices.DeleteFunc(g.offsets.recorded(), func(tp messages.TopicPartition) bool {
		return !slices.Contains(r.Topics, tp.Topic)
	})
	g.forgetOffsets(gone, func(error) {})
}

// forgetOffsets makes tombstones durable and applies them.
func (g *Group) forgetOffsets(gone []messages.TopicPartition, done func(err error)) {
	if len(gone) == 0 {
		done(nil)
		return
	}
	g.write(offsetTombstones(g.id, gone), func(_ time.Time, err error) {
		if err == nil {
			g.removeOffsets(gone)
		}
		done(err)
	})
}

// expire forgets the offsets that nobody used for the retention time, and the
// group itself once nothing is left of it.
func (g *Group) expire(now time.Time) {
	cfg := g.cfg()
	g.checkDue = now.Add(cfg.RetentionCheckInterval)
	rule := g.members.retention()
	if !rule.expires {
		return
	}
	var gone []messages.TopicPartition
	for _, tp := range g.offsets.partitions() {
		o := g.offsets.committed[tp].Offset
		if !g.offsets.isPending(tp) && !g.members.subscribed(tp.Topic) &&
			rule.expired(&o, now, cfg.OffsetsRetention) {
			gone = append(gone, tp)
		}
	}
	records := offsetTombstones(g.id, gone)
	whole := len(gone) == g.offsets.len() && len(g.offsets.pending) == 0 && g.members.vacant()
	if whole {
		records = append(records, g.members.tombstones()...)
	}
	if len(records) == 0 {
		return
	}
	g.write(records, func(_ time.Time, err error) {
		switch {
		case err != nil: // the next check does it
		case whole:
			g.forget(gone)
		default:
			g.removeOffsets(gone)
		}
	})
}

func (r retention) expired(o *group.Offset, now time.Time, keep time.Duration) bool {
	if o.ExpireMs != messages.NoTimestamp {
		return timestamp(now) >= o.ExpireMs
	}
	from := r.since
	if from == messages.NoTimestamp {
		from = o.CommitMs
	}
	return int64(timestamp(now)-from) >= keep.Milliseconds()
}
