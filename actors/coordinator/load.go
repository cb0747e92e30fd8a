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

// loading is a replay under way: of a shard's partition, up to where the log ended
// when it began. What lies there was appended by earlier leaders, and counts once it
// is on every in-sync replica: the replay waits for that, or rather whoever runs it.
type loading struct {
	s         *shard
	log       Partition
	r         *replayer
	next, end messages.Offset
	visible   messages.Offset // how far one could see when there was nothing to read
	buf       []byte
}

// progress says how a replay goes on.
type progress int8

const (
	loadMore  progress = iota // with another step
	loadWaits                 // with another step when there is more to see than visible
	loadDone                  // not at all
)

func newLoading(s *shard, d driver) (*loading, error) {
	log, err := s.leading()
	if err != nil {
		return nil, err
	}
	at := log.Offsets()
	return &loading{s: s, log: log, r: newReplayer(d), next: at.LogStart, end: at.LogEnd}, nil
}

// step takes in what can be read at once.
func (l *loading) step() (progress, error) {
	if l.next >= l.end {
		return l.done()
	}
	res := l.log.Read(data.Read{From: l.next, MaxBytes: loadBytes, MinOne: true,
		CurrentEpoch: l.s.epoch, LastEpoch: messages.NoEpoch})
	switch {
	case res.Err != nil:
		return loadDone, res.Err
	case res.View.Bytes > 0:
	case res.HighWatermark >= l.end:
		return l.done() // nothing is left of the rest
	default:
		// Not next: what lies below the high watermark may have been compacted away.
		l.visible = max(l.next, res.HighWatermark)
		return loadWaits, nil
	}
	var err error
	l.buf, err = res.View.AppendTo(l.buf[:0])
	res.View.Release()
	if err != nil {
		return loadDone, fmt.Errorf("%s at offset %d: %w", l.s.name(), l.next, err)
	}
	if l.next, err = l.r.take(l.buf, l.next); err != nil {
		return loadDone, fmt.Errorf("%s: %w", l.s.name(), err)
	}
	return loadMore, nil
}

// done makes sure that all was read under the shard's own leadership.
func (l *loading) done() (progress, error) {
	if l.log.Offsets().Epoch != l.s.epoch {
		return loadDone, fmt.Errorf("%s: %w", l.s.name(), messages.ErrNotLeader)
	}
	return loadDone, nil
}

// load replays the shard's partition.
func (s *shard) load(ctx context.Context) (*replayer, error) {
	l, err := newLoading(s, s.c.drivers[s.key.kind](s))
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := l.step()
		if err == nil && p == loadWaits {
			err = s.await(ctx, l.log, l.visible)
		}
		if err != nil {
			return nil, err
		}
		if p == loadDone {
			return l.r, nil
		}
	}
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
