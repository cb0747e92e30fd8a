package kafka

import "github.com/troupelog/troupe/node/door"

// What the listener needs of the rest of the node; see package door.
type (
	Partitions   = door.Partitions
	Partition    = door.Partition
	Offsets      = door.Offsets
	Cluster      = door.Cluster
	Coordinators = door.Coordinators
	TxnListed    = door.TxnListed
	Settings     = door.Settings
	Setting      = door.Setting
)
