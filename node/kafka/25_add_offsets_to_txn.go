package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// AddOffsetsToTxn, key 25, versions 0 to 4: a transaction is going to commit
// offsets of a group, so the group's partition of __consumer_offsets is part of it.
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  PRODUCER_FENCED may be answered; INVALID_PRODUCER_EPOCH before (KIP-588)
//	v3  flexible encoding
//	v4  TRANSACTION_ABORTABLE may be answered (KIP-890)
func (s *Server) addOffsetsToTxn(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AddOffsetsToTxnRequest)
	resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	tp, err := door.OffsetsPartition(ctx, s.coordinators, req.Group)
	if err == nil {
		added := door.Await(ctx, s.askTxn, req.TransactionalID,
			func(reply func(txn.Added)) coord.Request {
				return &txn.Add{
					Producer:   messages.ProducerID(req.ProducerID),
					Epoch:      messages.ProducerEpoch(req.ProducerEpoch),
					Partitions: []messages.TopicPartition{tp},
					Reply:      reply,
				}
			})
		err = door.ErrorAt(added.Err, added.Errs, 0)
	}
	resp.ErrorCode = txnErrors{fenced: 2, abortable: 4}.code(err, req.Version)
	return resp
}
