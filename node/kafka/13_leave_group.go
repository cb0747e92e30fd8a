package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// LeaveGroup, key 13, versions 0 to 5: members of a classic group go.
//
//	v1  throttling starts after the answer (KIP-219)
//	v3  many members, by member id or group.instance.id, each with an error of
//	    its own (KIP-345)
//	v4  flexible encoding
//	v5  a member may say why it leaves (KIP-800)
func (s *Server) leaveGroup(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.LeaveGroupRequest)
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	leaving := []group.Leaving{{MemberID: req.MemberID}}
	if req.Version >= 3 {
		leaving = make([]group.Leaving, len(req.Members))
		for i := range req.Members {
			m := &req.Members[i]
			leaving[i] = group.Leaving{MemberID: m.MemberID, InstanceID: orEmpty(m.InstanceID),
				Reason: orEmpty(m.Reason)}
		}
	}
	left := door.Await(ctx, s.askGroup, req.Group, func(reply func(group.Left)) coord.Request {
		return &group.Leave{Members: leaving, Reply: reply}
	})
	resp.ErrorCode = coordinatorErrorCode(left.Err)
	switch {
	case left.Err != nil:
	case req.Version < 3:
		resp.ErrorCode = coordinatorErrorCode(door.ErrorAt(left.Err, left.Errs, 0))
	default:
		for i := range req.Members {
			m := kmsg.NewLeaveGroupResponseMember()
			m.MemberID, m.InstanceID = req.Members[i].MemberID, req.Members[i].InstanceID
			m.ErrorCode = coordinatorErrorCode(door.ErrorAt(left.Err, left.Errs, i))
			resp.Members = append(resp.Members, m)
		}
	}
	return resp
}
