package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

const (
	// loadBytes is how much of a partition is read at a time.
	loadBytes = 1 << 20
	// loadPatience is how long a replay waits for the high watermark before it looks
	// whether the partition still leads.
	loadPatience = time.Second
)

// load replays the shard's partition up to where the log ended when it began.
// What lies there was appended by earlier leaders, and counts once it is on every
// in-sync replica: the replay waits for that.
func (s *shard) load(ctx context.Context) (*replayer, error) {
	log, err := s.leading()
	if err != nil {
		return nil, err
	}
	r := newReplayer(s.c.drivers[s.key.kind](s))
	at := log.Offsets()
	next, end := at.LogStart, at.LogEnd
	var buf []byte
	for next < end {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		res := log.Read(data.Read{From: next, MaxBytes: loadBytes, MinOne: true,
			CurrentEpoch: s.epoch, LastEpoch: messages.NoEpoch})
		if res.Err != nil {
			return nil, res.Err
		}
		if res.View.Bytes == 0 {
			if res.HighWatermark >= end {
				break // nothing is left of the rest
			}
			if err := s.await(ctx, log, next); err != nil {
				return nil, err
			}
			continue
		}
		buf, err = res.View.AppendTo(buf[:0])
		res.View.Release()
		if err != nil {
			return nil, fmt.Errorf("%s at offset %d: %w", s.name(), next, err)
		}
		if next, err = r.take(buf, next); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	if log.Offsets().Epoch != s.epoch {
		return nil, fmt.Errorf("%s: %w", s.name(), messages.ErrNotLeader)
	}
	return r, nil
}

// await waits until there may be more to read.
func (s *shard) await(ctx context.Context, log Partition, visible messages.Offset) error {
	moved := make(chan struct{}, 1)
	cancel := log.Await(data.ReadUncommitted, visible, func() { moved <- struct{}{} })
	defer cancel()
	timer := time.NewTimer(loadPatience)
	defer timer.Stop()
	select {
	case <-moved:
	case <-timer.C:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), messages.ErrUnavailable)
	}
	return nil
}
