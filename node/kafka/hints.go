package kafka

import (
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// leaderHint returns where the leader of a partition is (KIP-951): what the
// replica said, or what the metadata image says.
func leaderHint(said data.LeaderHint, t *messages.Topic, index int32) data.LeaderHint {
	if said.Leader != messages.NoNode || t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return said
	}
	p := &t.Partitions[index]
	return data.LeaderHint{Leader: p.Leader, Epoch: p.LeaderEpoch}
}

// endpoint is a node's address in a response (NodeEndpoints).
type endpoint struct {
	id   messages.NodeID
	host string
	port int32
	rack string
}

// endpoints collects the addresses of the leaders that hints name, each once.
// A hint without an address is of no use to a client that does not know the
// node yet, so known reports whether there is one.
type endpoints struct {
	conn  *conn
	view  *clusterView // nil until there is a hint
	nodes []endpoint
}

func (e *endpoints) known(h data.LeaderHint) bool {
	if h.Leader == messages.NoNode {
		return false
	}
	if slices.ContainsFunc(e.nodes, func(n endpoint) bool { return n.id == h.Leader }) {
		return true
	}
	if e.view == nil {
		e.view = e.conn.s.view(&call{conn: e.conn.info})
	}
	n := e.view.image.Node(h.Leader)
	if n == nil || n.Fenced {
		return false
	}
	host, port := e.view.endpoint(n)
	e.nodes = append(e.nodes, endpoint{id: n.ID, host: host, port: port, rack: n.Rack})
	return true
}
