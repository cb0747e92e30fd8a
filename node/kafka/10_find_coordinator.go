package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator, key 10, versions 0 to 6: the node that coordinates a group
// or a transactional id.
//
//	v0  groups only; librdkafka up to 2.11.0 wants to see it advertised
//	v1  key type (0 group, 1 transactional id); error message
//	v3  flexible encoding
//	v4  many keys, each with an error of its own (KIP-699)
//	v5  TRANSACTION_ABORTABLE may be answered; never happens without transactions
//	v6  key type 2, share groups (KIP-932)
//
// Not there: coordinators. COORDINATOR_NOT_AVAILABLE would be the obvious
// answer and the worst: clients take it as "not yet" and wait, silently and
// for ever. So the answer is final. For groups it is UNSUPPORTED_VERSION: Java,
// librdkafka, franz-go, sarama and kafka-python hand it to the application at
// once, librdkafka with our message. For transactional ids it is
// TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the only code librdkafka does not
// retry.
func (s *Server) findCoordinator(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	code, text := noCoordinator(req.CoordinatorType, req.Version)
	if req.Version < 4 {
		resp.ErrorCode, resp.ErrorMessage = code, &text
		resp.NodeID, resp.Port = -1, -1
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		found := kmsg.NewFindCoordinatorResponseCoordinator()
		found.Key = key
		found.ErrorCode, found.ErrorMessage = code, &text
		found.NodeID, found.Port = -1, -1
		resp.Coordinators = append(resp.Coordinators, found)
	}
	return resp
}

// Key types of FindCoordinator.
const (
	coordinatorGroup       int8 = 0
	coordinatorTransaction int8 = 1
	coordinatorShare       int8 = 2
)

// noCoordinator says why there is no coordinator for keys of that type.
func noCoordinator(keyType int8, version int16) (code int16, text string) {
	switch {
	case keyType == coordinatorGroup:
		return codeUnsupportedVersion, "consumer groups are not available in this version of " +
			"Troupe; assign partitions by hand and keep offsets in the application"
	case keyType == coordinatorTransaction:
		return codeTransactionalIDAuthFailed, "transactions are not available in this version of " +
			"Troupe; unset transactional.id (idempotent producers work)"
	case keyType == coordinatorShare && version >= 6:
		return codeUnsupportedVersion, "share groups are not available in this version of Troupe"
	}
	return codeInvalidRequest, "unknown coordinator key type"
}
