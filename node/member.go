package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/actors/control"
	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/cluster/bulk"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/logging"
	"github.com/troupelog/troupe/persistence/datadir"
	"github.com/troupelog/troupe/persistence/registry"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Times of a node of a cluster.
const (
	// consulPatience is how long a start waits for a Consul that does not answer.
	consulPatience = 30 * time.Second
	consulRetry    = 500 * time.Millisecond
	// probeTimeout is how long a suspect has to answer a probe.
	probeTimeout = 500 * time.Millisecond
	// missedBeats are how many heartbeats a node may miss before it is probed.
	missedBeats = 3
	// handOverTimeout is how long a stop waits for others to take over what this
	// node leads.
	handOverTimeout = 15 * time.Second
)

// member is what a node of a cluster has that one on its own has not: Consul, the
// election of controllers, and the connections for replication.
type member struct {
	name   string // of the cluster
	consul string // for people
	cfg    *config.Config
	log    zerolog.Logger
	store  *registry.Consul
	lookup *cluster.Lookup
	client *actors.Client
	pool   *bulk.Pool
	server *bulk.Server

	watching sync.WaitGroup // of pauses
	unwatch  context.CancelFunc

	mu        sync.Mutex
	joined    *cluster.Joined    // nil before it is a member
	candidate *cluster.Candidate // nil before serve
	last      string             // the incarnation that was handed out last
}

// openMember returns nil for a node on its own. It does not ask Consul yet.
func openMember(cfg *config.Config, log zerolog.Logger) (*member, error) {
	addr := cfg.Value("consul.address")
	if addr == "" {
		return nil, nil
	}
	m := &member{name: cfg.Value("cluster.name"), consul: addr, cfg: cfg, log: log}
	var err error
	m.store, err = registry.OpenConsul(registry.ConsulConfig{
		API: registry.ConsulAPI(addr), Cluster: m.name, Service: m.service,
		Log: logging.Slog(log, slog.LevelWarn),
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// service is the id of the service as which the node is registered with Consul.
func (m *member) service() string {
	if j := m.membership(); j != nil {
		return j.Service()
	}
	return ""
}

func (m *member) membership() *cluster.Joined {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joined
}

// insist repeats f, which asks Consul, for as long as a start is worth waiting.
func (m *member) insist(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, consulPatience)
	defer cancel()
	var last error
	for said := false; ; said = true {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if registry.Hopeless(err) {
			return fmt.Errorf("%s through Consul at %s: %w", what, m.consul, err)
		}
		if !said {
			m.log.Warn().Err(err).Str("consul", m.consul).Msg(what + " does not succeed, trying on")
		}
		select {
		case <-time.After(consulRetry):
		case <-ctx.Done():
			if errors.Is(last, messages.ErrDuplicateNode) { // it says what to do
				return fmt.Errorf("%s: %w", what, last)
			}
			return fmt.Errorf("%s through Consul at %s: %w; start Consul, or name another with --consul",
				what, m.consul, last)
		}
	}
}

// identity is what a new data directory of this node is told of itself, and what
// one that was used before must say.
func (m *member) identity(
	ctx context.Context, n *Node, want datadir.Meta, directory string,
) (datadir.Meta, error) {
	err := m.insist(ctx, "finding the cluster", func(ctx context.Context) error {
		id, err := m.store.ClusterID(ctx, want.ClusterID)
		if err == nil { // or it would propose nothing the next time
			want.ClusterID = id
		}
		return err
	})
	if err != nil {
		return want, err
	}
	first := path.Clean(n.cfg.List("log.dirs")[0])
	chosen := n.cfg.Origin("node.id") != "default"
	if !datadir.Fresh(n.fs, first) {
		if !chosen {
			want.Node, err = datadir.NodeOf(n.fs, first)
		}
		return want, err
	}
	if !chosen {
		want.Node = messages.NoNode
	}
	err = m.insist(ctx, "getting a node id", func(ctx context.Context) error {
		id, err := m.store.AllocateNode(ctx, directory, want.Node)
		if err == nil {
			want.Node = id
		}
		return err
	})
	return want, err
}

// checkRegistry refuses to serve data that the cluster knows nothing of: Consul
// lost what it was told, or is another one.
func (m *member) checkRegistry(ctx context.Context, n *Node) error {
	n.store = m.store
	var stored registry.Contents
	err := m.insist(ctx, "reading the metadata", func(ctx context.Context) (err error) {
		stored, err = m.store.Read(ctx)
		return err
	})
	if err != nil || stored.Version > 0 {
		return err
	}
	for _, d := range n.dirs {
		if len(d.Partitions) > 0 {
			return &datadir.Error{Dir: d.Path,
				Wrong: fmt.Sprintf("it holds %d partitions and Consul at %s has no metadata of cluster %s",
					len(d.Partitions), m.consul, m.name),
				Remedy: "restore Consul from a snapshot, or name the Consul that knows them with --consul"}
		}
	}
	return nil
}

// join makes the node a member and n.cluster what it has of the cluster.
func (m *member) join(
	ctx context.Context, n *Node, system *actor.ActorSystem, lookup *cluster.Lookup,
) error {
	m.lookup, m.client = lookup, n.client
	address := n.sockets.actor.Addr().String()
	if err := n.sockets.actor.Close(); err != nil { // the library binds it itself
		return err
	}
	m.watchPauses(n.env)
	ttl, _ := m.cfg.Duration("consul.service.ttl.ms")
	refresh, _ := m.cfg.Duration("consul.service.refresh.ms")
	identity := bulk.Identity{Node: n.env.Self, Cluster: m.name, Incarnation: n.client.Incarnation}
	maxRecords, _ := m.cfg.Int("socket.request.max.bytes")
	maxRecords = max(maxRecords, bulk.DefaultMaxRecords)
	log := logging.Slog(m.log, slog.LevelWarn)
	m.pool = bulk.NewPool(bulk.PoolConfig{
		Identity: identity, Addr: m.bulkOf, MaxRecords: maxRecords, Log: log,
		Broken: func(node messages.NodeID, _ error) { m.suspect(node) },
	})
	n.env.Peers = m.pool
	m.server = bulk.NewServer(bulk.ServerConfig{
		Identity: identity, MaxRecords: maxRecords, Log: log}, followers{n.env})
	joined, err := cluster.Open(system, lookup, cluster.JoinConfig{
		Cluster: m.name, Consul: registry.ConsulAPI(m.consul), Bind: address,
		Bulk: n.sockets.bulk.Addr().String(), Directory: n.directories(),
		ServerTLS: n.secured.server, ClientTLS: n.secured.client,
		TTL: ttl, Refresh: refresh, Log: log,
		OnLapse:   func(string) { n.client.Lapsed() },
		OnSuspect: m.suspect,
		OnMembers: func(_, _ []cluster.Member) { n.env.TellNodesChanged() },
	})
	if err != nil {
		return err
	}
	n.cluster, n.end = joined.Core, joined.Stop
	if err := m.insist(ctx, "joining the cluster", joined.Join); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.joined = joined
	return nil
}

// watchPauses has the node registered anew when its process stood still for as
// long as it takes the controller to begin to doubt it.
func (m *member) watchPauses(env *actors.Env) {
	beat, _ := m.cfg.Duration("broker.heartbeat.interval.ms")
	watch := env.WatchPauses(missedBeats*beat, func() {
		m.log.Warn().Msg("the process stood still; others may lead what this node led")
		env.Client.Lapsed()
	})
	ctx, cancel := context.WithCancel(context.Background())
	m.unwatch = cancel
	m.watching.Go(func() { watch(ctx) })
}

// serve lets followers fetch here and the node be elected.
func (m *member) serve(n *Node) {
	ln := n.sockets.bulk
	n.life.serve("bulk", ln, func() error { return m.server.Serve(ln) }, bulk.ErrClosed)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.candidate = cluster.StartCandidate(m.lookup, cluster.CandidateConfig{
		Lock: m.store, Dead: m.dead, Log: logging.Slog(m.log, slog.LevelInfo),
		Elected: func() {
			m.lookup.Ensure(actors.KindController, []string{actors.KindController})
		},
	})
}

// followers hands what comes in on the bulk listener to the replicas.
type followers struct{ env *actors.Env }

func (f followers) Fetch(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
	f.env.FetchReplica(q, reply)
}

func (f followers) Disconnected(follower messages.NodeID, _ uint64) { f.env.FollowerGone(follower) }

// suspect has a node looked at, because a connection to it broke.
func (m *member) suspect(node messages.NodeID) {
	m.client.Suspect(node)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.candidate != nil {
		m.candidate.Suspect(node) // returns at once
	}
}

// nodes are those that Consul takes for alive.
func (m *member) nodes() []messages.NodeID {
	var ids []messages.NodeID
	for _, x := range m.lookup.View().Members {
		ids = append(ids, x.Node)
	}
	return ids
}

func (m *member) bulkOf(node messages.NodeID) (addr string, ok bool) {
	if x := m.lookup.View().Member(node); x != nil && x.Bulk != "" {
		return x.Bulk, true
	}
	return "", false
}

// probe asks a node's process itself whether it lives.
func (m *member) probe(ctx context.Context, node messages.NodeID) control.Outcome {
	addr, ok := m.bulkOf(node)
	if !ok {
		return control.Silent
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	pong, err := m.pool.Ping(ctx, addr)
	switch {
	case err == nil && pong.Node == node:
		return control.Alive
	case err == nil, errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return control.Refused
	}
	return control.Silent
}

// dead reports whether a controller is certainly dead.
func (m *member) dead(ctx context.Context, x cluster.Member) bool {
	return m.probe(ctx, x.Node) != control.Alive
}

// incarnation names the life of the node that is about to register: what the
// membership knows it by, and another one each time.
func (m *member) incarnation() string {
	j := m.membership()
	life := j.Incarnation()
	m.mu.Lock()
	again := life == m.last
	m.mu.Unlock()
	if again {
		life = j.Renew()
	}
	m.mu.Lock()
	m.last = life
	m.mu.Unlock()
	return life
}

// stop ends what other nodes have with this one, so that the actors can end.
func (m *member) stop() {
	if m.unwatch != nil {
		m.unwatch()
		m.watching.Wait()
	}
	m.mu.Lock()
	candidate := m.candidate
	m.mu.Unlock()
	if candidate != nil {
		candidate.Stop() // waits for who may be asking for the lock above
	}
	if m.pool != nil {
		m.pool.Close()
		m.server.Close()
	}
}

// handOver moves what the node leads to others, so that clients notice nothing.
func (n *Node) handOver(ctx context.Context) {
	if n.member.membership() == nil || !n.cfg.Bool("controlled.shutdown.enable") {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if !n.client.Leave(ctx) {
		n.log.Warn().Msg("the node stops though it may still lead partitions")
	}
}

// directories identifies the node's data, as messages.Node has it.
func (n *Node) directories() string {
	ids := make([]string, len(n.dirs))
	for i, d := range n.dirs {
		ids[i] = d.Meta.DirectoryID
	}
	return strings.Join(ids, ",")
}

// bootID names the present start of the machine; "" where that is not told.
func bootID(fsys vfs.FS) string {
	f, err := fsys.Open("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	defer f.Close()
	var id [64]byte // such files do not say how long they are
	n, err := f.ReadAt(id[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimSpace(string(id[:n]))
}

// lost says what became of the data since the node was registered last. What a
// process leaves when it dies the system still has; what was not flushed when the
// machine went down is gone.
func (n *Node) lost() (unclean bool, replicas []messages.PartitionID) {
	boot := bootID(n.fs)
	for _, d := range n.dirs {
		if !d.Clean && !n.taken.Load() && (boot == "" || d.Boot() != boot) {
			unclean = true
		}
	}
	return unclean, n.env.Lost()
}

// trusted notes, once the node is registered, under which start of the machine
// its data is as the cluster believes.
func (n *Node) trusted() error {
	if n.member == nil {
		return nil
	}
	n.taken.Store(true)
	for _, d := range n.dirs {
		if err := d.SetBoot(bootID(n.fs)); err != nil {
			return err
		}
	}
	return nil
}
