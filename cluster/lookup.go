package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"

	"github.com/troupelog/troupe/messages"
)

// activatorName is the well-known name of the actor that starts virtual actors
// on a node; members address each other's by it. Proto.Actor's remote has an
// "activator" of its own.
const activatorName = "placement"

// activationTimeout bounds how long a lookup waits for an activation; callers retry.
// activationPatience is how long it waits for one node before it looks again which one
// it should ask; it doubles.
const (
	activationTimeout  = 2 * time.Second
	activationPatience = 200 * time.Millisecond
)

// Lookup is Troupe's identity lookup: it answers where an identity lives from
// the current View and has the activator there start it. It implements
// Proto.Actor's cluster.IdentityLookup.
//
// Any goroutine may call its methods. The view is one immutable value behind an
// atomic pointer; writers swap it under a mutex.
type Lookup struct {
	kinds     map[string]*boundKind
	view      atomic.Pointer[View]
	writers   sync.Mutex // serialises Update
	cluster   *pcluster.Cluster
	activator *actor.PID
	strategy  actor.SupervisorStrategy
	stop      sync.Once
}

// boundKind is a kind with what Proto.Actor keeps per kind. The lookup has its
// own map, so that a node with and one without a network run the same code.
type boundKind struct {
	Kind
	counted *pcluster.ActivatedKind
}

// NewLookup returns a lookup for these kinds, which belong to node self.
// strategy supervises the actors that the activator spawns itself.
func NewLookup(self messages.NodeID, strategy actor.SupervisorStrategy, kinds ...Kind) *Lookup {
	l := &Lookup{kinds: map[string]*boundKind{}, strategy: strategy}
	for _, k := range kinds {
		l.kinds[k.Name] = &boundKind{Kind: k}
	}
	l.view.Store(&View{Self: self, Controller: messages.NoNode, Image: messages.NewImage()})
	return l
}

// View returns the current view.
func (l *Lookup) View() *View { return l.view.Load() }

// Update replaces the view by what f makes of a copy of it, for changes of the
// membership or the controller, and has the activator retire all that no longer
// belongs here. f must not call back.
func (l *Lookup) Update(f func(v *View)) {
	l.writers.Lock()
	defer l.writers.Unlock()
	next := *l.view.Load()
	f(&next)
	l.view.Store(&next)
	if l.activator != nil {
		l.cluster.ActorSystem.Root.Send(l.activator, viewChanged{})
	}
}

// SetImage puts newer metadata into the view. The caller says with Ensure and
// Retire what follows from it for this node: comparing everything at each of
// many small changes would cost the square of the number of partitions.
func (l *Lookup) SetImage(im *messages.Image) {
	l.writers.Lock()
	defer l.writers.Unlock()
	next := *l.view.Load()
	next.Image = im
	l.view.Store(&next)
}

// Setup starts the activator. Proto.Actor calls it when the cluster starts.
func (l *Lookup) Setup(c *pcluster.Cluster, _ []string, isClient bool) {
	l.cluster = c
	for _, k := range l.kinds {
		if k.Alias == nil {
			k.counted = pcluster.NewKind(k.Name, actor.PropsFromFunc(func(actor.Context) {})).Build(c)
		}
	}
	if isClient {
		return
	}
	props := actor.PropsFromProducer(func() actor.Actor { return newActivator(l) },
		actor.WithSupervisor(l.strategy), actor.WithGuardian(l.strategy))
	pid, err := c.ActorSystem.Root.SpawnNamed(props, activatorName)
	if err != nil {
		panic(fmt.Sprintf("BUG: the activator is spawned twice: %v", err))
	}
	l.activator = pid
}

// resolve follows aliases and returns the kind, identity and home of an identity.
func (l *Lookup) resolve(v *View, kind, identity string) (*boundKind, string, messages.NodeID) {
	k := l.kinds[kind]
	if k != nil && k.Alias != nil {
		target, id, ok := k.Alias(v, identity)
		if !ok {
			return nil, "", messages.NoNode
		}
		k, identity = l.kinds[target], id
	}
	if k == nil || k.Alias != nil {
		return nil, "", messages.NoNode
	}
	return k, identity, k.Owner(v, identity)
}

// home returns the address of the actor system on which an identity lives now,
// "" when it has no home.
func (l *Lookup) home(kind, identity string) string {
	v := l.View()
	k, _, owner := l.resolve(v, kind, identity)
	if k == nil || owner == messages.NoNode {
		return ""
	}
	if m := v.Member(owner); m != nil {
		return m.Address
	}
	return ""
}

// kindNames lists the kinds, sorted.
func (l *Lookup) kindNames() []string { return slices.Sorted(maps.Keys(l.kinds)) }

// Get returns the actor of an identity, starting it if need be, or nil when it
// has no home now or did not start in time: the caller asks again.
func (l *Lookup) Get(ci *pcluster.ClusterIdentity) *actor.PID {
	over := time.Now().Add(activationTimeout)
	// Its home may have died, and be another one as soon as that is known.
	for patience := activationPatience; ; patience *= 2 {
		// Less than 0 would be to wait without end.
		pid, answered := l.activate(ci, max(min(patience, time.Until(over)), 0))
		if answered || !time.Now().Before(over) {
			return pid
		}
	}
}

// activate asks the home that an identity has now. Without an answer in time there may
// be another home next time.
func (l *Lookup) activate(
	ci *pcluster.ClusterIdentity, patience time.Duration,
) (pid *actor.PID, answered bool) {
	v := l.View()
	k, identity, owner := l.resolve(v, ci.Kind, ci.Identity)
	if k == nil || owner == messages.NoNode {
		return nil, true
	}
	at := l.activator
	if owner != v.Self {
		m := v.Member(owner)
		if m == nil {
			return nil, true
		}
		at = actor.NewPID(m.Address, activatorName)
	}
	target := pcluster.NewClusterIdentity(identity, k.Name)
	answer, err := l.cluster.ActorSystem.Root.RequestFuture(at,
		&pcluster.ActivationRequest{ClusterIdentity: target}, patience).Result()
	if err != nil {
		return nil, !errors.Is(err, actor.ErrTimeout)
	}
	r, ok := answer.(*pcluster.ActivationResponse)
	if !ok || r.Failed {
		return nil, true
	}
	return r.Pid, true
}

// Ensure starts the identities that live on this node, unasked and without
// waiting. Replicas must run although nobody calls them.
func (l *Lookup) Ensure(kind string, identities []string) {
	if len(identities) > 0 {
		l.cluster.ActorSystem.Root.Send(l.activator, ensure{kind: kind, identities: identities})
	}
}

// Retire asks the actors of identities that no longer live on this node to
// leave, without waiting.
func (l *Lookup) Retire(kind string, identities []string) {
	if len(identities) > 0 {
		l.cluster.ActorSystem.Root.Send(l.activator, retire{kind: kind, identities: identities})
	}
}

// Forget drops what callers remember of an identity, after its home or its
// alias changed.
func (l *Lookup) Forget(kind, identity string) { l.cluster.PidCache.Remove(identity, kind) }

// RemovePid drops a dead actor from the cache. Proto.Actor calls it.
func (l *Lookup) RemovePid(ci *pcluster.ClusterIdentity, pid *actor.PID) {
	l.cluster.PidCache.RemoveByValue(ci.Identity, ci.Kind, pid)
}

// Shutdown stops the activator and the actors it spawned. Proto.Actor calls it
// twice.
func (l *Lookup) Shutdown() {
	l.stop.Do(func() {
		if l.activator != nil {
			_ = l.cluster.ActorSystem.Root.StopFuture(l.activator).Wait()
		}
	})
}
