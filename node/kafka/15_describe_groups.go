package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// DescribeGroups, key 15, versions 0 to 6: what classic groups are.
//
//	v1  throttling starts after the answer (KIP-219)
//	v3  operations the client may perform (KIP-430)
//	v4  static members (KIP-345)
//	v5  flexible encoding
//	v6  GROUP_ID_NOT_FOUND with a message for a group that does not exist; before,
//	    it is in state Dead without an error (KIP-1043)
//
// A consumer group (KIP-848) does not exist here: ConsumerGroupDescribe knows it.
// A group that is named twice is described once.
func (s *Server) describeGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeGroupsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	names := once(req.Groups)
	found := s.describe(ctx, names, group.Classic)
	for i, name := range names {
		d := &found[i]
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group = name
		switch {
		case d.Err == nil:
			describeClassic(&g, d)
			if req.IncludeAuthorizedOperations {
				g.AuthorizedOperations = groupOperations
			}
		case errors.Is(d.Err, group.ErrGroupNotFound):
			g.State = string(group.Dead)
			if req.Version >= 6 {
				g.ErrorCode, g.ErrorMessage = codeGroupIDNotFound, errorMessage(d.Err)
			}
		default:
			g.ErrorCode, g.ErrorMessage = coordinatorErrorCode(d.Err), errorMessage(d.Err)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// groupOperations are what a client may do with a group without an authorizer:
// read, delete, describe, and describe and alter its settings.
const groupOperations int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// describe asks what groups are. One that is of another type, or dead, does not
// exist.
func (s *Server) describe(ctx context.Context, names []string, want group.Type,
) []group.Description {
	found := door.Gather(ctx, s.askGroup, len(names),
		func(i int, reply func(group.Description)) (string, coord.Request) {
			return names[i], &group.Describe{Reply: reply}
		})
	for i := range found {
		switch d := &found[i]; {
		case d.Err != nil:
		case d.Type != want:
			d.Err = fmt.Errorf("group %q is of type %s: %w", names[i], d.Type, group.ErrGroupNotFound)
		case d.State == group.Dead:
			d.Err = fmt.Errorf("group %q: %w", names[i], group.ErrGroupNotFound)
		}
	}
	return found
}

func describeClassic(g *kmsg.DescribeGroupsResponseGroup, d *group.Description) {
	g.State, g.ProtocolType, g.Protocol = string(d.State), d.ProtocolType, d.Protocol
	for i := range d.Members {
		m := kmsg.NewDescribeGroupsResponseGroupMember()
		m.MemberID, m.InstanceID = d.Members[i].MemberID, orNull(d.Members[i].InstanceID)
		m.ClientID, m.ClientHost = d.Members[i].ClientID, d.Members[i].ClientHost
		m.ProtocolMetadata = d.Members[i].Metadata
		m.MemberAssignment = d.Members[i].Assignment
		g.Members = append(g.Members, m)
	}
}
