// Package coordinator runs the coordinators of groups and transactions on this
// node. It is the shell around the machines of actors/groups and actors/txns.
//
//	coordinators  one per node: follows which partitions of the internal topics
//	              this node leads, and talks to the coordinators of other nodes
//	shard         one per such partition and leader epoch: replays it, and
//	              supervises its members
//	group, transaction  one per group or transactional id: runs its machine
//
// A member decides, appends the outcome to the shard's partition under the
// shard's leader epoch with acks=all, applies it, and only then answers. A shard
// whose partition moves away ends with all its members; what they are asked
// meanwhile is refused, and clients look for the new coordinator.
//
// package node starts it; Coordinators is what the Kafka listener sees, and
// package actors tells it of leaderships.
package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors/ask"
	"github.com/troupelog/troupe/actors/groups"
	"github.com/troupelog/troupe/actors/txns"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/wire"
)

// rootName is the well-known name of the actor that coordinators of different
// nodes write to.
const rootName = "coordinators"

// Partition is a replica on this node while it leads. *actors.Replica is one.
type Partition interface {
	Append(a *data.Append)
	Read(r data.Read) data.ReadResult
	Await(isolation data.Isolation, visible messages.Offset, notify func()) (cancel func())
	Offsets() data.Offsets
	// WriteMarker ends a transaction in this partition. done is called once, when
	// the marker is on every in-sync replica, in the order of the log among all
	// appends, and must not block.
	WriteMarker(m data.Marker, done func(error))
}

// Config is what the coordinators need of the node around them. Its functions may
// be called by any goroutine.
type Config struct {
	Self  messages.NodeID
	Root  *actor.RootContext
	Props func(kind string) []actor.PropsOption
	Log   zerolog.Logger
	Image func() *messages.Image
	// Settings gives a broker setting in force, Chosen whether somebody has set it.
	Settings func(name string) string
	Chosen   func(name string) bool
	// Alone: the node is no member of a cluster.
	Alone bool
	// Leading returns the replica of a partition if this node leads it.
	Leading func(t *messages.Topic, partition int32) (Partition, error)
	// Address is that of the actor system of another node; "": not known now. It may
	// block for a while.
	Address       func(n messages.NodeID) string
	CreateTopics  func(ctx context.Context, t []messages.CreateTopic) ([]messages.TopicResult, error)
	NewProducerID func(ctx context.Context) (messages.ProducerID, error)
	// Failed counts an actor that failed and is started again.
	Failed func(kind string)
}

// shardKey names a partition of an internal topic.
type shardKey struct {
	kind      coord.Kind
	partition int32
}

// Coordinators is the published face of the coordinators of this node. Any
// goroutine may call its methods.
type Coordinators struct {
	cfg    Config
	log    zerolog.Logger
	pid    *actor.PID
	calls  *ask.Calls[outcome]
	shards sync.Map      // shardKey -> *shard
	making sync.Mutex    // of an internal topic
	idle   time.Duration // see memberIdle
	// drivers by kind.
	drivers       [2]func(s *shard) driver
	groupSettings cached[groups.Config]
	txnSettings   cached[txns.Config]
}

// outcome is an answer of another node: one error for all, or one each.
type outcome struct {
	err  error
	errs []error
}

// Messages to the root actor.
type (
	// led tells that this node leads a partition now, or with NoEpoch that it does
	// not any more.
	led struct {
		key   shardKey
		epoch messages.LeaderEpoch
	}
	// drain ends all shards.
	drain struct{ done chan struct{} }
)

// Start starts the coordinators, which lead nothing yet.
func Start(cfg Config) (*Coordinators, error) {
	c := newCoordinators(cfg)
	props := actor.PropsFromProducer(func() actor.Actor {
		return &root{c: c, ending: map[string]*shard{}}
	}, append(cfg.Props(rootName), actor.WithSupervisor(c))...)
	pid, err := cfg.Root.SpawnNamed(props, rootName)
	if err != nil {
		return nil, fmt.Errorf("coordinators: %w", err)
	}
	c.pid = pid
	return c, nil
}

func newCoordinators(cfg Config) *Coordinators {
	c := &Coordinators{cfg: cfg, idle: memberIdle,
		log: cfg.Log.With().Str("actor", rootName).Logger()}
	c.calls = ask.New(cfg.Root.ActorSystem(), func(why string) outcome {
		return outcome{err: fmt.Errorf("the other node did not answer: %s: %w",
			why, messages.ErrUnavailable)}
	})
	c.drivers = [2]func(*shard) driver{coord.Group: c.groups, coord.Txn: c.txns}
	return c
}

// Stop answers all that waits and ends every shard. It returns when they have
// ended, or when ctx does.
func (c *Coordinators) Stop(ctx context.Context) {
	done := make(chan struct{})
	c.cfg.Root.Send(c.pid, &drain{done})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Led tells that this node leads a partition under an epoch now, or with NoEpoch
// that it leads it no more. It does not block; what is no internal topic's is
// nobody's business.
func (c *Coordinators) Led(topic string, partition int32, epoch messages.LeaderEpoch) {
	for _, kind := range []coord.Kind{coord.Group, coord.Txn} {
		if kind.Topic() == topic {
			c.cfg.Root.Send(c.pid, led{shardKey{kind, partition}, epoch})
		}
	}
}

// HandleFailure implements actor.SupervisorStrategy for the shards: one that
// failed begins again, after a pause, by replaying its partition.
func (c *Coordinators) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor,
	child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	c.log.Error().Str("shard", child.Id).Str("reason", fmt.Sprint(reason)).
		Msg("shard failed and is restarted")
	c.cfg.Failed("shard")
	time.AfterFunc(reloadFirst, func() { parent.RestartChildren(child) })
}

// root is the actor above the shards.
type root struct {
	c       *Coordinators
	ending  map[string]*shard // told to end, by the id of their PID
	lives   int
	drained chan struct{} // closed when all shards have ended; nil: nobody waits for it
	closing bool          // there are no more shards
}

func (r *root) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case led:
		r.led(ctx, m)
	case *actor.Terminated:
		delete(r.ending, m.Who.Id)
		r.drainedAll()
	case *drain:
		r.drained, r.closing = m.done, true
		r.c.shards.Range(func(key, _ any) bool {
			r.end(ctx, key.(shardKey))
			return true
		})
		r.drainedAll()
	case *wire.CoordinatorRequest:
		r.c.serve(m, ctx.Sender())
	case *wire.CoordinatorResponse:
		errs, err := wire.ToOutcome(m)
		r.c.calls.Finish(m.GetRequestId(), outcome{err, errs})
	case *actor.DeadLetterResponse:
		r.c.calls.Dead(m.Target)
	}
}

// led begins a shard for a new leadership and ends that of the one before.
func (r *root) led(ctx actor.Context, m led) {
	if s, ok := r.c.shards.Load(m.key); ok {
		if s.(*shard).epoch == m.epoch {
			return
		}
		r.end(ctx, m.key)
	}
	if m.epoch == messages.NoEpoch || r.closing {
		return
	}
	s := newShard(r.c, m.key, m.epoch)
	r.lives++
	// Others may remember the PIDs of an earlier life of the process.
	name := fmt.Sprintf("%s~%s.%d", s.name(), ctx.ActorSystem().ID, r.lives)
	s.pid = actor.NewPID(ctx.Self().Address, ctx.Self().Id+"/"+name)
	r.c.shards.Store(m.key, s)
	props := actor.PropsFromProducer(func() actor.Actor { return newShardActor(s) },
		r.c.cfg.Props("shard")...)
	if _, err := ctx.SpawnNamed(props, name); err != nil {
		panic(fmt.Sprintf("BUG: shard %s is spawned twice: %v", name, err))
	}
}

// end closes a shard to requests and has it leave.
func (r *root) end(ctx actor.Context, key shardKey) {
	v, ok := r.c.shards.LoadAndDelete(key)
	if !ok {
		return
	}
	s := v.(*shard)
	s.close(fmt.Errorf("%s-%d moved: %w", key.kind.Topic(), key.partition,
		messages.ErrNotCoordinator))
	r.ending[s.pid.Id] = s
	ctx.Send(s.pid, leave{})
}

func (r *root) drainedAll() {
	if r.drained != nil && len(r.ending) == 0 {
		close(r.drained)
		r.drained = nil
	}
}
