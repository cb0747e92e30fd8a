package actors

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/commitlog"
)

// ReplicaBody is a replica without its actor, for a simulation that decides
// itself when which message arrives. It runs the same code as a node does.
//
// One goroutine at a time may call it; it starts none.
type ReplicaBody struct {
	Face *Replica
	r    *replica
}

// ReplicaBodyConfig says what a body is made of.
type ReplicaBodyConfig struct {
	ID     messages.ReplicaID
	Topic  string
	Folder string
	Out    ReplicaOutbox
	// Send is how others reach the body: what it is given comes to Receive.
	Send func(m any)
	// Recorded is what the node had recorded of the log; nil for a new one.
	Recorded *Recorded
	// Clean: the last process closed the log in good order.
	Clean bool
	// Flush runs a flush some time later and calls reply with its outcome.
	Flush func(run func() error, reply func(error))
	// Compact runs a step of a compaction some time later; nil: nothing is compacted.
	Compact func(step func())
	// Closed hears the bounds of the log when it is closed in good order, Failed of
	// a disk that failed. Both may be nil.
	Closed func(r Recorded)
	Failed func(err error)
}

// Recorded are the checkpointed bounds of a log.
type Recorded struct {
	Recovery, LogStart, HighWatermark, Cleaned messages.Offset
}

// NewReplicaBody makes the body and its face, which env knows from now on. The
// caller lets it begin with Receive(Begin).
func NewReplicaBody(env *Env, c ReplicaBodyConfig) *ReplicaBody {
	face := newFace(env, c.ID, c.Topic)
	face.send = c.Send
	r := newReplica(env, face, &bodyDirectory{c: c}, c.Folder)
	r.out = c.Out
	env.replicas.Store(c.ID.PartitionID, face)
	return &ReplicaBody{Face: face, r: r}
}

// Begin is the first message of a body.
var Begin any = opening{}

// End is the last message of a body, after its outbox was told to stop it.
var End any = ending{}

// DeleteData asks a replica to answer what it owes, delete its data and stop; Leave
// asks for the same but keeps the data.
var DeleteData any = deleteData{}

// NodesChanged tells a replica that the set of live nodes is another one.
var NodesChanged any = nodesChanged{}

// CompactDue asks a replica to compact its log, if that is worth it.
var CompactDue any = compactDue{}

// Assigned is the message that tells a replica what the controller decided.
func Assigned(t *messages.Topic, p messages.Partition) any {
	return &assigned{topic: t, partition: p}
}

// FollowerLost is the message that tells a leading replica that the connection
// of a follower's node broke.
func FollowerLost(n messages.NodeID) any { return fetcherGone{n} }

// DeleteRecords is the message that asks a leading replica to drop what is before an
// offset; reply hears the log's new start.
func DeleteRecords(before messages.Offset, reply func(messages.Offset, error)) any {
	return &deleteRecords{before, reply}
}

// Receive handles one message.
func (b *ReplicaBody) Receive(m any) { b.r.receive(m) }

// Log is the body's log, nil while it is not open.
func (b *ReplicaBody) Log() *commitlog.Log { return b.r.store }

// Leads reports whether the body leads, and under which epoch.
func (b *ReplicaBody) Leads() (messages.LeaderEpoch, bool) {
	if b.r.leader == nil {
		return messages.NoEpoch, false
	}
	return b.r.leader.Epoch(), true
}

// HighWatermark is the highest the replica knows of.
func (b *ReplicaBody) HighWatermark() messages.Offset { return b.r.watermark() }

// Recorded returns what a checkpoint of this moment would say.
func (b *ReplicaBody) Recorded() Recorded {
	if b.r.store == nil {
		return Recorded{}
	}
	bounds := b.r.bounds(nil)
	return Recorded{bounds.recovery, bounds.start, bounds.watermark, bounds.cleaned}
}

// Crash ends the body as the end of its process does: nothing is written,
// nobody is answered.
func (b *ReplicaBody) Crash() {
	if b.r.store != nil {
		b.r.store.Abandon()
	}
	b.r.env.replicas.CompareAndDelete(b.r.face.id.PartitionID, b.r.face)
}

// bodyDirectory is the data directory of a body.
type bodyDirectory struct{ c ReplicaBodyConfig }

func (d *bodyDirectory) boundsOf(messages.TopicPartition) logBounds {
	if d.c.Recorded == nil {
		return logBounds{}
	}
	return logBounds{recovery: d.c.Recorded.Recovery, start: d.c.Recorded.LogStart,
		watermark: d.c.Recorded.HighWatermark, cleaned: d.c.Recorded.Cleaned}
}

func (d *bodyDirectory) wasClean() bool                          { return d.c.Clean }
func (d *bodyDirectory) removed(messages.TopicPartition)         {}
func (d *bodyDirectory) unopened(messages.TopicPartition, error) {}
func (d *bodyDirectory) isOffline() bool                         { return false }
func (d *bodyDirectory) wrote(*zerolog.Logger, error)            {}
func (d *bodyDirectory) grew(int64)                              {}
func (d *bodyDirectory) room() error                             { return nil }
func (d *bodyDirectory) changed()                                {}
func (d *bodyDirectory) checkpoint()                             {}
func (d *bodyDirectory) saveStarts(reply func(error))            { reply(nil) }

func (d *bodyDirectory) closed(_ messages.TopicPartition, b logBounds) {
	if d.c.Closed != nil && b.err == nil {
		d.c.Closed(Recorded{b.recovery, b.start, b.watermark, b.cleaned})
	}
}

func (d *bodyDirectory) failed(err error) {
	if d.c.Failed != nil {
		d.c.Failed(err)
	}
}

func (d *bodyDirectory) flush(f commitlog.Flush, reply func(error)) {
	d.c.Flush(f.Run, reply)
}

// compact runs a compaction in steps.
func (d *bodyDirectory) compact(job *compactionJob) {
	if d.c.Compact == nil {
		job.end(errNoCompaction)
		return
	}
	var step func()
	step = func() {
		if err := job.run.Clean(nil); err != nil {
			job.end(err)
			return
		}
		job.swap(func(err error) {
			if err != nil || !job.run.More() {
				job.end(err)
				return
			}
			d.c.Compact(step)
		})
	}
	d.c.Compact(step)
}

// NoMetrics counts nothing.
type NoMetrics struct{}

// ActorRestarted implements Metrics.
func (NoMetrics) ActorRestarted(string) {}

// LogFlushed implements Metrics.
func (NoMetrics) LogFlushed(time.Duration) {}

// Compacted implements Metrics.
func (NoMetrics) Compacted(time.Duration, int64, int64) {}

// PartitionRecovered implements Metrics.
func (NoMetrics) PartitionRecovered(time.Duration, int64) {}

// ISRChanged implements Metrics.
func (NoMetrics) ISRChanged(int) {}

// ReplicatedIn implements Metrics.
func (NoMetrics) ReplicatedIn(int) {}

// ReplicatedOut implements Metrics.
func (NoMetrics) ReplicatedOut(int) {}

// ForgetTopic implements Metrics.
func (NoMetrics) ForgetTopic(string) {}

// SetImage shows a metadata image to everything that asks the client for it: the
// node's agent does so, and a simulation that has none.
func (c *Client) SetImage(im *messages.Image) { c.setImage(im) }

// Describe says in one line what the replica is at, for the report of a failure.
func (b *ReplicaBody) Describe() string {
	r := b.r
	role := "leaderless"
	switch {
	case r.leader != nil:
		role = fmt.Sprintf("leads under %d.%d, in sync %v, pending %v, %d fetches parked",
			r.leader.Epoch(), r.partition.PartitionEpoch, r.partition.ISR, r.leader.Pending(),
			len(r.fetches))
	case r.follower != nil:
		role = fmt.Sprintf("follows %d under %d, fetch under way: %v",
			r.follower.Leader(), r.follower.Epoch(), r.fetching)
	}
	if err := r.face.fault.Load(); err != nil {
		role = "is offline: " + (*err).Error()
	}
	if r.store == nil {
		return role + ", log is not open"
	}
	return fmt.Sprintf("%s; log %d..%d, high watermark %d",
		role, r.store.Start(), r.store.End(), r.watermark())
}
