package metrics

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/troupelog/troupe/messages"
)

// Snapshot is the state of a node at the moment of a scrape.
type Snapshot struct {
	// Replicas are those this node holds, in any order, each once.
	Replicas []Replica
	Cluster  Cluster
	LogDirs  []LogDir
	// Recovering counts the partitions that are not open yet.
	Recovering int
	// Coordinators are those of groups and of transactional ids.
	Coordinators []Coordinator
	// MailboxDepths are the messages that wait, by kind of actor.
	MailboxDepths map[string]int64
	// FetchSessions are those this node keeps, FetchSessionPartitions what they know of.
	FetchSessions, FetchSessionPartitions int
	// Budgets are the bounded resources of the node, each name once.
	Budgets []Budget
	// Groups are the consumer groups this node coordinates, each once.
	Groups []ConsumerGroup
	// GroupsLeftOut counts partitions of groups that are not in Groups.
	GroupsLeftOut int
}

// Coordinator is what this node coordinates of one kind.
type Coordinator struct {
	Kind    string
	Active  int // partitions of the internal topic that are served
	Loading int // and those that are being read
	Members int // groups or transactional ids
}

// Replica is one replica this node holds.
type Replica struct {
	Topic           string
	Partition       int32
	Leader          bool
	UnderReplicated bool  // leads, and replicas are not in sync
	UnderMinISR     bool  // leads, with fewer in-sync replicas than min.insync.replicas
	AtMinISR        bool  // leads, with just as many
	Reassigning     bool  // leads, and is on the way to other replicas
	Lag             int64 // records behind its leader
	Offline         bool  // the fields below are zero then
	SizeBytes       int64
	Segments        int
	LogStart        messages.Offset
	LogEnd          messages.Offset
	HighWatermark   messages.Offset
	Dirty           float64 // share of a compacted log that could be compacted
	Uncleanable     bool    // compacted, but for some damage
}

// ConsumerGroup is a consumer group that this node coordinates.
type ConsumerGroup struct {
	ID         string
	Members    int
	Partitions []GroupPartition // that it committed to, each once
}

// GroupPartition is where a group is in a partition.
type GroupPartition struct {
	Topic     string
	Partition int32
	Committed messages.Offset
	Lag       int64         // offsets to the high watermark; negative: not known
	Behind    time.Duration // age of the first record to read; negative: not known
}

// Cluster is what this node knows of its cluster.
type Cluster struct {
	Controller        bool // this node is it
	Brokers           int  // alive
	Topics            int
	Partitions        int
	OfflinePartitions int // without a leader
	Fenced            int // nodes that are not alive
	NotPreferred      int // partitions not led by their first replica
}

// LogDir is one data directory of this node.
type LogDir struct {
	Path       string
	TotalBytes int64 // size of its disk
	FreeBytes  int64 // free for this node
	UsedBytes  int64 // by this node's logs
	Online     bool
}

// Budget is a bounded resource and what is taken of it.
type Budget struct {
	Name  string
	Used  int64
	Limit int64
}

// snapshotMetrics are those the collector sends; their order is of no meaning.
var snapshotMetrics = []id{
	partitionCount, leaderCount, underReplicated, underMinISR, atMinISR, reassigning,
	offlineReplicas, maxLag, maxDirtyPercent, uncleanable,
	logSize, logStartOffset, logEndOffset, logSegments, highWatermark,
	activeControllers, activeBrokers, fencedBrokers, globalTopics, globalPartitions,
	offlinePartitions, notPreferred,
	dirTotalBytes, dirFreeBytes, dirUsedBytes, dirOnline,
	groupMembers, groupOffset, groupOffsetSum, groupLag, groupLagSum, groupLagSeconds, groupLeftOut,
	recoveryPending, coordinatorPartitions, coordinatorMembers, actorMailbox, budgetUsed, budgetLimit,
	fetchSessions, fetchSessionPartitions,
}

// descs holds the descriptions of snapshotMetrics, made once.
var descs = func() (d [idCount]*prometheus.Desc) {
	for _, i := range snapshotMetrics {
		d[i] = prometheus.NewDesc(table[i].Name, table[i].Help, table[i].Labels, nil)
	}
	return d
}()

// collector turns a Snapshot into metrics when a scrape asks for them.
type collector struct {
	source *atomic.Pointer[func() Snapshot]
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, i := range snapshotMetrics {
		out <- descs[i]
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	source := c.source.Load()
	if source == nil {
		return
	}
	s := (*source)()
	collectReplicas(out, s.Replicas)
	collectCluster(out, s.Cluster)
	for _, d := range s.LogDirs {
		path := strings.ToValidUTF8(d.Path, "\uFFFD") // a label must be, a path need not
		send(out, dirTotalBytes, d.TotalBytes, path)
		send(out, dirFreeBytes, d.FreeBytes, path)
		send(out, dirUsedBytes, d.UsedBytes, path)
		send(out, dirOnline, flag(d.Online), path)
	}
	collectGroups(out, s.Groups)
	send(out, groupLeftOut, s.GroupsLeftOut)
	send(out, recoveryPending, s.Recovering)
	for _, c := range s.Coordinators {
		send(out, coordinatorPartitions, c.Active, c.Kind, "active")
		send(out, coordinatorPartitions, c.Loading, c.Kind, "loading")
		send(out, coordinatorMembers, c.Members, c.Kind)
	}
	for kind, depth := range s.MailboxDepths {
		send(out, actorMailbox, depth, kind)
	}
	send(out, fetchSessions, s.FetchSessions)
	send(out, fetchSessionPartitions, s.FetchSessionPartitions)
	for _, b := range s.Budgets {
		send(out, budgetUsed, b.Used, b.Name)
		send(out, budgetLimit, b.Limit, b.Name)
	}
}

func collectReplicas(out chan<- prometheus.Metric, replicas []Replica) {
	var leaders, under, underMin, atMin, moving, offline int
	var lag int64
	var dirty float64
	var stuck int
	for i := range replicas {
		r := &replicas[i]
		leaders += flag(r.Leader)
		under += flag(r.UnderReplicated)
		underMin += flag(r.UnderMinISR)
		atMin += flag(r.AtMinISR)
		moving += flag(r.Reassigning)
		lag = max(lag, r.Lag)
		dirty = max(dirty, r.Dirty)
		stuck += flag(r.Uncleanable)
		offline += flag(r.Offline)
		if r.Offline {
			continue
		}
		partition := strconv.Itoa(int(r.Partition))
		send(out, logSize, r.SizeBytes, r.Topic, partition)
		send(out, logSegments, r.Segments, r.Topic, partition)
		send(out, logStartOffset, r.LogStart, r.Topic, partition)
		send(out, logEndOffset, r.LogEnd, r.Topic, partition)
		send(out, highWatermark, r.HighWatermark, r.Topic, partition)
	}
	send(out, partitionCount, len(replicas))
	send(out, leaderCount, leaders)
	send(out, underReplicated, under)
	send(out, underMinISR, underMin)
	send(out, atMinISR, atMin)
	send(out, reassigning, moving)
	send(out, maxLag, lag, "Replica") // Kafka's name of the fetcher
	send(out, offlineReplicas, offline)
	send(out, maxDirtyPercent, int64(dirty*100))
	send(out, uncleanable, stuck)
}

func collectCluster(out chan<- prometheus.Metric, c Cluster) {
	send(out, activeControllers, flag(c.Controller))
	send(out, activeBrokers, c.Brokers)
	send(out, fencedBrokers, c.Fenced)
	send(out, globalTopics, c.Topics)
	send(out, globalPartitions, c.Partitions)
	send(out, offlinePartitions, c.OfflinePartitions)
	send(out, notPreferred, c.NotPreferred)
}

// collectGroups shows each id once: an id may be any bytes, a label may not, and one
// that occurs twice would spoil the scrape.
func collectGroups(out chan<- prometheus.Metric, groups []ConsumerGroup) {
	seen := make(map[string]bool, len(groups))
	for i := range groups {
		id := strings.ToValidUTF8(groups[i].ID, "\uFFFD")
		if !seen[id] {
			seen[id] = true
			collectGroup(out, id, &groups[i])
		}
	}
}

func collectGroup(out chan<- prometheus.Metric, id string, g *ConsumerGroup) {
	send(out, groupMembers, g.Members, id)
	committed, lag := map[string]int64{}, map[string]int64{}
	for _, p := range g.Partitions {
		partition := strconv.Itoa(int(p.Partition))
		send(out, groupOffset, p.Committed, id, p.Topic, partition)
		committed[p.Topic] += int64(p.Committed)
		if p.Lag >= 0 {
			send(out, groupLag, p.Lag, id, p.Topic, partition)
			lag[p.Topic] += p.Lag
		}
		if p.Behind >= 0 {
			send(out, groupLagSeconds, p.Behind.Seconds(), id, p.Topic, partition)
		}
	}
	for topic, sum := range committed {
		send(out, groupOffsetSum, sum, id, topic)
	}
	for topic, sum := range lag {
		send(out, groupLagSum, sum, id, topic)
	}
}

func send[N ~int | ~int64 | float64](
	out chan<- prometheus.Metric, i id, value N, labels ...string,
) {
	out <- prometheus.MustNewConstMetric(
		descs[i], prometheus.GaugeValue, float64(value), labels...)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
