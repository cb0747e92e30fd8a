package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// ListGroups, key 16, versions 0 to 5: the groups that this node coordinates.
//
//	v1  throttling starts after the answer (KIP-219)
//	v3  flexible encoding
//	v4  state, and filter by it (KIP-518)
//	v5  type, and filter by it (KIP-848)
//
// Filters are not case-sensitive; one that names nothing we know matches nothing.
// While a part of the groups is being loaded the answer has those that are known
// and COORDINATOR_LOAD_IN_PROGRESS.
func (s *Server) listGroups(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListGroupsRequest)
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	listed, err := s.coordinators.Groups(ctx)
	resp.ErrorCode = coordinatorErrorCode(err)
	for i := range listed {
		l := &listed[i]
		if l.State == group.Dead || !passes(req.StatesFilter, string(l.State)) ||
			!passes(req.TypesFilter, string(l.Type)) {
			continue
		}
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType = l.GroupID, l.ProtocolType
		g.GroupState, g.GroupType = string(l.State), string(l.Type)
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// passes reports whether value is one of those wanted; none means all.
func passes(wanted []string, value string) bool {
	return len(wanted) == 0 ||
		slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(w, value) })
}
