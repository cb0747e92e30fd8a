package wire

import (
	"errors"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// ErrUnsupported means the receiver is older than the command it was sent.
var ErrUnsupported = errors.New("command is not supported by the receiver")

// codes pairs each sentinel with its code. An error that wraps several gets the
// first that matches, so the more telling one stands first.
var codes = []struct {
	code ErrorCode
	err  error
}{
	{ErrorCode_ERROR_CODE_UNSUPPORTED, ErrUnsupported},
	{ErrorCode_ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, messages.ErrUnknownTopicOrPartition},
	{ErrorCode_ERROR_CODE_UNKNOWN_TOPIC_ID, messages.ErrUnknownTopicID},
	{ErrorCode_ERROR_CODE_TOPIC_ALREADY_EXISTS, messages.ErrTopicAlreadyExists},
	{ErrorCode_ERROR_CODE_INVALID_TOPIC, messages.ErrInvalidTopic},
	{ErrorCode_ERROR_CODE_INVALID_PARTITIONS, messages.ErrInvalidPartitions},
	{ErrorCode_ERROR_CODE_INVALID_REPLICATION_FACTOR, messages.ErrInvalidReplicationFactor},
	{ErrorCode_ERROR_CODE_INVALID_REPLICA_ASSIGNMENT, messages.ErrInvalidReplicaAssignment},
	{ErrorCode_ERROR_CODE_INVALID_CONFIG, messages.ErrInvalidConfig},
	{ErrorCode_ERROR_CODE_INVALID_REQUEST, messages.ErrInvalidRequest},
	{ErrorCode_ERROR_CODE_POLICY_VIOLATION, messages.ErrPolicyViolation},
	{ErrorCode_ERROR_CODE_TOPIC_DELETION_DISABLED, messages.ErrTopicDeletionDisabled},
	{ErrorCode_ERROR_CODE_NOT_LEADER, messages.ErrNotLeader},
	{ErrorCode_ERROR_CODE_FENCED_LEADER_EPOCH, messages.ErrFencedLeaderEpoch},
	{ErrorCode_ERROR_CODE_UNKNOWN_LEADER_EPOCH, messages.ErrUnknownLeaderEpoch},
	{ErrorCode_ERROR_CODE_NOT_CONTROLLER, messages.ErrNotController},
	{ErrorCode_ERROR_CODE_FENCED_CONTROLLER, messages.ErrFencedController},
	{ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE, messages.ErrOffsetOutOfRange},
	{ErrorCode_ERROR_CODE_CORRUPT_BATCH, messages.ErrCorruptBatch},
	{ErrorCode_ERROR_CODE_INVALID_RECORD, messages.ErrInvalidRecord},
	{ErrorCode_ERROR_CODE_INVALID_TIMESTAMP, messages.ErrInvalidTimestamp},
	{ErrorCode_ERROR_CODE_UNSUPPORTED_COMPRESSION, messages.ErrUnsupportedCompression},
	{ErrorCode_ERROR_CODE_BATCH_TOO_LARGE, messages.ErrBatchTooLarge},
	{ErrorCode_ERROR_CODE_BATCH_LARGER_THAN_SEGMENT, messages.ErrBatchLargerThanSegment},
	{ErrorCode_ERROR_CODE_INVALID_REQUIRED_ACKS, messages.ErrInvalidRequiredAcks},
	{ErrorCode_ERROR_CODE_NOT_ENOUGH_REPLICAS, messages.ErrNotEnoughReplicas},
	{ErrorCode_ERROR_CODE_REQUEST_TIMED_OUT, messages.ErrRequestTimedOut},
	{ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE, messages.ErrOutOfOrderSequence},
	{ErrorCode_ERROR_CODE_INVALID_PRODUCER_EPOCH, messages.ErrInvalidProducerEpoch},
	{ErrorCode_ERROR_CODE_INVALID_TXN_STATE, messages.ErrInvalidTxnState},
	{ErrorCode_ERROR_CODE_DISK_FULL, messages.ErrDiskFull}, // also an ErrStorage
	{ErrorCode_ERROR_CODE_STORAGE, messages.ErrStorage},
	{ErrorCode_ERROR_CODE_UNAVAILABLE, messages.ErrUnavailable},
	{ErrorCode_ERROR_CODE_OVERLOADED, messages.ErrOverloaded},
	{ErrorCode_ERROR_CODE_STALE_NODE_EPOCH, messages.ErrStaleNodeEpoch},
	{ErrorCode_ERROR_CODE_UNKNOWN_NODE, messages.ErrUnknownNode},
	{ErrorCode_ERROR_CODE_DUPLICATE_NODE, messages.ErrDuplicateNode},
	{ErrorCode_ERROR_CODE_INVALID_UPDATE_VERSION, messages.ErrInvalidUpdateVersion},
	{ErrorCode_ERROR_CODE_INELIGIBLE_REPLICA, messages.ErrIneligibleReplica},
	{ErrorCode_ERROR_CODE_NEW_LEADER_ELECTED, messages.ErrNewLeaderElected},
	{ErrorCode_ERROR_CODE_PREFERRED_LEADER_NOT_AVAILABLE, messages.ErrPreferredLeaderNotAvailable},
	{ErrorCode_ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE, messages.ErrEligibleLeadersNotAvailable},
	{ErrorCode_ERROR_CODE_ELECTION_NOT_NEEDED, messages.ErrElectionNotNeeded},
	{ErrorCode_ERROR_CODE_NO_REASSIGNMENT_IN_PROGRESS, messages.ErrNoReassignmentInProgress},
	{ErrorCode_ERROR_CODE_OFFSET_NOT_AVAILABLE, messages.ErrOffsetNotAvailable},
	{ErrorCode_ERROR_CODE_NOT_COORDINATOR, messages.ErrNotCoordinator},
	{ErrorCode_ERROR_CODE_COORDINATOR_LOADING, messages.ErrCoordinatorLoading},
	{ErrorCode_ERROR_CODE_CONCURRENT_TRANSACTIONS, txn.ErrConcurrent},
	{ErrorCode_ERROR_CODE_INVALID_PRODUCER_ID_MAPPING, txn.ErrInvalidMapping},
	{ErrorCode_ERROR_CODE_PRODUCER_FENCED, txn.ErrProducerFenced},
	{ErrorCode_ERROR_CODE_OPERATION_NOT_ATTEMPTED, txn.ErrNotAttempted},
	{ErrorCode_ERROR_CODE_TRANSACTION_COORDINATOR_FENCED, txn.ErrCoordinatorFenced},
	{ErrorCode_ERROR_CODE_ILLEGAL_GENERATION, group.ErrIllegalGeneration},
	{ErrorCode_ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL, group.ErrInconsistentProtocol},
	{ErrorCode_ERROR_CODE_INVALID_GROUP_ID, group.ErrInvalidGroupID},
	{ErrorCode_ERROR_CODE_UNKNOWN_MEMBER_ID, group.ErrUnknownMember},
	{ErrorCode_ERROR_CODE_REBALANCE_IN_PROGRESS, group.ErrRebalanceInProgress},
	{ErrorCode_ERROR_CODE_OFFSET_METADATA_TOO_LARGE, group.ErrMetadataTooLarge},
	{ErrorCode_ERROR_CODE_NON_EMPTY_GROUP, group.ErrNonEmptyGroup},
	{ErrorCode_ERROR_CODE_GROUP_ID_NOT_FOUND, group.ErrGroupNotFound},
	{ErrorCode_ERROR_CODE_GROUP_MAX_SIZE_REACHED, group.ErrFull},
	{ErrorCode_ERROR_CODE_FENCED_INSTANCE_ID, group.ErrFencedInstance},
	{ErrorCode_ERROR_CODE_UNSTABLE_OFFSET_COMMIT, group.ErrUnstableOffset},
	{ErrorCode_ERROR_CODE_GROUP_SUBSCRIBED_TO_TOPIC, group.ErrSubscribed},
	{ErrorCode_ERROR_CODE_FENCED_MEMBER_EPOCH, group.ErrFencedMemberEpoch},
	{ErrorCode_ERROR_CODE_STALE_MEMBER_EPOCH, group.ErrStaleMemberEpoch},
	{ErrorCode_ERROR_CODE_UNRELEASED_INSTANCE_ID, group.ErrUnreleasedInstance},
	{ErrorCode_ERROR_CODE_INVALID_REGULAR_EXPRESSION, group.ErrInvalidRegex},
	{ErrorCode_ERROR_CODE_INVALID_SESSION_TIMEOUT, group.ErrInvalidSessionTimeout},
	{ErrorCode_ERROR_CODE_INVALID_TRANSACTION_TIMEOUT, txn.ErrInvalidTimeout},
	{ErrorCode_ERROR_CODE_TRANSACTIONAL_ID_NOT_FOUND, txn.ErrNotFound},
	{ErrorCode_ERROR_CODE_TRANSACTION_ABORTABLE, txn.ErrAbortable},
	{ErrorCode_ERROR_CODE_MEMBER_ID_REQUIRED, group.ErrMemberIDRequired},
	{ErrorCode_ERROR_CODE_UNSUPPORTED_ASSIGNOR, group.ErrUnsupportedAssignor},
	{ErrorCode_ERROR_CODE_UNSUPPORTED_GROUP_VERSION, group.ErrUnsupported},
}

// FromError returns the wire form of err: the code of the first sentinel it
// wraps, and its text. FromError(nil) says that it worked.
func FromError(err error) *Error {
	if err == nil {
		return &Error{}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return &Error{Code: c.code, Message: err.Error()}
		}
	}
	return &Error{Code: ErrorCode_ERROR_CODE_OTHER, Message: err.Error()}
}

// ToError returns an error of the same text for which errors.Is finds the same
// sentinel, or nil when it worked. A code of a newer version keeps its text only.
func ToError(w *Error) error {
	if w.GetCode() == ErrorCode_ERROR_CODE_UNSPECIFIED {
		return nil
	}
	for _, c := range codes {
		if c.code == w.GetCode() {
			return &peerError{text: w.GetMessage(), meaning: c.err}
		}
	}
	return errors.New(w.GetMessage())
}

// peerError is an error that came from another node.
type peerError struct {
	text    string
	meaning error // a sentinel
}

func (e *peerError) Error() string { return e.text }
func (e *peerError) Unwrap() error { return e.meaning }
