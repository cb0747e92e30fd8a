package control

import (
	"slices"

	"github.com/troupelog/troupe/messages"
)

// What a controller keeps of its latest deltas, for nodes that missed some: a
// node further behind gets a snapshot.
const (
	historyDeltas     = 256
	historyPartitions = 50_000 // of the topics in them, which is what takes memory
)

// history holds the latest deltas, each of which follows the one before.
type history struct {
	deltas     []*messages.Delta
	partitions int
}

func (h *history) add(d *messages.Delta) {
	h.deltas = append(h.deltas, d)
	h.partitions += partitionsOf(d)
	drop := 0
	for len(h.deltas)-drop > historyDeltas ||
		drop < len(h.deltas) && h.partitions > historyPartitions {
		h.partitions -= partitionsOf(h.deltas[drop])
		drop++
	}
	h.deltas = slices.Delete(h.deltas, 0, drop)
}

func partitionsOf(d *messages.Delta) int {
	n := 0
	for _, t := range d.Topics {
		n += len(t.Partitions)
	}
	return n
}

// since returns one delta from that version to the newest, or nil when it
// reaches back further than the history.
func (h *history) since(v messages.MetadataVersion) *messages.Delta {
	at := slices.IndexFunc(h.deltas, func(d *messages.Delta) bool { return d.From == v })
	if at < 0 {
		return nil
	}
	return merge(h.deltas[at:])
}

// merge makes one delta of some that follow each other. What stands whole in
// each stands in it as in the last.
func merge(deltas []*messages.Delta) *messages.Delta {
	last := deltas[len(deltas)-1]
	d := *last
	d.From = deltas[0].From
	d.Topics, d.Removed = nil, nil
	seen := map[messages.TopicID]bool{}
	for _, step := range slices.Backward(deltas) {
		for _, id := range step.Removed {
			seen[id] = true
			d.Removed = append(d.Removed, id)
		}
		for _, t := range step.Topics {
			if !seen[t.ID] {
				seen[t.ID] = true
				d.Topics = append(d.Topics, t)
			}
		}
		if d.Nodes == nil {
			d.Nodes = step.Nodes
		}
		if d.NodeConfigs == nil {
			d.NodeConfigs = step.NodeConfigs
		}
	}
	return &d
}

// snapshot is all metadata of an image.
func snapshot(im *messages.Image) *messages.Delta {
	nodes, configs := im.Nodes, im.NodeConfigs
	if nodes == nil {
		nodes = []messages.Node{}
	}
	if configs == nil {
		configs = map[messages.NodeID]messages.Config{}
	}
	return &messages.Delta{
		To: im.Version, ControllerEpoch: im.ControllerEpoch, Controller: im.Controller,
		ClusterID: im.ClusterID, Topics: im.Topics(), Nodes: nodes, NodeConfigs: configs, Snapshot: true,
	}
}
