package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/node/door"
)

// FindCoordinator, key 10, versions 0 to 6: the node that coordinates a group
// or a transactional id.
//
//	v0  groups only; librdkafka up to 2.11.0 wants to see it advertised
//	v1  key type (0 group, 1 transactional id); error message
//	v3  flexible encoding
//	v4  many keys, each with an error of its own (KIP-699)
//	v5  TRANSACTION_ABORTABLE may be answered; never happens here
//	v6  key type 2, share groups (KIP-932)
//
// The first call makes the internal topic and waits for it, where Kafka answers
// COORDINATOR_NOT_AVAILABLE and lets the client ask again.
//
// Not there: share groups. UNSUPPORTED_VERSION is final for every client, where
// COORDINATOR_NOT_AVAILABLE would make them wait for ever.
func (s *Server) findCoordinator(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	view := s.view(c)
	if req.Version < 4 {
		found := s.coordinatorOf(ctx, view, req, req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage = found.ErrorCode, found.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = found.NodeID, found.Host, found.Port
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.coordinatorOf(ctx, view, req, key))
	}
	return resp
}

// coordinatorShare is the key type of share groups.
const coordinatorShare int8 = 2

// coordinatorOf answers for one key.
func (s *Server) coordinatorOf(ctx context.Context, view *clusterView,
	req *kmsg.FindCoordinatorRequest, key string,
) kmsg.FindCoordinatorResponseCoordinator {
	found := kmsg.NewFindCoordinatorResponseCoordinator()
	found.Key, found.NodeID, found.Port = key, -1, -1
	if t := req.CoordinatorType; t != int8(coord.Group) && t != int8(coord.Txn) {
		code, text := codeInvalidRequest, "unknown coordinator key type"
		if t == coordinatorShare && req.Version >= 6 {
			code, text = codeUnsupportedVersion,
				"share groups are not available in this version of Troupe"
		}
		found.ErrorCode, found.ErrorMessage = code, &text
		return found
	}
	kind := coord.Kind(req.CoordinatorType)
	n, err := door.FindCoordinator(ctx, s.cluster, s.coordinators, kind, key)
	if err == nil {
		found.NodeID = int32(n.ID)
		found.Host, found.Port = view.endpoint(n)
		return found
	}
	found.ErrorCode, found.ErrorMessage = coordinatorErrorCode(err), errorMessage(err)
	return found
}
