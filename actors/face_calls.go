package actors

import (
	"context"
	"fmt"

	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// ByTimestamp answers ListOffsets: the special timestamps, or the first record
// at or after t. Nothing that late gives NoOffset and NoTimestamp.
func (r *Replica) ByTimestamp(_ context.Context, t messages.Timestamp, isolation data.Isolation,
	current messages.LeaderEpoch) (at data.TimestampOffset, err error) {
	none := data.TimestampOffset{
		Timestamp: messages.NoTimestamp, Offset: messages.NoOffset, Epoch: messages.NoEpoch}
	l, log := r.leads.Load(), r.log.Load()
	if l == nil || log == nil {
		return none, r.notLeading()
	}
	defer r.catchFault(log, &err)()
	o := l.offsets
	if err := replicas.Fence(o.Epoch, current); err != nil {
		return none, err
	}
	limit := visibleEnd(o, isolation)
	at = none
	found := true
	switch t {
	case data.TimestampLatest:
		if !l.settled {
			return none, fmt.Errorf("%s-%d: %w", r.topic, r.id.Partition, messages.ErrOffsetNotAvailable)
		}
		at.Offset, at.Epoch = limit, o.Epoch
	case data.TimestampEarliest, data.TimestampEarliestLocal:
		at.Offset, at.Epoch = o.LogStart, log.EpochAt(o.LogStart)
		if at.Epoch == messages.NoEpoch {
			at.Epoch = o.Epoch
		}
	case data.TimestampLatestTiered: // there are no tiers
	case data.TimestampMax:
		at, found, err = log.MaxTimestamp(limit)
	default:
		if t < 0 {
			return none, fmt.Errorf("timestamp %d has no meaning: %w", t, messages.ErrInvalidRequest)
		}
		at, found, err = log.OffsetForTimestamp(t, limit)
	}
	if err != nil || !found {
		return none, err
	}
	return at, nil
}

// DeleteRecords moves the log start up to before, or to the high watermark for
// NoOffset, durably. It returns the new log start.
func (r *Replica) DeleteRecords(
	ctx context.Context,
	before messages.Offset,
) (messages.Offset, error) {
	type outcome struct {
		start messages.Offset
		err   error
	}
	done := make(chan outcome, 1)
	r.gate.RLock()
	open := !r.closed && r.leads.Load() != nil
	if open {
		r.send(&deleteRecords{before, func(o messages.Offset, err error) { done <- outcome{o, err} }})
	}
	r.gate.RUnlock()
	if !open {
		return messages.NoOffset, r.notLeading()
	}
	select {
	case out := <-done:
		return out.start, out.err
	case <-ctx.Done():
		return messages.NoOffset, fmt.Errorf("deleting records: %w", messages.ErrRequestTimedOut)
	}
}
