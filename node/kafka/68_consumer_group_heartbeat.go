package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// ConsumerGroupHeartbeat, key 68, versions 0 and 1: all that a member of a
// consumer group says, and what it may own (KIP-848).
//
//	v1  the member makes its id; subscription by regular expression
//
// Epoch 0 joins, -1 leaves, -2 leaves and comes back with the same
// group.instance.id. Null means unchanged since the last heartbeat, so a member
// that joins must say everything; the answer has an assignment if it changed.
func (s *Server) consumerGroupHeartbeat(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ConsumerGroupHeartbeatRequest)
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	beat := consumerHeartbeatOf(req, c, s.cluster.Image())
	text := door.HeartbeatFault(req.Group, &beat, req.Version >= 1)
	if req.InstanceID != nil && *req.InstanceID == "" {
		text = "the instance id is empty; leave it out for a dynamic member"
	}
	if text != "" {
		resp.ErrorCode = codeInvalidRequest
		resp.ErrorMessage = errorMessage(fmt.Errorf("%w: %s", messages.ErrInvalidRequest, text))
		return resp
	}
	got := door.Await(ctx, s.askGroup, req.Group,
		func(reply func(group.ConsumerHeartbeated)) coord.Request {
			b := beat
			b.Reply = reply
			return &b
		})
	if got.Err != nil {
		resp.ErrorCode, resp.ErrorMessage = coordinatorErrorCode(got.Err), errorMessage(got.Err)
		return resp
	}
	resp.MemberID, resp.MemberEpoch = &got.MemberID, got.MemberEpoch
	resp.HeartbeatIntervalMillis = got.HeartbeatIntervalMs
	if got.HasAssigned {
		a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		for _, tp := range got.Assigned {
			t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			t.TopicID, t.Partitions = tp.Topic, tp.Partitions
			a.Topics = append(a.Topics, t)
		}
		resp.Assignment = &a
	}
	return resp
}

func consumerHeartbeatOf(req *kmsg.ConsumerGroupHeartbeatRequest, c *call, image *messages.Image,
) group.ConsumerHeartbeat {
	beat := group.ConsumerHeartbeat{
		MemberID:           req.MemberID,
		NewMemberID:        newUUID(),
		MemberEpoch:        req.MemberEpoch,
		InstanceID:         orEmpty(req.InstanceID),
		ClientID:           c.clientID,
		ClientHost:         door.ClientHost(c.conn.Remote),
		Rack:               req.RackID,
		RebalanceTimeoutMs: req.RebalanceTimeoutMillis,
		Topics:             req.SubscribedTopicNames,
		HasTopics:          req.SubscribedTopicNames != nil,
		Regex:              req.SubscribedTopicRegex,
		Assignor:           req.ServerAssignor,
		HasOwned:           req.Topics != nil,
	}
	for i := range req.Topics {
		owned := group.TopicPartitions{Topic: req.Topics[i].TopicID,
			Partitions: slices.Sorted(slices.Values(req.Topics[i].Partitions))}
		if topic := image.TopicByID(owned.Topic); topic != nil {
			owned.Name = topic.Name
		}
		beat.Owned = append(beat.Owned, owned)
	}
	return beat
}
