package cluster

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	pcluster "github.com/asynkron/protoactor-go/cluster"

	"github.com/troupelog/troupe/messages"
)

// viewChanged tells the activator that its lookup has a new view.
type viewChanged struct{}

// ensure asks the activator to run identities of a kind without being called.
type ensure struct {
	kind       string
	identities []string
}

// retire asks the activator to end actors whose identities moved away.
type retire ensure

// spawned tells the activator how a spawn by another actor went.
type spawned struct {
	key activation
	pid *actor.PID
	err error
}

// activation names a virtual actor.
type activation struct{ kind, identity string }

// maxWaiters bounds the callers that wait for one identity to start.
const maxWaiters = 1024

// activator starts virtual actors on its node and retires those that moved
// away. Everything that happens to it is a line in Receive; its fields belong
// to the goroutine that runs Receive.
type activator struct {
	lookup   *Lookup
	live     map[activation]*actor.PID
	dying    map[activation]*actor.PID   // told to retire, not gone yet
	starting map[activation][]*actor.PID // asked for; who waits
	pinned   map[activation]bool         // to be run again when they stop
	byPID    map[string]activation       // of live and dying
	stopping bool
	lives    int // activations so far, for unique names
}

func newActivator(l *Lookup) *activator {
	return &activator{
		lookup:   l,
		live:     map[activation]*actor.PID{},
		dying:    map[activation]*actor.PID{},
		starting: map[activation][]*actor.PID{},
		pinned:   map[activation]bool{},
		byPID:    map[string]activation{},
	}
}

func (a *activator) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *pcluster.ActivationRequest:
		a.activate(ctx, activation{m.ClusterIdentity.Kind, m.ClusterIdentity.Identity})
	case ensure:
		a.ensure(ctx, m)
	case retire:
		for _, identity := range m.identities {
			a.end(ctx, activation{m.kind, identity})
		}
	case viewChanged:
		a.retireStrangers(ctx)
	case spawned:
		a.spawned(ctx, m)
	case *actor.Terminated:
		a.terminated(ctx, m.Who)
	case *actor.Stopping:
		// First of all, or the children's ends would start them again.
		a.stopping = true
	}
}

func (a *activator) activate(ctx actor.Context, key activation) {
	if pid := a.live[key]; pid != nil {
		ctx.Respond(&pcluster.ActivationResponse{Pid: pid})
		return
	}
	if !a.mayStart(key) || len(a.starting[key]) >= maxWaiters {
		ctx.Respond(&pcluster.ActivationResponse{Failed: true})
		return
	}
	a.start(ctx, key, ctx.Sender())
}

// mayStart reports whether an identity lives here and is not on its way out.
func (a *activator) mayStart(key activation) bool {
	v := a.lookup.View()
	k := a.lookup.kinds[key.kind]
	return !a.stopping && k != nil && k.Alias == nil && a.dying[key] == nil &&
		k.Owner(v, key.identity) == v.Self
}

// start spawns the actor of key, or has its supervisor do so; waiter (nil: none)
// is answered when it is there.
func (a *activator) start(ctx actor.Context, key activation, waiter *actor.PID) {
	waiters, asked := a.starting[key]
	if waiter != nil {
		waiters = append(waiters, waiter)
	}
	a.starting[key] = waiters
	if asked {
		return
	}
	k := a.lookup.kinds[key.kind]
	a.lives++
	// Ids of a process life may come back in the next: the incarnation keeps
	// messages for an earlier life from reaching this one.
	name := fmt.Sprintf("%s~%s~%s.%d", key.kind, key.identity, ctx.ActorSystem().ID, a.lives)
	props := k.Props(key.identity)
	if k.Spawn != nil {
		self, root := ctx.Self(), ctx.ActorSystem().Root
		k.Spawn(key.identity, name, props, func(pid *actor.PID, err error) {
			root.Send(self, spawned{key, pid, err})
		})
		return
	}
	pid, err := ctx.SpawnNamed(props, name)
	a.spawned(ctx, spawned{key, pid, err})
}

func (a *activator) spawned(ctx actor.Context, m spawned) {
	key, pid := m.key, m.pid
	waiters := a.starting[key]
	delete(a.starting, key)
	response := &pcluster.ActivationResponse{Pid: pid, Failed: m.err != nil || pid == nil}
	if !response.Failed {
		a.live[key], a.byPID[pid.Id] = pid, key
		a.lookup.kinds[key.kind].counted.Inc()
		if a.lookup.kinds[key.kind].Spawn != nil {
			ctx.Watch(pid) // only parents hear of an end unasked
		}
	}
	for _, w := range waiters {
		ctx.Send(w, response)
	}
	if !response.Failed && !a.mayStart(key) {
		a.end(ctx, key) // the view moved on meanwhile
	}
}

func (a *activator) ensure(ctx actor.Context, m ensure) {
	for _, identity := range m.identities {
		key := activation{m.kind, identity}
		a.pinned[key] = true
		if a.live[key] == nil && a.mayStart(key) {
			a.start(ctx, key, nil)
		}
	}
}

func (a *activator) retireStrangers(ctx actor.Context) {
	v := a.lookup.View()
	for key := range a.live {
		if a.lookup.kinds[key.kind].Owner(v, key.identity) != v.Self {
			a.end(ctx, key)
		}
	}
}

// end asks the actor of key to leave, and sees to it that it is not run again.
// One that is being started is ended when it is there.
func (a *activator) end(ctx actor.Context, key activation) {
	delete(a.pinned, key)
	pid := a.live[key]
	if pid == nil {
		return
	}
	delete(a.live, key)
	a.dying[key] = pid
	a.lookup.Forget(key.kind, key.identity)
	if m := a.lookup.kinds[key.kind].Retire; m != nil {
		ctx.Send(pid, m)
	} else {
		ctx.Poison(pid)
	}
}

// terminated cleans up after an actor and starts it again when it is one that
// must run and still lives here.
func (a *activator) terminated(ctx actor.Context, pid *actor.PID) {
	key, known := a.byPID[pid.Id]
	if !known {
		return
	}
	delete(a.byPID, pid.Id)
	delete(a.live, key)
	delete(a.dying, key)
	a.lookup.kinds[key.kind].counted.Dec()
	a.lookup.RemovePid(pcluster.NewClusterIdentity(key.identity, key.kind), pid)
	if a.pinned[key] && a.mayStart(key) {
		a.start(ctx, key, nil)
	}
}

// Self is the node whose activations a lookup manages.
func (l *Lookup) Self() messages.NodeID { return l.View().Self }
