package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// Heartbeat, key 12, versions 0 to 4: a member of a classic group is alive.
//
//	v1  throttling starts after the answer (KIP-219)
//	v3  static members (KIP-345)
//	v4  flexible encoding
//
// While the group is being loaded the answer is that all is well: nobody is
// dropped meanwhile, and Java clients of any age fail on
// COORDINATOR_LOAD_IN_PROGRESS here.
func (s *Server) heartbeat(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.HeartbeatRequest)
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	err := door.Await(ctx, s.askGroup, req.Group, func(reply func(error)) coord.Request {
		return &group.Heartbeat{MemberID: req.MemberID, InstanceID: orEmpty(req.InstanceID),
			Generation: req.Generation, Reply: reply}
	})
	if code := coordinatorErrorCode(err); code != codeCoordinatorLoadInProgress {
		resp.ErrorCode = code
	}
	return resp
}
