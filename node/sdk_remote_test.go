//go:build !race

// The library sets a global logger of gRPC at each start of a remote, which the
// race detector rightly reports when one process has two.

package node

import (
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/testkit"
)

func TestAProgramUsesANodeOnItsOwnOverTheNetwork(t *testing.T) {
	n := embedded(t, Options{DataDir: t.TempDir(), Settings: map[string]string{
		"actor.listener": "127.0.0.1:0"}})
	system := cluster.NewSystem(slog.New(slog.DiscardHandler))
	var r *remote.Remote
	err := transport.Endpoint{Bind: "127.0.0.1:0"}.Listen(func(rc *remote.Config) *remote.Remote {
		r = remote.NewRemote(system, rc)
		return r
	})
	if err != nil {
		t.Fatal(err)
	}
	newProgram(t, system, n.ActorAddr()).exchange()
	if sessions(n) != 1 {
		t.Errorf("it has %d sessions", sessions(n))
	}
	r.Shutdown(false)
	system.Shutdown()
	testkit.Eventually(t, "the session has ended", func() bool { return sessions(n) == 0 })
}

// sessions counts the actors of sessions on a node.
func sessions(n *Node) (count int) {
	registry := n.Actors().(*actor.ActorSystem).ProcessRegistry
	for _, bucket := range registry.LocalPIDs.LocalPIDs {
		for id := range bucket.Items() {
			if len(id) > len("gateway/") && id[:len("gateway/")] == "gateway/" {
				count++
			}
		}
	}
	return count
}
