package replicas

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/messages/record"
)

// Log is what a follower asks of its log. *commitlog.Log satisfies it.
type Log interface {
	Start() messages.Offset
	End() messages.Offset
	// EpochAt returns the epoch of the record at an offset.
	EpochAt(messages.Offset) messages.LeaderEpoch
	// EpochEnd returns the largest epoch up to the one asked for and its end.
	EpochEnd(messages.LeaderEpoch) data.EpochEnd
}

// Follower is the following role of one replica under one leader epoch. It has
// one owner and is not safe for concurrent use.
//
// There is one request under way at most, which is all the flow control that
// replication needs: what a follower has not asked for is not sent.
type Follower struct {
	self   messages.NodeID
	leader messages.NodeID
	epoch  messages.LeaderEpoch
	hw     messages.Offset
}

// NewFollower returns the follower of a partition's leader.
func NewFollower(self messages.NodeID, p *messages.Partition, hw messages.Offset) *Follower {
	invariant.That(p.Leader != self && p.Leader != messages.NoNode,
		"node %d is told to follow node %d", self, p.Leader)
	return &Follower{self: self, leader: p.Leader, epoch: p.LeaderEpoch, hw: hw}
}

// Leader is the node it follows.
func (f *Follower) Leader() messages.NodeID { return f.leader }

// Epoch is the leader epoch it follows under.
func (f *Follower) Epoch() messages.LeaderEpoch { return f.epoch }

// HighWatermark is the highest it knows of.
func (f *Follower) HighWatermark() messages.Offset { return f.hw }

// Next is the request for what comes after log.
//
// docs/flows/replication.md: leader 6.
func (f *Follower) Next(
	id messages.PartitionID, registered messages.NodeEpoch, log Log, maxBytes int,
) *data.ReplicaFetch {
	q := &data.ReplicaFetch{
		Partition: id, Follower: f.self, FollowerEpoch: registered, LeaderEpoch: f.epoch,
		Offset: log.End(), LogStart: log.Start(), LastEpoch: messages.NoEpoch, MaxBytes: maxBytes,
	}
	if q.Offset > q.LogStart {
		// Not the latest epoch known: that may have begun without a record.
		q.LastEpoch = log.EpochAt(q.Offset - 1)
	}
	return q
}

// StepKind is what to do with an answer.
type StepKind int8

// The kinds of steps.
const (
	Append   StepKind = iota + 1 // append the records, possibly none, and ask again
	Truncate                     // cut the log to To and ask again
	Restart                      // empty the log, begin anew at To and ask again
	Retry                        // ask again after a while, unless the metadata says otherwise first
)

// Step is what a follower does next.
type Step struct {
	Kind StepKind
	To   messages.Offset
	Err  error // why, unless all is well
}

// Answered says what to do with the leader's answer to q. The log is as it was
// when q was made.
func (f *Follower) Answered(q *data.ReplicaFetch, r *data.ReplicaFetched, log Log) Step {
	switch {
	case errors.Is(r.Err, messages.ErrOffsetOutOfRange):
		return f.outOfRange(q, r)
	case r.Err != nil:
		return Step{Kind: Retry, Err: r.Err}
	case r.LeaderEpoch != f.epoch:
		return Step{Kind: Retry, Err: fmt.Errorf("answer of epoch %d under epoch %d: %w",
			r.LeaderEpoch, f.epoch, messages.ErrFencedLeaderEpoch)}
	case r.Diverging != nil:
		// Ours may lack the leader's epoch; then the end of the one before it is as
		// far as both can agree, and the next request finds out whether they do.
		ours := log.EpochEnd(r.Diverging.Epoch)
		return Step{Kind: Truncate, To: max(log.Start(), min(r.Diverging.End, ours.End)),
			Err: fmt.Errorf("the leader's epoch %d ends at %d", r.Diverging.Epoch, r.Diverging.End)}
	}
	return Step{Kind: Append}
}

// outOfRange deals with a log that ends outside the leader's. Records are
// dropped here only if the leader does not have them: the leader was elected
// uncleanly, or this replica was away for longer than the retention.
func (f *Follower) outOfRange(q *data.ReplicaFetch, r *data.ReplicaFetched) Step {
	if q.Offset > r.LogEnd && r.LogEnd > q.LogStart {
		return Step{Kind: Truncate, To: r.LogEnd, Err: r.Err}
	}
	return Step{Kind: Restart, To: r.LogStart, Err: r.Err}
}

// Accept parses and checks the records of an answer: whole batches that follow
// the log's end, of epochs up to the follower's, with the right CRC. The leader
// checked them when it appended them; what lies between is disks and networks.
func (f *Follower) Accept(log Log, records []byte, batches []record.Batch) ([]record.Batch, error) {
	next := log.End()
	for len(records) > 0 {
		b, rest, err := record.Parse(records)
		if err != nil {
			return nil, fmt.Errorf("batch from node %d at offset %d: %w", f.leader, next, err)
		}
		if b.BaseOffset < next || b.LeaderEpoch > f.epoch {
			return nil, fmt.Errorf("batch from node %d at offset %d where %d comes next, epoch %d of %d: %w",
				f.leader, b.BaseOffset, next, b.LeaderEpoch, f.epoch, messages.ErrCorruptBatch)
		}
		next = b.NextOffset()
		batches, records = append(batches, b), rest
	}
	return batches, nil
}

// Begins returns where an empty log must begin so that the leader's first batch
// fits: the leader's log may start inside a batch, after DeleteRecords, and batches
// are copied whole. The caller moves the start up again once it has the batch.
func (f *Follower) Begins(log Log, records []byte) (messages.Offset, bool) {
	if len(records) == 0 || log.Start() != log.End() {
		return 0, false
	}
	b, _, err := record.Parse(records)
	if err != nil || b.BaseOffset >= log.Start() || b.NextOffset() <= log.Start() {
		return 0, false // Accept says what is wrong, if anything is
	}
	return b.BaseOffset, true
}

// Appended takes over the leader's high watermark, as far as the own log goes.
func (f *Follower) Appended(leaderHW, end messages.Offset) {
	f.hw = max(f.hw, min(leaderHW, end))
}

// Truncated records that the log was cut or begun anew. lost is how many records
// below the high watermark went: not 0 only after an unclean election.
func (f *Follower) Truncated(start, end messages.Offset) (lost messages.Offset) {
	before := f.hw
	f.hw = max(start, min(f.hw, end))
	return max(0, before-f.hw)
}
