package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// DescribeTransactions, key 65, version 0: what transactional ids are at
// (KIP-664).
//
// One that does not exist is TRANSACTIONAL_ID_NOT_FOUND; one that is named twice
// is described once.
func (s *Server) describeTransactions(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeTransactionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
	ids := once(req.TransactionalIDs)
	found := door.Gather(ctx, s.askTxn, len(ids),
		func(i int, reply func(txn.Description)) (string, coord.Request) {
			return ids[i], &txn.Describe{Reply: reply}
		})
	for i, id := range ids {
		d := &found[i]
		if d.Err == nil && d.State == txn.Dead {
			d.Err = fmt.Errorf("transactional id %q: %w", id, txn.ErrNotFound)
		}
		t := kmsg.NewDescribeTransactionsResponseTransactionState()
		t.TransactionalID, t.ErrorCode = id, coordinatorErrorCode(d.Err)
		t.ProducerID, t.ProducerEpoch, t.StartTimestamp = -1, -1, -1
		if d.Err == nil {
			t.State, t.TimeoutMillis = d.State.String(), d.TimeoutMs
			t.StartTimestamp = int64(d.StartedMs)
			t.ProducerID, t.ProducerEpoch = int64(d.Producer), int16(d.Epoch)
			t.Topics = transactionTopics(d.Partitions)
		}
		resp.TransactionStates = append(resp.TransactionStates, t)
	}
	return resp
}

// transactionTopics groups partitions by topic, sorted.
func transactionTopics(partitions []messages.TopicPartition,
) []kmsg.DescribeTransactionsResponseTransactionStateTopic {
	sorted := slices.SortedFunc(slices.Values(partitions), func(a, b messages.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var topics []kmsg.DescribeTransactionsResponseTransactionStateTopic
	for _, tp := range sorted {
		if n := len(topics); n == 0 || topics[n-1].Topic != tp.Topic {
			t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			t.Topic = tp.Topic
			topics = append(topics, t)
		}
		last := &topics[len(topics)-1]
		last.Partitions = append(last.Partitions, tp.Partition)
	}
	return topics
}
