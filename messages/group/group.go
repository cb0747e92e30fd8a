// Package group holds the requests that a group's machine handles and their
// answers, Kafka's group APIs without their encodings: classic groups (KIP-62,
// 345, 394, 429, 814), offsets, and consumer groups (KIP-848).
//
// The Kafka listener makes them, the metrics of lag some, and the coordinators tell
// of markers and deleted topics; actors/groups answers. All are immutable once handed
// over. Errors in answers wrap the sentinel errors here or in package messages.
package group

import (
	"errors"

	"github.com/troupelog/troupe/messages"
)

// Errors of groups; the comment names Kafka's.
var (
	// ErrIllegalGeneration: the member speaks of another generation. ILLEGAL_GENERATION.
	ErrIllegalGeneration = errors.New("generation of the group is another one")
	// ErrInconsistentProtocol: another protocol type, or no protocol that all
	// members know. INCONSISTENT_GROUP_PROTOCOL.
	ErrInconsistentProtocol = errors.New("no protocol in common with the group")
	// ErrInvalidGroupID: INVALID_GROUP_ID.
	ErrInvalidGroupID = errors.New("group id is not valid")
	// ErrUnknownMember: no member has this id. UNKNOWN_MEMBER_ID.
	ErrUnknownMember = errors.New("member is not in the group")
	// ErrInvalidSessionTimeout: INVALID_SESSION_TIMEOUT.
	ErrInvalidSessionTimeout = errors.New("session timeout is out of bounds")
	// ErrRebalanceInProgress: the member must join again. REBALANCE_IN_PROGRESS.
	ErrRebalanceInProgress = errors.New("group is rebalancing")
	// ErrMemberIDRequired: join again with the id in the answer. MEMBER_ID_REQUIRED.
	ErrMemberIDRequired = errors.New("member id is required")
	// ErrMetadataTooLarge: OFFSET_METADATA_TOO_LARGE.
	ErrMetadataTooLarge = errors.New("metadata of an offset is too large")
	// ErrNonEmptyGroup: it has members. NON_EMPTY_GROUP.
	ErrNonEmptyGroup = errors.New("group has members")
	// ErrGroupNotFound: no such group, or of another type. GROUP_ID_NOT_FOUND.
	ErrGroupNotFound = errors.New("group does not exist")
	// ErrFull: group.max.size or group.consumer.max.size. GROUP_MAX_SIZE_REACHED.
	ErrFull = errors.New("group is full")
	// ErrFencedInstance: another member took the group.instance.id over. FENCED_INSTANCE_ID.
	ErrFencedInstance = errors.New("static member was replaced")
	// ErrUnstableOffset: an open transaction has committed an offset of the
	// partition. UNSTABLE_OFFSET_COMMIT.
	ErrUnstableOffset = errors.New("offset is part of an open transaction")
	// ErrSubscribed: a member reads the topic. GROUP_SUBSCRIBED_TO_TOPIC.
	ErrSubscribed = errors.New("group is subscribed to the topic")
	// ErrFencedMemberEpoch: the member must join again. FENCED_MEMBER_EPOCH.
	ErrFencedMemberEpoch = errors.New("member epoch is fenced")
	// ErrStaleMemberEpoch: the member asks again with its new epoch. STALE_MEMBER_EPOCH.
	ErrStaleMemberEpoch = errors.New("member epoch is stale")
	// ErrUnreleasedInstance: the group.instance.id is in use. UNRELEASED_INSTANCE_ID.
	ErrUnreleasedInstance = errors.New("instance id is in use")
	// ErrUnsupportedAssignor: UNSUPPORTED_ASSIGNOR.
	ErrUnsupportedAssignor = errors.New("assignor is not supported")
	// ErrInvalidRegex: INVALID_REGULAR_EXPRESSION.
	ErrInvalidRegex = errors.New("regular expression is not valid")
	// ErrUnsupported: the group's type needs a newer version of the API. UNSUPPORTED_VERSION.
	ErrUnsupported = errors.New("version is too old for groups of this type")
)

// NoGeneration is that of a committer that is no member.
const NoGeneration int32 = -1

// Protocol is one that a member can speak, with its metadata in it.
type Protocol struct {
	Name     string
	Metadata []byte
}

// Join asks to be a member, or to stay one in the next generation.
type Join struct {
	MemberID string // "": a new member
	// NewMemberID is the id for a new member, which nobody had before.
	NewMemberID string
	// InstanceID is the group.instance.id of a static member; "": a dynamic one.
	InstanceID         string
	ClientID           string
	ClientHost         string // as Kafka shows it: "/127.0.0.1"
	SessionTimeoutMs   int32
	RebalanceTimeoutMs int32 // v0: the session timeout
	ProtocolType       string
	Protocols          []Protocol // the member's favourite first
	Reason             string     // KIP-800
	// RequireKnownID: a new dynamic member is told its id and joins again
	// (KIP-394, v4).
	RequireKnownID bool
	// CanSkipAssignment: the member understands SkipAssignment (KIP-814, v9).
	CanSkipAssignment bool
	Reply             func(Joined)
}

// Joined answers a Join.
type Joined struct {
	Err            error
	Generation     int32
	ProtocolType   string
	Protocol       string
	Leader         string
	MemberID       string
	Members        []JoinedMember // the leader's alone
	SkipAssignment bool
}

// JoinedMember is a member as the leader sees it.
type JoinedMember struct {
	MemberID   string
	InstanceID string
	Metadata   []byte
}

// Sync asks for the member's assignment; the leader brings those of all.
type Sync struct {
	MemberID     string
	InstanceID   string
	Generation   int32
	ProtocolType string // "": not checked (before v5)
	Protocol     string // "": not checked
	Assignments  map[string][]byte
	Reply        func(Synced)
}

// Synced answers a Sync.
type Synced struct {
	Err          error
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// Heartbeat keeps a member alive.
type Heartbeat struct {
	MemberID   string
	InstanceID string
	Generation int32
	Reply      func(error)
}

// Leave ends memberships, by member id or by instance id.
type Leave struct {
	Members []Leaving
	Reply   func(Left)
}

// Leaving is a member that leaves. A static one may be named by its InstanceID
// alone.
type Leaving struct {
	MemberID   string
	InstanceID string
	Reason     string
}

// Left answers a Leave; Errs stand in the order of the members.
type Left struct {
	Err  error
	Errs []error
}

// Offset is a position to commit.
type Offset struct {
	TopicID   messages.TopicID // zero: not known
	Topic     string
	Partition int32
	Offset    messages.Offset
	Epoch     messages.LeaderEpoch // of the record before; NoEpoch: not known
	Metadata  string
	CommitMs  messages.Timestamp // v1 of OffsetCommit only; NoTimestamp: now
	ExpireMs  messages.Timestamp // v2 to v4 with a retention time; NoTimestamp: as configured
}

// Commit stores offsets. The partitions are known to exist.
type Commit struct {
	MemberID   string // "" with NoGeneration: a committer that is no member
	InstanceID string
	Generation int32 // of a classic group; the member epoch of a consumer group
	// Epochs: the version of the API knows STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND (v9).
	Epochs  bool
	Offsets []Offset
	Reply   func(Committed)
}

// Committed answers a Commit or a TxnCommit; Errs stand in the order of the offsets, nil:
// all are Err.
type Committed struct {
	Err  error
	Errs []error
}

// TxnCommit stores offsets as part of a transaction: they count once its commit
// marker is written. The partition of the group has been added to the transaction.
type TxnCommit struct {
	TransactionalID string
	Producer        messages.ProducerID
	Epoch           messages.ProducerEpoch
	MemberID        string // "" with NoGeneration: not checked (before v3)
	InstanceID      string
	Generation      int32
	Offsets         []Offset
	Reply           func(Committed)
}

// TxnEnded tells that a transaction's marker is in the group's partition.
type TxnEnded struct {
	Producer messages.ProducerID
	Epoch    messages.ProducerEpoch
	Commit   bool
}

// FetchOffsets asks for committed offsets.
type FetchOffsets struct {
	// Partitions to answer, in order; nil: all that have an offset.
	Partitions []messages.TopicPartition
	// Stable: answer ErrUnstableOffset where a transaction is open (KIP-447).
	Stable bool
	// MemberID and MemberEpoch of a consumer group are checked; "" and
	// NoGeneration: not.
	MemberID    string
	MemberEpoch int32
	Reply       func(Fetched)
}

// Fetched answers a FetchOffsets. A partition without a commit has NoOffset.
type Fetched struct {
	Err     error
	Offsets []FetchedOffset
}

// FetchedOffset is one committed offset.
type FetchedOffset struct {
	Err error
	Offset
}

// Describe asks what the group is.
type Describe struct {
	Reply func(Description)
}

// Description is a group as tools see it.
type Description struct {
	Err          error
	GroupID      string
	Type         Type
	State        State
	ProtocolType string
	Protocol     string
	Members      []Member
	// Of a consumer group.
	Epoch           int32
	AssignmentEpoch int32
	Assignor        string
	// Simple: it has offsets and never had members.
	Simple bool
}

// Member is a member as tools see it.
type Member struct {
	MemberID   string
	InstanceID string
	ClientID   string
	ClientHost string
	Metadata   []byte // of the protocol in force; classic
	Assignment []byte // classic
	// Of a consumer group.
	Rack       string
	Epoch      int32
	Topics     []string
	Regex      string
	Classic    bool
	Assigned   []TopicPartitions
	Target     []TopicPartitions
	LeftToRoll bool
}

// Type tells what protocol the members speak.
type Type string

// The types of groups, as Kafka prints them.
const (
	Classic  Type = "classic"
	Consumer Type = "consumer"
)

// State of a group, as Kafka prints it.
type State string

// The states. Assigning and Reconciling are those of consumer groups,
// PreparingRebalance and CompletingRebalance those of classic groups.
const (
	Empty               State = "Empty"
	PreparingRebalance  State = "PreparingRebalance"
	CompletingRebalance State = "CompletingRebalance"
	Stable              State = "Stable"
	Dead                State = "Dead"
	Assigning           State = "Assigning"
	Reconciling         State = "Reconciling"
)

// List asks for a line of a listing; Listed has found false for a group that
// has nothing to show.
type List struct {
	Reply func(l Listed, found bool)
}

// Listed is a line of a listing.
type Listed struct {
	GroupID      string
	ProtocolType string
	State        State
	Type         Type
}

// Delete forgets the group.
type Delete struct {
	Reply func(error)
}

// DeleteOffsets forgets offsets.
type DeleteOffsets struct {
	Partitions []messages.TopicPartition
	Reply      func(Committed)
}

// TopicsDeleted tells that topics are gone: what is known of them is forgotten.
type TopicsDeleted struct {
	Topics []string
}

// TopicPartitions are partitions of one topic, ascending.
type TopicPartitions struct {
	Topic      messages.TopicID
	Name       string // "" where it is not known
	Partitions []int32
}

// Member epochs with a meaning.
const (
	EpochJoin        int32 = 0
	EpochLeave       int32 = -1
	EpochLeaveStatic int32 = -2 // it will be back
)

// ConsumerHeartbeat is all that a member of a consumer group says (KIP-848).
type ConsumerHeartbeat struct {
	MemberID string
	// NewMemberID is for a member of v0 that joins without an id.
	NewMemberID string
	MemberEpoch int32
	InstanceID  string // "": dynamic
	ClientID    string
	ClientHost  string
	// What is nil did not change since the last heartbeat.
	Rack               *string
	RebalanceTimeoutMs int32 // -1: unchanged
	Topics             []string
	HasTopics          bool
	Regex              *string
	Assignor           *string
	Owned              []TopicPartitions
	HasOwned           bool
	Reply              func(ConsumerHeartbeated)
}

// ConsumerHeartbeated answers a ConsumerHeartbeat.
type ConsumerHeartbeated struct {
	Err                 error
	MemberID            string
	MemberEpoch         int32
	HeartbeatIntervalMs int32
	// Assigned holds if HasAssigned: the partitions the member may own now.
	Assigned    []TopicPartitions
	HasAssigned bool
}
