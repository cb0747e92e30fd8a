package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/troupelog/troupe/actors"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/node/kafka"
	"github.com/troupelog/troupe/node/lag"
	"github.com/troupelog/troupe/node/metrics"
)

// listenerMetrics counts the listener's work in the node's metrics.
type listenerMetrics struct{ *metrics.Node }

func (m listenerMetrics) Topic(name string) kafka.TopicMetrics { return m.Node.Topic(name) }

// scrapeTimeout bounds what a scrape waits for.
const scrapeTimeout = 2 * time.Second

// snapshot collects the state of the node for a scrape.
func (n *Node) snapshot() metrics.Snapshot {
	im := n.client.Image()
	s := metrics.Snapshot{Cluster: metrics.Cluster{
		Controller: im.Controller == n.env.Self, Brokers: len(im.Live()), Topics: im.TopicCount(),
	}, MailboxDepths: n.env.MailboxDepths()}
	s.Cluster.Fenced = len(im.Nodes) - s.Cluster.Brokers
	for _, t := range im.Topics() {
		s.Cluster.Partitions += len(t.Partitions)
		for i := range t.Partitions {
			switch p := &t.Partitions[i]; p.Leader {
			case messages.NoNode:
				s.Cluster.OfflinePartitions++
			case p.Replicas[0]:
			default:
				s.Cluster.NotPreferred++
			}
		}
	}
	n.env.EachReplica(func(r *actors.Replica) {
		st := r.Status()
		if st.Opening {
			s.Recovering++
		}
		m := metrics.Replica{
			Topic: st.Topic, Partition: st.ID.Partition, Leader: st.Leading, Offline: st.Fault != nil,
			SizeBytes: st.Bytes, Segments: st.Segments, LogStart: st.Offsets.LogStart, Lag: st.Lag,
			LogEnd: st.Offsets.LogEnd, HighWatermark: st.Offsets.HighWatermark,
		}
		m.Dirty, m.Uncleanable = r.Compaction()
		settings, p := r.Settings(), im.Partition(st.ID.PartitionID)
		if settings != nil && p != nil { // it leads
			rateISR(&m, p, settings.MinInsyncReplicas)
		}
		s.Replicas = append(s.Replicas, m)
	})
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	dirs, err := n.client.LogDirs(ctx)
	if err == nil {
		s.LogDirs = logDirs(dirs)
	}
	for _, kind := range []coord.Kind{coord.Group, coord.Txn} {
		active, loading, members := n.coordinators.Count(kind)
		s.Coordinators = append(s.Coordinators, metrics.Coordinator{
			Kind: kind.String(), Active: active, Loading: loading, Members: members})
	}
	lags := n.lags.Groups(ctx)
	s.Groups, s.GroupsLeftOut = consumerGroups(lags.Groups), lags.LeftOut
	k := n.kafka.Stats()
	s.FetchSessions, s.FetchSessionPartitions = k.FetchSessions, k.FetchSessionPartitions
	s.Budgets = []metrics.Budget{{Name: "requests", Used: k.QueuedBytes, Limit: k.QueuedLimit}}
	if n.gateway != nil {
		g := n.gateway.Stats()
		s.Budgets = append(s.Budgets,
			metrics.Budget{Name: "sdk", Used: g.QueuedBytes, Limit: g.QueuedLimit})
	}
	return s
}

// rateISR says how the in-sync set of a partition compares to what it should be. As
// in Kafka, replicas that a reassignment adds are not missed before they are in
// sync, but do count among those of which min.insync.replicas must be.
func rateISR(m *metrics.Replica, p *messages.Partition, minISR int) {
	for _, r := range p.Replicas {
		in, added := slices.Contains(p.ISR, r), slices.Contains(p.Adding, r)
		m.UnderReplicated = m.UnderReplicated || !in && !added
	}
	least := p.LeastISR(minISR)
	m.UnderMinISR, m.AtMinISR = len(p.ISR) < least, len(p.ISR) == least
	m.Reassigning = p.Reassigning()
}

func logDirs(dirs []messages.LogDir) []metrics.LogDir {
	out := make([]metrics.LogDir, len(dirs))
	for i, d := range dirs {
		out[i] = metrics.LogDir{
			Path:       d.Path,
			TotalBytes: d.TotalBytes,
			FreeBytes:  d.UsableBytes,
			Online:     d.Err == nil,
		}
		for _, r := range d.Replicas {
			out[i].UsedBytes += r.Bytes
		}
	}
	return out
}

func consumerGroups(groups []lag.Group) []metrics.ConsumerGroup {
	out := make([]metrics.ConsumerGroup, len(groups))
	for i, g := range groups {
		out[i] = metrics.ConsumerGroup{ID: g.ID, Members: g.Members,
			Partitions: make([]metrics.GroupPartition, len(g.Partitions))}
		for j, p := range g.Partitions {
			out[i].Partitions[j] = metrics.GroupPartition{Topic: p.Topic, Partition: p.Partition,
				Committed: p.Committed, Lag: p.Lag, Behind: p.Behind}
		}
	}
	return out
}

// health says whether the node is ready. Any goroutine may use it.
type health struct {
	mu    sync.Mutex
	state string // why not ready; "" when ready
}

func newHealth() *health { return &health{state: "starting"} }

func (h *health) set(state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = state
}

func (h *health) ready() { h.set("") }
func (h *health) drain() { h.set("draining") }

// NotReady implements admin.Health.
func (h *health) NotReady() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == "" {
		return nil
	}
	return []string{h.state}
}

// nodeHealth adds what the replicas have to say.
type nodeHealth struct {
	*health
	n *Node
}

// NotReady lists why clients should go elsewhere: the node starts or stops, the
// cluster does not count on it, or partitions recover. Partitions whose disk failed
// are listed, too: they will not come back by waiting.
func (h nodeHealth) NotReady() []string {
	reasons := h.health.NotReady()
	if h.n.env == nil {
		return reasons
	}
	self := h.n.client.Image().Node(h.n.env.Self)
	if h.n.taken.Load() && (self == nil || self.Fenced) {
		reasons = append(reasons, "fenced by the controller")
	}
	opening, offline, total := 0, 0, 0
	h.n.env.EachReplica(func(r *actors.Replica) {
		st := r.Status()
		total++
		if st.Opening {
			opening++
		}
		if st.Fault != nil {
			offline++
		}
	})
	if opening > 0 {
		reasons = append(reasons, fmt.Sprintf("recovering partitions %d/%d", opening, total))
	}
	if offline > 0 {
		reasons = append(reasons, fmt.Sprintf("offline partitions %d/%d", offline, total))
	}
	return reasons
}
