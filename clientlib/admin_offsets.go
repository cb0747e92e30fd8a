package clientlib

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

// Committed returns the positions of a group: the next offset to read, for each partition
// that has one. A group that does not exist has none.
func (a *Admin) Committed(ctx context.Context, groupID string) (map[Partition]int64, error) {
	resp, err := a.askGroup(ctx, groupID, &wire.ClientRequest{
		Command: &wire.ClientRequest_FetchOffsets{FetchOffsets: &wire.ClientFetchOffsets{
			Group: groupID, MemberEpoch: -1}}})
	if err != nil {
		return nil, err
	}
	committed := map[Partition]int64{}
	var errs []error
	for _, p := range resp.GetFetchedOffsets().GetPositions() {
		at := Partition{p.GetTopic(), p.GetPartition()}
		if err := wire.ToError(p.GetError()); err != nil {
			errs = append(errs, aboutOffset(groupID, at, err))
		} else if p.GetOffset() >= 0 {
			committed[at] = p.GetOffset()
		}
	}
	return committed, errors.Join(errs...)
}

// SetOffsets sets positions of a group that has no members, and makes the group if there
// is none. ErrGroupNotEmpty: it has members, and they alone may commit.
func (a *Admin) SetOffsets(ctx context.Context, groupID string, offsets map[Partition]int64) error {
	commit := &wire.ClientCommitOffsets{Group: groupID, MemberEpoch: -1}
	partitions := slices.SortedFunc(maps.Keys(offsets), comparePartitions)
	for _, p := range partitions {
		if offsets[p] < 0 {
			return aboutOffset(groupID, p, fmt.Errorf("offset %d: %w", offsets[p], ErrInvalidRequest))
		}
		commit.Positions = append(commit.Positions, &wire.ClientPosition{
			Topic: p.Topic, Partition: p.Index, Offset: offsets[p], LeaderEpoch: -1})
	}
	return a.changeOffsets(ctx, groupID, partitions, &wire.ClientRequest{
		Command: &wire.ClientRequest_CommitOffsets{CommitOffsets: commit}})
}

// ResetOffsets has a group without members go on at a place in each partition of a topic:
// Earliest, Latest, AtOffset, AtTime. Errors are those of Offsets and SetOffsets.
func (a *Admin) ResetOffsets(ctx context.Context, groupID, topic string, start Start) error {
	offsets, err := a.Offsets(ctx, topic, start)
	if err != nil {
		return err
	}
	return a.SetOffsets(ctx, groupID, offsets)
}

// DeleteOffsets forgets positions of a group. ErrGroupNotEmpty: members of it read the
// topic. ErrGroupNotFound: there is none.
func (a *Admin) DeleteOffsets(ctx context.Context, groupID string, partitions ...Partition) error {
	partitions = slices.SortedFunc(slices.Values(partitions), comparePartitions)
	partitions = slices.Compact(partitions)
	remove := &wire.ClientDeleteOffsets{Group: groupID}
	for _, p := range partitions {
		last := len(remove.Partitions) - 1
		if last < 0 || remove.Partitions[last].Topic != p.Topic {
			remove.Partitions = append(remove.Partitions, &wire.PartitionNames{Topic: p.Topic})
			last++
		}
		remove.Partitions[last].Partitions = append(remove.Partitions[last].Partitions, p.Index)
	}
	return a.changeOffsets(ctx, groupID, partitions, &wire.ClientRequest{
		Command: &wire.ClientRequest_DeleteOffsets{DeleteOffsets: remove}})
}

// changeOffsets asks for something whose result is one error for each partition.
func (a *Admin) changeOffsets(ctx context.Context, groupID string, partitions []Partition,
	req *wire.ClientRequest) error {
	if len(partitions) == 0 {
		return nil
	}
	resp, err := a.askGroup(ctx, groupID, req)
	if err != nil {
		return hasMembers(err)
	}
	results := wire.ToErrors(resp.GetErrors())
	if len(results) != len(partitions) {
		return incomplete(len(results), len(partitions))
	}
	var errs []error
	for i, err := range results {
		errs = append(errs, aboutOffset(groupID, partitions[i], hasMembers(err)))
	}
	return errors.Join(errs...)
}

// hasMembers turns what a group says to a stranger who wants to commit or to forget into
// what is the matter.
func hasMembers(err error) error {
	if errors.Is(err, group.ErrUnknownMember) || errors.Is(err, group.ErrSubscribed) ||
		errors.Is(err, group.ErrStaleMemberEpoch) || errors.Is(err, group.ErrIllegalGeneration) {
		return fmt.Errorf("%w: %w; stop its members first", err, ErrGroupNotEmpty)
	}
	return err
}

func aboutOffset(groupID string, p Partition, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("group %q, %s-%d: %w", groupID, p.Topic, p.Index, err)
}

// Offsets returns the offset of a place in each partition of a topic. Latest is the end
// for consumers that read what is committed: records of open transactions are behind it.
// An offset that is not there becomes the first or the last that is, and a time later than
// all records becomes Latest.
func (a *Admin) Offsets(ctx context.Context, topic string, start Start) (
	map[Partition]int64, error) {
	route, err := a.cluster.Route(ctx, topic, false)
	if err != nil {
		return nil, about("topic", topic, err)
	}
	if route.Gone {
		return nil, fmt.Errorf("topic %q: %w", topic, ErrUnknownTopic)
	}
	offsets := map[Partition]int64{}
	var mu sync.Mutex
	err = eachAtOnce(len(route.Partitions), func(i int) error {
		p := Partition{topic, int32(i)}
		offset, err := a.offset(ctx, p, start)
		if err != nil {
			return fmt.Errorf("%s-%d: %w", topic, i, err)
		}
		mu.Lock()
		defer mu.Unlock()
		offsets[p] = offset
		return nil
	})
	return offsets, err
}

// Timestamps with a meaning in ListOffsets.
const (
	latestTimestamp   = -1
	earliestTimestamp = -2
)

// offset finds one place in one partition.
func (a *Admin) offset(ctx context.Context, p Partition, start Start) (int64, error) {
	switch start.kind {
	case startLatest:
		return a.offsetAt(ctx, p, latestTimestamp)
	case startOffset:
		first, err := a.offsetAt(ctx, p, earliestTimestamp)
		if err != nil {
			return 0, err
		}
		end, err := a.offsetAt(ctx, p, latestTimestamp)
		return max(first, min(start.value, end)), err
	case startTime:
		// Times before 1970 would be read as something else, and all records are later.
		offset, err := a.offsetAt(ctx, p, max(start.value, 0))
		if err != nil || offset >= 0 {
			return offset, err
		}
		return a.offsetAt(ctx, p, latestTimestamp)
	default:
		return a.offsetAt(ctx, p, earliestTimestamp)
	}
}

// offsetAt asks the leader of a partition; -1: no record is that late.
func (a *Admin) offsetAt(ctx context.Context, p Partition, timestamp int64) (int64, error) {
	offset := int64(-1)
	err := retryItem(ctx, func() error {
		resp, err := a.cluster.AskLeader(ctx,
			messages.TopicPartition{Topic: p.Topic, Partition: p.Index}, &wire.ClientRequest{
				Command: &wire.ClientRequest_ListOffsets{ListOffsets: &wire.ClientListOffsets{
					Topic: p.Topic, ReadCommitted: true, Partitions: []*wire.ClientTimeOf{
						{Partition: p.Index, Timestamp: timestamp}}}}})
		if err != nil {
			return err
		}
		found := resp.GetOffsets().GetPartitions()
		if len(found) != 1 {
			return incomplete(len(found), 1)
		}
		offset = found[0].GetOffset()
		return wire.ToError(found[0].GetError())
	})
	return offset, err
}

// DeleteRecords deletes the records before an offset; -1: all that there are now.
// Nobody can read them any more, though the disk may have them for some time.
// ErrInvalidRequest: there are not so many records.
func (a *Admin) DeleteRecords(ctx context.Context, before map[Partition]int64) error {
	partitions := slices.SortedFunc(maps.Keys(before), comparePartitions)
	return eachAtOnce(len(partitions), func(i int) error {
		p := partitions[i]
		_, err := a.cluster.AskLeader(ctx,
			messages.TopicPartition{Topic: p.Topic, Partition: p.Index}, &wire.ClientRequest{
				Command: &wire.ClientRequest_DeleteRecords{DeleteRecords: &wire.ClientDeleteRecords{
					Topic: p.Topic, Partition: p.Index, Before: before[p]}}})
		if err != nil {
			return fmt.Errorf("%s-%d: %w", p.Topic, p.Index, refused(err))
		}
		return nil
	})
}

// Pauses between questions about one partition whose answer will pass.
const (
	itemPause    = 50 * time.Millisecond
	itemPauseMax = time.Second
)

// retryItem calls ask until it has an answer or ctx ends. The connections see to errors of
// a whole request; this is for those inside of a result.
func retryItem(ctx context.Context, ask func() error) error {
	for pause := itemPause; ; pause = min(2*pause, itemPauseMax) {
		err := ask()
		if !itemPasses(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		}
	}
}

// itemPasses reports whether an error is of a partition that gets, or has just got,
// another leader.
func itemPasses(err error) bool {
	for _, passing := range []error{messages.ErrNotLeader, messages.ErrOffsetNotAvailable,
		messages.ErrFencedLeaderEpoch, messages.ErrUnknownLeaderEpoch, messages.ErrOverloaded} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
