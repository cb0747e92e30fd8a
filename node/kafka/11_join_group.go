package kafka

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// JoinGroup, key 11, versions 0 to 9: to be a member of a classic group in its
// next generation.
//
//	v1  rebalance timeout; before, it is the session timeout
//	v2  throttling starts after the answer (KIP-219)
//	v4  a new member is told its id and joins again (KIP-394)
//	v5  static members (KIP-345)
//	v6  flexible encoding
//	v7  the answer names the type of protocol; both are null on errors (KIP-559)
//	v8  the member may say why it joins (KIP-800)
//	v9  the leader may be told to assign nothing (KIP-814)
//
// The answer waits until all members have joined, and everything behind it on
// the connection waits too, as in Kafka. When the node stops, members are sent to
// look for their coordinator.
func (s *Server) joinGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.JoinGroupRequest)
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	ctx, cancel := s.parked(ctx)
	defer cancel()
	joined := door.Await(ctx, s.askGroup, req.Group,
		func(reply func(group.Joined)) coord.Request {
			join := joinOf(req, c)
			join.Reply = reply
			return join
		})
	resp.ErrorCode, resp.MemberID = coordinatorErrorCode(joined.Err), joined.MemberID
	if joined.Err != nil {
		return resp
	}
	resp.Generation, resp.LeaderID = joined.Generation, joined.Leader
	resp.ProtocolType, resp.Protocol = &joined.ProtocolType, &joined.Protocol
	resp.SkipAssignment = joined.SkipAssignment
	for i := range joined.Members {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID, m.InstanceID = joined.Members[i].MemberID, orNull(joined.Members[i].InstanceID)
		m.ProtocolMetadata = joined.Members[i].Metadata
		resp.Members = append(resp.Members, m)
	}
	return resp
}

// joinOf is what the request asks of the group. The group keeps it, so nothing in
// it refers to the request's memory.
func joinOf(req *kmsg.JoinGroupRequest, c *call) *group.Join {
	instance := orEmpty(req.InstanceID)
	name := c.clientID
	if instance != "" {
		name = instance
	}
	join := &group.Join{
		MemberID:           req.MemberID,
		NewMemberID:        name + "-" + newUUID(),
		InstanceID:         instance,
		ClientID:           c.clientID,
		ClientHost:         door.ClientHost(c.conn.Remote),
		SessionTimeoutMs:   req.SessionTimeoutMillis,
		RebalanceTimeoutMs: req.RebalanceTimeoutMillis,
		ProtocolType:       req.ProtocolType,
		Protocols:          make([]group.Protocol, len(req.Protocols)),
		Reason:             orEmpty(req.Reason),
		RequireKnownID:     req.Version >= 4,
		CanSkipAssignment:  req.Version >= 9,
	}
	if req.Version == 0 {
		join.RebalanceTimeoutMs = req.SessionTimeoutMillis
	}
	for i := range req.Protocols {
		join.Protocols[i] = group.Protocol{Name: req.Protocols[i].Name,
			Metadata: bytes.Clone(req.Protocols[i].Metadata)}
	}
	return join
}
