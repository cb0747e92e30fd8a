package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors/alarm"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/messages"
)

// agentWait is how long the agent waits for an answer of the controller; it asks
// afresh then.
const agentWait = 3 * time.Second

// Messages to the agent of a node, besides *messages.Delta and *propose.
type (
	// answered is the controller's answer to what the agent asked under that id.
	answered struct {
		id     uint64
		answer *control.Answer
		life   int64
	}
	// replicaOpened tells that a replica has opened its log, or failed to for good.
	replicaOpened struct{ id messages.PartitionID }
	// suspected tells that another node may be dead.
	suspected struct{ node messages.NodeID }
	// lapsed tells that the membership lost this node for a while.
	lapsed struct{ pauses int64 } // that there were by then
	// leaveCluster asks for a controlled shutdown; see control.Agent.
	leaveCluster struct {
		deadline time.Time
		done     func(moved bool)
	}
)

// NodeConfig is what the agent of a node needs besides the Env.
type NodeConfig struct {
	// Node is this node as clients know it.
	Node messages.Node
	// Lost says what became of the data since the last registration; nil: nothing
	// is lost. It is called on the agent's goroutine.
	Lost func() (unclean bool, lost []messages.PartitionID)
	// Incarnation returns another name at each call, which no life of the node had
	// before: it is called before each registration of a new life. Nil: one is
	// made up.
	Incarnation func() string
}

// node is the shell around control.Agent.
type node struct {
	env   *Env
	self  *actor.PID
	body  *control.Agent
	alarm alarm.Alarm
	life  int64 // of this instance: answers to an earlier one do not count
}

// NewNode returns how to make the agent of this node.
func NewNode(env *Env, cfg NodeConfig) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		n := &node{env: env, life: env.lives.Add(1)}
		incarnation := cfg.Incarnation
		if incarnation == nil {
			incarnation = func() string {
				return fmt.Sprintf("%s.%d", env.Root.ActorSystem().ID, env.lives.Add(1))
			}
		}
		n.body = control.NewAgent(control.AgentConfig{
			Node: cfg.Node, Lost: cfg.Lost, Told: env.told, Settings: env.Settings,
			Incarnation: func() string {
				life := incarnation()
				env.Client.incarnation.Store(&life)
				return life
			},
			Log: env.Log.With().Str("actor", KindNode).Logger(),
		}, n)
		return n
	}, env.Props(KindNode)...)
}

// Receive implements actor.Actor.
func (n *node) Receive(ctx actor.Context) {
	now := time.Now()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		n.self = ctx.Self()
		n.env.nodeAgent.Store(n.self)
		n.body.Start(now)
	case *actor.Restarting, *actor.Stopping:
		n.alarm.Stop()
		return
	case alarm.Ring:
		n.alarm.Rang(m)
		n.body.Tick(now)
	case answered:
		if m.life == n.life {
			n.body.Answered(now, m.id, m.answer)
		}
	case *messages.Delta:
		n.body.Delta(now, m)
	case replicaOpened:
		n.body.Opened(m.id)
	case *propose:
		n.body.Propose(now, m.proposal, m.reply)
	case suspected:
		n.body.Suspect(now, m.node)
	case lapsed:
		n.env.pauses.agreed.Store(m.pauses)
		n.body.Lapsed(now)
	case *leaveCluster:
		n.body.Leave(now, m.deadline, m.done)
	default:
		return
	}
	n.alarm.Set(n.env.Root, n.self, now, n.body.Due())
}

// Ask implements control.NodeOutbox. Finding the controller may take a while,
// which the agent must not wait for; the goroutine ends with the search, which
// has a deadline.
func (n *node) Ask(id uint64, c control.Command) {
	root, self, life, client := n.env.Root, n.self, n.life, n.env.Client
	n.env.asking.Go(func() {
		client.askOnce(c, agentWait, func(a *control.Answer) {
			root.Send(self, answered{id, a, life})
		})
	})
}

// Image implements control.NodeOutbox.
func (n *node) Image(im *messages.Image) {
	before := n.env.Client.Image()
	n.env.Client.setImage(im)
	n.env.IDs.SetImage(im)
	if n.env.Peers != nil {
		n.env.Peers.SetThrottle(n.env.rate("follower.replication.throttled.rate"))
	}
	n.env.subscribed.imageChanged(n.env.Root, before, im)
	if !slices.Equal(before.Nodes, im.Nodes) {
		n.env.TellNodesChanged()
		n.env.EachReplica(func(face *Replica) { face.send(nodesChanged{}) })
	}
}

// Applied implements control.NodeOutbox.
func (n *node) Applied(v messages.MetadataVersion) { n.env.Client.setApplied(v) }

// Runs implements control.NodeOutbox.
func (n *node) Runs(id messages.PartitionID) bool { return n.env.Replica(id) != nil }

// Replicas implements control.NodeOutbox.
func (n *node) Replicas() []messages.PartitionID {
	var ids []messages.PartitionID
	n.env.EachReplica(func(face *Replica) { ids = append(ids, face.id.PartitionID) })
	return ids
}

// Assign implements control.NodeOutbox.
func (n *node) Assign(id messages.PartitionID, t *messages.Topic, p messages.Partition) {
	if face := n.env.Replica(id); face != nil {
		n.env.Root.Send(face.pid, &assigned{topic: t, partition: p, pauses: n.env.pauses.agreed.Load()})
	}
}

func (n *node) identities(ids []messages.PartitionID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = messages.ReplicaID{PartitionID: id, Node: n.env.Self}.Identity()
	}
	return out
}

// Start implements control.NodeOutbox.
func (n *node) Start(ids []messages.PartitionID) {
	n.env.IDs.Ensure(KindReplica, n.identities(ids))
}

// Retire implements control.NodeOutbox.
func (n *node) Retire(ids []messages.PartitionID) {
	n.env.IDs.Retire(KindReplica, n.identities(ids))
}

// Delete implements control.NodeOutbox.
func (n *node) Delete(ids []messages.PartitionID) {
	for _, id := range ids {
		if face := n.env.Replica(id); face != nil {
			n.env.Root.Send(face.pid, deleteData{})
		}
	}
	n.Retire(ids)
}

// Moved implements control.NodeOutbox.
func (n *node) Moved(tp messages.TopicPartition) { n.env.IDs.Forget(KindPartition, tp.String()) }

// Dropped implements control.NodeOutbox.
func (n *node) Dropped(topic string) {
	n.env.Metrics.ForgetTopic(topic)
	if n.env.Deleted != nil {
		n.env.Deleted(topic)
	}
}

// Strays implements control.NodeOutbox.
func (n *node) Strays(im *messages.Image) {
	if pid := n.env.storage.Load(); pid != nil {
		n.env.Root.Send(pid, &setAsideStrays{image: im})
	}
}
