package kafka

import "github.com/troupelog/troupe/node/door"

// What the listener needs of the rest of the node; see package door for what each
// promises.
type (
	// Partitions finds the replicas that live on this node.
	Partitions = door.Partitions
	// Partition is the leader's replica of one partition.
	Partition = door.Partition
	// Offsets are the watermarks of a partition at one moment.
	Offsets = door.Offsets
	// Cluster is the control path.
	Cluster = door.Cluster
	// Coordinators are the groups and transactions of the cluster.
	Coordinators = door.Coordinators
	// TxnListed is a line of a listing of transactional ids.
	TxnListed = door.TxnListed
	// Settings are the broker settings in force.
	Settings = door.Settings
	// Setting is one setting in force.
	Setting = door.Setting
)
