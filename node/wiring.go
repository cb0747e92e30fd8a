package node

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/coordinator"
	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/node/admin"
	"github.com/troupelog/troupe/node/kafka"
	"github.com/troupelog/troupe/node/lag"
	"github.com/troupelog/troupe/node/logging"
)

func nodeIdentity(n messages.NodeID) string { return strconv.Itoa(int(n)) }

// kinds are the virtual actors of a node and where each lives.
func (n *Node) kinds() []cluster.Kind {
	return []cluster.Kind{
		{
			Name:  actors.KindController,
			Owner: func(v *cluster.View, _ string) messages.NodeID { return v.Controller },
			Props: func(string) *actor.Props {
				cfg := actors.ControllerConfig{
					Store: n.store, Defaults: n.topicDefaults,
					ClusterID: func() string { return n.dirs[0].Meta.ClusterID },
				}
				if n.member != nil {
					cfg.Members, cfg.Probe = n.member.nodes, n.member.probe
				}
				return actors.NewController(n.env, cfg)
			},
		},
		{
			Name:  actors.KindNode,
			Owner: ownNode,
			Props: func(string) *actor.Props {
				cfg := actors.NodeConfig{Node: messages.Node{
					ID: n.env.Self, Host: n.sockets.host(), Port: n.sockets.kafka[0].AdvertisedPort,
					Rack: n.cfg.Value("broker.rack"), Directory: n.directories(),
				}}
				if n.member != nil {
					cfg.Incarnation, cfg.Lost = n.member.incarnation, n.lost
				}
				return actors.NewNode(n.env, cfg)
			},
		},
		{
			Name:   actors.KindReplica,
			Owner:  replicaOwner,
			Props:  func(string) *actor.Props { return nil }, // made by the log dir that spawns it
			Retire: actors.Leave{},
			Spawn: func(identity, name string, _ *actor.Props, done func(*actor.PID, error)) {
				n.client.PlaceReplica(identity, name, done)
			},
		},
		{Name: actors.KindPartition, Alias: leaderReplica},
		n.coordinated(coord.Group),
		n.coordinated(coord.Txn),
		{
			Name:  actors.KindTopic,
			Owner: func(v *cluster.View, identity string) messages.NodeID { return v.Rendezvous(identity) },
			Props: func(identity string) *actor.Props { return actors.NewTopic(n.env, identity) },
		},
	}
}

// coordinated is the kind of the groups or the transactional ids. Each lives with
// the leader of its partition of the internal topic, in that partition's shard.
func (n *Node) coordinated(kind coord.Kind) cluster.Kind {
	return cluster.Kind{
		Name: kind.String(),
		Owner: func(v *cluster.View, identity string) messages.NodeID {
			t := v.Image.Topic(kind.Topic())
			if t == nil || len(t.Partitions) == 0 {
				return messages.NoNode
			}
			return t.Partitions[coord.Partition(identity, len(t.Partitions))].Leader
		},
		Props:  func(string) *actor.Props { return nil }, // made by the shard that spawns it
		Retire: coordinator.Moved{},
		Spawn: func(identity, _ string, _ *actor.Props, done func(*actor.PID, error)) {
			n.coordinators.Place(kind, identity, done)
		},
	}
}

// startCoordinators starts the coordinators, before the first replica leads.
func (n *Node) startCoordinators() (err error) {
	n.coordinators, err = coordinator.Start(coordinator.Config{
		Self: n.env.Self, Root: n.env.Root, Props: n.env.Props, Log: n.log, Image: n.client.Image,
		Settings: n.setting, Alone: n.member == nil,
		Chosen: func(name string) bool {
			_, origin := n.lookup(name)
			return origin != configs.OriginDefault
		},
		Leading: func(t *messages.Topic, p int32) (coordinator.Partition, error) {
			r, err := n.client.Replica(t, p)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		Address: n.address,
		CreateTopics: func(ctx context.Context, t []messages.CreateTopic) (
			[]messages.TopicResult, error) {
			return n.client.CreateTopics(ctx, t, false)
		},
		NewProducerID: n.client.NewProducerID, Failed: n.metrics.ActorRestarted,
	})
	if err == nil {
		n.env.Led, n.env.Deleted = n.coordinators.Led, n.coordinators.Deleted
	}
	return err
}

// ownNode places the agent of a node on that node.
func ownNode(v *cluster.View, identity string) messages.NodeID {
	id, err := strconv.ParseInt(identity, 10, 32)
	if err != nil || v.Member(messages.NodeID(id)) == nil {
		return messages.NoNode
	}
	return messages.NodeID(id)
}

// replicaOwner places a replica on the node its identity names, as long as the
// controller's assignment has it there.
func replicaOwner(v *cluster.View, identity string) messages.NodeID {
	id, err := messages.ParseReplicaIdentity(identity)
	if err != nil {
		return messages.NoNode
	}
	p := v.Image.Partition(id.PartitionID)
	if p == nil {
		return messages.NoNode
	}
	for _, r := range p.Replicas {
		if r == id.Node {
			return r
		}
	}
	return messages.NoNode
}

// leaderReplica resolves "topic-partition" to the replica that leads it.
func leaderReplica(v *cluster.View, identity string) (kind, target string, ok bool) {
	tp, err := messages.ParseTopicPartition(identity)
	if err != nil {
		return "", "", false
	}
	t := v.Image.Topic(tp.Topic)
	if t == nil || int(tp.Partition) >= len(t.Partitions) ||
		t.Partitions[tp.Partition].Leader == messages.NoNode {
		return "", "", false
	}
	r := messages.ReplicaID{
		PartitionID: messages.PartitionID{Topic: t.ID, Partition: tp.Partition},
		Node:        t.Partitions[tp.Partition].Leader,
	}
	return actors.KindReplica, r.Identity(), true
}

// identities joins what actors need of the cluster.
type identities struct {
	*cluster.Core
	*cluster.Lookup
}

// setting is a broker setting in force: changed at run time for this node, for
// all nodes, or as the node was started.
func (n *Node) setting(name string) string {
	v, _ := n.lookup(name)
	return v
}

// lookup is setting with the origin.
func (n *Node) lookup(name string) (string, configs.Origin) {
	im := n.client.Image()
	if v, ok := im.NodeConfigs[n.env.Self][name]; ok {
		return v, configs.OriginBroker
	}
	if v, ok := im.NodeConfigs[messages.NoNode][name]; ok {
		return v, configs.OriginClusterBrokers
	}
	return n.cfg.Lookup(name)
}

func (n *Node) topicDefaults() topics.Defaults {
	partitions, _ := strconv.ParseInt(n.setting("num.partitions"), 10, 32)
	factor, _ := strconv.ParseInt(n.setting("default.replication.factor"), 10, 16)
	return topics.Defaults{Partitions: int32(partitions), ReplicationFactor: int16(factor),
		DeleteTopics: n.setting("delete.topic.enable") == "true",
		Setting: func(name string) string {
			v, _ := n.cfg.Lookup(name)
			return v
		}}
}

// partitions gives the listener this node's replicas.
type partitions struct{ *actors.Client }

func (p partitions) Partition(t *messages.Topic, index int32) (kafka.Partition, error) {
	r, err := p.Replica(t, index)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// settings gives the listener the node's settings.
type settings struct{ n *Node }

func (s settings) Value(name string) string { return s.n.setting(name) }

// Broker lists the settings the node was started with; what was changed at run
// time stands in the metadata image.
func (s settings) Broker() []kafka.Setting {
	rows := s.n.cfg.Settings()
	out := make([]kafka.Setting, len(rows))
	for i, r := range rows {
		out[i] = kafka.Setting{Name: r.Name, Value: r.Value, Static: r.Static, Default: r.Default}
		if r.Name == "broker.id" || r.Name == "node.id" { // however it came to have it
			out[i].Value, out[i].Static = nodeIdentity(s.n.env.Self), true
		}
	}
	return out
}

// serveKafka starts answering Kafka clients.
func (n *Node) serveKafka() {
	connections, _ := n.cfg.Int("max.connections")
	idle, _ := n.cfg.Duration("connections.max.idle.ms")
	request, _ := n.cfg.Int("socket.request.max.bytes")
	queued, _ := n.cfg.Bytes("queued.max.request.bytes")
	fetch, _ := n.cfg.Int("fetch.max.bytes")
	sessions, _ := n.cfg.Int("max.incremental.fetch.session.cache.slots")
	if sessions == 0 {
		sessions = -1 // none; 0 is the listener's default
	}
	n.kafka = kafka.New(kafka.Config{
		MaxConnections: connections, MaxIdle: idle, MaxRequestBytes: request,
		QueuedMaxBytes: queued, FetchMaxBytes: fetch, FetchSessions: sessions,
		Log: logging.Slog(n.log, slog.LevelDebug), Metrics: listenerMetrics{n.metrics},
	}, partitions{n.client}, n.client, n.coordinators, settings{n})
	n.lags = lag.New(lag.Config{
		Self: n.env.Self, Groups: n.coordinators, Image: n.client.Image, Now: time.Now,
		Leading: func(t *messages.Topic, p int32) (lag.Partition, error) {
			r, err := n.client.Replica(t, p)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		MaxPartitions: func() int {
			most, _ := strconv.Atoi(n.setting("metrics.consumer.lag.max.partitions")) // checked when set
			return most
		},
	})
	n.metrics.Observe(n.snapshot)
	for _, l := range n.sockets.kafka {
		n.life.serve("kafka", l, func() error { return n.kafka.Serve(l) }, kafka.ErrServerClosed)
	}
}

// startHTTP serves health and metrics from the beginning, so that a long
// recovery can be watched.
func (n *Node) startHTTP() {
	if n.sockets.http == nil {
		return
	}
	n.http = admin.New(admin.Options{
		Health: nodeHealth{n.health, n}, Metrics: n.metrics.Handler(),
		Profiling: n.cfg.Bool("http.pprof.enable"), Log: logging.Slog(n.log, slog.LevelWarn),
	})
	ln := n.sockets.http
	n.life.serve("http", ln, func() error { return n.http.Serve(ln) }, nil)
}
