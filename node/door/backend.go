// Package door holds what the front doors of a node have in common: what they need
// of the rest of the node, which batches they let in, and the questions that they ask
// the coordinators of transactions. The doors are the Kafka listener (node/kafka) and
// the gateway of the SDK (node/gateway).
//
// It owns no state but the questions under way. Only the doors and package node, which
// wires them, use it.
package door

import (
	"context"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/txn"
)

// Partitions finds the replicas that live on this node. The actors' client
// satisfies it.
type Partitions interface {
	// Partition returns the local replica of a partition. It fails with
	// messages.ErrUnknownTopicOrPartition (ErrUnknownTopicID for a lookup that
	// only has the id) if there is no such partition, and with
	// messages.ErrNotLeader if this node does not lead it, or not yet.
	// The lookup takes no lock and sends no message.
	Partition(topic *messages.Topic, index int32) (Partition, error)
}

// Partition is the leader's replica of one partition. All methods may be called
// by any goroutine.
type Partition interface {
	// Append hands a batch to the leader and returns at once; see data.Append.
	// Batches that one goroutine hands over are appended in that order.
	Append(a *data.Append)
	// Read returns what is there now, without waiting and without a message
	// to the actor. It may block on a cold disk.
	Read(r data.Read) data.ReadResult
	// Await calls notify once, soon after a reader at that offset and isolation
	// would see more than visible, or the leadership or the log start changes.
	// notify must not block. cancel ends the wait; notify may still be running
	// then. Calling cancel twice, or after notify, is harmless.
	Await(isolation data.Isolation, visible messages.Offset, notify func()) (cancel func())
	// Settings returns the topic settings in force: the rules for producers
	// are made of them. It is nil when the replica does not lead. It costs no
	// more than a load.
	Settings() *configs.TopicSettings
	// Offsets returns the watermarks and the epoch as they stand now.
	Offsets() Offsets
	// ByTimestamp answers ListOffsets for a special or a real timestamp.
	// No record is that late: Offset and Timestamp are -1, without an error.
	ByTimestamp(ctx context.Context, t messages.Timestamp, isolation data.Isolation,
		current messages.LeaderEpoch) (data.TimestampOffset, error)
	// EpochEnd answers OffsetForLeaderEpoch.
	EpochEnd(current, asked messages.LeaderEpoch) (data.EpochEnd, error)
	// DeleteRecords moves the log start up to before; NoOffset means the high
	// watermark. It returns the new log start.
	DeleteRecords(ctx context.Context, before messages.Offset) (messages.Offset, error)
	// Producers returns what the partition knows of its idempotent and transactional
	// producers, by id.
	Producers(ctx context.Context) ([]data.Producer, error)
}

// Offsets are the watermarks of a partition at one moment.
type Offsets = data.Offsets

// Cluster is the control path: the metadata image of this node, and the
// controller wherever it is. The actors' client satisfies it.
type Cluster interface {
	// Image returns the newest metadata this node has. It never blocks.
	Image() *messages.Image
	// Self is this node's id.
	Self() messages.NodeID
	// CreateTopics answers when this node's image has the topics and their
	// replicas are open. The results stand in the order of the request.
	CreateTopics(ctx context.Context, topics []messages.CreateTopic, validateOnly bool,
	) ([]messages.TopicResult, error)
	// AutoCreate makes a topic with the defaults, or finds it made by another caller.
	AutoCreate(ctx context.Context, name string) error
	DeleteTopics(ctx context.Context, topics []messages.TopicRef) ([]messages.TopicResult, error)
	CreatePartitions(ctx context.Context, topics []messages.CreatePartitions, validateOnly bool,
	) ([]messages.TopicResult, error)
	// AlterConfigs returns one error (or nil) per request, in order.
	AlterConfigs(ctx context.Context, reqs []messages.AlterConfigs, validateOnly bool) ([]error, error)
	// ElectLeaders elects leaders, Reassign places replicas or takes that back.
	// Both return one error (or nil) for each item, in order, once this node's
	// image shows the outcome.
	ElectLeaders(ctx context.Context, t messages.ElectionType, partitions []messages.PartitionID,
	) ([]error, error)
	Reassign(ctx context.Context, reqs []messages.Reassign) ([]error, error)
	// Unregister forgets a node that is gone for good.
	Unregister(ctx context.Context, n messages.NodeID) error
	// NewProducerID hands out an id that was never handed out before.
	NewProducerID(ctx context.Context) (messages.ProducerID, error)
	// LogDirs describes this node's data directories.
	LogDirs(ctx context.Context) ([]messages.LogDir, error)
}

// Coordinators are the groups and transactions of the cluster. The actors'
// coordinators satisfy it. Group and Txn are answered through the Reply of the
// request, once: by this node's machine, or with messages.ErrNotCoordinator or
// messages.ErrCoordinatorLoading.
type Coordinators interface {
	// Find returns the node that coordinates a key. It makes the internal topic if
	// there is none. It fails with messages.ErrUnavailable while there is no leader.
	Find(ctx context.Context, kind coord.Kind, key string) (messages.NodeID, error)
	// Partition is the partition of the internal topic that a key belongs to; the
	// topic exists.
	Partition(kind coord.Kind, key string) (messages.TopicPartition, error)
	Group(id string, r coord.Request)
	Txn(id string, r coord.Request)
	// AddToTxn is Add at the coordinator of that id, wherever it is.
	AddToTxn(ctx context.Context, id string, a txn.Add) txn.Added
	// Groups and Txns list what this node coordinates; messages.ErrCoordinatorLoading
	// goes with what is known while a part is loading.
	Groups(ctx context.Context) ([]group.Listed, error)
	Txns(ctx context.Context) ([]TxnListed, error)
	// WriteMarkers ends a transaction in partitions that this node leads; the errors
	// stand in their order.
	WriteMarkers(ctx context.Context, m txn.Markers) []error
}

// TxnListed is a line of a listing of transactional ids.
type TxnListed = txn.Description

// Settings are the broker settings a door needs while it runs, and those
// that DescribeConfigs shows.
type Settings interface {
	// Broker returns every broker setting in force with where it comes from.
	Broker() []Setting
	// Value returns a broker setting in force, in Kafka's notation. Unknown
	// names are a bug of the caller.
	Value(name string) string
}

// Setting is one setting in force.
type Setting struct {
	Name    string
	Value   string
	Static  bool // set by flag, environment or file; else it is the default
	Default string
}
