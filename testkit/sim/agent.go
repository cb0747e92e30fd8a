package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
)

// newAgent gives a process its agent.
func (n *node) newAgent() {
	n.agentAlarm = alarm{}
	n.agent = control.NewAgent(control.AgentConfig{
		Node: messages.Node{ID: n.id, Host: "localhost", Port: 9092,
			Directory: fmt.Sprintf("disk-%d", n.id)},
		Settings: n.w.setting, Lost: n.lostData,
		Told: func(ids []messages.PartitionID) {
			for _, id := range ids {
				delete(n.lost, id)
			}
		},
		Incarnation: func() string {
			n.incarnations++
			return fmt.Sprintf("%s%d", n.prefix, n.incarnations)
		},
	}, n)
	n.agentDo(n.agent.Start)
}

// lostData says what became of the data since the last registration.
func (n *node) lostData() (unclean bool, ids []messages.PartitionID) {
	for _, r := range n.order {
		if n.lost[r.id] {
			ids = append(ids, r.id)
		}
	}
	return n.unclean, ids
}

// Ask implements control.NodeOutbox.
func (n *node) Ask(id uint64, c control.Command) {
	agent := n.agent
	n.call(id, c, func(a *control.Answer) {
		if n.agent == agent {
			n.agentDo(func(now time.Time) { agent.Answered(now, id, a) })
		}
	})
}

// Image implements control.NodeOutbox.
func (n *node) Image(im *messages.Image) {
	before := n.image
	n.image = im
	n.env.Client.SetImage(im)
	if self := im.Node(n.id); self != nil && strings.HasPrefix(self.Incarnation, n.prefix) {
		n.unclean = false // the controller knows
	}
	if !slices.Equal(before.Nodes, im.Nodes) {
		for _, r := range n.order {
			r.send(actors.NodesChanged)
		}
	}
}

// Applied implements control.NodeOutbox.
func (n *node) Applied(messages.MetadataVersion) {}

// Runs implements control.NodeOutbox.
func (n *node) Runs(id messages.PartitionID) bool { return n.replicas[id] != nil }

// Replicas implements control.NodeOutbox.
func (n *node) Replicas() (ids []messages.PartitionID) {
	for _, r := range n.order {
		ids = append(ids, r.id)
	}
	return ids
}

// Assign implements control.NodeOutbox.
func (n *node) Assign(id messages.PartitionID, t *messages.Topic, p messages.Partition) {
	if r := n.replicas[id]; r != nil {
		r.send(actors.Assigned(t, p))
	}
}

// Start implements control.NodeOutbox.
func (n *node) Start(ids []messages.PartitionID) {
	for _, id := range ids {
		n.do(n.w.soon(), func() {
			if t := n.image.TopicByID(id.Topic); t != nil && n.replicas[id] == nil {
				n.spawn(t, id)
			}
		})
	}
}

// Retire implements control.NodeOutbox.
func (n *node) Retire(ids []messages.PartitionID) { n.sendAll(ids, actors.Leave{}) }

// Delete implements control.NodeOutbox.
func (n *node) Delete(ids []messages.PartitionID) { n.sendAll(ids, actors.DeleteData) }

func (n *node) sendAll(ids []messages.PartitionID, m any) {
	for _, id := range ids {
		if r := n.replicas[id]; r != nil {
			r.send(m)
		}
	}
}

// Moved implements control.NodeOutbox.
func (n *node) Moved(messages.TopicPartition) {}

// Dropped implements control.NodeOutbox.
func (n *node) Dropped(string) {}

// Strays implements control.NodeOutbox. Folders are named by topic id here, so
// what is left of a topic that is gone is in nobody's way.
func (n *node) Strays(*messages.Image) {}
