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
type Embedded struct {
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
	rc := remote.Configure("127.0.0.1", 0)
	// Gossip is never started and must not expire anybody; its interval may not be 0.
	cfg := pcluster.Configure(name, noProvider{}, lookup, rc,
		pcluster.WithHeartbeatExpiration(10_000*time.Hour))
	cfg.GossipInterval = time.Hour
	c := pcluster.New(system, cfg)
	c.Remote = remote.NewRemote(system, rc) // never started; the member list needs its block list
	c.IdentityLookup = lookup

	v := lookup.View()
	lookup.Setup(c, nil, false)
	lookup.Update(func(next *View) {
		next.Members = []Member{{Node: v.Self, Incarnation: system.ID, Address: system.Address()}}
		next.Controller = v.Self
	})
	var kinds []string
	for kind := range lookup.kinds {
		kinds = append(kinds, kind)
	}
	c.MemberList.UpdateClusterTopology(pcluster.Members{
		{Id: system.ID, Host: "nonhost", Port: -1, Kinds: kinds},
	})
	return &Embedded{System: system, Lookup: lookup, cluster: c}
}

// Resolve returns the actor of an identity from the cache or the lookup; nil
// when it has no home now.
func (e *Embedded) Resolve(kind, identity string) *actor.PID {
	if pid, ok := e.cluster.PidCache.Get(identity, kind); ok {
		return pid
	}
	pid := e.Lookup.Get(pcluster.NewClusterIdentity(identity, kind))
	if pid != nil {
		e.cluster.PidCache.Set(identity, kind, pid)
	}
	return pid
}

// Stop stops the activator's actors, then the actor system. Call it once.
func (e *Embedded) Stop() {
	e.Lookup.Shutdown()
	e.System.Shutdown()
}

// Self is the node this is.
func (e *Embedded) Self() messages.NodeID { return e.Lookup.Self() }

// noProvider is the cluster provider of a cluster without a network.
type noProvider struct{}

func (noProvider) StartMember(*pcluster.Cluster) error { return nil }
func (noProvider) StartClient(*pcluster.Cluster) error { return nil }
func (noProvider) Shutdown(bool) error                 { return nil }
