// Package gateway is the front door of a node for programs that use the SDK (clientlib).
//
// The actor "gateway" answers a client's hello with a session, an actor of its own for
// each client. A session hands batches to the partitions that this node leads, in the
// order in which they come, reads for the client, parks what finds nothing to read, and
// passes on what concerns groups, transactions and the administration. What a client may
// ask for stands in messages/wire, client.proto.
//
// It owns the sessions and the memory that their requests take. Package node builds it.
//
//	gateway.go  what it needs, Start and Stop
//	front.go    the actor "gateway": who comes and goes
//	session.go  the actor of one client
//	append.go   ClientAppend
//	fetch.go    ClientFetch; park.go those that wait for records
//	memory.go   how much memory all of it takes, and how many reads run
//	calls.go    what may block: subscriptions, offsets by time, the desk
//	desk.go     groups, transactions, administration
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// Name is the well-known name of the actor that answers hellos.
const Name = "gateway"

// SessionKind is the kind of the sessions, for Config.Props.
const SessionKind = "session"

// Config is what a Gateway needs of its node. All fields are needed but where a zero
// value is described.
type Config struct {
	Root *actor.RootContext
	// Props are the options of the actors of a kind: Name or SessionKind.
	Props func(kind string) []actor.PropsOption
	// Guardian restarts the actor "gateway" when it failed.
	Guardian actor.SupervisorStrategy

	Partitions   door.Partitions
	Cluster      door.Cluster
	Coordinators door.Coordinators
	Settings     door.Settings
	// Topic finds the actor of a topic, on whatever node it lives; nil when it has no
	// home now. It may block. ForgetTopic drops what is remembered of where it is.
	Topic       func(name string) *actor.PID
	ForgetTopic func(name string)
	// Address is where the actor system of a node listens; "" when that is not known.
	Address func(messages.NodeID) string

	// MaxSessions bounds the sessions; 0: none are let in.
	MaxSessions int
	// QueuedMaxBytes bounds the records of all sessions that are in memory: on their way
	// into logs, or out of them to clients. Less than 0: no bound.
	QueuedMaxBytes int64
	// FetchMaxBytes bounds the records of one answer, whatever the client asks for.
	FetchMaxBytes int
	// MessageBytes is the largest message that may cross between processes.
	MessageBytes int
	// Buffer returns memory of so many bytes, which is the transport's once it was sent.
	Buffer func(bytes int) []byte
	// Free gives back memory in which records came in, large or small.
	Free func(records []byte)

	Metrics Metrics
	Log     *slog.Logger
	// Failed counts an actor of a kind that failed.
	Failed func(kind string)
}

// Metrics is told what the gateway does. Calls come from any goroutine, once for each
// session or batch; they must be cheap and must not block.
type Metrics interface {
	SessionOpened()
	SessionClosed()
	// Topic returns the counters of a topic that exists.
	Topic(name string) TopicMetrics
}

// TopicMetrics counts the batches and fetches of one topic.
type TopicMetrics interface {
	Produced(records, bytes int)
	ProduceFailed()
	Fetched(bytes int)
	FetchFailed()
}

// windowBytes is how many bytes of records a client may have sent without an answer, and
// how many may be on their way to it.
const windowBytes = 16 << 20

// Gateway is the front door of one node. Any goroutine may call its methods.
type Gateway struct {
	cfg    Config
	self   string // address of the actor system
	pid    *actor.PID
	desk   *desk
	memory *memory

	ctx     context.Context // of everything that blocks for a client
	cancel  context.CancelFunc
	running sync.WaitGroup // goroutines of the sessions
	open    sync.WaitGroup // requests without an answer
	events  *eventstream.Subscription
}

// Start starts the gateway of a node. It is to be called once for an actor system.
func Start(cfg Config) (*Gateway, error) {
	g := &Gateway{cfg: cfg, self: cfg.Root.ActorSystem().Address(),
		desk: &desk{cfg.Cluster, cfg.Coordinators, cfg.Settings}}
	limit := cfg.QueuedMaxBytes
	if limit < 0 {
		limit = math.MaxInt64 / 4
	}
	g.memory = newMemory(limit)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	props := actor.PropsFromProducer(func() actor.Actor { return newFront(g) },
		append(cfg.Props(Name), actor.WithGuardian(cfg.Guardian), actor.WithSupervisor(g))...)
	var err error
	if g.pid, err = cfg.Root.SpawnNamed(props, Name); err != nil {
		g.cancel()
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.events = cfg.Root.ActorSystem().EventStream.Subscribe(func(event any) {
		if e, ok := event.(*remote.EndpointTerminatedEvent); ok {
			cfg.Root.Send(g.pid, endpointGone{e.Address})
		}
	})
	return g, nil
}

// Changed tells that the live nodes or their addresses may be others now. It does not
// block.
func (g *Gateway) Changed() { g.cfg.Root.Send(g.pid, nodesChanged{}) }

// Stop sends the clients away: they are told, nothing new is begun for them, what they
// asked before is answered, and their sessions end. What is not answered when ctx ends
// never is; Stop returns why then.
func (g *Gateway) Stop(ctx context.Context) error {
	err := g.drain(ctx)
	g.cancel()
	g.cfg.Root.ActorSystem().EventStream.Unsubscribe(g.events)
	stopErr := g.cfg.Root.StopFuture(g.pid).Wait()
	if err == nil && stopErr != nil {
		err = fmt.Errorf("gateway: %w", stopErr)
	}
	g.memory.close()
	g.running.Wait() // their contexts have ended
	return err
}

// drain waits until every open request is answered, or ctx ends.
func (g *Gateway) drain(ctx context.Context) error {
	done := make(chan struct{})
	g.cfg.Root.Send(g.pid, drain{func() {
		g.open.Wait() // nothing new is added by now
		close(done)
	}})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("requests of clients are not answered: %w", context.Cause(ctx))
	}
}

// Stats is how much a Gateway holds at one moment.
type Stats struct {
	QueuedBytes int64 // of records in memory
	QueuedLimit int64
}

// Stats returns how much the gateway holds now, for gauges.
func (g *Gateway) Stats() Stats {
	used, limit := g.memory.stats()
	return Stats{QueuedBytes: used, QueuedLimit: limit}
}

// HandleFailure implements actor.SupervisorStrategy for the sessions: one that failed
// ends, and its client finds that out by a dead letter and says hello again.
func (g *Gateway) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, child *actor.PID,
	_ *actor.RestartStatistics, reason, _ any) {
	g.cfg.Log.Error("session failed and is ended", "session", child.Id, "reason", fmt.Sprint(reason))
	g.cfg.Failed(SessionKind)
	parent.StopChildren(child)
}
