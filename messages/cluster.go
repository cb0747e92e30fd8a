package messages

// What nodes and the controller say to each other about membership, leadership
// and placement. All of it is small; records never travel this way.

// Registration is a node's request to be taken into the cluster.
type Registration struct {
	Node Node // Epoch, Fenced and Leaving are the controller's to set
	// Unclean: an earlier life of the node did not end cleanly and what it had
	// acknowledged may be gone: the machine was started anew, or the data is not
	// that of the last registration. The node leaves every in-sync set and is
	// elected nowhere before it has fetched what it lacks (KIP-966).
	Unclean bool
	// Lost names replicas whose log is shorter than was recorded as durable: the
	// same, for these alone.
	Lost []PartitionID
}

// Heartbeat is what a node tells the controller at short intervals.
type Heartbeat struct {
	Node        NodeID
	Epoch       NodeEpoch
	Version     MetadataVersion // newest it has applied
	Incarnation string
	// Leave asks for a controlled shutdown: the controller moves the node's
	// leaderships away, then says so with MayStop.
	Leave bool
}

// HeartbeatReply is the controller's answer. A node that is told ErrStaleNodeEpoch
// instead fences itself and registers again.
type HeartbeatReply struct {
	MayStop bool
	// Update takes the node's metadata to the newest version; nil: it has it.
	Update *Delta
}

// Suspicion tells the controller that a node may be dead: a connection to it
// broke, or it does not answer. The controller probes before it believes that.
type Suspicion struct {
	By      NodeID
	Suspect NodeID
	Epoch   NodeEpoch // of the suspect, as far as By knows
}

// ISRMember is a node in a proposed in-sync set, with the registration under
// which it fetched.
type ISRMember struct {
	Node  NodeID
	Epoch NodeEpoch
}

// AlterPartition is a leader's proposal of another in-sync set.
type AlterPartition struct {
	ID             PartitionID
	LeaderEpoch    LeaderEpoch
	PartitionEpoch PartitionEpoch // the state that the proposal is based on
	ISR            []ISRMember
}

// AlterPartitionResult answers one AlterPartition: the partition as it stands
// now, or why the proposal is refused.
type AlterPartitionResult struct {
	Partition Partition
	Err       error
}

// ElectionType says who may be elected.
type ElectionType int8

const (
	ElectPreferred ElectionType = 0 // the first replica, if it is in sync
	ElectUnclean   ElectionType = 1 // any live replica, even at the price of records
)

// Reassign sets the replicas of one partition; nil Replicas cancels a
// reassignment in progress.
type Reassign struct {
	ID       PartitionID
	Topic    string // instead of ID.Topic, when not empty
	Replicas []NodeID
}
