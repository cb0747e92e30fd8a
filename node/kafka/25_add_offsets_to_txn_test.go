package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/txn"
)

func addOffsetsRequest(id, group string) *kmsg.AddOffsetsToTxnRequest {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = id, 7, 3, group
	return req
}

func TestAddOffsetsToTxnAddsThePartitionOfTheGroup(t *testing.T) {
	eachVersion(t, 25, func(t *testing.T, v int16) {
		for _, noTopic := range []bool{false, true} {
			f := newFakeCluster()
			f.coords.noTopic = noTopic // it is made on the way
			script(f, func(_ string, r *txn.Add) { r.Reply(txn.Added{}) })
			equal(t, "code", codeOf(t, f, addOffsetsRequest("x", "g"), v), codeNone)
			key, got := lastAsked[*txn.Add](t, f)
			equal(t, "id", key, "x")
			got.Reply = nil
			equal(t, "request", got, &txn.Add{Producer: 7, Epoch: 3,
				Partitions: []messages.TopicPartition{
					{Topic: "__consumer_offsets", Partition: coord.Partition("g", 50)}}})
		}
	})
}

func TestAddOffsetsToTxnWaitsForTheTopicOfOffsets(t *testing.T) {
	f := newFakeCluster()
	f.coords.err = messages.ErrUnavailable
	equal(t, "code", codeOf(t, f, addOffsetsRequest("x", "g"), 3), codeCoordinatorNotAvailable)
}
