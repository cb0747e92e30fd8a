package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// InitProducerId, key 22, versions 0 to 5: a producer id for an idempotent or a
// transactional producer (KIP-98).
//
//	v2  flexible encoding
//	v3  the producer may name the id and epoch it had (KIP-360)
//	v4  PRODUCER_FENCED may be answered; INVALID_PRODUCER_EPOCH before (KIP-588)
//	v5  TRANSACTION_ABORTABLE may be answered (KIP-890)
//
// A producer without a transactional id always gets an id nobody ever had, at
// epoch 0, whatever id and epoch it names: only partitions know the epochs of
// idempotent producers, and a fresh id is right in every case. Kafka does the
// same; clients that only want the next epoch raise it by themselves.
//
// One with a transactional id is answered by that id's coordinator.
func (s *Server) initProducerID(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.InitProducerIDRequest)
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerEpoch = -1
	if (req.ProducerID == -1) != (req.ProducerEpoch == -1) {
		resp.ErrorCode = codeInvalidRequest
		return resp
	}
	if req.TransactionalID != nil {
		got := door.Await(ctx, s.askTxn, *req.TransactionalID,
			func(reply func(txn.Initialized)) coord.Request {
				return &txn.Init{
					TimeoutMs: req.TransactionTimeoutMillis,
					Producer:  messages.ProducerID(req.ProducerID),
					Epoch:     messages.ProducerEpoch(req.ProducerEpoch),
					Reply:     reply,
				}
			})
		resp.ErrorCode = txnErrors{fenced: 4, abortable: 5}.code(got.Err, req.Version)
		if got.Err == nil {
			resp.ProducerID, resp.ProducerEpoch = int64(got.Producer), int16(got.Epoch)
		}
		return resp
	}
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	id, err := s.cluster.NewProducerID(ctx)
	if err != nil {
		resp.ErrorCode = initProducerIDErrorCode(err)
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = int64(id), 0
	return resp
}

// initProducerIDErrorCode is errorCode for InitProducerId. A Java producer
// without a transactional id retries on COORDINATOR_LOAD_IN_PROGRESS alone: on
// COORDINATOR_NOT_AVAILABLE and NOT_COORDINATOR it looks for a coordinator it
// has no key for, and anything else is fatal to it.
func initProducerIDErrorCode(err error) int16 {
	if controlPathBusy(err) || errors.Is(err, messages.ErrDiskFull) {
		return codeCoordinatorLoadInProgress
	}
	return errorCode(err)
}
