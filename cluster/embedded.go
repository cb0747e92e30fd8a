package cluster

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/messages"
)

// Embedded is a cluster of one: the cluster core of Proto.Actor with our lookup
// and no network. It opens no socket and starts in milliseconds.
type Embedded struct{ *Core }

// Core is what a node has of the cluster, with or without a network.
type Core struct {
	System *actor.ActorSystem
	Lookup *Lookup

	cluster *pcluster.Cluster
}

// NewSystem returns an actor system that logs through logger and leaves dead
// letters to their subscribers: a dead letter's log line would print the whole
// message, records and all.
func NewSystem(logger *slog.Logger) *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }),
		actor.WithDeadLetterThrottleCount(0))
}

// StartEmbedded makes system the only member of a cluster named name and starts
// the lookup's activator. The library's own start is not called: it would open
// a port and sleep for a second.
func StartEmbedded(system *actor.ActorSystem, name string, lookup *Lookup) *Embedded {
	// The remote is never started; the member list needs its block list.
	core := newCore(system, name, lookup, remote.Configure("127.0.0.1", 0))
	v := lookup.View()
	lookup.Setup(core.cluster, nil, false)
	lookup.Update(func(next *View) {
		next.Members = []Member{{Node: v.Self, Incarnation: system.ID, Address: system.Address()}}
		next.Controller = v.Self
	})
	core.cluster.MemberList.UpdateClusterTopology(pcluster.Members{
		{Id: system.ID, Host: "nonhost", Port: -1, Kinds: lookup.kindNames()},
	})
	return &Embedded{core}
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
	e.System.Shutdown()
}

// noProvider is the cluster provider of a cluster without a network.
type noProvider struct{}

func (noProvider) StartMember(*pcluster.Cluster) error { return nil }
func (noProvider) StartClient(*pcluster.Cluster) error { return nil }
func (noProvider) Shutdown(bool) error                 { return nil }
