package kafka

import (
	"context"
	"errors"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// Kafka's error codes, as far as this node answers them.
const (
	codeNone                       int16 = 0
	codeUnknownServerError         int16 = -1
	codeOffsetOutOfRange           int16 = 1
	codeCorruptMessage             int16 = 2
	codeUnknownTopicOrPartition    int16 = 3
	codeLeaderNotAvailable         int16 = 5
	codeNotLeaderOrFollower        int16 = 6
	codeRequestTimedOut            int16 = 7
	codeMessageTooLarge            int16 = 10
	codeOffsetMetadataTooLarge     int16 = 12
	codeCoordinatorLoadInProgress  int16 = 14
	codeCoordinatorNotAvailable    int16 = 15
	codeNotCoordinator             int16 = 16
	codeInvalidTopic               int16 = 17
	codeRecordListTooLarge         int16 = 18
	codeNotEnoughReplicas          int16 = 19
	codeInvalidRequiredAcks        int16 = 21
	codeIllegalGeneration          int16 = 22
	codeInconsistentGroupProtocol  int16 = 23
	codeInvalidGroupID             int16 = 24
	codeUnknownMemberID            int16 = 25
	codeInvalidSessionTimeout      int16 = 26
	codeRebalanceInProgress        int16 = 27
	codeInvalidTimestamp           int16 = 32
	codeUnsupportedVersion         int16 = 35
	codeTopicAlreadyExists         int16 = 36
	codeInvalidPartitions          int16 = 37
	codeInvalidReplicationFactor   int16 = 38
	codeInvalidReplicaAssignment   int16 = 39
	codeInvalidConfig              int16 = 40
	codeNotController              int16 = 41
	codeInvalidRequest             int16 = 42
	codePolicyViolation            int16 = 44
	codeOutOfOrderSequence         int16 = 45
	codeInvalidProducerEpoch       int16 = 47
	codeInvalidTxnState            int16 = 48
	codeInvalidProducerIDMapping   int16 = 49
	codeInvalidTxnTimeout          int16 = 50
	codeConcurrentTransactions     int16 = 51
	codeTxnCoordinatorFenced       int16 = 52
	codeTransactionalIDAuthFailed  int16 = 53
	codeOperationNotAttempted      int16 = 55
	codeStorageError               int16 = 56
	codeNonEmptyGroup              int16 = 68
	codeGroupIDNotFound            int16 = 69
	codeFetchSessionIDNotFound     int16 = 70
	codeInvalidFetchSessionEpoch   int16 = 71
	codeTopicDeletionDisabled      int16 = 73
	codeFencedLeaderEpoch          int16 = 74
	codeUnknownLeaderEpoch         int16 = 75
	codeUnsupportedCompressionType int16 = 76
	codeStaleBrokerEpoch           int16 = 77
	codeOffsetNotAvailable         int16 = 78
	codeMemberIDRequired           int16 = 79
	codePreferredLeaderUnavailable int16 = 80
	codeGroupMaxSizeReached        int16 = 81
	codeFencedInstanceID           int16 = 82
	codeEligibleLeadersUnavailable int16 = 83
	codeElectionNotNeeded          int16 = 84
	codeNoReassignmentInProgress   int16 = 85
	codeGroupSubscribedToTopic     int16 = 86
	codeInvalidRecord              int16 = 87
	codeUnstableOffsetCommit       int16 = 88
	codeThrottlingQuotaExceeded    int16 = 89
	codeProducerFenced             int16 = 90
	codeInvalidUpdateVersion       int16 = 95
	codeUnknownTopicID             int16 = 100
	codeDuplicateBroker            int16 = 101
	codeBrokerIDNotRegistered      int16 = 102
	codeFetchSessionTopicIDError   int16 = 106
	codeTransactionalIDNotFound    int16 = 105
	codeIneligibleReplica          int16 = 107
	codeNewLeaderElected           int16 = 108
	codeFencedMemberEpoch          int16 = 110
	codeUnreleasedInstanceID       int16 = 111
	codeUnsupportedAssignor        int16 = 112
	codeStaleMemberEpoch           int16 = 113
	codeTransactionAbortable       int16 = 120
	codeInvalidRegularExpression   int16 = 128
)

// errorCodes says which Kafka error a sentinel error becomes. The order counts
// for errors that wrap two of them: the first match is answered.
var errorCodes = []struct {
	err  error
	code int16
}{
	{messages.ErrUnknownTopicOrPartition, codeUnknownTopicOrPartition},
	{messages.ErrUnknownTopicID, codeUnknownTopicID},
	{messages.ErrTopicAlreadyExists, codeTopicAlreadyExists},
	{messages.ErrInvalidTopic, codeInvalidTopic},
	{messages.ErrInvalidPartitions, codeInvalidPartitions},
	{messages.ErrInvalidReplicationFactor, codeInvalidReplicationFactor},
	{messages.ErrInvalidReplicaAssignment, codeInvalidReplicaAssignment},
	{messages.ErrInvalidConfig, codeInvalidConfig},
	{messages.ErrInvalidRequest, codeInvalidRequest},
	{messages.ErrPolicyViolation, codePolicyViolation},
	{messages.ErrTopicDeletionDisabled, codeTopicDeletionDisabled},

	{messages.ErrNotLeader, codeNotLeaderOrFollower},
	{messages.ErrFencedLeaderEpoch, codeFencedLeaderEpoch},
	{messages.ErrUnknownLeaderEpoch, codeUnknownLeaderEpoch},
	{messages.ErrNotController, codeNotController},
	{messages.ErrFencedController, codeNotController},
	{messages.ErrOffsetNotAvailable, codeOffsetNotAvailable},

	{messages.ErrNotCoordinator, codeNotCoordinator},
	{messages.ErrCoordinatorLoading, codeCoordinatorLoadInProgress},

	{messages.ErrStaleNodeEpoch, codeStaleBrokerEpoch},
	{messages.ErrUnknownNode, codeBrokerIDNotRegistered},
	{messages.ErrDuplicateNode, codeDuplicateBroker},
	{messages.ErrInvalidUpdateVersion, codeInvalidUpdateVersion},
	{messages.ErrIneligibleReplica, codeIneligibleReplica},
	{messages.ErrNewLeaderElected, codeNewLeaderElected},
	{messages.ErrPreferredLeaderNotAvailable, codePreferredLeaderUnavailable},
	{messages.ErrEligibleLeadersNotAvailable, codeEligibleLeadersUnavailable},
	{messages.ErrElectionNotNeeded, codeElectionNotNeeded},
	{messages.ErrNoReassignmentInProgress, codeNoReassignmentInProgress},

	// Before all that is said of a client's batch, which a damaged one on our own
	// disk is too: the client must learn that the storage failed.
	{messages.ErrStorage, codeStorageError},
	{messages.ErrDiskFull, codeStorageError},

	{messages.ErrOffsetOutOfRange, codeOffsetOutOfRange},
	{messages.ErrInvalidRecord, codeInvalidRecord},
	{messages.ErrInvalidTimestamp, codeInvalidTimestamp},
	{messages.ErrUnsupportedCompression, codeUnsupportedCompressionType},
	{messages.ErrBatchTooLarge, codeMessageTooLarge},
	{messages.ErrBatchLargerThanSegment, codeRecordListTooLarge},
	{messages.ErrInvalidRequiredAcks, codeInvalidRequiredAcks},
	{messages.ErrNotEnoughReplicas, codeNotEnoughReplicas},
	{messages.ErrRequestTimedOut, codeRequestTimedOut},

	{messages.ErrOutOfOrderSequence, codeOutOfOrderSequence},
	{messages.ErrInvalidProducerEpoch, codeInvalidProducerEpoch},
	{messages.ErrInvalidTxnState, codeInvalidTxnState},

	{group.ErrIllegalGeneration, codeIllegalGeneration},
	{group.ErrInconsistentProtocol, codeInconsistentGroupProtocol},
	{group.ErrInvalidGroupID, codeInvalidGroupID},
	{group.ErrUnknownMember, codeUnknownMemberID},
	{group.ErrInvalidSessionTimeout, codeInvalidSessionTimeout},
	{group.ErrRebalanceInProgress, codeRebalanceInProgress},
	{group.ErrMemberIDRequired, codeMemberIDRequired},
	{group.ErrMetadataTooLarge, codeOffsetMetadataTooLarge},
	{group.ErrNonEmptyGroup, codeNonEmptyGroup},
	{group.ErrGroupNotFound, codeGroupIDNotFound},
	{group.ErrFull, codeGroupMaxSizeReached},
	{group.ErrFencedInstance, codeFencedInstanceID},
	{group.ErrUnstableOffset, codeUnstableOffsetCommit},
	{group.ErrSubscribed, codeGroupSubscribedToTopic},
	{group.ErrFencedMemberEpoch, codeFencedMemberEpoch},
	{group.ErrStaleMemberEpoch, codeStaleMemberEpoch},
	{group.ErrUnreleasedInstance, codeUnreleasedInstanceID},
	{group.ErrUnsupportedAssignor, codeUnsupportedAssignor},
	{group.ErrInvalidRegex, codeInvalidRegularExpression},
	{group.ErrUnsupported, codeUnsupportedVersion},

	{txn.ErrInvalidTimeout, codeInvalidTxnTimeout},
	{txn.ErrConcurrent, codeConcurrentTransactions},
	{txn.ErrInvalidMapping, codeInvalidProducerIDMapping},
	{txn.ErrProducerFenced, codeProducerFenced},
	{txn.ErrNotFound, codeTransactionalIDNotFound},
	{txn.ErrNotAttempted, codeOperationNotAttempted},
	{txn.ErrCoordinatorFenced, codeTxnCoordinatorFenced},
	{txn.ErrAbortable, codeTransactionAbortable},

	{messages.ErrCorruptBatch, codeCorruptMessage},
	{messages.ErrUnavailable, codeLeaderNotAvailable},
	{messages.ErrOverloaded, codeThrottlingQuotaExceeded},

	{context.DeadlineExceeded, codeRequestTimedOut},
	{context.Canceled, codeRequestTimedOut},
}

// errorCode is the only place where a Go error becomes a Kafka error code. An
// error that wraps none of the sentinels is UNKNOWN_SERVER_ERROR.
func errorCode(err error) int16 {
	if err == nil {
		return codeNone
	}
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return codeUnknownServerError
}

// produceErrorCode is errorCode for Produce. What producers retry is not the
// same everywhere: a replica that starts or stops makes them look for the leader
// again, and one that is busy makes them wait.
func produceErrorCode(err error) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, messages.ErrOverloaded):
		return codeRequestTimedOut
	case errors.Is(err, messages.ErrUnavailable):
		return codeNotLeaderOrFollower
	}
	return errorCode(err)
}

// fetchErrorCode is errorCode for the partitions of a Fetch. Java consumers
// throw IllegalStateException out of poll() on a code they do not expect, so
// whatever is not in their list becomes one that is.
func fetchErrorCode(err error, version int16) int16 {
	switch code := errorCode(err); code {
	case codeNone, codeOffsetOutOfRange, codeCorruptMessage, codeUnknownTopicOrPartition,
		codeNotLeaderOrFollower, codeFencedLeaderEpoch, codeUnknownLeaderEpoch, codeUnknownTopicID,
		codeUnsupportedCompressionType, codeUnknownServerError:
		return code
	case codeStorageError:
		if version <= 5 { // clients of that age do not know KAFKA_STORAGE_ERROR
			return codeNotLeaderOrFollower
		}
		return code
	case codeRequestTimedOut, codeLeaderNotAvailable, codeThrottlingQuotaExceeded:
		return codeNotLeaderOrFollower
	default:
		return codeUnknownServerError
	}
}
