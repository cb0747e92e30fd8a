package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// addPartitionsRequest is about partition 0 of each topic.
func addPartitionsRequest(id string, topics ...string) *kmsg.AddPartitionsToTxnRequest {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, 7, 3
	many := kmsg.NewAddPartitionsToTxnRequestTransaction()
	many.TransactionalID, many.ProducerID, many.ProducerEpoch = id, 7, 3
	for _, name := range topics {
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = name, []int32{0}
		req.Topics = append(req.Topics, rt)
		many.Topics = append(many.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic(rt))
	}
	req.Transactions = append(req.Transactions, many)
	return req
}

// addedCodes are the errors by topic, in any version, of the first transaction.
func addedCodes(resp *kmsg.AddPartitionsToTxnResponse) map[string]int16 {
	out := map[string]int16{}
	for _, rt := range resp.Topics {
		out[rt.Topic] = rt.Partitions[0].ErrorCode
	}
	if resp.Version >= 4 {
		for _, rt := range resp.Transactions[0].Topics {
			out[rt.Topic] = rt.Partitions[0].ErrorCode
		}
	}
	return out
}

func TestAddPartitionsToTxnAsksTheTransaction(t *testing.T) {
	eachVersion(t, 24, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		f.addTopic("b", 1)
		script(f, func(_ string, r *txn.Add) {
			r.Reply(txn.Added{Errs: []error{nil, messages.ErrInvalidTxnState}})
		})
		req := addPartitionsRequest("x", "a", "b")
		req.Transactions[0].VerifyOnly = true
		resp := ask[*kmsg.AddPartitionsToTxnResponse](t, f, req, v)
		equal(t, "codes", addedCodes(resp), map[string]int16{"a": 0, "b": 48})
		key, got := lastAsked[*txn.Add](t, f)
		equal(t, "id", key, "x")
		got.Reply = nil
		equal(t, "request", got, &txn.Add{Producer: 7, Epoch: 3, VerifyOnly: v >= 4,
			Partitions: []messages.TopicPartition{{Topic: "a"}, {Topic: "b"}}})
	})
}

func TestAddPartitionsToTxnAddsAllOrNothing(t *testing.T) {
	eachVersion(t, 24, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 1)
		resp := ask[*kmsg.AddPartitionsToTxnResponse](t, f,
			addPartitionsRequest("x", "a", "gone"), v)
		equal(t, "codes", addedCodes(resp), map[string]int16{"a": 55, "gone": 3})
		equal(t, "coordinators asked", f.coords.count(), 0)
	})
}

func TestAddPartitionsToTxnAnswersManyTransactions(t *testing.T) {
	for v := int16(4); v <= 5; v++ {
		f := newFakeCluster()
		f.addTopic("a", 1)
		req := addPartitionsRequest("x", "a")
		req.Transactions = append(req.Transactions,
			addPartitionsRequest("y", "gone").Transactions[0],
			addPartitionsRequest("z", "a").Transactions[0])
		script(f, func(key string, r *txn.Add) {
			if key == "z" {
				r.Refuse(txn.ErrInvalidMapping)
				return
			}
			r.Reply(txn.Added{})
		})
		resp := ask[*kmsg.AddPartitionsToTxnResponse](t, f, req, v)
		equal(t, "transactions", len(resp.Transactions), 3)
		for i, want := range []struct {
			id   string
			code int16
		}{{"x", 0}, {"y", 3}, {"z", 49}} {
			equal(t, "id", resp.Transactions[i].TransactionalID, want.id)
			equal(t, want.id, resp.Transactions[i].Topics[0].Partitions[0].ErrorCode, want.code)
		}
	}
}
