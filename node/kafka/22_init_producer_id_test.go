package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

func initRequest(txnID *string, id int64, epoch int16) *kmsg.InitProducerIDRequest {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = txnID, id, epoch
	return req
}

func TestInitProducerIDAlwaysHandsOutANewID(t *testing.T) {
	f := newFakeCluster()
	last := int64(-1)
	eachVersion(t, 22, func(t *testing.T, v int16) {
		for _, req := range []*kmsg.InitProducerIDRequest{
			initRequest(nil, -1, -1),
			initRequest(nil, 1, 5), // KIP-360, from v3 on
		} {
			resp := ask[*kmsg.InitProducerIDResponse](t, f, req, v)
			equal(t, "code", resp.ErrorCode, codeNone)
			equal(t, "epoch", resp.ProducerEpoch, int16(0))
			if resp.ProducerID <= last {
				t.Errorf("id %d after %d", resp.ProducerID, last)
			}
			last = resp.ProducerID
		}
	})
}

func TestInitProducerIDRefuses(t *testing.T) {
	eachVersion(t, 22, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			name  string
			req   *kmsg.InitProducerIDRequest
			want  int16
			since int16
		}{
			{"an empty transactional id", initRequest(ptr(""), -1, -1), codeInvalidRequest, 0},
			{"an id without an epoch", initRequest(nil, 7, -1), codeInvalidRequest, 3},
			{"an epoch without an id", initRequest(nil, -1, 7), codeInvalidRequest, 3},
			{"an id without an epoch in a transaction", initRequest(ptr("tx"), 7, -1),
				codeInvalidRequest, 3},
		} {
			if v < tt.since {
				continue // the version has no such fields
			}
			t.Run(tt.name, func(t *testing.T) {
				resp := ask[*kmsg.InitProducerIDResponse](t, newFakeCluster(), tt.req, v)
				equal(t, "code", resp.ErrorCode, tt.want)
				equal(t, "id", resp.ProducerID, int64(-1))
				equal(t, "epoch", resp.ProducerEpoch, int16(-1))
			})
		}
	})
}

func TestInitProducerIDOfATransactionIsItsCoordinatorsToAnswer(t *testing.T) {
	eachVersion(t, 22, func(t *testing.T, v int16) {
		f := newFakeCluster()
		req := initRequest(ptr("tx"), 9, 4)
		req.TransactionTimeoutMillis = 60000
		resp := ask[*kmsg.InitProducerIDResponse](t, f, req, v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "id", resp.ProducerID, int64(5001))
		equal(t, "epoch", resp.ProducerEpoch, int16(0))
		key, init := lastAsked[*txn.Init](t, f)
		equal(t, "key", key, "tx")
		equal(t, "timeout", init.TimeoutMs, int32(60000))
		had, epoch := messages.ProducerID(9), messages.ProducerEpoch(4)
		if v < 3 {
			had, epoch = messages.NoProducerID, -1
		}
		equal(t, "id it had", init.Producer, had)
		equal(t, "epoch it had", init.Epoch, epoch)
	})
}

func TestInitProducerIDMakesProducersAskAgainWhileTheControllerIsBusy(t *testing.T) {
	for err, want := range map[error]int16{
		messages.ErrUnavailable:     codeCoordinatorLoadInProgress,
		messages.ErrNotController:   codeCoordinatorLoadInProgress,
		messages.ErrOverloaded:      codeCoordinatorLoadInProgress,
		messages.ErrRequestTimedOut: codeCoordinatorLoadInProgress,
		messages.ErrDiskFull:        codeCoordinatorLoadInProgress,
		errors.New("a bug"):         codeUnknownServerError,
	} {
		f := newFakeCluster()
		f.failControl(err)
		resp := ask[*kmsg.InitProducerIDResponse](t, f, initRequest(nil, -1, -1), 5)
		equal(t, err.Error(), resp.ErrorCode, want)
		equal(t, "id", resp.ProducerID, int64(-1))
	}
}
