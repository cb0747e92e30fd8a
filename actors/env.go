// Package actors holds the shells around the state machines: one file per
// actor, and Client, the typed way to call them.
//
//	controller   decides and stores the cluster's metadata (actors/topics)
//	node         holds this node's metadata image, runs the replicas it assigns here
//	storage      parent of the log-dir actors; says which directory a replica gets
//	log-dir      one data directory: supervises its replicas, flushes, checkpoints
//	replica      one partition's log on this node (actors/replicas, producers)
//	topic        serialises what concerns one topic as a whole, tells clients its route
//
// A shell turns messages into calls of a pure machine, makes the outcome
// durable, and only then answers. Its fields belong to the goroutine that runs
// its Receive; there is no mutex here but in the directory that readers share.
// package node builds everything; node/kafka sees only Client.
package actors

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/invariant"
	"github.com/troupelog/troupe/persistence/commitlog"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Kinds of virtual actors.
const (
	KindController = "controller"
	KindNode       = "node"
	KindReplica    = "replica"
	KindPartition  = "partition" // alias of the leader's replica
	KindTopic      = "topic"
)

// Settings gives the broker settings in force, by Kafka's name, in Kafka's
// notation.
type Settings func(name string) string

// Identities finds and moves virtual actors. cluster.Lookup and
// cluster.Embedded satisfy it between them.
type Identities interface {
	// Resolve returns the actor of an identity, or nil when it has no home now.
	Resolve(kind, identity string) *actor.PID
	// SetImage gives the placement newer metadata.
	SetImage(im *messages.Image)
	// Ensure runs identities on this node; Retire ends them.
	Ensure(kind string, identities []string)
	Retire(kind string, identities []string)
	// Forget drops a cached PID.
	Forget(kind, identity string)
}

// Metrics counts what happens inside the actors. Any goroutine calls it.
type Metrics interface {
	// ActorRestarted counts an actor that failed and is started again.
	ActorRestarted(kind string)
	// LogFlushed measures one fdatasync of a log.
	LogFlushed(took time.Duration)
	// Compacted measures a compaction: bytes that were read, and by how many the
	// log is shorter.
	Compacted(took time.Duration, read, removed int64)
	// PartitionRecovered measures opening a log after an unclean stop.
	PartitionRecovered(took time.Duration, truncatedBytes int64)
	// ISRChanged counts another in-sync set of a partition that this node goes on
	// leading: by how many replicas it is larger, or with less than 0, smaller.
	ISRChanged(by int)
	// ReplicatedIn counts bytes that a follower here got from its leader,
	// ReplicatedOut those that a leader here gave to a follower.
	ReplicatedIn(bytes int)
	ReplicatedOut(bytes int)
	// ForgetTopic drops what was counted for a topic that was deleted.
	ForgetTopic(name string)
}

// Peers carries a follower's fetches to other nodes. cluster/bulk's pool is one.
type Peers interface {
	// Fetch asks node to; reply is called once, from any goroutine. It must not block.
	Fetch(to messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched))
	// SetThrottle bounds what throttled fetches bring, in bytes per second; 0: no
	// bound.
	SetThrottle(rate int64)
}

// Env is what the shells of a node share. Its fields do not change once the
// first actor runs.
type Env struct {
	Self     messages.NodeID
	FS       vfs.FS
	Files    *segment.Cache
	Settings Settings
	Log      zerolog.Logger
	Now      func() time.Time
	Root     *actor.RootContext
	IDs      Identities
	Client   *Client
	Metrics  Metrics
	// Peers reaches the replicas on other nodes; nil in a cluster of one.
	Peers Peers
	// Led hears of every leadership of a replica here, by its epoch, and with
	// NoEpoch of its end. It must not block. Nil: nobody asks.
	Led func(topic string, partition int32, epoch messages.LeaderEpoch)
	// Deleted hears of topics that were deleted. It must not block. Nil: nobody asks.
	Deleted func(topic string)
	// NodesChanged hears that the nodes, as this node's image has them, or the members
	// changed. It must not block. Nil: nobody asks. It may be set at any time.
	NodesChanged atomic.Pointer[func()]

	subscribed  subscribed
	asking      sync.WaitGroup // goroutines in which actors ask others; Close waits for them
	replicas    sync.Map       // messages.PartitionID -> *Replica
	pauses      pauses
	leaderQuota sharedQuota
	lost        sync.Map      // of messages.PartitionID
	opening     chan struct{} // slots of logs that are opened or closed
	recovery    chan struct{} // and of those that have much to scan
	lives       atomic.Int64  // replica actors made, to tell one instance from the next
	guards      atomic.Uint64 // questions to transaction coordinators, to tell them apart
	depths      map[string]*depth
	props       map[string][]actor.PropsOption
	dispatcher  *dispatcher
	nodeAgent   atomic.Pointer[actor.PID]
	storage     atomic.Pointer[actor.PID]
}

// Init readies an Env whose exported fields are set. recoveries bounds how many
// logs are scanned at the same time.
func (e *Env) Init(recoveries int) {
	e.opening = make(chan struct{}, maxOpening)
	e.recovery = make(chan struct{}, max(1, recoveries))
	e.depths = map[string]*depth{}
	for _, kind := range depthKinds {
		e.depths[kind] = &depth{}
	}
	e.dispatcher = newDispatcher()
	e.props = map[string][]actor.PropsOption{}
	for _, kind := range depthKinds {
		e.props[kind] = e.propsOf(kind)
	}
}

// maxOpening bounds how many logs are opened or closed at the same time, and so
// the threads that wait for the disk and the files that are open for a moment. A
// log that has more to scan than its first few MiB gives its place up and waits
// for one of the few recoveries: however many of those there are, healthy
// partitions open.
const maxOpening = 16

// openPatience is how long opening a log may hold up what waits for it: the start
// of the node, when there is a long recovery.
const openPatience = 250 * time.Millisecond

// slot is the right to open a log.
type slot struct {
	env   *Env
	timer *time.Timer
	long  bool
}

func (e *Env) openSlot(id messages.PartitionID) *slot {
	e.opening <- struct{}{}
	return &slot{env: e, timer: time.AfterFunc(openPatience, func() {
		e.tellNode(replicaOpened{id})
	})}
}

// pause is called between the parts of a long scan.
func (s *slot) pause() {
	if !s.long {
		<-s.env.opening
		s.env.recovery <- struct{}{}
		s.long = true
	}
}

func (s *slot) release() {
	s.timer.Stop()
	if s.long {
		<-s.env.recovery
	} else {
		<-s.env.opening
	}
}

// closeLog closes a log when it is its turn.
func (e *Env) closeLog(log *commitlog.Log) error {
	e.opening <- struct{}{}
	defer func() { <-e.opening }()
	return log.Close()
}

// Close ends what Init started and waits for what actors began to ask, after the last
// actor stopped.
func (e *Env) Close() {
	e.asking.Wait()
	e.dispatcher.close()
}

// lose notes that a replica lacks records that were durable. In a cluster the
// node registers again to say so.
func (e *Env) lose(id messages.PartitionID) {
	if e.Peers == nil {
		return
	}
	e.lost.Store(id, struct{}{})
	e.tellNode(lapsed{e.pauses.count.Load()})
}

// Lost returns the replicas that lack records which were durable and that no
// registration has named yet.
func (e *Env) Lost() []messages.PartitionID {
	var ids []messages.PartitionID
	e.lost.Range(func(id, _ any) bool {
		ids = append(ids, id.(messages.PartitionID))
		return true
	})
	return ids
}

// told forgets what a registration that was taken in has named.
func (e *Env) told(ids []messages.PartitionID) {
	for _, id := range ids {
		e.lost.Delete(id)
	}
}

// Replica returns the published face of the replica of a partition on this
// node, or nil. Any goroutine may call it.
func (e *Env) Replica(id messages.PartitionID) *Replica {
	if r, ok := e.replicas.Load(id); ok {
		return r.(*Replica)
	}
	return nil
}

// EachReplica calls f for the replicas of this node, in no order.
func (e *Env) EachReplica(f func(*Replica)) {
	e.replicas.Range(func(_, r any) bool {
		f(r.(*Replica))
		return true
	})
}

// tellNode sends to this node's agent, if it runs.
func (e *Env) tellNode(m any) {
	if pid := e.nodeAgent.Load(); pid != nil {
		e.Root.Send(pid, m)
	}
}

// TellNodesChanged calls NodesChanged, if anybody asks.
func (e *Env) TellNodesChanged() {
	if changed := e.NodesChanged.Load(); changed != nil {
		(*changed)()
	}
}

// number reads a broker setting that is a whole number; the settings were
// checked when the node started.
func (e *Env) number(name string) int64 {
	n, err := strconv.ParseInt(e.Settings(name), 10, 64)
	invariant.That(err == nil, "setting %s is not a number: %v", name, err)
	return n
}
