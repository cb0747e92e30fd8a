package link

import (
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// merge returns the route after a push, nil if the push says nothing new. known may be nil.
//
// Pushes overtake each other, as each moved actor of the topic begins anew: an older one
// is ignored. What a node said of its leader may be newer than a push that is not: of each
// partition the higher epoch counts.
func merge(known *Route, push *wire.ClientRoute) *Route {
	version := messages.MetadataVersion(push.Version)
	if known != nil && (version < known.Version || known.Gone && version == known.Version) {
		return nil
	}
	next := &Route{Topic: push.Topic, Version: version, MaxMessageBytes: int(push.MaxMessageBytes),
		Partitions: make([]Leader, len(push.Partitions))}
	copy(next.ID[:], push.TopicId)
	for i, p := range push.Partitions {
		next.Partitions[i] = leaderOf(p)
	}
	if known == nil || known.Gone || known.ID != next.ID {
		return next
	}
	for i, old := range known.Partitions {
		if i < len(next.Partitions) && old.Epoch > next.Partitions[i].Epoch {
			next.Partitions[i] = old
		}
	}
	if next.MaxMessageBytes == known.MaxMessageBytes && version == known.Version &&
		slices.Equal(next.Partitions, known.Partitions) {
		return nil
	}
	return next
}

// learn returns the route after a hint of who leads a partition, nil if it is not newer.
func learn(known *Route, partition int32, leader Leader) *Route {
	if known == nil || known.Gone || partition < 0 || int(partition) >= len(known.Partitions) ||
		leader.Epoch <= known.Partitions[partition].Epoch {
		return nil
	}
	next := *known
	next.Partitions = slices.Clone(known.Partitions)
	next.Partitions[partition] = leader
	return &next
}

// gone returns the route of a topic that was deleted.
func gone(known *Route) *Route {
	return &Route{Topic: known.Topic, ID: known.ID, Version: known.Version, Gone: true}
}

// leaderOf returns a leader older than any if l is nil.
func leaderOf(l *wire.ClientLeader) Leader {
	if l == nil {
		return Leader{Node: messages.NoNode, Epoch: -1}
	}
	return Leader{Node: messages.NodeID(l.NodeId), Epoch: messages.LeaderEpoch(l.LeaderEpoch)}
}
