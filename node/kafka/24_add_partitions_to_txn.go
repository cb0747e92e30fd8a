package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// AddPartitionsToTxn, key 24, versions 0 to 5: a transaction is going to write to
// these partitions (KIP-98).
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  PRODUCER_FENCED may be answered; INVALID_PRODUCER_EPOCH before (KIP-588)
//	v3  flexible encoding
//	v4  many transactions, which brokers send; they may only ask whether the
//	    partitions are in the transaction (KIP-890)
//	v5  TRANSACTION_ABORTABLE may be answered (KIP-890)
//
// All or nothing: where one partition of a transaction does not exist, it is
// UNKNOWN_TOPIC_OR_PARTITION and the others are OPERATION_NOT_ATTEMPTED.
func (s *Server) addPartitionsToTxn(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AddPartitionsToTxnRequest)
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	txns := req.Transactions
	if req.Version < 4 {
		txns = []kmsg.AddPartitionsToTxnRequestTransaction{singleTransaction(req)}
	}
	image := s.cluster.Image()
	plans := make([]*addPlan, len(txns))
	var asks []*addPlan
	for i := range txns {
		plans[i] = planAdd(image, &txns[i])
		if !plans[i].refused && len(plans[i].partitions) > 0 {
			asks = append(asks, plans[i])
		}
	}
	answers := door.Gather(ctx, s.askTxn, len(asks),
		func(i int, reply func(txn.Added)) (string, coord.Request) {
			rt := asks[i].request
			return rt.TransactionalID, &txn.Add{
				Producer:   messages.ProducerID(rt.ProducerID),
				Epoch:      messages.ProducerEpoch(rt.ProducerEpoch),
				Partitions: asks[i].partitions,
				VerifyOnly: rt.VerifyOnly,
				Reply:      reply,
			}
		})
	for i, p := range asks {
		for j := range p.codes {
			*p.codes[j] = txnErrors{fenced: 2, abortable: 5}.code(
				door.ErrorAt(answers[i].Err, answers[i].Errs, j), req.Version)
		}
	}
	for _, p := range plans {
		resp.Transactions = append(resp.Transactions, p.answer)
	}
	if req.Version < 4 {
		for _, t := range plans[0].answer.Topics {
			resp.Topics = append(resp.Topics, singleTopic(t))
		}
	}
	return resp
}

// singleTransaction is what versions before 4 ask.
func singleTransaction(req *kmsg.AddPartitionsToTxnRequest,
) kmsg.AddPartitionsToTxnRequestTransaction {
	t := kmsg.NewAddPartitionsToTxnRequestTransaction()
	t.TransactionalID, t.ProducerID = req.TransactionalID, req.ProducerID
	t.ProducerEpoch = req.ProducerEpoch
	for _, topic := range req.Topics {
		t.Topics = append(t.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic(topic))
	}
	return t
}

// singleTopic is the answer for a topic in versions before 4.
func singleTopic(t kmsg.AddPartitionsToTxnResponseTransactionTopic,
) kmsg.AddPartitionsToTxnResponseTopic {
	out := kmsg.NewAddPartitionsToTxnResponseTopic()
	out.Topic = t.Topic
	for _, p := range t.Partitions {
		out.Partitions = append(out.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition(p))
	}
	return out
}

// addPlan is one transaction of the request.
type addPlan struct {
	request    *kmsg.AddPartitionsToTxnRequestTransaction
	answer     kmsg.AddPartitionsToTxnResponseTransaction
	partitions []messages.TopicPartition
	codes      []*int16 // of the answer, by partitions
	refused    bool     // a partition does not exist
}

func planAdd(image *messages.Image, rt *kmsg.AddPartitionsToTxnRequestTransaction) *addPlan {
	p := &addPlan{request: rt, answer: kmsg.NewAddPartitionsToTxnResponseTransaction()}
	p.answer.TransactionalID = rt.TransactionalID
	for i := range rt.Topics {
		t := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		t.Topic = rt.Topics[i].Topic
		topic := image.Topic(t.Topic)
		t.Partitions = make([]kmsg.AddPartitionsToTxnResponseTransactionTopicPartition,
			len(rt.Topics[i].Partitions))
		for j, index := range rt.Topics[i].Partitions {
			out := &t.Partitions[j]
			out.Partition = index
			if out.ErrorCode = partitionCode(topic, false, index); out.ErrorCode != codeNone {
				p.refused = true
				continue
			}
			p.partitions = append(p.partitions,
				messages.TopicPartition{Topic: t.Topic, Partition: index})
			p.codes = append(p.codes, &out.ErrorCode)
		}
		p.answer.Topics = append(p.answer.Topics, t)
	}
	if p.refused {
		for _, code := range p.codes {
			*code = codeOperationNotAttempted
		}
	}
	return p
}
