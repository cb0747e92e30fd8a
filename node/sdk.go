package node

import (
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/gateway"
	"github.com/troupelog/troupe/node/logging"
	"github.com/troupelog/troupe/node/metrics"
)

// gatewayMetrics counts the gateway's work in the node's metrics.
type gatewayMetrics struct{ *metrics.Node }

func (m gatewayMetrics) Topic(name string) gateway.TopicMetrics { return m.Node.Topic(name) }

// address is where the actor system of a node listens, "" if it is not a live member.
func (n *Node) address(id messages.NodeID) string {
	if m := n.cluster.Lookup.View().Member(id); m != nil {
		return m.Address
	}
	return ""
}

// startGateway starts answering programs that use the SDK.
func (n *Node) startGateway() (err error) {
	sessions, _ := n.cfg.Int("max.connections")
	queued, _ := n.cfg.Bytes("queued.max.request.bytes")
	fetch, _ := n.cfg.Int("fetch.max.bytes")
	n.gateway, err = gateway.Start(gateway.Config{
		Root: n.env.Root, Props: n.env.Props, Guardian: actors.Supervise(n.env),
		Partitions: partitions{n.client}, Cluster: n.client, Coordinators: n.coordinators,
		Settings:    settings{n},
		Topic:       func(name string) *actor.PID { return n.env.IDs.Resolve(actors.KindTopic, name) },
		ForgetTopic: func(name string) { n.env.IDs.Forget(actors.KindTopic, name) },
		Address:     n.address,
		MaxSessions: sessions, QueuedMaxBytes: queued, FetchMaxBytes: fetch,
		MessageBytes: transport.MessageMax, Buffer: transport.Buffer, Free: transport.Free,
		Metrics: gatewayMetrics{n.metrics}, Log: logging.Slog(n.log, slog.LevelWarn),
		Failed: n.metrics.ActorRestarted,
	})
	if err == nil {
		changed := n.gateway.Changed
		n.env.NodesChanged.Store(&changed)
	}
	return err
}
