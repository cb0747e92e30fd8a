package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// txnCommitRequest commits offset 7 of partition 0 of topic "t".
func txnCommitRequest(id, groupID string) *kmsg.TxnOffsetCommitRequest {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = id, groupID, 7, 3
	req.Generation, req.MemberID, req.InstanceID = 5, "m", ptr("i")
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch, p.Metadata = 7, 2, ptr("note")
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestTxnOffsetCommitHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 28, func(t *testing.T, v int16) {
		f := newFakeCluster()
		topic := f.addTopic("t", 1)
		f.coords.txns["x"] = &txn.Description{Producer: 7, Epoch: 3}
		equal(t, "code", codeOf(t, f, txnCommitRequest("x", "g"), v), codeNone)
		key, got := lastAsked[*group.TxnCommit](t, f)
		equal(t, "group", key, "g")
		got.Reply = nil
		want := &group.TxnCommit{TransactionalID: "x", Producer: 7, Epoch: 3, Generation: -1,
			Offsets: []group.Offset{{TopicID: topic.ID, Topic: "t", Offset: 7, Epoch: -1,
				Metadata: "note", CommitMs: -1, ExpireMs: -1}}}
		if v >= 2 {
			want.Offsets[0].Epoch = 2
		}
		if v >= 3 {
			want.MemberID, want.InstanceID, want.Generation = "m", "i", 5
		}
		equal(t, "request", got, want)
		var added []messages.TopicPartition
		if v >= 5 {
			added = []messages.TopicPartition{
				{Topic: "__consumer_offsets", Partition: coord.Partition("g", 50)}}
		}
		equal(t, "partitions of the transaction", f.coords.txns["x"].Partitions, added)
	})
}

func TestTxnOffsetCommitDoesNotCommitWhatCannotBePartOfTheTransaction(t *testing.T) {
	for err, want := range map[error]int16{
		txn.ErrConcurrent: 51, txn.ErrInvalidMapping: 49, txn.ErrAbortable: 120,
		txn.ErrProducerFenced: 90, messages.ErrCoordinatorLoading: 14,
		// Of the transaction's coordinator; the group's is this node.
		messages.ErrNotCoordinator: 14, messages.ErrUnavailable: 14,
	} {
		for _, each := range []bool{false, true} {
			f := newFakeCluster()
			f.addTopic("t", 1)
			script(f, func(_ string, r *txn.Add) {
				if each {
					r.Reply(txn.Added{Errs: []error{err}})
				} else {
					r.Reply(txn.Added{Err: err})
				}
			})
			equal(t, err.Error(), codeOf(t, f, txnCommitRequest("x", "g"), 5), want)
			equal(t, "offsets", len(f.coords.groups), 0)
		}
	}
}

func TestTxnOffsetCommitRefusesPartitionsThatAreNotThereAndCommitsTheOthers(t *testing.T) {
	eachVersion(t, 28, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("t", 1)
		f.coords.txns["x"] = &txn.Description{Producer: 7, Epoch: 3}
		req := txnCommitRequest("x", "g")
		p := req.Topics[0].Partitions[0]
		p.Partition = 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		resp := ask[*kmsg.TxnOffsetCommitResponse](t, f, req, v)
		equal(t, "known", resp.Topics[0].Partitions[0].ErrorCode, codeNone)
		equal(t, "unknown", resp.Topics[0].Partitions[1].ErrorCode, codeUnknownTopicOrPartition)
		equal(t, "offsets", len(f.coords.groups["g"].offsets), 1)

		req.Topics[0].Topic = "gone"
		asked := f.coords.count()
		equal(t, "topic", codeOf(t, f, req, v), codeUnknownTopicOrPartition)
		equal(t, "coordinators asked", f.coords.count(), asked)
	})
}
