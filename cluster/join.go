package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/eventstream"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/registry"
)

// Defaults of a JoinConfig.
const (
	DefaultTTL     = 3 * time.Second // after which a silent node counts as dead
	DefaultRefresh = time.Second     // between signs of life
)

// JoinConfig says as what and how a node joins a cluster.
type JoinConfig struct {
	Cluster string      // its name
	Consul  *api.Config // see registry.ConsulAPI

	Bind      string // HOST:PORT on which the actor system listens; port 0: any
	Advertise string // HOST or HOST:PORT under which others reach it; "": as Bind
	Bulk      string // HOST:PORT of the replication listener, for the others
	Directory string // the data of the node, as messages.Node has it
	// TLS between actor systems; nil: none.
	ServerTLS, ClientTLS *tls.Config

	TTL     time.Duration // 0: DefaultTTL
	Refresh time.Duration // 0: DefaultRefresh; at most half the TTL

	// OnLapse is told that this node was silent for longer than the TTL (it was
	// paused), so that the others have given it up. It has a new incarnation now
	// and must not act on what it was before: another node may lead its
	// partitions. Called before the others hear of the new incarnation.
	OnLapse func(incarnation string)
	// OnSuspect is told that a connection to a live member broke: its process
	// may be dead, which is for a probe to find out.
	OnSuspect func(messages.NodeID)
	// OnMembers is told who came and who left, after the view has changed. A node
	// with a new incarnation is in both.
	OnMembers func(joined, left []Member)

	Log *slog.Logger // nil: nobody
}

// suspectsMax bounds the suspicions that wait to be told; more at a time say
// nothing that these do not.
const suspectsMax = 64

// Joined is a node of a cluster whose members find each other through Consul.
// Open makes it, Join makes it a member. The callbacks of its JoinConfig are called
// by Join and by its goroutines, one call of each kind at a time. They must be
// quick, may come before Join has returned, and must not call Leave or Stop.
type Joined struct {
	*Core

	cfg      JoinConfig
	members  *membership
	events   *eventstream.Subscription
	suspects chan messages.NodeID
	cancel   context.CancelFunc
	running  sync.WaitGroup
	leaving  sync.Once
}

// Open has the actor system listen, with lookup to place its virtual actors. Nobody
// knows of it before Join; Stop ends it in any case. It does not ask Consul.
func Open(system *actor.ActorSystem, lookup *Lookup, cfg JoinConfig) (*Joined, error) {
	if err := cfg.settle(); err != nil {
		return nil, err
	}
	client, err := api.NewClient(cfg.Consul)
	if err != nil {
		return nil, fmt.Errorf("settings for Consul: %w", err)
	}
	core, err := openSystem(system, cfg.Cluster, lookup, transport.Endpoint{
		Bind: cfg.Bind, Advertise: cfg.Advertise, Server: cfg.ServerTLS, Client: cfg.ClientTLS})
	if err != nil {
		return nil, err
	}
	lookup.Setup(core.cluster, nil, false)
	j := &Joined{Core: core, cfg: cfg, suspects: make(chan messages.NodeID, suspectsMax)}
	j.members = newMembership(client, cfg, lookup.Self(), system, j.show)
	j.events = system.EventStream.Subscribe(j.suspect)
	return j, nil
}

// Join makes the node a member: it registers with Consul and reads who else is
// there. The node stays a member while Consul does not answer, but it cannot join
// without. After an error it may be called again, after success not. It fails with
// messages.ErrDuplicateNode while a member of other data has the node's id.
func (j *Joined) Join(ctx context.Context) error {
	if err := j.members.join(ctx); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.Background())
	j.cancel = cancel
	j.running.Go(func() { j.members.heartbeat(running) })
	j.running.Go(func() { j.members.watch(running) })
	j.running.Go(func() { j.tellSuspicions(running) })
	return nil
}

// settle puts in the defaults and refuses what cannot work.
func (c *JoinConfig) settle() error {
	if err := registry.CheckClusterName(c.Cluster); err != nil {
		return err
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Refresh == 0 {
		c.Refresh = min(DefaultRefresh, c.TTL/2)
	}
	if c.TTL < 0 || c.Refresh < 0 || c.Refresh > c.TTL/2 {
		return fmt.Errorf("a node that gives a sign of life every %v cannot be dead after %v: "+
			"refresh at most at half that time", c.Refresh, c.TTL)
	}
	if c.Consul == nil {
		return errors.New("a node joins a cluster through Consul: say how to reach it")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OnLapse == nil {
		c.OnLapse = func(string) {}
	}
	if c.OnSuspect == nil {
		c.OnSuspect = func(messages.NodeID) {}
	}
	if c.OnMembers == nil {
		c.OnMembers = func(_, _ []Member) {}
	}
	return nil
}

// Incarnation is that of this node now. It changes when the node lapsed.
func (j *Joined) Incarnation() string { return j.members.me().Incarnation }

// Service is the id of the service as which the node is registered with Consul
// now, for registry.ConsulConfig.
func (j *Joined) Service() string { return j.members.service() }

// Renew gives the node a new incarnation, which the others see as soon as Consul
// knows: the controller has declared the old one dead. OnLapse is not told.
func (j *Joined) Renew() (incarnation string) { return j.members.renew() }

// Leave takes the node out of the membership, so that nobody looks for it here
// any more. Stop does so too.
func (j *Joined) Leave() { j.leaving.Do(j.leave) }

func (j *Joined) leave() {
	if j.cancel != nil {
		j.cancel()
		j.running.Wait()
	}
	j.System.EventStream.Unsubscribe(j.events)
	j.members.leave()
}

// Stop stops the activator's actors, leaves the cluster, and stops listening and
// the actor system. Call it once.
func (j *Joined) Stop() {
	j.Lookup.Shutdown()
	j.Leave()
	j.hangUp()
	j.System.Shutdown()
	j.cfg.Consul.HttpClient.CloseIdleConnections() // they have goroutines; NewClient set it
}

// show makes members the view, for Proto.Actor's member list too, which ends the
// connections to those that left and forgets their actors.
func (j *Joined) show(listed []listed, joined, left []Member) {
	members := make([]Member, len(listed))
	list := make(pcluster.Members, len(listed))
	for i, m := range listed {
		members[i] = m.Member
		host, port, _ := transport.SplitPort(m.Address) // checked when it was read
		list[i] = &pcluster.Member{Id: m.id, Host: host, Port: int32(port),
			Kinds: j.Lookup.kindNames()}
	}
	j.Lookup.Update(func(v *View) { v.Members = members })
	j.cluster.MemberList.UpdateClusterTopology(list)
	j.cfg.OnMembers(joined, left)
}

// suspect runs on the goroutine of whoever publishes an event; it must not block.
func (j *Joined) suspect(event any) {
	e, ok := event.(*remote.EndpointTerminatedEvent)
	if !ok {
		return
	}
	v := j.Lookup.View()
	for _, m := range v.Members {
		if m.Address == e.Address && m.Node != v.Self {
			select {
			case j.suspects <- m.Node:
			default:
			}
		}
	}
}

func (j *Joined) tellSuspicions(ctx context.Context) {
	for {
		select {
		case n := <-j.suspects:
			j.cfg.OnSuspect(n)
		case <-ctx.Done():
			return
		}
	}
}
