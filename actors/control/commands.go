// Package control holds what the controller and the agents of the nodes decide:
// who is alive, who leads what, who gets which metadata, and when a node fences
// itself.
//
// Controller and Agent know no actor, no clock and no goroutine. They are told
// what happened and what time it is, act through an outbox, and say with Due when
// they want to be called again; so the shells of package actors and a simulation
// run the same code. A value belongs to one goroutine. The one thing that a
// Controller waits for is its registry.
package control

import (
	"github.com/troupelog/troupe/messages"
)

// Command is something asked of the controller: one of the types of this file.
// Every one of them may be sent again when no answer came; see Settle.
type Command interface{ command() }

// CreateTopics makes topics with these ids. Answered with Topics.
type CreateTopics struct {
	Topics       []messages.CreateTopic
	IDs          []messages.TopicID // one per topic
	ValidateOnly bool
}

// DeleteTopics deletes topics. Answered with Topics.
type DeleteTopics struct{ Topics []messages.TopicRef }

// CreatePartitions grows topics. Answered with Topics.
type CreatePartitions struct {
	Topics       []messages.CreatePartitions
	ValidateOnly bool
}

// AlterConfigs changes configurations. Answered with Errs.
type AlterConfigs struct {
	Reqs         []messages.AlterConfigs
	ValidateOnly bool
}

// AllocateProducerIDs reserves topics.ProducerIDBlock ids. Answered with FirstID.
type AllocateProducerIDs struct{ Node messages.NodeID }

// Register takes a node into the cluster. Answered with Snapshot, which has the
// node in it.
type Register struct{ messages.Registration }

// Heartbeat says that a node is alive. Answered with Heartbeat.
type Heartbeat struct{ messages.Heartbeat }

// Suspect says that a node may be dead.
type Suspect struct{ messages.Suspicion }

// AlterPartitions proposes in-sync sets of partitions that a node leads.
// Answered with Partitions, one for each.
type AlterPartitions struct {
	Node      messages.NodeID
	Epoch     messages.NodeEpoch
	Proposals []messages.AlterPartition
}

// ElectLeaders elects leaders. Answered with Errs.
type ElectLeaders struct {
	Type       messages.ElectionType
	Partitions []messages.PartitionID
}

// Reassign places replicas. Answered with Errs.
type Reassign struct{ Reqs []messages.Reassign }

// Unregister forgets a node that is gone for good.
type Unregister struct{ Node messages.NodeID }

func (*CreateTopics) command()        {}
func (*DeleteTopics) command()        {}
func (*CreatePartitions) command()    {}
func (*AlterConfigs) command()        {}
func (*AllocateProducerIDs) command() {}
func (*Register) command()            {}
func (*Heartbeat) command()           {}
func (*Suspect) command()             {}
func (*AlterPartitions) command()     {}
func (*ElectLeaders) command()        {}
func (*Reassign) command()            {}
func (*Unregister) command()          {}

// Answer is the outcome of a Command. With Err the command as a whole failed;
// messages.ErrNotController and messages.ErrUnavailable mean: ask again.
type Answer struct {
	Err error
	// Version is the metadata version that shows the outcome.
	Version    messages.MetadataVersion
	Topics     []messages.TopicResult
	Errs       []error
	FirstID    messages.ProducerID
	Snapshot   *messages.Delta
	Heartbeat  *messages.HeartbeatReply
	Partitions []messages.AlterPartitionResult
}
