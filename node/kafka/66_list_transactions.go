package kafka

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// ListTransactions, key 66, versions 0 to 2: the transactional ids that this node
// coordinates (KIP-664).
//
//	v1  filter by how long a transaction has been open, in milliseconds (KIP-994)
//	v2  filter by a regular expression that the whole id matches (KIP-1152)
//
// States that we do not know are listed in the answer and match nothing. While a
// part of the ids is being loaded the answer has those that are known and
// COORDINATOR_LOAD_IN_PROGRESS.
func (s *Server) listTransactions(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListTransactionsRequest)
	resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
	pattern, err := idPattern(req.TransactionalIDPattern)
	if err != nil {
		resp.ErrorCode = errorCode(err)
		return resp
	}
	for _, name := range req.StateFilters {
		if !slices.Contains(txnStates, name) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	listed, err := s.coordinators.Txns(ctx)
	resp.ErrorCode = coordinatorErrorCode(err)
	now := messages.Timestamp(time.Now().UnixMilli())
	for i := range listed {
		t := &listed[i]
		if t.State == txn.Dead || !passesTxn(req, t, now) ||
			pattern != nil && !pattern.MatchString(t.ID) {
			continue
		}
		out := kmsg.NewListTransactionsResponseTransactionState()
		out.TransactionalID, out.ProducerID = t.ID, int64(t.Producer)
		out.TransactionState = t.State.String()
		resp.TransactionStates = append(resp.TransactionStates, out)
	}
	return resp
}

// txnStates are the names of all states.
var txnStates = func() (names []string) {
	for st := txn.Empty; st <= txn.PrepareEpochFence; st++ {
		names = append(names, st.String())
	}
	return names
}()

// idPattern compiles a pattern for whole ids; nil matches all.
func idPattern(p *string) (*regexp.Regexp, error) {
	if orEmpty(p) == "" {
		return nil, nil
	}
	// On its own first: what is put around it must not mend it.
	if _, err := regexp.Compile(*p); err != nil {
		return nil, fmt.Errorf("%w: %w", group.ErrInvalidRegex, err)
	}
	re, err := regexp.Compile(`\A(?:` + *p + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", group.ErrInvalidRegex, err)
	}
	return re, nil
}

// passesTxn reports whether a transactional id passes the filters but the pattern.
func passesTxn(req *kmsg.ListTransactionsRequest, t *TxnListed, now messages.Timestamp) bool {
	if len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, t.State.String()) {
		return false
	}
	if len(req.ProducerIDFilters) > 0 &&
		!slices.Contains(req.ProducerIDFilters, int64(t.Producer)) {
		return false
	}
	if d := messages.Timestamp(req.DurationFilterMillis); d >= 0 {
		return t.StartedMs != messages.NoTimestamp && now-t.StartedMs > d
	}
	return true
}
