package cluster

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
)

// Embedded is a cluster of one: the cluster core of Proto.Actor with our lookup.
// It opens no socket unless asked to, and starts in milliseconds.
type Embedded struct{ *Core }

// Core is what a node has of the cluster, with or without a network.
type Core struct {
	System *actor.ActorSystem
	Lookup *Lookup

	cluster   *pcluster.Cluster
	listening bool
}

// deadLetterPause is how long a goroutine of the library outlives a dead letter, and
// with it the system: it counts those that are not logged.
const deadLetterPause = time.Millisecond

// NewSystem returns an actor system that logs through logger and leaves dead
// letters to their subscribers: a dead letter's log line would print the whole
// message, records and all.
func NewSystem(logger *slog.Logger) *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }),
		actor.WithDeadLetterThrottleCount(0),
		actor.WithDeadLetterThrottleInterval(deadLetterPause))
}

// StartEmbedded makes system the only member of a cluster named name and starts
// the lookup's activator. The library's own start is not called: it would open
// a port in any case and sleep for a second.
//
// With a listener, which it closes, the actors can be reached from outside at
// its address; nil opens no socket. server and client secure what comes in there and
// what goes out; nil: nothing does.
func StartEmbedded(
	system *actor.ActorSystem, name string, lookup *Lookup, listener net.Listener,
	server, client *tls.Config,
) (*Embedded, error) {
	// A remote that is never started; the member list needs its block list.
	core := newCore(system, name, lookup, remote.Configure("127.0.0.1", 0))
	member := &pcluster.Member{Id: system.ID, Host: "nonhost", Port: -1, Kinds: lookup.kindNames()}
	if listener != nil {
		// The library binds the address itself.
		address := listener.Addr().String()
		if err := listener.Close(); err != nil {
			return nil, err
		}
		var err error
		core, err = openSystem(system, name, lookup,
			transport.Endpoint{Bind: address, Server: server, Client: client})
		if err != nil {
			return nil, err
		}
		core.listening = true
		host, port, _ := transport.SplitPort(address) // it was listened on
		member.Host, member.Port = host, int32(port)
	}
	v := lookup.View()
	lookup.Setup(core.cluster, nil, false)
	lookup.Update(func(next *View) {
		next.Members = []Member{{Node: v.Self, Incarnation: system.ID, Address: system.Address()}}
		next.Controller = v.Self
	})
	core.cluster.MemberList.UpdateClusterTopology(pcluster.Members{member})
	return &Embedded{core}, nil
}

// newCore builds the cluster core and starts nothing.
func newCore(system *actor.ActorSystem, name string, lookup *Lookup, rc *remote.Config) *Core {
	// Gossip is never started and must not expire anybody; its interval may not be 0.
	cfg := pcluster.Configure(name, noProvider{}, lookup, rc,
		pcluster.WithHeartbeatExpiration(10_000*time.Hour))
	cfg.GossipInterval = time.Hour
	c := pcluster.New(system, cfg)
	c.Remote = remote.NewRemote(system, rc)
	c.IdentityLookup = lookup
	return &Core{System: system, Lookup: lookup, cluster: c}
}

// openSystem builds the cluster core of a node with a network and listens.
func openSystem(
	system *actor.ActorSystem, name string, lookup *Lookup, e transport.Endpoint,
) (core *Core, err error) {
	err = e.Listen(func(rc *remote.Config) *remote.Remote {
		core = newCore(system, name, lookup, rc)
		return core.cluster.Remote
	})
	return core, err
}

// Resolve returns the actor of an identity from the cache or the lookup; nil
// when it has no home now. What the cache says counts only while the identity
// still lives where it did.
func (c *Core) Resolve(kind, identity string) *actor.PID {
	if pid, ok := c.cluster.PidCache.Get(identity, kind); ok {
		if pid.Address == c.Lookup.home(kind, identity) {
			return pid
		}
		c.Lookup.Forget(kind, identity)
	}
	pid := c.Lookup.Get(pcluster.NewClusterIdentity(identity, kind))
	if pid != nil {
		c.cluster.PidCache.Set(identity, kind, pid)
	}
	return pid
}

// Self is the node this is.
func (c *Core) Self() messages.NodeID { return c.Lookup.Self() }

// Stop stops the activator's actors, then the actor system. Call it once.
func (e *Embedded) Stop() {
	e.Lookup.Shutdown()
	if e.listening {
		e.hangUp()
	}
	e.System.Shutdown()
}

// hangUp ends the connections with other actor systems.
func (c *Core) hangUp() {
	// The graceful way waits up to 10 s for the others to hang up.
	c.cluster.Remote.Shutdown(false)
	// It leaves the connections to the others open. This actor owns them.
	_ = c.System.Root.StopFuture(c.System.NewLocalPID("EndpointSupervisor")).Wait()
}

// noProvider is the cluster provider of a cluster without a network.
type noProvider struct{}

func (noProvider) StartMember(*pcluster.Cluster) error { return nil }
func (noProvider) StartClient(*pcluster.Cluster) error { return nil }
func (noProvider) Shutdown(bool) error                 { return nil }
