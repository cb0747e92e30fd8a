package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// EndTxn, key 26, versions 0 to 5: a transaction is committed or aborted (KIP-98).
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  PRODUCER_FENCED may be answered; INVALID_PRODUCER_EPOCH before (KIP-588)
//	v3  flexible encoding
//	v4  TRANSACTION_ABORTABLE may be answered (KIP-890)
//	v5  every transaction has an epoch of its own; the answer has the id and epoch
//	    for the next one (KIP-890)
//
// The answer comes when the decision is durable; readers see the outcome a moment
// later.
func (s *Server) endTxn(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.EndTxnRequest)
	resp := req.ResponseKind().(*kmsg.EndTxnResponse)
	ended := door.Await(ctx, s.askTxn, req.TransactionalID, func(reply func(txn.Ended)) coord.Request {
		return &txn.End{
			Producer: messages.ProducerID(req.ProducerID),
			Epoch:    messages.ProducerEpoch(req.ProducerEpoch),
			Commit:   req.Commit,
			V2:       req.Version >= 5,
			Reply:    reply,
		}
	})
	resp.ErrorCode = txnErrors{fenced: 2, abortable: 4}.code(ended.Err, req.Version)
	if ended.Err == nil {
		resp.ProducerID, resp.ProducerEpoch = int64(ended.Producer), int16(ended.Epoch)
	}
	return resp
}
