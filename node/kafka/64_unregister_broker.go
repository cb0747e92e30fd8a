package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// UnregisterBroker, key 64, version 0: forget a node that is gone for good
// (KIP-500).
//
// Other than in Kafka, a node that lives or has replicas is not forgotten:
// INVALID_REQUEST says what to do first.
func (s *Server) unregisterBroker(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.UnregisterBrokerRequest)
	resp := req.ResponseKind().(*kmsg.UnregisterBrokerResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	err := s.cluster.Unregister(ctx, messages.NodeID(req.BrokerID))
	resp.ErrorCode, resp.ErrorMessage = controllerErrorCode(err), errorMessage(err)
	return resp
}
