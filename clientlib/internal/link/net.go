package link

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/eventstream"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/google/uuid"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// gateway is the actor of each node that answers a ClientHello.
const gateway = "gateway"

// listener is told what comes in. The calls come from several goroutines, and those of
// one node in the order in which it sent.
type listener interface {
	// answered is told of a response. It may be in use by the node after that.
	answered(resp *wire.ClientResponse)
	pushed(push *wire.ClientPush)
	// broken is told that the connection to an address broke, or was not made.
	broken(address string, cause error)
	// missing is told that an actor is not there (any more).
	missing(address, name string)
}

// network carries messages to the actors of nodes.
type network interface {
	// self is the address where nothing needs to be probed: that of a node in this
	// process; "": there is none.
	self() string
	// probe returns why nobody who could be a node listens at an address.
	probe(ctx context.Context, address string) error
	// send does not wait. What it is sent must not change any more.
	send(to *actor.PID, req *wire.ClientRequest)
	// watch has the listener told when an actor ends.
	watch(who *actor.PID)
	// close stops everything and waits for it.
	close()
}

// actors is the network of Proto.Actor: one actor of this program is who the nodes answer.
type actors struct {
	system  *actor.ActorSystem
	peer    *transport.Peer // nil: the system is a node's
	probes  prober
	to      listener
	replies *actor.PID
	events  *eventstream.Subscription // of a node's system
	closed  atomic.Bool               // events are not passed on any more
}

// listen starts an actor system that listens at e.
func listen(e transport.Endpoint, logger *slog.Logger, to listener) (*actors, error) {
	system := actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
			return slog.New(quiet{logger.Handler()})
		}),
		actor.WithDeadLetterThrottleCount(0),
		// The throttle has a goroutine for this long that nobody can stop.
		actor.WithDeadLetterThrottleInterval(time.Millisecond))
	a := &actors{system: system, to: to, probes: prober{tls: e.Client}}
	var err error
	a.peer, err = e.Attach(system, func(address string, cause error) {
		a.to.broken(address, fmt.Errorf("%w (%w)", errBroken, cause))
	})
	if err == nil {
		if err = a.spawn(); err != nil {
			a.peer.Close()
		}
	}
	if err != nil {
		system.Shutdown()
		return nil, err
	}
	return a, nil
}

// share uses the actor system of a node in this process.
func share(of any, to listener) (*actors, error) {
	system, ok := of.(*actor.ActorSystem)
	if !ok || system == nil {
		return nil, fmt.Errorf("the node is not one of this version, or not started (%T): %w",
			of, messages.ErrInvalidRequest)
	}
	a := &actors{system: system, to: to}
	if err := a.spawn(); err != nil {
		return nil, err
	}
	a.events = a.system.EventStream.Subscribe(func(event any) {
		if e, ok := event.(*remote.EndpointTerminatedEvent); ok && !a.closed.Load() {
			a.to.broken(e.Address, errBroken)
		}
	})
	return a, nil
}

// spawn starts the actor that the nodes answer. Its name is new in each life: an answer
// to another one must miss this one.
func (a *actors) spawn() (err error) {
	a.replies, err = a.system.Root.SpawnNamed(actor.PropsFromFunc(a.receive),
		"client-"+uuid.NewString())
	return err
}

// receive runs in the replies actor.
func (a *actors) receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *wire.ClientResponse:
		a.to.answered(m)
	case *wire.ClientPush:
		a.to.pushed(m)
	case *actor.DeadLetterResponse:
		if m.Target != nil {
			a.to.missing(m.Target.Address, m.Target.Id)
		}
	case *actor.Terminated:
		a.to.missing(m.Who.Address, m.Who.Id)
	}
}

func (a *actors) self() string {
	if a.peer == nil {
		return a.system.Address()
	}
	return ""
}

func (a *actors) probe(ctx context.Context, address string) error {
	if address == a.self() {
		return nil
	}
	if a.peer == nil { // how the node secures its connections is not known here
		return reach(ctx, address)
	}
	return a.probes.probe(ctx, address)
}

func (a *actors) send(to *actor.PID, req *wire.ClientRequest) {
	a.system.Root.RequestWithCustomSender(to, req, a.replies)
}

// watch does what only actors can by their context: it must come before what the session
// is asked, or the end of the session could.
func (a *actors) watch(who *actor.PID) {
	if to, ok := a.system.ProcessRegistry.Get(who); ok {
		to.SendSystemMessage(who, &actor.Watch{Watcher: a.replies})
	}
}

func (a *actors) close() {
	a.closed.Store(true)
	if a.peer == nil {
		a.system.EventStream.Unsubscribe(a.events)
	} else {
		a.peer.Close()
	}
	_ = a.system.Root.StopFuture(a.replies).Wait()
	if a.peer != nil {
		a.system.Shutdown()
	}
}
