package actors

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
)

// Messages to a following replica.
type (
	// fetchAnswered is the leader's answer to the fetch of that number.
	fetchAnswered struct {
		q      *data.ReplicaFetch
		r      *data.ReplicaFetched
		number int64
		life   int64
	}
	// fetchDue asks to fetch again after a failure.
	fetchDue struct{ number int64 }
)

// How long a follower waits before it asks again after a failure: twice as long
// each time. Newer metadata ends the wait.
const (
	fetchRetry      = 50 * time.Millisecond
	fetchRetryLimit = 800 * time.Millisecond
)

// follow takes the following role, or goes on in it.
//
// docs/flows/replication.md: leader 5.
func (r *replica) follow(p *messages.Partition) {
	r.stopLeading()
	if f := r.follower; f != nil && f.Epoch() == p.LeaderEpoch && f.Leader() == p.Leader {
		return
	}
	r.follower = replicas.NewFollower(r.env.Self, p, r.watermark())
	r.fetching = false // an answer to the fetch of an earlier role is told by its number
	r.failures = 0
	r.ask()
}

// ask fetches what comes after the log, unless a fetch is under way: the one
// that waits at the leader is the only thing an idle follower has.
//
// docs/flows/replication.md: 7.
func (r *replica) ask() {
	if r.follower == nil || r.store == nil || r.fetching || r.leaving {
		return
	}
	if r.settings.FlushMessages == 1 && r.store.Durable() < r.store.End() {
		return // a fetch acknowledges; the flush under way asks when it is done
	}
	self := r.env.Client.Image().Node(r.env.Self)
	if self == nil {
		return // not registered yet; newer metadata is on its way
	}
	if err := r.finishCut(); err != nil {
		r.fetchFailed(err)
		return
	}
	r.fetching, r.askedUnder = true, self.Epoch
	r.follows++
	out, number, life := r.out, r.follows, r.life
	q := r.follower.Next(r.face.id.PartitionID, self.Epoch, r.store,
		int(r.env.number("replica.fetch.max.bytes")))
	q.Throttled = r.fetchesThrottled()
	out.Fetch(r.follower.Leader(), q, func(res *data.ReplicaFetched) {
		out.Self(fetchAnswered{q: q, r: res, number: number, life: life})
	})
}

// nodesChanged looks again at what depends on who is registered: a leader at the
// in-sync set, a follower at the epoch that its fetch was made under. A leader
// takes no follower into the set that asked under an earlier one.
func (r *replica) nodesChanged() {
	r.proposeISR()
	self := r.env.Client.Image().Node(r.env.Self)
	if r.follower != nil && self != nil && (!r.fetching || r.askedUnder != self.Epoch) {
		r.fetching = false
		r.ask()
	}
}

// fetchFailed asks again later, unless the disk itself failed.
func (r *replica) fetchFailed(err error) {
	if errors.Is(err, messages.ErrStorage) {
		if r.failUnlessFull(err); r.store == nil {
			return // it begins anew when it is back
		}
	}
	r.fetchLater(err)
}

// fetchLater asks again after a while.
func (r *replica) fetchLater(err error) {
	r.log.Debug().Err(err).Int32("leader", int32(r.follower.Leader())).
		Msg("fetching from the leader failed")
	r.out.After(min(fetchRetryLimit, fetchRetry<<min(r.failures, 10)), fetchDue{r.follows})
	r.failures++
}

func (r *replica) fetchDue(m fetchDue) {
	if m.number == r.follows {
		r.ask()
	}
}

// docs/flows/replication.md: 5.
func (r *replica) fetchAnswered(m fetchAnswered) {
	if m.r.Release != nil {
		defer m.r.Release()
	}
	if m.life != r.life || m.number != r.follows || r.follower == nil || r.store == nil || r.leaving {
		return // of an earlier role or life
	}
	r.fetching = false
	if errors.Is(m.r.Err, messages.ErrStorage) {
		r.fetchLater(m.r.Err) // it is the leader's disk that failed
		return
	}
	if err := r.take(m.q, m.r); err != nil {
		r.fetchFailed(err)
		return
	}
	r.failures = 0
	r.account(r.store.Size())
	r.face.leaderEnd.Store(int64(m.r.LogEnd))
	r.face.watermark.Store(int64(r.follower.HighWatermark()))
	r.producers.AdvanceHighWatermark(r.follower.HighWatermark())
	r.flushSoon()
	r.ask()
}

// take does what the leader's answer asks for.
func (r *replica) take(q *data.ReplicaFetch, res *data.ReplicaFetched) error {
	step := r.follower.Answered(q, res, r.store)
	switch step.Kind {
	case replicas.Append:
		return r.copyRecords(res)
	case replicas.Truncate, replicas.Restart:
		if step.Kind == replicas.Truncate && step.To >= r.store.End() {
			return step.Err
		}
		r.unfinished = &step
		return r.finishCut()
	case replicas.Retry:
	}
	return step.Err
}

// finishCut drops the records that the leader does not have, if there are any to
// be dropped. After an error, of a full disk say, it must be called again.
//
// docs/flows/replication.md: leader 7.
func (r *replica) finishCut() error {
	if r.unfinished == nil {
		return nil
	}
	step, before, cleaned := *r.unfinished, r.store.End(), r.store.Cleaned()
	truncate := r.store.TruncateTo
	if step.Kind == replicas.Restart {
		truncate = r.store.TruncateFullyAndStartAt
	}
	if err := truncate(step.To); err != nil {
		return err
	}
	r.unfinished = nil
	if r.store.Cleaned() < cleaned {
		r.dir.checkpoint() // what comes now is not compacted
	}
	if r.follower == nil {
		return nil
	}
	lost := r.follower.Truncated(r.store.Start(), r.store.End())
	level := zerolog.InfoLevel
	if lost > 0 {
		level = zerolog.WarnLevel // an unclean election
	}
	r.log.WithLevel(level).AnErr("reason", step.Err).Int64("from", int64(before)).
		Int64("to", int64(r.store.End())).Int64("below_high_watermark", int64(lost)).
		Msg("log was truncated to what the leader has")
	r.dir.changed()
	return nil
}

// copyRecords appends the leader's batches as they are, and takes over its
// watermarks.
//
// docs/flows/replication.md: 6.
func (r *replica) copyRecords(res *data.ReplicaFetched) error {
	if base, ok := r.follower.Begins(r.store, res.Records); ok {
		if err := r.store.TruncateFullyAndStartAt(base); err != nil {
			return err
		}
	}
	batches, err := r.follower.Accept(r.store, res.Records, r.batches[:0])
	if err != nil {
		return err
	}
	defer r.dropWritten()
	r.batches = batches
	if len(batches) > 0 && batches[0].LeaderEpoch < r.store.LatestEpoch() {
		// Of a leadership of ours that ended before its first write.
		if err := r.store.ForgetEmptyEpochs(); err != nil {
			return err
		}
	}
	if err := r.storeBatches(r.env.Now(), batches); err != nil {
		return err
	}
	for i := range batches {
		if err := r.observe(&batches[i]); err != nil {
			return err
		}
	}
	if err := r.noteAborted(); err != nil {
		return err
	}
	r.env.Metrics.ReplicatedIn(len(res.Records))
	r.follower.Appended(res.HighWatermark, r.store.End())
	if to := min(res.LogStart, r.store.End()); to > r.store.Start() {
		if _, err := r.store.AdvanceStart(to); err != nil {
			return err
		}
		r.dir.changed()
	}
	return nil
}

// observe brings the producers' state up to a batch that the leader accepted.
func (r *replica) observe(b *record.Batch) error {
	if !b.Control() {
		return r.producers.Observe(b.Header)
	}
	m, ok, err := record.ParseMarker(b)
	if err != nil || !ok {
		return err
	}
	return r.producers.ObserveMarker(b.Header, m.Commit, m.CoordinatorEpoch)
}
