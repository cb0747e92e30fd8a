package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
)

// flushSoon sees to it that what was appended is flushed: at once when producers
// wait for it or flush.messages is reached, else within flush.ms. A partition
// that nobody writes to arms no timer.
func (r *replica) flushSoon(ctx actor.Context) {
	unflushed := int64(r.store.End() - r.store.Durable())
	switch {
	case unflushed == 0 || r.flushing:
	case unflushed >= r.settings.FlushMessages:
		r.flush(ctx)
	case !r.flushArmed && milliseconds(r.settings.FlushMs) < maxTimer:
		r.flushArmed = true
		self, root := ctx.Self(), r.env.Root
		time.AfterFunc(milliseconds(r.settings.FlushMs), func() { root.Send(self, flushDue{}) })
	}
}

// maxTimer is beyond any node's life: such an interval means never.
const maxTimer = 100 * 365 * 24 * time.Hour

func (r *replica) flushDue(ctx actor.Context) {
	r.flushArmed = false
	if r.store != nil && !r.flushing {
		r.flush(ctx)
	}
}

// flush hands what is dirty to the data directory, which runs it beside other
// partitions' flushes. Appends go on meanwhile and join the next one.
func (r *replica) flush(ctx actor.Context) {
	f, dirty := r.store.PrepareFlush()
	if !dirty {
		return
	}
	r.flushing = true
	self, root, life := ctx.Self(), r.env.Root, r.life
	r.dir.flush(f, func(err error) { root.Send(self, flushed{flush: f, err: err, life: life}) })
}

func (r *replica) flushed(ctx actor.Context, m flushed) {
	if m.life != r.life || r.store == nil {
		return // of an instance that failed meanwhile
	}
	r.flushing = false
	if m.err != nil {
		// The kernel may have dropped the pages it could not write, so a second
		// try would prove nothing.
		r.fail(fmt.Errorf("flushing the log: %w", m.err))
		return
	}
	r.store.Flushed(m.flush)
	r.dir.changed()
	if r.leader != nil {
		r.answerParked()
	}
	r.flushSoon(ctx)
}

// deleteRecords raises the log start and answers once that survives a crash.
func (r *replica) deleteRecords(_ actor.Context, m *deleteRecords) {
	if r.leader == nil {
		m.reply(messages.NoOffset, r.face.notLeading())
		return
	}
	hw, to := r.leader.HighWatermark(), m.before
	if to == messages.NoOffset {
		to = hw
	}
	if to > hw || to < 0 {
		m.reply(
			messages.NoOffset,
			fmt.Errorf("offset %d is not in 0..%d: %w", to, hw, messages.ErrOffsetOutOfRange),
		)
		return
	}
	if to > r.store.Start() {
		if _, err := r.store.AdvanceStart(to); err != nil {
			m.reply(messages.NoOffset, err)
			r.failUnlessFull(err)
			return
		}
		r.leader.SetLogStart(r.store.Start())
		r.publish()
	}
	start := r.store.Start()
	r.dir.saveStarts(func(err error) { m.reply(start, err) })
}

// retain deletes segments that are past their retention and forgets producers
// that went away.
func (r *replica) retain() {
	if r.leader == nil {
		return
	}
	now := r.env.Now()
	r.producers.Expire(messages.Timestamp(now.UnixMilli()), r.env.number("producer.id.expiration.ms"))
	deleted, err := r.store.Retain(now, r.leader.HighWatermark())
	if deleted > 0 {
		r.leader.SetLogStart(r.store.Start())
		r.publish()
		r.dir.changed()
		r.log.Info().Int("segments", deleted).Int64("log_start", int64(r.store.Start())).
			Msg("segments past their retention were deleted")
	}
	if err != nil {
		r.failUnlessFull(err)
		return
	}
	r.store.Idle()
}

// failUnlessFull takes the replica offline after a disk error that space would
// not cure.
func (r *replica) failUnlessFull(err error) {
	if errors.Is(err, segment.ErrFault) {
		r.faulted(logFaulted{r.store, err})
	}
	if passes(err) && r.store.Failure() == nil {
		r.dir.wrote(&r.log, err)
		return
	}
	r.fail(err)
}
