package clientlib

import (
	"time"

	"github.com/troupelog/troupe/actors/groups"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

// coordinate has the machine of a group handle a request, and makes what it decides
// durable at once.
func (w *readWorld) coordinate(id string, r coord.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.groups[id]
	now := time.Now().Add(w.ahead)
	if g == nil {
		g = groups.New(id, func() groups.Config {
			return groups.Config{
				ConsumerSessionTimeout:    30 * time.Second,
				ConsumerHeartbeatInterval: w.pace,
				OffsetMetadataMaxBytes:    4096, OffsetsRetention: time.Hour,
				RetentionCheckInterval: time.Hour,
				Image:                  func() *messages.Image { return w.image },
			}
		})
		g.Loaded(now)
		w.groups[id] = g
	}
	if r == nil {
		g.Tick(now)
	} else {
		g.Handle(now, r)
	}
	for write := g.TakeWrite(); write != nil; write = g.TakeWrite() {
		write.Done(now, nil)
	}
}

// pass lets time pass for the coordinator of a group.
func (w *readWorld) pass(id string, d time.Duration) {
	w.mu.Lock()
	w.ahead += d
	w.mu.Unlock()
	w.coordinate(id, nil)
}

func (w *readWorld) heartbeat(h *wire.ClientGroupHeartbeat) (*wire.ClientResponse, error) {
	r := &group.ConsumerHeartbeat{
		MemberID: h.MemberId, MemberEpoch: h.MemberEpoch, InstanceID: h.InstanceId,
		RebalanceTimeoutMs: h.RebalanceTimeoutMs, Topics: h.Topics, HasTopics: h.HasTopics,
		Regex: h.Regex, HasOwned: h.HasOwned,
	}
	for _, o := range h.Owned {
		r.Owned = append(r.Owned, group.TopicPartitions{
			Topic: messages.TopicID(o.TopicId), Partitions: o.Partitions,
		})
	}
	var out group.ConsumerHeartbeated
	r.Reply = func(a group.ConsumerHeartbeated) { out = a }
	w.coordinate(h.Group, r)
	if out.Err != nil {
		return nil, out.Err
	}
	answer := &wire.ClientGroupHeartbeated{
		MemberEpoch: out.MemberEpoch, HeartbeatIntervalMs: out.HeartbeatIntervalMs,
		HasAssigned: out.HasAssigned,
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range out.Assigned {
		answer.Assigned = append(answer.Assigned, &wire.ClientPartitions{
			TopicId: a.Topic[:], Topic: w.image.TopicByID(a.Topic).Name, Partitions: a.Partitions,
		})
	}
	return &wire.ClientResponse{Result: &wire.ClientResponse_GroupHeartbeated{
		GroupHeartbeated: answer,
	}}, nil
}

func (w *readWorld) commitOffsets(q *wire.ClientCommitOffsets) (*wire.ClientResponse, error) {
	r := &group.Commit{
		MemberID: q.MemberId, InstanceID: q.InstanceId, Generation: q.MemberEpoch, Epochs: true,
	}
	for _, p := range q.Positions {
		r.Offsets = append(r.Offsets, group.Offset{
			TopicID: messages.TopicID(p.TopicId), Topic: p.Topic, Partition: p.Partition,
			Offset: messages.Offset(p.Offset), Epoch: messages.LeaderEpoch(p.LeaderEpoch),
			CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp,
		})
	}
	var out group.Committed
	r.Reply = func(a group.Committed) { out = a }
	w.coordinate(q.Group, r)
	errs := out.Errs
	if errs == nil {
		errs = make([]error, len(q.Positions))
		for i := range errs {
			errs[i] = out.Err
		}
	}
	return &wire.ClientResponse{
		Result: &wire.ClientResponse_Errors{Errors: wire.FromErrors(errs)},
	}, nil
}

func (w *readWorld) fetchOffsets(q *wire.ClientFetchOffsets) (*wire.ClientResponse, error) {
	out := &wire.ClientFetchedOffsets{}
	for _, o := range w.offsets(q.Group, q.Stable, q.Partitions) {
		out.Positions = append(out.Positions, &wire.ClientPosition{
			Topic: o.Topic, Partition: o.Partition, Offset: int64(o.Offset.Offset),
			LeaderEpoch: int32(o.Epoch), Error: wire.FromError(o.Err),
		})
	}
	return &wire.ClientResponse{
		Result: &wire.ClientResponse_FetchedOffsets{FetchedOffsets: out},
	}, nil
}

func (w *readWorld) offsets(id string, stable bool, names []*wire.PartitionNames) (
	out []group.FetchedOffset,
) {
	r := &group.FetchOffsets{Stable: stable, MemberEpoch: group.NoGeneration}
	for _, n := range names {
		for _, p := range n.Partitions {
			r.Partitions = append(r.Partitions, messages.TopicPartition{Topic: n.Topic, Partition: p})
		}
	}
	r.Reply = func(a group.Fetched) { out = a.Offsets }
	w.coordinate(id, r)
	return out
}

// committed is the offset that a group has of a partition; -1: none.
func (w *readWorld) committed(id, topic string, index int32) int64 {
	out := w.offsets(id, false, []*wire.PartitionNames{{Topic: topic, Partitions: []int32{index}}})
	return int64(out[0].Offset.Offset)
}
