//go:build !race

// The library sets a global logger of gRPC at each start of a remote, which the
// race detector rightly reports when one process has two.

package node

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"

	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages/wire"
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

func TestAProgramIsToldOfTopicsWhoseActorsLiveElsewhere(t *testing.T) {
	consul := testkit.StartConsul(t)
	var nodes []*Node
	for range 2 {
		nodes = append(nodes, embedded(t, Options{DataDir: t.TempDir(), Settings: map[string]string{
			"consul.address": consul.Addr, "cluster.name": "sdk",
			"offsets.topic.replication.factor": "1"}}))
	}
	system := nodes[0].Actors().(*actor.ActorSystem)
	p := newProgram(t, system, system.Address())
	testkit.Eventually(t, "the first node knows the second one", func() bool {
		return len(nodes[0].client.Image().Live()) == 2 &&
			len(nodes[0].cluster.Lookup.View().Members) == 2
	})
	subscribe := func(topic string) {
		t.Helper()
		p.ask(p.session, &wire.ClientRequest{Command: &wire.ClientRequest_Subscribe{
			Subscribe: &wire.ClientSubscribe{Topic: topic, Create: true}}})
		for { // a route, maybe after news of the nodes
			if r := p.push().GetRoute(); r != nil {
				if r.GetTopic() != topic || r.GetGone() || len(r.GetPartitions()) == 0 {
					t.Errorf("told %v", r)
				}
				return
			}
		}
	}
	elsewhere := ""
	for i := 0; elsewhere == ""; i++ {
		topic := fmt.Sprint("t", i)
		if subscribe(topic); nodes[0].cluster.Lookup.View().Rendezvous(topic) == nodes[1].env.Self {
			elsewhere = topic
		}
	}
	// Its actor's node goes: the program hears it from the actor, and that there is one
	// node less from the session.
	if err := nodes[1].Stop(t.Context()); err != nil {
		t.Error(err)
	}
	gone, left := false, false
	for !gone || !left {
		m := p.push()
		gone = gone || m.GetRoute().GetGone() && m.GetRoute().GetTopic() == elsewhere
		left = left || m.GetNodes() != nil && len(m.GetNodes().GetNodes()) == 1
	}
	p.ask(p.session, &wire.ClientRequest{Command: &wire.ClientRequest_Subscribe{
		Subscribe: &wire.ClientSubscribe{Topic: elsewhere}}})
}
