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
	// Spawn has another actor of this node spawn and supervise the actor of an
	// identity, under that name, and calls done when it runs or cannot. Nil: the
	// activator spawns it. It must not block; done may come from any goroutine.
	Spawn func(identity, name string, props *actor.Props, done func(*actor.PID, error))
	// Retire is the message that asks an actor of this kind to answer what it
	// owes and stop itself, when its identity lives elsewhere now. Nil: it is
	// poisoned.
	Retire any
	// Alias returns the kind and identity that this one stands for under a
	// view, and ok=false if for none now. An alias has no actor of its own:
	// Props and Owner are nil then.
	Alias func(v *View, identity string) (kind, target string, ok bool)
}
