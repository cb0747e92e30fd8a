package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
)

// withTxns has an idle id "idle", "old" open for an hour and "young" open for a
// moment.
func withTxns() *fakeCluster {
	f := newFakeCluster()
	now := messages.Timestamp(time.Now().UnixMilli())
	f.coords.txns["idle"] = &txn.Description{ID: "idle", State: txn.CompleteCommit, Producer: 1,
		StartedMs: messages.NoTimestamp}
	f.coords.txns["old"] = &txn.Description{ID: "old", State: txn.Ongoing, Producer: 2,
		StartedMs: now - 3_600_000}
	f.coords.txns["young"] = &txn.Description{ID: "young", State: txn.Ongoing, Producer: 3,
		StartedMs: now}
	f.coords.txns["dead"] = &txn.Description{ID: "dead", State: txn.Dead}
	return f
}

func TestListTransactionsFilters(t *testing.T) {
	all := []string{"idle", "old", "young"}
	for _, tt := range []struct {
		name    string
		edit    func(*kmsg.ListTransactionsRequest)
		since   int16
		want    []string
		unknown []string
	}{
		{"not at all", func(*kmsg.ListTransactionsRequest) {}, 0, all, nil},
		{"by state", func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing"} },
			0, []string{"old", "young"}, nil},
		{"by states nobody knows", func(r *kmsg.ListTransactionsRequest) {
			r.StateFilters = []string{"ongoing", "CompleteCommit"}
		}, 0, []string{"idle"}, []string{"ongoing"}},
		{"by producer", func(r *kmsg.ListTransactionsRequest) {
			r.ProducerIDFilters = []int64{3, 1}
		}, 0, []string{"idle", "young"}, nil},
		{"by duration", func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 1_800_000 },
			1, []string{"old"}, nil},
		{"by pattern", func(r *kmsg.ListTransactionsRequest) {
			r.TransactionalIDPattern = ptr("o.*|you")
		}, 2, []string{"old"}, nil},
		{"by an empty pattern", func(r *kmsg.ListTransactionsRequest) {
			r.TransactionalIDPattern = ptr("")
		}, 2, all, nil},
	} {
		eachVersion(t, 66, func(t *testing.T, v int16) {
			req := kmsg.NewPtrListTransactionsRequest()
			tt.edit(req)
			resp := ask[*kmsg.ListTransactionsResponse](t, withTxns(), req, v)
			equal(t, "code", resp.ErrorCode, codeNone)
			var got []string
			for _, st := range resp.TransactionStates {
				got = append(got, st.TransactionalID)
			}
			want := tt.want
			if v < tt.since {
				want = all
			}
			equal(t, tt.name, got, want)
			equal(t, "unknown states", append([]string(nil), resp.UnknownStateFilters...), tt.unknown)
		})
	}
}

func TestListTransactionsShowsProducerAndState(t *testing.T) {
	resp := ask[*kmsg.ListTransactionsResponse](t, withTxns(),
		kmsg.NewPtrListTransactionsRequest(), 2)
	equal(t, "first", resp.TransactionStates[0], kmsg.ListTransactionsResponseTransactionState{
		TransactionalID: "idle", ProducerID: 1, TransactionState: "CompleteCommit"})
}

func TestListTransactionsRefusesAPatternThatIsNone(t *testing.T) {
	for _, p := range []string{"(", "a)(b", "[", "a{2000}"} {
		req := kmsg.NewPtrListTransactionsRequest()
		req.TransactionalIDPattern = &p
		resp := ask[*kmsg.ListTransactionsResponse](t, withTxns(), req, 2)
		equal(t, p, resp.ErrorCode, codeInvalidRegularExpression)
		equal(t, "answers", len(resp.TransactionStates), 0)
	}
}

func TestListTransactionsSaysThatItIsNotComplete(t *testing.T) {
	f := withTxns()
	f.coords.err = messages.ErrCoordinatorLoading
	resp := ask[*kmsg.ListTransactionsResponse](t, f, kmsg.NewPtrListTransactionsRequest(), 2)
	equal(t, "code", resp.ErrorCode, codeCoordinatorLoadInProgress)
	equal(t, "ids", len(resp.TransactionStates), 3)
}
