package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// DeleteGroups, key 42, versions 0 to 2: groups without members are forgotten
// with their offsets (KIP-229).
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  flexible encoding
func (s *Server) deleteGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteGroupsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	names := once(req.Groups)
	errs := door.Gather(ctx, s.askGroup, len(names),
		func(i int, reply func(error)) (string, coord.Request) {
			return names[i], &group.Delete{Reply: reply}
		})
	for i, name := range names {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, coordinatorErrorCode(errs[i])
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}
