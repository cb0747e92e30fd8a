package cluster

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"

	"github.com/troupelog/troupe/messages"
)

// Embedded is a cluster of one: the cluster core of Proto.Actor with our lookup.
// It opens no socket unless asked to, and starts in milliseconds.
type Embedded struct {
	System *actor.ActorSystem
	Lookup *Lookup

	cluster *pcluster.Cluster
	remote  *remote.Remote // nil: no socket
}

// helloTimeout is how long a connection to the actor port may say nothing. The
// server cannot be stopped before it knows of every connection what it is.
const helloTimeout = time.Second

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
// a port in any case and sleep for a second.
//
// With a listener, which it closes, the actors can be reached from outside at
// its address; nil opens no socket.
func StartEmbedded(
	system *actor.ActorSystem, name string, lookup *Lookup, listener net.Listener,
) (*Embedded, error) {
	e := &Embedded{System: system, Lookup: lookup}
	rc := remote.Configure("127.0.0.1", 0)
	if listener != nil {
		at := listener.Addr().(*net.TCPAddr)
		rc = remote.Configure(at.IP.String(), at.Port,
			remote.WithServerOptions(grpc.ConnectionTimeout(helloTimeout)))
	}
	// Gossip is never started and must not expire anybody; its interval may not be 0.
	cfg := pcluster.Configure(name, noProvider{}, lookup, rc,
		pcluster.WithHeartbeatExpiration(10_000*time.Hour))
	cfg.GossipInterval = time.Hour
	c := pcluster.New(system, cfg)
	c.Remote = remote.NewRemote(system, rc) // the member list needs its block list
	c.IdentityLookup = lookup
	member := &pcluster.Member{Id: system.ID, Host: "nonhost", Port: -1}
	if listener != nil {
		if err := serve(c.Remote, listener); err != nil {
			return nil, err
		}
		e.remote = c.Remote
		member.Host, member.Port = rc.Host, int32(rc.Port)
	}

	v := lookup.View()
	lookup.Setup(c, nil, false)
	lookup.Update(func(next *View) {
		next.Members = []Member{{Node: v.Self, Incarnation: system.ID, Address: system.Address()}}
		next.Controller = v.Self
	})
	for kind := range lookup.kinds {
		member.Kinds = append(member.Kinds, kind)
	}
	c.MemberList.UpdateClusterTopology(pcluster.Members{member})
	e.cluster = c
	return e, nil
}

// serve hands the address of a listener over to the library, which binds it
// itself and panics when it cannot.
func serve(r *remote.Remote, listener net.Listener) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("actor listener %s: %v", listener.Addr(), p)
		}
	}()
	if err := listener.Close(); err != nil {
		return err
	}
	r.Start()
	return nil
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
	if e.remote != nil {
		e.remote.Shutdown(false)
	}
	e.System.Shutdown()
}

// Self is the node this is.
func (e *Embedded) Self() messages.NodeID { return e.Lookup.Self() }

// noProvider is the cluster provider of a cluster without a network.
type noProvider struct{}

func (noProvider) StartMember(*pcluster.Cluster) error { return nil }
func (noProvider) StartClient(*pcluster.Cluster) error { return nil }
func (noProvider) Shutdown(bool) error                 { return nil }
