package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/segment"
)

// flushSoon sees to it that what was appended is flushed: at once when producers
// wait for it or flush.messages is reached, else within flush.ms. A partition
// that nobody writes to arms no timer.
func (r *replica) flushSoon() {
	unflushed := int64(r.store.End() - r.store.Durable())
	switch {
	case unflushed == 0 || r.flushing:
	case unflushed >= r.settings.FlushMessages:
		r.flush()
	case !r.flushArmed && milliseconds(r.settings.FlushMs) < maxTimer:
		r.flushArmed = true
		r.out.After(milliseconds(r.settings.FlushMs), flushDue{})
	}
}

// maxTimer is beyond any node's life: such an interval means never.
const maxTimer = 100 * 365 * 24 * time.Hour

func (r *replica) flushDue() {
	r.flushArmed = false
	if r.store != nil && !r.flushing {
		r.flush()
	}
}

// flush hands what is dirty to the data directory, which runs it beside other
// partitions' flushes. Appends go on meanwhile and join the next one.
func (r *replica) flush() {
	f, dirty := r.store.PrepareFlush()
	if !dirty {
		return
	}
	r.flushing = true
	out, life := r.out, r.life
	r.dir.flush(f, func(err error) { out.Self(flushed{flush: f, err: err, life: life}) })
}

func (r *replica) flushed(m flushed) {
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
	r.ask()
	r.flushSoon()
}

// deleteRecords raises the log start and answers once that survives a crash.
func (r *replica) deleteRecords(m *deleteRecords) {
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
// that went away. Followers do so too: a leader that moved here must not find
// what its predecessor deleted long ago.
func (r *replica) retain() {
	if r.store == nil || r.leaving {
		return
	}
	now := r.env.Now()
	r.producers.Expire(messages.Timestamp(now.UnixMilli()), r.env.number("producer.id.expiration.ms"))
	deleted, err := r.store.Retain(now, r.watermark())
	if deleted > 0 {
		r.dir.changed()
		r.log.Info().Int("segments", deleted).Int64("log_start", int64(r.store.Start())).
			Msg("segments past their retention were deleted")
	}
	switch {
	case deleted > 0 && r.leader != nil:
		r.leader.SetLogStart(r.store.Start())
		r.publish()
	case deleted > 0:
		r.account(r.store.Size())
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
