package actors

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
)

// How long the node waits for the replicas of a metadata version to open before
// it counts the version as in effect all the same: long recoveries must not
// hold up healthy partitions.
const (
	startPatience = 2 * time.Second
	stepPatience  = 10 * time.Second
)

// registerRetry is how often a node registers until the controller took it in.
const registerRetry = 250 * time.Millisecond

// registered is the controller's answer to registerNode: the node is in, and
// snapshot is all metadata, itself included.
type registered struct{ snapshot *messages.Delta }

// replicaOpened tells the agent not to wait for a replica any more: it has opened
// its log, failed to, or has long to recover it.
type replicaOpened struct{ id messages.PartitionID }

type (
	tryRegister   struct{}
	patienceEnded struct{ version messages.MetadataVersion }
)

// node is the agent of one node: it holds the newest metadata image, gives it
// to all who answer from it, and sees to it that exactly the replicas assigned
// to this node run here.
type node struct {
	env   *Env
	log   zerolog.Logger
	me    messages.Node
	image *messages.Image // nil until registered
	steps []step          // versions whose replicas are still opening, oldest first
}

// step is a metadata version and the replicas it waits for.
type step struct {
	version messages.MetadataVersion
	waiting map[messages.PartitionID]struct{}
}

// NewNode returns how to make the agent of this node, known to clients as me.
func NewNode(env *Env, me messages.Node) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &node{env: env, me: me, log: env.Log.With().Str("actor", KindNode).Logger()}
	}, env.props(KindNode)...)
}

func (n *node) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		n.env.nodeAgent.Store(ctx.Self())
		n.register(ctx)
	case tryRegister:
		n.register(ctx)
	case *registered:
		n.apply(ctx, m.snapshot, startPatience)
	case *messages.Delta:
		n.delta(ctx, m)
	case replicaOpened:
		n.opened(m.id)
	case patienceEnded:
		n.patienceEnded(m.version)
	}
}

// register tells the controller that this life of the node is there. Until it is
// taken in, the metadata of an earlier life must not be acted on: its leader
// epochs are used up.
func (n *node) register(ctx actor.Context) {
	if n.image != nil {
		return
	}
	if pid := n.env.IDs.Resolve(KindController, KindController); pid != nil {
		ctx.Send(pid, &registerNode{node: n.me, agent: ctx.Self()})
	}
	n.later(ctx, registerRetry, tryRegister{})
}

func (n *node) later(ctx actor.Context, d time.Duration, m any) {
	self, root := ctx.Self(), n.env.Root
	time.AfterFunc(d, func() { root.Send(self, m) })
}

func (n *node) delta(ctx actor.Context, d *messages.Delta) {
	if n.image == nil {
		return // the snapshot that answers the registration will contain it
	}
	n.apply(ctx, d, stepPatience)
}

func (n *node) apply(ctx actor.Context, d *messages.Delta, patience time.Duration) {
	old := n.image
	if old == nil {
		old = messages.NewImage()
	}
	next, ok := old.Apply(d)
	if !ok {
		if d.To > old.Version {
			n.askSnapshot(ctx)
		}
		return
	}
	n.image = next
	n.env.Client.setImage(next)
	n.env.IDs.SetImage(next)
	if d.Snapshot {
		n.reportStrays(ctx) // first: a folder may be of an earlier life of a topic
	}
	waiting := n.assign(ctx, old, d)
	if !d.Snapshot && d.NodeConfigs != nil {
		n.reassignAll(ctx)
	}
	n.steps = append(n.steps, step{version: d.To, waiting: waiting})
	if len(waiting) > 0 {
		n.later(ctx, patience, patienceEnded{d.To})
	}
	n.settle()
}

func (n *node) askSnapshot(ctx actor.Context) {
	if pid := n.env.IDs.Resolve(KindController, KindController); pid != nil {
		ctx.Send(pid, &needSnapshot{agent: ctx.Self()})
	}
}

// assign makes the replicas of this node follow d, and returns those that have
// yet to open.
func (n *node) assign(
	ctx actor.Context,
	old *messages.Image,
	d *messages.Delta,
) map[messages.PartitionID]struct{} {
	waiting := map[messages.PartitionID]struct{}{}
	var start, moved []string
	for _, t := range d.Topics {
		before := old.TopicByID(t.ID)
		for i := range t.Partitions {
			id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
			n.env.IDs.Forget(
				KindPartition,
				messages.TopicPartition{Topic: t.Name, Partition: int32(i)}.String(),
			)
			replica := messages.ReplicaID{PartitionID: id, Node: n.env.Self}
			if !slices.Contains(t.Partitions[i].Replicas, n.env.Self) {
				if before != nil && i < len(before.Partitions) &&
					slices.Contains(before.Partitions[i].Replicas, n.env.Self) {
					moved = append(moved, replica.Identity())
				}
				continue
			}
			if face := n.env.Replica(id); face != nil {
				ctx.Send(face.pid, &assigned{topic: t, partition: t.Partitions[i]})
				continue
			}
			start = append(start, replica.Identity())
			waiting[id] = struct{}{}
		}
	}
	for _, id := range d.Removed {
		moved = append(moved, n.remove(ctx, old.TopicByID(id))...)
	}
	n.env.IDs.Ensure(KindReplica, start)
	n.env.IDs.Retire(KindReplica, moved)
	return waiting
}

// remove has the replicas of a deleted topic delete their data, and returns
// their identities. Only an explicit deletion comes here: metadata that is
// merely absent never deletes data.
func (n *node) remove(ctx actor.Context, t *messages.Topic) []string {
	if t == nil {
		return nil
	}
	n.env.Metrics.ForgetTopic(t.Name)
	var ids []string
	for i := range t.Partitions {
		id := messages.PartitionID{Topic: t.ID, Partition: int32(i)}
		if face := n.env.Replica(id); face != nil {
			ctx.Send(face.pid, deleteData{})
			ids = append(ids, messages.ReplicaID{PartitionID: id, Node: n.env.Self}.Identity())
		}
	}
	return ids
}

// reassignAll has the replicas compute their settings again, after those of the
// nodes changed.
func (n *node) reassignAll(ctx actor.Context) {
	n.env.EachReplica(func(face *Replica) {
		if t, p := n.image.TopicByID(face.id.Topic), n.image.Partition(face.id.PartitionID); p != nil {
			ctx.Send(face.pid, &assigned{topic: t, partition: *p})
		}
	})
}

// reportStrays has the storage set aside partitions on disk that the metadata
// does not know.
func (n *node) reportStrays(ctx actor.Context) {
	if pid := n.env.storage.Load(); pid != nil {
		ctx.Send(pid, &setAsideStrays{image: n.image})
	}
}

func (n *node) opened(id messages.PartitionID) {
	for i := range n.steps {
		delete(n.steps[i].waiting, id)
	}
	n.settle()
}

func (n *node) patienceEnded(v messages.MetadataVersion) {
	for i := range n.steps {
		if left := len(n.steps[i].waiting); n.steps[i].version <= v && left > 0 {
			n.log.Warn().Int("replicas", left).Int64("version", int64(n.steps[i].version)).
				Msg("replicas are still opening")
			clear(n.steps[i].waiting)
		}
	}
	n.settle()
}

// settle announces the versions that are in effect on this node, in order.
func (n *node) settle() {
	for len(n.steps) > 0 && len(n.steps[0].waiting) == 0 {
		n.env.Client.setApplied(n.steps[0].version)
		n.steps = n.steps[1:]
	}
}
