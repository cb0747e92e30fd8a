package cluster

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/messages"
)

// Kind is a kind of virtual actor and the rule that places its identities.
// A name holds neither '/' nor '.'.
type Kind struct {
	Name string
	// Props returns how to make the actor of an identity. Called on the
	// activator's goroutine: it must be quick.
	Props func(identity string) *actor.Props
	// Owner says on which node the identity lives under a view; NoNode means
	// nowhere at present (its node is down, or there is no such thing).
	Owner func(v *View, identity string) messages.NodeID
	// Supervisor returns the actor that spawns and supervises identities of
	// this kind on this node; it answers a Spawn with a Spawned. Nil: the
	// activator itself does.
	Supervisor *actor.PID
	// Alias returns the kind and identity that this one stands for under a
	// view, and ok=false if for none now. An alias has no actor of its own:
	// Props and Owner are nil then.
	Alias func(v *View, identity string) (kind, target string, ok bool)
}

// Spawn asks a supervisor for a child. It answers with Spawned.
type Spawn struct {
	Kind     string
	Identity string
	Props    *actor.Props
	Name     string // of the child; unique to this activation
}

// Spawned is the answer to a Spawn; PID is nil when Err is set.
type Spawned struct {
	Kind     string
	Identity string
	PID      *actor.PID
	Err      error
}
