package wire

import (
	"fmt"
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// FromNode returns the wire form of a member.
func FromNode(n messages.Node) *NodeRecord {
	return &NodeRecord{
		NodeId: int32(n.ID), Host: n.Host, Port: n.Port, Rack: n.Rack,
		Epoch: int64(n.Epoch), Incarnation: n.Incarnation, Directory: n.Directory,
		Fenced: n.Fenced, Leaving: n.Leaving, Draining: n.Draining,
	}
}

// ToNode returns a member. It fails with ErrMalformed if the id is negative, the
// port cannot be one, or the epoch is below NoNodeEpoch.
func ToNode(w *NodeRecord) (messages.Node, error) {
	if w.GetNodeId() < 0 || w.GetPort() < 0 || w.GetPort() > 65535 {
		return messages.Node{}, malformed("node %d at port %d", w.GetNodeId(), w.GetPort())
	}
	if w.GetEpoch() < int64(messages.NoNodeEpoch) {
		return messages.Node{}, malformed("node %d has epoch %d", w.GetNodeId(), w.GetEpoch())
	}
	return messages.Node{
		ID:   messages.NodeID(w.GetNodeId()),
		Host: w.GetHost(),
		Port: w.GetPort(),
		Rack: w.GetRack(),

		Epoch:       messages.NodeEpoch(w.GetEpoch()),
		Incarnation: w.GetIncarnation(),
		Directory:   w.GetDirectory(),
		Fenced:      w.GetFenced(),
		Leaving:     w.GetLeaving(),
		Draining:    w.GetDraining(),
	}, nil
}

// FromDelta returns the wire form of a delta or snapshot.
func FromDelta(d *messages.Delta) *MetadataDelta {
	w := &MetadataDelta{
		FromVersion:     int64(d.From),
		ToVersion:       int64(d.To),
		ControllerEpoch: int64(d.ControllerEpoch),
		Controller:      int32(d.Controller),
		ClusterId:       d.ClusterID,
		Snapshot:        d.Snapshot,
	}
	for _, t := range d.Topics {
		w.Topics = append(w.Topics, FromTopic(t))
	}
	for _, id := range d.Removed {
		w.RemovedTopicIds = append(w.RemovedTopicIds, id[:])
	}
	if d.Nodes != nil {
		w.Nodes = &NodeSet{}
		for _, n := range d.Nodes {
			w.Nodes.Nodes = append(w.Nodes.Nodes, FromNode(n))
		}
	}
	if d.NodeConfigs != nil {
		w.NodeConfigs = &ConfigSet{}
		for _, id := range slices.Sorted(maps.Keys(d.NodeConfigs)) {
			w.NodeConfigs.Configs = append(w.NodeConfigs.Configs,
				&ConfigRecord{NodeId: int32(id), Configs: FromConfig(d.NodeConfigs[id])})
		}
	}
	return w
}

// ToDelta returns a delta or snapshot. Its errors wrap ErrMalformed; nothing of a
// malformed delta may be applied.
func ToDelta(w *MetadataDelta) (*messages.Delta, error) {
	d := &messages.Delta{
		From:            messages.MetadataVersion(w.GetFromVersion()),
		To:              messages.MetadataVersion(w.GetToVersion()),
		ControllerEpoch: messages.ControllerEpoch(w.GetControllerEpoch()),
		Controller:      messages.NodeID(w.GetController()),
		ClusterID:       w.GetClusterId(),
		Snapshot:        w.GetSnapshot(),
	}
	for _, wt := range w.GetTopics() {
		t, err := ToTopic(wt)
		if err != nil {
			return nil, err
		}
		d.Topics = append(d.Topics, t)
	}
	for _, b := range w.GetRemovedTopicIds() {
		id, err := toTopicID(b)
		if err != nil {
			return nil, fmt.Errorf("removed topics: %w", err)
		}
		d.Removed = append(d.Removed, id)
	}
	var err error
	if w.GetNodes() != nil {
		if d.Nodes, err = toNodes(w.GetNodes().GetNodes()); err != nil {
			return nil, err
		}
	}
	if w.GetNodeConfigs() != nil {
		if d.NodeConfigs, err = toNodeConfigs(w.GetNodeConfigs().GetConfigs()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// toNodes never returns nil without an error: an image binary-searches the
// nodes, so it insists on their order.
func toNodes(ws []*NodeRecord) ([]messages.Node, error) {
	nodes := make([]messages.Node, 0, len(ws))
	for _, w := range ws {
		n, err := ToNode(w)
		if err != nil {
			return nil, err
		}
		if len(nodes) > 0 && nodes[len(nodes)-1].ID >= n.ID {
			return nil, malformed("node %d stands after node %d", n.ID, nodes[len(nodes)-1].ID)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func toNodeConfigs(ws []*ConfigRecord) (map[messages.NodeID]messages.Config, error) {
	configs := make(map[messages.NodeID]messages.Config, len(ws))
	for _, w := range ws {
		id := messages.NodeID(w.GetNodeId())
		if _, twice := configs[id]; twice || id < messages.NoNode {
			return nil, malformed("configuration of node %d stands twice or is of no node", id)
		}
		c, err := ToConfig(w.GetConfigs())
		if err != nil {
			return nil, fmt.Errorf("configuration of node %d: %w", id, err)
		}
		configs[id] = c
	}
	return configs, nil
}
