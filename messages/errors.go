package messages

import "errors"

// Sentinel errors. Each has one meaning; its comment names the Kafka error the
// wire edge turns it into (node/kafka does that in one place). Wrap them with
// fmt.Errorf("...: %w", err) to name the thing and the remedy.
var (
	// ErrUnknownTopicOrPartition: no such topic or partition. UNKNOWN_TOPIC_OR_PARTITION.
	ErrUnknownTopicOrPartition = errors.New("unknown topic or partition")
	// ErrUnknownTopicID: no topic has this id (any more). UNKNOWN_TOPIC_ID.
	ErrUnknownTopicID = errors.New("unknown topic id")
	// ErrTopicAlreadyExists: a topic has this name. TOPIC_ALREADY_EXISTS.
	ErrTopicAlreadyExists = errors.New("topic already exists")
	// ErrInvalidTopic: the name breaks Kafka's rules or collides. INVALID_TOPIC_EXCEPTION.
	ErrInvalidTopic = errors.New("invalid topic name")
	// ErrInvalidPartitions: a partition count that cannot be. INVALID_PARTITIONS.
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	// ErrInvalidReplicationFactor: more replicas than live nodes, or none. INVALID_REPLICATION_FACTOR.
	ErrInvalidReplicationFactor = errors.New("invalid replication factor")
	// ErrInvalidReplicaAssignment: a manual assignment that cannot be. INVALID_REPLICA_ASSIGNMENT.
	ErrInvalidReplicaAssignment = errors.New("invalid replica assignment")
	// ErrInvalidConfig: an unknown setting or a value out of bounds. INVALID_CONFIG.
	ErrInvalidConfig = errors.New("invalid configuration")
	// ErrInvalidRequest: a request that contradicts itself. INVALID_REQUEST.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrPolicyViolation: the topic's policy forbids it. POLICY_VIOLATION.
	ErrPolicyViolation = errors.New("policy violation")
	// ErrTopicDeletionDisabled: delete.topic.enable is false. TOPIC_DELETION_DISABLED.
	ErrTopicDeletionDisabled = errors.New("topic deletion is disabled")

	// ErrNotLeader: this node does not lead the partition (any more, or not
	// yet: it recovers). NOT_LEADER_OR_FOLLOWER.
	ErrNotLeader = errors.New("not leader for partition")
	// ErrFencedLeaderEpoch: the caller's leader epoch is behind. FENCED_LEADER_EPOCH.
	ErrFencedLeaderEpoch = errors.New("leader epoch is fenced")
	// ErrUnknownLeaderEpoch: the caller's leader epoch is ahead of ours. UNKNOWN_LEADER_EPOCH.
	ErrUnknownLeaderEpoch = errors.New("unknown leader epoch")
	// ErrNotController: another node is controller. NOT_CONTROLLER.
	ErrNotController = errors.New("not controller")
	// ErrFencedController: a metadata write under an old controller epoch. NOT_CONTROLLER.
	ErrFencedController = errors.New("controller epoch is fenced")

	// ErrOffsetOutOfRange: below the log start or above the log end. OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorruptBatch: CRC or framing of a batch is wrong. CORRUPT_MESSAGE.
	ErrCorruptBatch = errors.New("corrupt record batch")
	// ErrInvalidRecord: a well-framed batch whose content breaks a rule. INVALID_RECORD.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrInvalidTimestamp: a record's time is outside what the topic allows. INVALID_TIMESTAMP.
	ErrInvalidTimestamp = errors.New("record timestamp out of range")
	// ErrUnsupportedCompression: a codec the request's version may not carry.
	// UNSUPPORTED_COMPRESSION_TYPE.
	ErrUnsupportedCompression = errors.New("unsupported compression type")
	// ErrBatchTooLarge: larger than max.message.bytes. MESSAGE_TOO_LARGE.
	ErrBatchTooLarge = errors.New("record batch is larger than max.message.bytes")
	// ErrBatchLargerThanSegment: larger than segment.bytes. RECORD_LIST_TOO_LARGE.
	ErrBatchLargerThanSegment = errors.New("record batch is larger than segment.bytes")
	// ErrInvalidRequiredAcks: acks is none of -1, 0, 1. INVALID_REQUIRED_ACKS.
	ErrInvalidRequiredAcks = errors.New("acks must be -1, 0 or 1")
	// ErrNotEnoughReplicas: fewer in-sync replicas than min.insync.replicas. NOT_ENOUGH_REPLICAS.
	ErrNotEnoughReplicas = errors.New("fewer in-sync replicas than min.insync.replicas")
	// ErrRequestTimedOut: the deadline passed; what was appended stays. REQUEST_TIMED_OUT.
	ErrRequestTimedOut = errors.New("request timed out")

	// ErrStaleNodeEpoch: a node speaks under a registration that is not its
	// latest, or was fenced: it registers again. STALE_BROKER_EPOCH.
	ErrStaleNodeEpoch = errors.New("node epoch is stale")
	// ErrUnknownNode: no node of that id is registered. BROKER_ID_NOT_REGISTERED.
	ErrUnknownNode = errors.New("node is not registered")
	// ErrDuplicateNode: a live node has this id. DUPLICATE_BROKER_REGISTRATION.
	ErrDuplicateNode = errors.New("a live node has this id")
	// ErrInvalidUpdateVersion: the partition changed meanwhile. INVALID_UPDATE_VERSION.
	ErrInvalidUpdateVersion = errors.New("partition epoch is stale")
	// ErrIneligibleReplica: a proposed ISR has a node that is not fit for it. INELIGIBLE_REPLICA.
	ErrIneligibleReplica = errors.New("replica is not eligible for the in-sync set")
	// ErrNewLeaderElected: the proposal was accepted and made another node
	// leader. NEW_LEADER_ELECTED.
	ErrNewLeaderElected = errors.New("another leader was elected")
	// ErrPreferredLeaderNotAvailable: it is fenced or not in sync.
	// PREFERRED_LEADER_NOT_AVAILABLE.
	ErrPreferredLeaderNotAvailable = errors.New("preferred leader is not available")
	// ErrEligibleLeadersNotAvailable: no replica may be elected. ELIGIBLE_LEADERS_NOT_AVAILABLE.
	ErrEligibleLeadersNotAvailable = errors.New("no replica is eligible as leader")
	// ErrElectionNotNeeded: the right leader leads already. ELECTION_NOT_NEEDED.
	ErrElectionNotNeeded = errors.New("election is not needed")
	// ErrNoReassignmentInProgress: nothing to cancel. NO_REASSIGNMENT_IN_PROGRESS.
	ErrNoReassignmentInProgress = errors.New("no reassignment is in progress")
	// ErrOffsetNotAvailable: a new leader's high watermark is still behind what
	// the one before it showed. OFFSET_NOT_AVAILABLE.
	ErrOffsetNotAvailable = errors.New("offset is not available yet")

	// ErrOutOfOrderSequence: a gap in a producer's sequence. OUT_OF_ORDER_SEQUENCE_NUMBER.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidProducerEpoch: an older life of the producer. INVALID_PRODUCER_EPOCH.
	ErrInvalidProducerEpoch = errors.New("producer epoch is fenced")
	// ErrInvalidTxnState: not allowed in the producer's state. INVALID_TXN_STATE.
	ErrInvalidTxnState = errors.New("invalid transaction state")

	// ErrStorage: the disk failed under this partition. KAFKA_STORAGE_ERROR.
	ErrStorage = errors.New("storage error")
	// ErrDiskFull: no space for the write; retry after space was made. KAFKA_STORAGE_ERROR.
	ErrDiskFull = errors.New("disk is full")
	// ErrNotCoordinator: another node coordinates this group or transactional id.
	// NOT_COORDINATOR.
	ErrNotCoordinator = errors.New("not the coordinator")
	// ErrCoordinatorLoading: the coordinator is reading its partition, ask again.
	// COORDINATOR_LOAD_IN_PROGRESS.
	ErrCoordinatorLoading = errors.New("coordinator is loading")

	// ErrUnavailable: the node is starting or stopping, ask again. COORDINATOR_NOT_AVAILABLE
	// for coordinators, LEADER_NOT_AVAILABLE elsewhere.
	ErrUnavailable = errors.New("temporarily unavailable")
	// ErrOverloaded: a queue is at its bound, ask again later. THROTTLING_QUOTA_EXCEEDED
	// or a retriable error of the API.
	ErrOverloaded = errors.New("overloaded")
)
