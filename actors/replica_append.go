package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/troupelog/troupe/actors/producers"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// Bounds of one gathered write. Gathering small batches makes them two to three
// times cheaper; beyond some 256 KiB there is nothing more to win.
const (
	gatherBytes   = 256 << 10
	gatherBatches = 64
)

// parked is an append that is in the log but not as safe yet as its producer
// asked for.
type parked struct {
	a       *data.Append
	result  data.AppendResult
	next    messages.Offset // the offset after its last record
	durable bool            // answered only after it was flushed
}

// append queues a batch. The write happens behind the appends that are already
// in the mailbox, so that all of them go to disk together.
func (r *replica) append(a *data.Append) {
	if r.leader == nil || r.store == nil {
		a.Done(r.face.refusal(r.face.notLeading()))
		return
	}
	r.queue = append(r.queue, a)
	r.queued += len(a.Batch.Bytes)
	r.writeSoon()
}

// writeSoon writes what is queued behind what waits in the mailbox, or now if that
// is enough for one write.
func (r *replica) writeSoon() {
	if r.queued >= gatherBytes || len(r.queue) >= gatherBatches {
		r.write()
		return
	}
	if !r.writeDue {
		r.writeDue = true
		r.out.Self(writeQueued{})
	}
}

// write decides the queued appends, writes those that may be written in one go,
// and answers or parks them.
func (r *replica) write() {
	r.writeDue = false
	if len(r.queue) == 0 || r.leader == nil {
		return
	}
	if r.env.pauses.since(r.pauses) {
		r.refuseQueue(r.face.notLeading())
		return
	}
	now := r.env.Now()
	plan := r.producers.Plan()
	r.decide(plan, now)
	if len(r.batches) > 0 {
		err := r.appendDecided(now)
		r.dir.wrote(&r.log, err)
		if err != nil {
			plan.Reset()
			r.failWrite(err)
			return
		}
		plan.Commit()
		if err := r.noteAborted(); err != nil {
			r.fail(err)
			return
		}
		r.leader.Appended(r.store.End(), now)
	}
	r.parkWritten()
	r.flushSoon() // it runs while the rest is done
	r.publish()
	r.watchISR()
}

// decide goes through the queue in order. It answers what is refused, holds what
// waits for the coordinator of its transaction, and leaves in written what was
// accepted and in batches what is to be appended, stamped.
func (r *replica) decide(plan *producers.Plan, now time.Time) {
	next, stamp := r.store.End(), messages.Timestamp(now.UnixMilli())
	for i, a := range r.queue {
		next = r.decideOne(plan, a, next, stamp)
		r.queue[i] = nil // it has its answer, or another place
	}
	r.queue, r.queued = r.queue[:0], 0
}

// decideOne is decide for one append, at offset next. It returns the offset of the
// one after it.
func (r *replica) decideOne(plan *producers.Plan, a *data.Append, next messages.Offset,
	stamp messages.Timestamp) messages.Offset {
	if r.holdBehind(a) {
		return next
	}
	verdict, err := r.admit(plan, a, next, stamp)
	if errors.Is(err, producers.ErrUnverified) && a.Verify != nil && a.Guard == 0 {
		r.hold(a)
		return next
	}
	if err != nil {
		a.Done(r.face.refusal(err))
		return next
	}
	p := parked{a: a, next: verdict.LastOffset + 1, result: data.AppendResult{
		BaseOffset: verdict.BaseOffset, LogAppendTime: messages.NoTimestamp,
		LogStart: r.store.Start(), Leader: *r.face.hint.Load(),
	}}
	if r.settings.LogAppendTime {
		p.result.LogAppendTime = verdict.Timestamp
	}
	if !verdict.Duplicate {
		a.Batch.Stamp(next, r.leader.Epoch())
		if r.settings.LogAppendTime {
			a.Batch.SetLogAppendTime(stamp)
		}
		r.batches = append(r.batches, a.Batch)
		next = a.Batch.NextOffset()
	}
	r.written = append(r.written, p)
	return next
}

// admit says whether a batch may be appended at offset next and time now, or was
// before.
func (r *replica) admit(plan *producers.Plan, a *data.Append, next messages.Offset,
	now messages.Timestamp) (producers.Verdict, error) {
	none := producers.Verdict{}
	if err := r.leader.CheckAppend(a.Acks); err != nil {
		return none, err
	}
	if a.Fenced && a.Epoch != r.leader.Epoch() {
		return none, fmt.Errorf("decided under epoch %d, this is %d: %w",
			a.Epoch, r.leader.Epoch(), messages.ErrNotLeader)
	}
	if a.Batch.Control() {
		return r.admitMarker(plan, a, next) // also where there is little room: it takes none
	}
	if err := r.dir.room(); err != nil {
		return none, err
	}
	if int64(a.Batch.Size()) > r.settings.SegmentBytes {
		return none, fmt.Errorf("batch of %d bytes, segment.bytes is %d: %w",
			a.Batch.Size(), r.settings.SegmentBytes, messages.ErrBatchLargerThanSegment)
	}
	h := a.Batch.Header
	h.BaseOffset = next
	if r.settings.LogAppendTime {
		h.MaxTimestamp = now // a duplicate is answered with the time of its first arrival
	}
	return plan.Decide(h, r.verification(a))
}

// appendDecided appends the decided batches in one write. The first write of a leader
// epoch is preceded by the epoch's start in the epoch cache, durably.
func (r *replica) appendDecided(now time.Time) error {
	if !r.epochStarted {
		if err := r.store.AssignEpoch(r.leader.Epoch(), r.store.End()); err != nil {
			return err
		}
		r.epochStarted = true
	}
	return r.storeBatches(now, r.batches)
}

// storeBatches appends to the log. With the first records of a segment begins the time after
// which it is rolled for compaction, which a look at it without any could not know.
func (r *replica) storeBatches(now time.Time, batches []record.Batch) error {
	if r.store.End() == r.store.Sealed() {
		r.face.compaction.looked.Store(-1)
	}
	return r.store.Append(now, batches)
}

// failWrite answers everything that was to be written with err. A full disk
// leaves the log as it was, to go on when there is space; any other disk error
// takes the replica offline.
func (r *replica) failWrite(err error) {
	refusal := r.face.refusal(err)
	for _, p := range r.written {
		p.a.Done(refusal)
	}
	r.dropWritten()
	if errors.Is(err, messages.ErrStorage) && (!passes(err) || r.store.Failure() != nil) {
		r.fail(err)
	}
}

func (r *replica) dropWritten() {
	clear(r.written)
	clear(r.batches)
	r.written, r.batches = r.written[:0], r.batches[:0]
}

// parkWritten parks what was appended; publish answers what is safe at once.
//
// docs/flows/replication.md: 2.
func (r *replica) parkWritten() {
	durable := r.settings.FlushMessages == 1
	for _, p := range r.written {
		p.durable = durable && p.a.Acks != data.AcksNone
		r.parked = append(r.parked, p)
	}
	r.dropWritten()
}

// answerParked answers the appends that are as safe as their producers asked
// for: acks=all below the high watermark, the others at once; and with
// flush.messages=1 only below what was flushed.
//
// docs/flows/replication.md: 9.
func (r *replica) answerParked() {
	hw, flushed := r.leader.HighWatermark(), r.store.Durable()
	kept := r.parked[:0]
	for _, p := range r.parked {
		safe := p.a.Acks != data.AcksAll || p.next <= hw
		if safe && (!p.durable || p.next <= flushed) {
			p.a.Done(p.result)
			continue
		}
		kept = append(kept, p)
	}
	clear(r.parked[len(kept):])
	r.parked = kept
}

// refuseQueue answers what was not decided yet.
func (r *replica) refuseQueue(err error) {
	refusal := r.face.refusal(err)
	for _, a := range r.queue {
		if a != nil {
			a.Done(refusal)
		}
	}
	clear(r.queue)
	r.queue, r.queued = r.queue[:0], 0
}

// refuseAll answers everything that waits: what is queued was not written, what
// is parked was written but nobody can say now whether it stays. Both are told
// to try again; an idempotent producer is not doubled by that.
func (r *replica) refuseAll(err error) {
	r.endVerification(err)
	r.refuseQueue(err)
	refusal := r.face.refusal(err)
	for _, p := range r.written {
		p.a.Done(refusal)
	}
	r.dropWritten()
	for _, p := range r.parked {
		p.a.Done(refusal)
	}
	clear(r.parked)
	r.parked = r.parked[:0]
}
