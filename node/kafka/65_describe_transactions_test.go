package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func TestDescribeTransactionsShowsWhatTheyAreAt(t *testing.T) {
	f := newFakeCluster()
	f.coords.txns["x"] = &txn.Description{ID: "x", State: txn.Ongoing, TimeoutMs: 60_000,
		StartedMs: 500, Producer: 7, Epoch: 3, Partitions: []messages.TopicPartition{
			{Topic: "b", Partition: 1}, {Topic: "a", Partition: 2}, {Topic: "b", Partition: 0}}}
	f.coords.txns["dead"] = &txn.Description{ID: "dead", State: txn.Dead}
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{"x", "gone", "dead", "x"}
	resp := ask[*kmsg.DescribeTransactionsResponse](t, f, req, 0)
	equal(t, "answers, each once", len(resp.TransactionStates), 3)
	type state = kmsg.DescribeTransactionsResponseTransactionState
	type topic = kmsg.DescribeTransactionsResponseTransactionStateTopic
	equal(t, "open", resp.TransactionStates[0], state{TransactionalID: "x", State: "Ongoing",
		TimeoutMillis: 60_000, StartTimestamp: 500, ProducerID: 7, ProducerEpoch: 3, Topics: []topic{
			{Topic: "a", Partitions: []int32{2}}, {Topic: "b", Partitions: []int32{0, 1}}}})
	for _, gone := range resp.TransactionStates[1:] {
		equal(t, "code", gone.ErrorCode, codeTransactionalIDNotFound)
		equal(t, "producer", gone.ProducerID, int64(-1))
	}
}
