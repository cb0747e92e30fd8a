package lag

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/record"
)

const (
	// asksMax bounds the groups that are asked at a time.
	asksMax = 256
	// lookupsMax bounds the records that are read in one look for their timestamps:
	// each costs a batch. Positions that stood still cost nothing, they are known.
	lookupsMax = 1000
)

// collect looks at the groups of this node. Only one call runs at a time.
func (w *Watch) collect(ctx context.Context) Report {
	room := w.cfg.MaxPartitions()
	if room == 0 {
		return Report{}
	}
	// With an error come the groups that are known: better than none.
	listed, _ := w.cfg.Groups.Groups(ctx)
	r := Report{Groups: make([]Group, 0, len(listed))}
	for part := range slices.Chunk(listed, asksMax) {
		for _, g := range w.ask(ctx, part) {
			if over := len(g.Partitions) - room; over > 0 {
				r.LeftOut += over
				g.Partitions = g.Partitions[:room]
			}
			room -= len(g.Partitions)
			r.Groups = append(r.Groups, g)
		}
	}
	here, elsewhere := w.leading(r.Groups)
	ends := map[messages.TopicPartition]messages.Offset{}
	if len(elsewhere) > 0 {
		ends = w.remote.ends(ctx, elsewhere)
	}
	for tp, p := range here {
		// As for those elsewhere: a new leader may not know yet how far its log is safe,
		// and groups would seem to have read everything.
		end, err := p.ByTimestamp(ctx, data.TimestampLatest, data.ReadUncommitted, messages.NoEpoch)
		if err == nil {
			ends[tp] = end.Offset
		}
	}
	w.rate(ctx, r.Groups, here, ends)
	return r
}

// ask asks groups for their members and what they committed. Those that do not answer
// before ctx ends are left out.
func (w *Watch) ask(ctx context.Context, listed []group.Listed) []Group {
	type answer struct {
		i         int
		described *group.Description
		fetched   *group.Fetched
	}
	// There is room for every answer, so that none blocks the machine that gives it.
	answers := make(chan answer, 2*len(listed))
	for i, l := range listed {
		w.cfg.Groups.Group(l.GroupID, &group.Describe{Reply: func(d group.Description) {
			answers <- answer{i: i, described: &d}
		}})
		w.cfg.Groups.Group(l.GroupID, &group.FetchOffsets{MemberEpoch: group.NoGeneration,
			Reply: func(f group.Fetched) { answers <- answer{i: i, fetched: &f} }})
	}
	found := make([]Group, len(listed))
	good := make([]int, len(listed))
	for range 2 * len(listed) {
		select {
		case a := <-answers:
			switch {
			case a.described != nil && a.described.Err == nil:
				found[a.i].Members = len(a.described.Members)
				good[a.i]++
			case a.fetched != nil && a.fetched.Err == nil:
				found[a.i].Partitions = positions(a.fetched.Offsets)
				good[a.i]++
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	out := found[:0]
	for i := range found {
		if good[i] == 2 {
			found[i].ID = listed[i].GroupID
			out = append(out, found[i])
		}
	}
	return out
}

// positions are the committed offsets, sorted, with nothing else known yet.
func positions(offsets []group.FetchedOffset) []PartitionLag {
	var out []PartitionLag
	for i := range offsets {
		if o := &offsets[i]; o.Err == nil && o.Offset.Offset >= 0 {
			out = append(out, PartitionLag{
				TopicPartition: messages.TopicPartition{Topic: o.Topic, Partition: o.Partition},
				Committed:      o.Offset.Offset, Lag: -1, Behind: -1})
		}
	}
	slices.SortFunc(out, func(a, b PartitionLag) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// leading sorts the partitions of groups into those led here and elsewhere. Those of
// topics that are gone, and those without a leader, are in neither.
func (w *Watch) leading(groups []Group) (
	here map[messages.TopicPartition]Partition, elsewhere []messages.TopicPartition,
) {
	here = map[messages.TopicPartition]Partition{}
	seen := map[messages.TopicPartition]bool{}
	im := w.cfg.Image()
	for i := range groups {
		for _, p := range groups[i].Partitions {
			tp := p.TopicPartition
			t := im.Topic(tp.Topic)
			if seen[tp] || t == nil || int(tp.Partition) >= len(t.Partitions) {
				continue
			}
			seen[tp] = true
			switch t.Partitions[tp.Partition].Leader {
			case messages.NoNode:
			case w.cfg.Self:
				if r, err := w.cfg.Leading(t, tp.Partition); err == nil {
					here[tp] = r
				}
			default:
				elsewhere = append(elsewhere, tp)
			}
		}
	}
	return here, elsewhere
}

// rate fills in how far the groups are behind.
func (w *Watch) rate(ctx context.Context, groups []Group,
	here map[messages.TopicPartition]Partition, ends map[messages.TopicPartition]messages.Offset,
) {
	times := map[place]messages.Timestamp{}
	var ask []place
	lookups := 0
	each := func(f func(p *PartitionLag, at place)) {
		for i := range groups {
			for j := range groups[i].Partitions {
				p := &groups[i].Partitions[j]
				f(p, place{p.TopicPartition, p.Committed})
			}
		}
	}
	each(func(p *PartitionLag, at place) {
		end, known := ends[p.TopicPartition]
		if !known {
			return
		}
		if p.Lag = max(0, int64(end-p.Committed)); p.Lag == 0 {
			p.Behind = 0
			return
		}
		if t, ok := w.times[at]; ok {
			times[at] = t
			return
		}
		if _, ok := times[at]; ok || lookups == lookupsMax || ctx.Err() != nil {
			return
		}
		lookups++
		if r := here[p.TopicPartition]; r == nil {
			ask = append(ask, at)
		} else if t := timeAt(r, p.Committed); t != messages.NoTimestamp {
			times[at] = t
		}
	})
	if len(ask) > 0 {
		for at, t := range w.remote.times(ctx, ask) {
			times[at] = t
		}
	}
	now := w.cfg.Now()
	each(func(p *PartitionLag, at place) {
		if t, ok := times[at]; ok && p.Lag > 0 {
			p.Behind = max(0, now.Sub(time.UnixMilli(int64(t))))
		}
	})
	w.times = times
}

// timeAt reads the timestamp of the first record from an offset on.
func timeAt(p Partition, from messages.Offset) messages.Timestamp {
	res := p.Read(data.Read{From: from, MaxBytes: 1, MinOne: true, CurrentEpoch: messages.NoEpoch,
		LastEpoch: messages.NoEpoch})
	defer res.View.Release()
	if res.Err != nil {
		return messages.NoTimestamp
	}
	batches, err := res.View.AppendTo(nil)
	if err != nil {
		return messages.NoTimestamp
	}
	return firstTime(batches, from)
}

// firstTime returns the timestamp of the first record from an offset on in the first
// of some batches; NoTimestamp if the bytes do not say. Where a compaction removed the
// record, that of the batch stands for it.
func firstTime(batches []byte, from messages.Offset) messages.Timestamp {
	b, _, err := record.Parse(batches)
	if err != nil {
		return messages.NoTimestamp
	}
	if b.LogAppendTime() || b.BaseTimestamp == b.MaxTimestamp {
		return b.MaxTimestamp
	}
	for r, err := range record.Records(&b, record.InflateLimit) {
		if err != nil {
			return messages.NoTimestamp
		}
		if r.Offset >= from {
			return r.Timestamp
		}
	}
	return b.MaxTimestamp
}
