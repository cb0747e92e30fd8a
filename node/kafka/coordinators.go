package kafka

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/node/door"
)

// askGroup hands a request to a group.
func (s *Server) askGroup(id string, r coord.Request) { door.AskGroup(s.coordinators, id, r) }

// askTxn hands a request to a transactional id.
func (s *Server) askTxn(id string, r coord.Request) { door.AskTxn(s.coordinators, id, r) }

// parked returns a context for what may wait for minutes: it ends with ctx, and
// when the node begins to stop.
func (s *Server) parked(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.serving, func() { cancel(errDraining) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// coordinatorErrorCode is errorCode for what coordinators answer. Clients look for
// the coordinator again on NOT_COORDINATOR and COORDINATOR_NOT_AVAILABLE and ask
// the same one again on COORDINATOR_LOAD_IN_PROGRESS; the errors of the partition
// that keeps its state become one of them, as in Kafka.
func coordinatorErrorCode(err error) int16 {
	switch code := errorCode(err); code {
	case codeLeaderNotAvailable, codeRequestTimedOut, codeNotEnoughReplicas, codeNotController:
		return codeCoordinatorNotAvailable
	case codeNotLeaderOrFollower, codeFencedLeaderEpoch, codeUnknownLeaderEpoch, codeStorageError:
		return codeNotCoordinator
	case codeThrottlingQuotaExceeded:
		return codeCoordinatorLoadInProgress
	case codeMessageTooLarge, codeRecordListTooLarge:
		return codeUnknownServerError
	default:
		return code
	}
}

// txnErrors says from which version on an API of transactions may answer errors
// that clients learnt late.
type txnErrors struct {
	fenced    int16 // PRODUCER_FENCED (KIP-588); INVALID_PRODUCER_EPOCH before
	abortable int16 // TRANSACTION_ABORTABLE (KIP-890); INVALID_TXN_STATE before
}

// code is coordinatorErrorCode for that API in that version.
func (e txnErrors) code(err error, version int16) int16 {
	switch code := coordinatorErrorCode(err); {
	case code == codeProducerFenced && version < e.fenced:
		return codeInvalidProducerEpoch
	case code == codeTransactionAbortable && version < e.abortable:
		return codeInvalidTxnState
	default:
		return code
	}
}

// orEmpty is the text behind p, "" for null.
func orEmpty(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// orNull is s, or null for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// partitionCode says why a partition that a request names is not there. t is nil if
// its topic does not exist; byID: the request names topics by id.
func partitionCode(t *messages.Topic, byID bool, index int32) int16 {
	switch {
	case t == nil && byID:
		return codeUnknownTopicID
	case t == nil || index < 0 || int(index) >= len(t.Partitions):
		return codeUnknownTopicOrPartition
	}
	return codeNone
}

// once returns the names in order, each once.
func once(names []string) []string {
	seen := make(map[string]bool, len(names))
	var out []string
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
