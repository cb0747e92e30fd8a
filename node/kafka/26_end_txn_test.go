package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func endTxnRequest(id string, commit bool) *kmsg.EndTxnRequest {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, 7, 3, commit
	return req
}

func TestEndTxnEndsTheTransaction(t *testing.T) {
	eachVersion(t, 26, func(t *testing.T, v int16) {
		for _, commit := range []bool{true, false} {
			f := newFakeCluster()
			script(f, func(_ string, r *txn.End) { r.Reply(txn.Ended{Producer: 8, Epoch: 4}) })
			resp := ask[*kmsg.EndTxnResponse](t, f, endTxnRequest("x", commit), v)
			equal(t, "code", resp.ErrorCode, codeNone)
			key, got := lastAsked[*txn.End](t, f)
			equal(t, "id", key, "x")
			got.Reply = nil
			equal(t, "request", got, &txn.End{Producer: 7, Epoch: 3, Commit: commit, V2: v >= 5})
			if v >= 5 {
				equal(t, "producer", resp.ProducerID, int64(8))
				equal(t, "epoch", resp.ProducerEpoch, int16(4))
			}
		}
	})
}

func TestEndTxnNamesNoProducerWithAnError(t *testing.T) {
	f := newFakeCluster()
	script(f, func(_ string, r *txn.End) {
		r.Reply(txn.Ended{Err: messages.ErrInvalidTxnState, Producer: 8, Epoch: 4})
	})
	resp := ask[*kmsg.EndTxnResponse](t, f, endTxnRequest("x", true), 5)
	equal(t, "code", resp.ErrorCode, codeInvalidTxnState)
	equal(t, "producer", resp.ProducerID, int64(-1))
	equal(t, "epoch", resp.ProducerEpoch, int16(-1))
}
