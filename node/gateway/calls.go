package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/door"
)

const (
	// callsMax bounds the requests of a session that may block: each has a goroutine.
	callsMax = 256
	// topicPatience is how long the actor of a topic may take to answer at first before it
	// is looked for again: short, for it may have lived on a node that has just died, and
	// producers wait to hear who leads now. It doubles up to topicPatienceMost.
	topicPatience     = 250 * time.Millisecond
	topicPatienceMost = 2 * time.Second
	// topicRetry is between two attempts to reach the actor of a topic.
	topicRetry = 50 * time.Millisecond
)

// call answers a request that may block, on a goroutine of its own, which ends with the
// request's time or the session.
func (s *session) call(m *wire.ClientRequest) {
	if s.calls.Add(1) > callsMax {
		s.calls.Add(-1)
		s.refuse(m, fmt.Errorf("the session has %d requests under way: %w", callsMax,
			messages.ErrOverloaded))
		return
	}
	s.g.open.Add(1)
	s.g.running.Go(func() {
		defer s.g.open.Done()
		defer s.calls.Add(-1)
		defer func() {
			if cause := recover(); cause != nil {
				s.failed(cause)
			}
		}()
		ctx, cancel := door.WaitFor(s.ctx, int32(min(m.GetTimeoutMs(), math.MaxInt32)))
		defer cancel()
		s.send(s.carryOut(ctx, m))
	})
}

// carryOut does what a request asks for and returns the answer.
func (s *session) carryOut(ctx context.Context, m *wire.ClientRequest) *wire.ClientResponse {
	resp := &wire.ClientResponse{RequestId: m.GetRequestId()}
	var err error
	switch c := m.GetCommand().(type) {
	case *wire.ClientRequest_Subscribe:
		err = s.subscribe(ctx, m.GetRequestId(), c.Subscribe)
	case *wire.ClientRequest_ListOffsets:
		resp.Result = &wire.ClientResponse_Offsets{Offsets: s.listOffsets(ctx, c.ListOffsets)}
	case *wire.ClientRequest_DeleteRecords:
		var start messages.Offset
		start, err = s.deleteRecords(ctx, c.DeleteRecords)
		resp.Result = &wire.ClientResponse_RecordsDeleted{
			RecordsDeleted: &wire.ClientRecordsDeleted{LogStart: int64(start)}}
	default:
		return s.g.desk.answer(ctx, s.who, m)
	}
	if err != nil {
		resp.Error, resp.Result = wire.FromError(err), nil
	}
	return bounded(resp)
}

// listOffsets answers each partition by itself.
func (s *session) listOffsets(ctx context.Context, q *wire.ClientListOffsets) *wire.ClientOffsets {
	isolation := data.ReadUncommitted
	if q.GetReadCommitted() {
		isolation = data.ReadCommitted
	}
	topic := s.g.cfg.Cluster.Image().Topic(q.GetTopic())
	out := &wire.ClientOffsets{}
	for _, p := range q.GetPartitions() {
		at, err := s.offset(ctx, topic, p, isolation)
		o := &wire.ClientOffset{Offset: int64(at.Offset), Timestamp: int64(at.Timestamp),
			LeaderEpoch: int32(at.Epoch)}
		if err != nil {
			o = &wire.ClientOffset{Error: wire.FromError(err), Offset: int64(messages.NoOffset),
				Timestamp: int64(messages.NoTimestamp), LeaderEpoch: int32(messages.NoEpoch)}
		}
		out.Partitions = append(out.Partitions, o)
	}
	return out
}

func (s *session) offset(ctx context.Context, topic *messages.Topic, p *wire.ClientTimeOf,
	isolation data.Isolation) (at data.TimestampOffset, err error) {
	if err := ctx.Err(); err != nil {
		return at, fmt.Errorf("offsets are not looked up in time: %w", messages.ErrRequestTimedOut)
	}
	t := messages.Timestamp(p.GetTimestamp())
	if t < data.TimestampLatestTiered {
		return at, fmt.Errorf("timestamp %d has no meaning: %w", t, messages.ErrInvalidRequest)
	}
	if topic == nil {
		return at, messages.ErrUnknownTopicOrPartition
	}
	from, err := s.g.cfg.Partitions.Partition(topic, p.GetPartition())
	if err != nil {
		return at, err
	}
	return from.ByTimestamp(ctx, t, isolation, messages.NoEpoch)
}

// deleteRecords moves the start of a log, unless the topic keeps what is in it.
func (s *session) deleteRecords(ctx context.Context, q *wire.ClientDeleteRecords) (
	messages.Offset, error) {
	topic := s.g.cfg.Cluster.Image().Topic(q.GetTopic())
	switch {
	case topic == nil:
		return 0, fmt.Errorf("topic %q: %w", q.GetTopic(), messages.ErrUnknownTopicOrPartition)
	case topic.Internal():
		return 0, fmt.Errorf("topic %q is internal: %w", q.GetTopic(), messages.ErrInvalidTopic)
	}
	p, err := s.g.cfg.Partitions.Partition(topic, q.GetPartition())
	if err != nil {
		return 0, err
	}
	switch settings := p.Settings(); {
	case settings == nil:
		return 0, fmt.Errorf("%s-%d: %w", topic.Name, q.GetPartition(), messages.ErrNotLeader)
	case !settings.CleanupDelete:
		return 0, fmt.Errorf("topic %q has no cleanup.policy=delete: %w", topic.Name,
			messages.ErrPolicyViolation)
	case q.GetBefore() < int64(messages.NoOffset):
		return 0, fmt.Errorf("delete records below %d: %w", q.GetBefore(),
			messages.ErrOffsetOutOfRange)
	}
	return p.DeleteRecords(ctx, messages.Offset(q.GetBefore()))
}

// subscribe has the actor of a topic, on whatever node it lives, tell the client about it.
func (s *session) subscribe(ctx context.Context, id uint64, q *wire.ClientSubscribe) error {
	name := q.GetTopic()
	if s.g.cfg.Cluster.Image().Topic(name) == nil {
		if q.GetCancel() {
			// It ended with the topic, or will with its lease if this node is behind: no
			// actor is to be made for each name that somebody makes up.
			return nil
		}
		if err := s.create(ctx, name, q.GetCreate()); err != nil {
			return err
		}
	}
	m := &wire.ClientRequest{RequestId: id, Command: &wire.ClientRequest_Subscribe{
		Subscribe: &wire.ClientSubscribe{Topic: name, LeaseMs: q.GetLeaseMs(), Cancel: q.GetCancel(),
			SubscriberAddress: s.client.Address, Subscriber: s.client.Id}}}
	for patience := topicPatience; ; patience = min(2*patience, topicPatienceMost) {
		err, answered := s.tellTopic(name, m, patience)
		// Its node may not have heard yet of a topic that was made just now.
		behind := errors.Is(err, messages.ErrUnknownTopicOrPartition) &&
			s.g.cfg.Cluster.Image().Topic(name) != nil
		if answered && !behind {
			return err
		}
		s.g.cfg.ForgetTopic(name)
		select {
		case <-time.After(topicRetry):
		case <-ctx.Done():
			return err
		}
	}
}

// create makes a topic that does not exist, if the client and the cluster want it so.
func (s *session) create(ctx context.Context, name string, wanted bool) error {
	if err := door.CheckTopicName(name); err != nil {
		return err
	}
	unknown := fmt.Errorf("topic %q: %w", name, messages.ErrUnknownTopicOrPartition)
	switch {
	case (&messages.Topic{Name: name}).Internal(), !wanted:
		return unknown
	case s.g.cfg.Settings.Value("auto.create.topics.enable") != "true":
		return fmt.Errorf("auto.create.topics.enable is off: %w", unknown)
	}
	return s.g.cfg.Cluster.AutoCreate(ctx, name)
}

// tellTopic sends a subscription to the actor of its topic; answered is false, and the
// error says why, if it is not known whether it got there.
func (s *session) tellTopic(
	name string, m *wire.ClientRequest, patience time.Duration,
) (err error, answered bool) {
	lost := func(why any) error {
		return fmt.Errorf("the actor of topic %q does not answer (%v): %w", name, why,
			messages.ErrUnavailable)
	}
	pid := s.g.cfg.Topic(name)
	if pid == nil {
		return lost("it lives nowhere"), false
	}
	answer, err := s.g.cfg.Root.RequestFuture(pid, m, patience).Result()
	if err != nil {
		return lost(err), false
	}
	r, ok := answer.(*wire.ClientResponse)
	if !ok {
		return lost(fmt.Sprintf("it sent a %T", answer)), false
	}
	return wire.ToError(r.GetError()), true
}
