package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
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
	ctx, cancel := waitFor(ctx, 0)
	defer cancel()
	tp, err := s.offsetsPartition(ctx, req.Group)
	if err == nil {
		added := await(ctx, s.askTxn, req.TransactionalID,
			func(reply func(txn.Added)) coord.Request {
				return &txn.Add{
					Producer:   messages.ProducerID(req.ProducerID),
					Epoch:      messages.ProducerEpoch(req.ProducerEpoch),
					Partitions: []messages.TopicPartition{tp},
					Reply:      reply,
				}
			})
		err = errorAt(added.Err, added.Errs, 0)
	}
	resp.ErrorCode = txnErrors{fenced: 2, abortable: 4}.code(err, req.Version)
	return resp
}

// offsetsPartition is the partition of the internal topic that keeps a group's
// offsets. The topic is made if there is none.
func (s *Server) offsetsPartition(ctx context.Context, id string,
) (messages.TopicPartition, error) {
	if id == "" {
		return messages.TopicPartition{}, fmt.Errorf("%w: it is empty", group.ErrInvalidGroupID)
	}
	if tp, err := s.coordinators.Partition(coord.Group, id); err == nil {
		return tp, nil
	}
	if _, err := s.coordinators.Find(ctx, coord.Group, id); err != nil {
		return messages.TopicPartition{}, err
	}
	return s.coordinators.Partition(coord.Group, id)
}
