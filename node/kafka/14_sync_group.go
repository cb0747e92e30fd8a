package kafka

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// SyncGroup, key 14, versions 0 to 5: a member of a classic group asks for its
// assignment; the leader brings those of all.
//
//	v1  throttling starts after the answer (KIP-219)
//	v3  static members (KIP-345)
//	v4  flexible encoding
//	v5  request and answer name the protocol (KIP-559)
//
// The answer waits for the leader, as that of JoinGroup does for all. While the
// group is being loaded its rebalance is lost: REBALANCE_IN_PROGRESS makes the
// member join again. Older clients do not expect COORDINATOR_LOAD_IN_PROGRESS.
func (s *Server) syncGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.SyncGroupRequest)
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		resp.ErrorCode = codeInconsistentGroupProtocol
		return resp
	}
	ctx, cancel := s.parked(ctx)
	defer cancel()
	synced := door.Await(ctx, s.askGroup, req.Group,
		func(reply func(group.Synced)) coord.Request {
			sync := syncOf(req)
			sync.Reply = reply
			return sync
		})
	resp.ErrorCode = coordinatorErrorCode(synced.Err)
	switch {
	case resp.ErrorCode == codeCoordinatorLoadInProgress:
		resp.ErrorCode = codeRebalanceInProgress
	case synced.Err == nil:
		resp.ProtocolType, resp.Protocol = &synced.ProtocolType, &synced.Protocol
		resp.MemberAssignment = synced.Assignment
	}
	return resp
}

// syncOf is what the request asks of the group. The group keeps it, so nothing in
// it refers to the request's memory.
func syncOf(req *kmsg.SyncGroupRequest) *group.Sync {
	sync := &group.Sync{
		MemberID:     req.MemberID,
		InstanceID:   orEmpty(req.InstanceID),
		Generation:   req.Generation,
		ProtocolType: orEmpty(req.ProtocolType),
		Protocol:     orEmpty(req.Protocol),
		Assignments:  make(map[string][]byte, len(req.GroupAssignment)),
	}
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		sync.Assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
	}
	return sync
}
