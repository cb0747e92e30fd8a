package topics

import (
	"fmt"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Check returns what is wrong with an image, nil if nothing is. Whatever commands
// were decided, these hold: a partition has a leader exactly if someone is in
// sync, and the leader is; who is in sync is a replica on a live node; who is
// eligible is a replica that is not in sync; what is added and removed are
// different replicas, and some stay.
func Check(im *messages.Image) error {
	for i := 1; i < len(im.Nodes); i++ {
		if im.Nodes[i-1].ID >= im.Nodes[i].ID {
			return fmt.Errorf("node %d stands after node %d", im.Nodes[i].ID, im.Nodes[i-1].ID)
		}
	}
	for _, t := range im.Topics() {
		for i := range t.Partitions {
			if wrong := checkPartition(im, &t.Partitions[i]); wrong != "" {
				return fmt.Errorf("%s-%d: %s: %+v", t.Name, i, wrong, t.Partitions[i])
			}
		}
	}
	return nil
}

func checkPartition(im *messages.Image, p *messages.Partition) string {
	stranger := func(list []messages.NodeID) bool {
		return len(without(list, p.Replicas...)) > 0 || len(with(nil, list)) < len(list)
	}
	overlap := func(a, b []messages.NodeID) bool { return len(without(a, b...)) < len(a) }
	dead := func(id messages.NodeID) bool { n := im.Node(id); return n == nil || n.Fenced }
	switch {
	case len(p.Replicas) == 0 || stranger(p.Replicas):
		return "no replicas, or one twice"
	case stranger(p.ISR) || stranger(p.ELR) || stranger(p.Adding) || stranger(p.Removing):
		return "a list has a node twice or one that is no replica"
	case p.Leader == messages.NoNode && len(p.ISR) > 0:
		return "replicas are in sync and none leads"
	case p.Leader != messages.NoNode && !slices.Contains(p.ISR, p.Leader):
		return "the leader is not in sync"
	case slices.ContainsFunc(p.ISR, dead):
		return "a fenced node is in sync"
	case overlap(p.ISR, p.ELR):
		return "a replica is in sync and eligible"
	case overlap(p.Adding, p.Removing) || len(p.Removing) == len(p.Replicas):
		return "a replica is added and removed, or none stays"
	}
	return ""
}
