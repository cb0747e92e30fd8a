package kafka

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// authorizedOpsUnset is what a client gets that did not ask for its operations.
const authorizedOpsUnset int32 = -2147483648

// Operations a client may perform, as bit fields over Kafka's AclOperation
// (KIP-430). Without an authorizer that is every operation of the resource.
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

// clusterView shows one metadata image to one client: addresses are those of
// the listener the client came in on, and only live nodes lead.
type clusterView struct {
	image *messages.Image
	self  messages.NodeID
	conn  connInfo
	ids   []int32 // backs the replica lists of the answer
}

func (s *Server) view(c *call) *clusterView {
	return &clusterView{image: s.cluster.Image(), self: s.cluster.Self(), conn: c.conn}
}

// endpoint returns where the client reaches the node. For this node that is
// the address of the client's own listener; other nodes advertise theirs.
func (v *clusterView) endpoint(n *messages.Node) (host string, port int32) {
	if n.ID == v.self {
		return v.conn.AdvertisedHost, v.conn.AdvertisedPort
	}
	return n.Host, n.Port
}

func rackOf(n *messages.Node) *string {
	if n.Rack == "" {
		return nil
	}
	return &n.Rack
}

// alive reports whether a node is registered and not fenced.
func (v *clusterView) alive(id messages.NodeID) bool {
	n := v.image.Node(id)
	return n != nil && !n.Fenced
}

// controller returns the node that clients should send admin requests to. Any
// node passes them on, so this one stands in for a controller that is unknown.
func (v *clusterView) controller() int32 {
	for _, id := range []messages.NodeID{v.image.Controller, v.self} {
		if v.alive(id) {
			return int32(id)
		}
	}
	return int32(messages.NoNode)
}

// partitionView is what clients are told of one partition.
type partitionView struct {
	code                   int16
	leader                 int32 // -1 when there is none alive
	epoch                  int32
	replicas, isr, offline []int32
}

func (v *clusterView) partition(p *messages.Partition) partitionView {
	out := partitionView{leader: int32(p.Leader), epoch: int32(p.LeaderEpoch)}
	if !v.alive(p.Leader) {
		out.code, out.leader = codeLeaderNotAvailable, int32(messages.NoNode)
	}
	out.replicas = v.list(p.Replicas, anyNode)
	out.isr = v.list(p.ISR, anyNode)
	out.offline = v.list(p.Replicas, func(id messages.NodeID) bool { return !v.alive(id) })
	return out
}

func anyNode(messages.NodeID) bool { return true }

// list converts the ids that pass keep. All lists of an answer share a few
// arrays, because a node may have to describe very many small ones.
func (v *clusterView) list(ids []messages.NodeID, keep func(messages.NodeID) bool) []int32 {
	start := len(v.ids)
	for _, id := range ids {
		if keep(id) {
			v.ids = append(v.ids, int32(id))
		}
	}
	return slices.Clip(v.ids[start:])
}
