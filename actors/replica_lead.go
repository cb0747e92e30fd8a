package actors

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/troupelog/troupe/actors/replicas"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// Messages to a leading replica.
type (
	// replicaFetch is a follower's fetch; reply is called once.
	replicaFetch struct {
		q     *data.ReplicaFetch
		reply func(*data.ReplicaFetched)
	}
	// fetcherGone says that the connection of a follower's node broke.
	fetcherGone struct{ follower messages.NodeID }
	// tellDue asks to look at the fetches that wait while the high watermark moved.
	tellDue struct{}
	// serveDue asks to look again at the fetches that the throttle held back.
	serveDue struct{}
	// isrDue asks whether the in-sync set is still right.
	isrDue struct{}
	// proposalAnswered is the controller's answer to a proposal, proposalDue asks
	// to send one again whose outcome is not known.
	proposalAnswered struct {
		proposal *messages.AlterPartition
		result   messages.AlterPartitionResult
		life     int64
	}
	proposalDue struct{ proposal *messages.AlterPartition }
)

// proposalRetry is how long a leader waits before it sends a proposal again.
const proposalRetry = 500 * time.Millisecond

// parkedFetch waits at the leader for records.
type parkedFetch struct {
	q     *data.ReplicaFetch
	reply func(*data.ReplicaFetched)
	since time.Time
}

// tellAfter is how long a fetch waits for records that bring a high watermark, or
// a log start, which the follower does not know. Then it is answered without any: a
// follower that leads next, alone, can show all that was acknowledged.
const tellAfter = 500 * time.Millisecond

// FetchReplica hands a follower's fetch to the replica on this node. It does not
// block; reply is called once, from any goroutine, perhaps much later.
func (e *Env) FetchReplica(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
	face := e.Replica(q.Partition)
	if face == nil {
		reply(&data.ReplicaFetched{Err: messages.ErrNotLeader, LeaderEpoch: messages.NoEpoch})
		return
	}
	face.gate.RLock()
	defer face.gate.RUnlock()
	if face.closed {
		reply(&data.ReplicaFetched{Err: messages.ErrNotLeader, LeaderEpoch: messages.NoEpoch})
		return
	}
	answered := false // by the replica, one message at a time
	face.send(&replicaFetch{q, func(res *data.ReplicaFetched) {
		if answered {
			res.View.Release()
			return
		}
		answered = true
		reply(res)
	}})
}

// FollowerGone tells the replicas of this node that the connection from a
// follower's node broke.
func (e *Env) FollowerGone(follower messages.NodeID) {
	e.EachReplica(func(face *Replica) {
		if face.leads.Load() != nil {
			face.send(fetcherGone{follower})
		}
	})
}

// replicaFetch answers a follower at once if there is something to say, else its
// fetch stays here until there is.
func (r *replica) replicaFetch(m *replicaFetch) {
	r.answering = m.reply // should this panic: followers have no timers
	r.admitFetch(m)
	r.answering = nil
}

func (r *replica) admitFetch(m *replicaFetch) {
	res := &data.ReplicaFetched{LeaderEpoch: messages.NoEpoch}
	if r.leader == nil {
		res.Err = r.face.notLeading()
		m.reply(res)
		return
	}
	r.describe(res)
	if r.checkFetch(m.q, res) != nil || res.Diverging != nil {
		m.reply(res)
		return
	}
	follower := m.q.Follower
	res.Err = r.leader.Fetched(follower, m.q.FollowerEpoch, m.q.Offset, r.env.Now())
	if res.Err != nil {
		m.reply(res)
		return
	}
	r.dropFetch(follower) // of a connection that is gone
	r.fetches = append(r.fetches, parkedFetch{m.q, m.reply, r.env.Now()})
	r.leader.Park(follower)
	r.proposeISR()
	if m.q.Offset == r.leader.LogEnd() && r.leader.HighWatermark() == r.watermark() {
		r.tellSoon()
		return // nothing moved that anybody waits for
	}
	r.publish()
}

// describe fills in what every answer says about the leader.
func (r *replica) describe(res *data.ReplicaFetched) {
	res.LeaderEpoch = r.leader.Epoch()
	res.HighWatermark, res.LogEnd = r.leader.HighWatermark(), r.leader.LogEnd()
	res.LogStart = r.store.Start()
}

// checkFetch says whether a follower's log is a part of ours.
//
// docs/flows/replication.md: 8.
func (r *replica) checkFetch(q *data.ReplicaFetch, res *data.ReplicaFetched) error {
	o := data.Offsets{LogEnd: r.leader.LogEnd(), Epoch: r.leader.Epoch()}
	if res.Err = replicas.Fence(o.Epoch, q.LeaderEpoch); res.Err != nil {
		return res.Err
	}
	if q.LastEpoch != messages.NoEpoch {
		ours := epochEnd(o, r.store, q.LastEpoch)
		if ours.End == messages.NoOffset {
			res.Err = fmt.Errorf("epoch %d is not in the log: %w", q.LastEpoch, messages.ErrOffsetOutOfRange)
			return res.Err
		}
		if replicas.Diverges(q.Offset, q.LastEpoch, ours) {
			res.Diverging = &ours
			return nil
		}
	}
	res.Err = replicas.CheckFetchOffset(q.Offset, res.LogStart, o.LogEnd)
	return res.Err
}

// serveFetches answers the parked fetches that there are records for.
//
// docs/flows/replication.md: 3.
func (r *replica) serveFetches() {
	waiting := r.fetches[:0]
	for _, p := range r.fetches {
		if p.q.Offset >= r.store.End() || r.holdBack(p.q) {
			waiting = append(waiting, p)
			continue
		}
		res := &data.ReplicaFetched{}
		r.describe(res)
		res.View, res.Err = r.store.Read(p.q.Offset, r.store.End(), p.q.MaxBytes, true)
		if r.sendsThrottled(p.q.Follower) {
			r.env.leaderQuota.settle(p.q.MaxBytes, res.View.Bytes)
		}
		r.env.Metrics.ReplicatedOut(res.View.Bytes)
		r.answerFetch(p, res)
		if isFault(res.Err) {
			r.out.Self(logFaulted{r.store, res.Err})
		} else if res.Err != nil && !errors.Is(res.Err, messages.ErrOffsetOutOfRange) {
			r.log.Error().Err(res.Err).Msg("log cannot be read for a follower")
		}
	}
	clear(r.fetches[len(waiting):])
	r.fetches = waiting
	r.tellSoon()
}

// answerFetch answers a fetch that was parked, with what res says of the leader.
func (r *replica) answerFetch(p parkedFetch, res *data.ReplicaFetched) {
	r.leader.Unpark(p.q.Follower, r.env.Now())
	if r.told == nil {
		r.told = map[messages.NodeID]told{}
	}
	r.told[p.q.Follower] = told{res.HighWatermark, res.LogStart}
	p.reply(res)
}

// told is what a follower was told of its leader last, in this leadership.
type told struct{ highWatermark, logStart messages.Offset }

// untold reports whether a fetch waits although its follower does not know the high
// watermark or the log start. Under a leader that told it nothing yet, none does.
func (r *replica) untold(p *parkedFetch) bool {
	knows, ever := r.told[p.q.Follower]
	return p.q.Offset >= r.store.End() && (!ever ||
		knows != told{r.leader.HighWatermark(), r.store.Start()})
}

// tellSoon sees to it that followers of a partition that falls idle hear of its last
// high watermark and log start. A partition whose followers know them arms no timer.
func (r *replica) tellSoon() {
	if r.tellArmed {
		return
	}
	for i := range r.fetches {
		if p := &r.fetches[i]; r.untold(p) {
			r.tellArmed = true
			r.out.After(max(tellAfter-r.env.Now().Sub(p.since), time.Millisecond), tellDue{})
			return
		}
	}
}

// tellDue answers the fetches that have waited long enough for records.
func (r *replica) tellDue() {
	r.tellArmed = false
	if r.leader == nil {
		return
	}
	waiting := r.fetches[:0]
	for _, p := range r.fetches {
		if !r.untold(&p) || r.env.Now().Sub(p.since) < tellAfter {
			waiting = append(waiting, p)
			continue
		}
		res := &data.ReplicaFetched{}
		r.describe(res)
		r.answerFetch(p, res)
	}
	clear(r.fetches[len(waiting):])
	r.fetches = waiting
	r.tellSoon()
}

// holdBack reports whether a fetch must wait for its share of the throttle; it is
// looked at again then. If not, its share is taken.
func (r *replica) holdBack(q *data.ReplicaFetch) bool {
	if !r.sendsThrottled(q.Follower) {
		return false
	}
	rate := r.env.rate("leader.replication.throttled.rate")
	wait := r.env.leaderQuota.reserve(r.env.Now(), rate, q.MaxBytes)
	if wait > 0 && !r.serveArmed {
		r.serveArmed = true
		r.out.After(wait, serveDue{})
	}
	return wait > 0
}

func (r *replica) serveDue() {
	r.serveArmed = false
	if r.leader != nil {
		r.serveFetches()
	}
}

// dropFetch answers a parked fetch that another one replaces, or whose connection
// broke.
func (r *replica) dropFetch(follower messages.NodeID) {
	i := slices.IndexFunc(r.fetches, func(p parkedFetch) bool { return p.q.Follower == follower })
	if i < 0 {
		return
	}
	p := r.fetches[i]
	r.fetches = slices.Delete(r.fetches, i, i+1)
	delete(r.told, follower) // it may have begun anew
	p.reply(&data.ReplicaFetched{Err: messages.ErrUnavailable, LeaderEpoch: messages.NoEpoch})
}

// refuseFetches answers all parked fetches, and the one whose handling panicked.
func (r *replica) refuseFetches(err error) {
	if r.answering != nil {
		r.answering(&data.ReplicaFetched{Err: err, LeaderEpoch: messages.NoEpoch})
		r.answering = nil
	}
	for _, p := range r.fetches {
		p.reply(&data.ReplicaFetched{Err: err, LeaderEpoch: messages.NoEpoch})
	}
	clear(r.fetches)
	r.fetches = r.fetches[:0]
}

// fetcherGone keeps a follower whose connection broke from counting as one that
// waits for records, and drops its fetch: nobody takes the answer. It comes before
// what the follower asks on another connection. Whether the last answer came through
// nobody knows, and a follower that was started anew has forgotten it.
func (r *replica) fetcherGone(m fetcherGone) {
	if r.leader != nil {
		r.leader.Unpark(m.follower, r.env.Now())
		r.dropFetch(m.follower)
		delete(r.told, m.follower)
	}
}

// watchISR sees to it that followers that stay behind are noticed, also when
// nothing else happens. A partition whose followers have everything arms no timer.
func (r *replica) watchISR() {
	if r.leader != nil && !r.isrArmed && r.leader.Behind() {
		r.isrArmed = true
		r.out.After(r.lag()/2, isrDue{})
	}
}

func (r *replica) lag() time.Duration {
	return milliseconds(r.env.number("replica.lag.time.max.ms"))
}

func (r *replica) isrDue() {
	r.isrArmed = false
	r.proposeISR()
	r.watchISR()
}

// proposeISR asks the controller for another in-sync set if it should be another.
func (r *replica) proposeISR() {
	if r.leader == nil || r.leaving {
		return
	}
	if a := r.leader.Propose(r.lag(), r.env.Client.Image(), r.env.Now()); a != nil {
		a.ID = r.face.id.PartitionID
		r.log.Debug().Interface("isr", a.ISR).Msg("proposing another in-sync set")
		r.send(a)
	}
}

func (r *replica) send(a *messages.AlterPartition) {
	out, life := r.out, r.life
	out.Propose(*a, func(res messages.AlterPartitionResult) {
		out.Self(proposalAnswered{proposal: a, result: res, life: life})
	})
}

// docs/flows/replication.md: set 4.
func (r *replica) proposalAnswered(m proposalAnswered) {
	if m.life != r.life || r.leader == nil || r.leader.Pending() != m.proposal {
		return // of an earlier leadership, or overtaken by newer metadata
	}
	switch err := m.result.Err; {
	case err == nil:
		r.become(m.result.Partition)
	case errors.Is(err, messages.ErrIneligibleReplica), errors.Is(err, messages.ErrInvalidRequest):
		r.log.Info().Err(err).Msg("proposed in-sync set was refused")
		r.leader.Answered()
		r.publish()
		if !r.isrArmed {
			r.isrArmed = true
			r.out.After(r.lag()/2, isrDue{})
		}
	default:
		// Nothing is known, or newer metadata is on its way. The same proposal
		// again does no harm: it names the state that it is based on.
		r.out.After(proposalRetry, proposalDue{m.proposal})
	}
}

func (r *replica) proposalDue(m proposalDue) {
	if r.leader != nil && r.leader.Pending() == m.proposal {
		r.send(m.proposal)
	}
}
