// Package metrics counts what a node does and shows it in Prometheus' format.
//
// One table holds every metric with its help text; the reference documentation
// is generated from it. Where Kafka has a JMX metric with the same meaning, the
// name is the one the JMX exporter gives it with lower-case names, so that
// dashboards and alerts made for Kafka work; what is ours alone begins with
// troupe_.
//
// A Node owns its own Prometheus registry, there is no global one. Counting on
// the hot path costs a few atomic additions and allocates nothing; gauges that
// exist once per partition are read from a snapshot when a scrape asks, so that
// idle partitions cost nothing. The listener and the actors count through small
// interfaces which they declare themselves; only the wiring of the node imports
// this package.
package metrics

// Kind is the type of a metric in Prometheus' terms.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Def defines one metric.
type Def struct {
	Name   string
	Kind   Kind
	Labels []string
	// Help says what is counted, in which unit.
	Help string
	// Buckets are the upper bounds of a histogram, in the unit of the metric.
	Buckets []float64
}

// id is the place of a metric in the table.
type id int

const (
	buildInfo id = iota

	requests
	requestErrors
	requestTimeMs
	connections
	connectionsCreated
	connectionsRejected
	fetchSessions
	fetchSessionPartitions
	fetchSessionEvictions
	sessions
	clientBytesIn
	clientBytesOut

	messagesIn
	bytesIn
	bytesOut
	totalProduceRequests
	failedProduceRequests
	totalFetchRequests
	failedFetchRequests

	replicationBytesIn
	replicationBytesOut

	partitionCount
	leaderCount
	underReplicated
	underMinISR
	atMinISR
	reassigning
	offlineReplicas
	isrShrinks
	isrExpands
	maxLag

	logSize
	logStartOffset
	logEndOffset
	logSegments
	highWatermark
	logFlushMs

	compactionMs
	compactionRead
	compactionRemoved
	maxDirtyPercent
	uncleanable
	sinceCompaction

	activeControllers
	activeBrokers
	fencedBrokers
	globalTopics
	globalPartitions
	offlinePartitions
	notPreferred

	dirTotalBytes
	dirFreeBytes
	dirUsedBytes
	dirOnline

	groupMembers
	groupOffset
	groupOffsetSum
	groupLag
	groupLagSum
	groupLagSeconds
	groupLeftOut

	recoveryPending
	recoveryDone
	recoveryMs
	recoveryTruncatedBytes

	coordinatorPartitions
	coordinatorMembers

	actorMailbox
	actorRestarts
	deadLetters

	budgetUsed
	budgetLimit

	idCount
)

// Table returns the definitions of all metrics, those of one subsystem together.
// The caller may keep and change the slice.
func Table() []Def {
	return append([]Def(nil), table[:]...)
}

var (
	perPartition = []string{"topic", "partition"}
	perTopic     = []string{"topic"}
	perGroup     = []string{"consumergroup"}
	perGroupTop  = []string{"consumergroup", "topic"}
	perGroupPart = []string{"consumergroup", "topic", "partition"}
	perDir       = []string{"dir"}
	perKind      = []string{"kind"}
	perKindState = []string{"kind", "state"}
	perBudget    = []string{"budget"}

	// requestMsBuckets reach from a request answered from memory to a Fetch
	// that waits its whole fetch.max.wait.ms, and the timeouts behind it.
	requestMsBuckets = []float64{
		0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30000,
	}
	compactionMsBuckets = []float64{
		10, 50, 100, 500, 1000, 5000, 30000, 60000, 300000, 900000, 3600000,
	}
	diskMsBuckets = []float64{
		0.1, 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30000,
	}
)

var table = [idCount]Def{
	buildInfo: {"troupe_build_info", Gauge, []string{"version", "commit", "go"},
		"Always 1; the labels say which build of Troupe runs.", nil},

	requests: {"kafka_network_requestmetrics_requests_total", Counter,
		[]string{"request", "version"},
		"Requests received, by API and version. Fetch is named FetchConsumer, as in Kafka.",
		nil},
	requestErrors: {"kafka_network_requestmetrics_errors_total", Counter,
		[]string{"request", "error"},
		"Partitions of Produce and Fetch requests answered with an error, by API and " +
			"Kafka's name of the error.", nil},
	requestTimeMs: {"kafka_network_requestmetrics_totaltimems", Histogram,
		[]string{"request"},
		"Milliseconds from reading a request to handing its response to the socket. " +
			"A Fetch that waits for data includes the wait.", requestMsBuckets},
	connections: {"kafka_server_socket_server_metrics_connection_count", Gauge, nil,
		"Client connections open now.", nil},
	connectionsCreated: {"kafka_server_socket_server_metrics_connection_creation_total",
		Counter, nil, "Client connections accepted.", nil},
	connectionsRejected: {"troupe_network_connections_rejected_total", Counter,
		[]string{"reason"},
		"Connections closed by this node before their time, by reason.", nil},
	fetchSessions: {"kafka_server_fetchsessioncache_numincrementalfetchsessions", Gauge, nil,
		"Fetch sessions this node keeps.", nil},
	fetchSessionPartitions: {"kafka_server_fetchsessioncache_numincrementalfetchpartitionscached",
		Gauge, nil, "Partitions of these sessions.", nil},
	fetchSessionEvictions: {"kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total",
		Counter, nil, "Fetch sessions that made way for others.", nil},
	sessions: {"troupe_sdk_sessions", Gauge, nil,
		"Programs that use the SDK and have a session here now.", nil},
	clientBytesIn: {"troupe_network_received_bytes_total", Counter, nil,
		"Bytes of request frames read from clients.", nil},
	clientBytesOut: {"troupe_network_sent_bytes_total", Counter, nil,
		"Bytes of response frames written to clients.", nil},

	messagesIn: {"kafka_server_brokertopicmetrics_messagesin_total", Counter, perTopic,
		"Records appended for producers.", nil},
	bytesIn: {"kafka_server_brokertopicmetrics_bytesin_total", Counter, perTopic,
		"Bytes of record batches appended for producers, as sent.", nil},
	bytesOut: {"kafka_server_brokertopicmetrics_bytesout_total", Counter, perTopic,
		"Bytes of record batches sent to consumers.", nil},
	totalProduceRequests: {"kafka_server_brokertopicmetrics_totalproducerequests_total",
		Counter, perTopic, "Partitions written to by Produce requests.", nil},
	failedProduceRequests: {"kafka_server_brokertopicmetrics_failedproducerequests_total",
		Counter, perTopic, "Partitions of Produce requests answered with an error.", nil},
	totalFetchRequests: {"kafka_server_brokertopicmetrics_totalfetchrequests_total",
		Counter, perTopic, "Partitions read by Fetch requests; with a fetch session, those that the " +
			"answer tells of.", nil},
	failedFetchRequests: {"kafka_server_brokertopicmetrics_failedfetchrequests_total",
		Counter, perTopic, "Partitions of Fetch requests answered with an error.", nil},

	replicationBytesIn: {"kafka_server_brokertopicmetrics_replicationbytesin_total", Counter, nil,
		"Bytes of record batches that followers on this node got from their leaders.", nil},
	replicationBytesOut: {"kafka_server_brokertopicmetrics_replicationbytesout_total", Counter, nil,
		"Bytes of record batches that leaders on this node gave to followers.", nil},

	partitionCount: {"kafka_server_replicamanager_partitioncount", Gauge, nil,
		"Replicas this node holds.", nil},
	leaderCount: {"kafka_server_replicamanager_leadercount", Gauge, nil,
		"Partitions this node leads.", nil},
	underReplicated: {"kafka_server_replicamanager_underreplicatedpartitions", Gauge, nil,
		"Partitions led here with replicas that are not in sync.", nil},
	underMinISR: {"kafka_server_replicamanager_underminisrpartitioncount", Gauge, nil,
		"Partitions led here with fewer in-sync replicas than min.insync.replicas.", nil},
	atMinISR: {"kafka_server_replicamanager_atminisrpartitioncount", Gauge, nil,
		"Partitions led here with just as many in-sync replicas as min.insync.replicas.", nil},
	reassigning: {"kafka_server_replicamanager_reassigningpartitions", Gauge, nil,
		"Partitions led here that are on the way to other replicas.", nil},
	offlineReplicas: {"kafka_server_replicamanager_offlinereplicacount", Gauge, nil,
		"Replicas of this node that are offline: their data directory failed, " +
			"or they failed too often.", nil},
	isrShrinks: {"kafka_server_replicamanager_isrshrinks_total", Counter, nil,
		"Times a partition led here lost in-sync replicas.", nil},
	isrExpands: {"kafka_server_replicamanager_isrexpands_total", Counter, nil,
		"Times a partition led here gained in-sync replicas.", nil},
	maxLag: {"kafka_server_replicafetchermanager_maxlag", Gauge, []string{"clientid"},
		"Records that the follower on this node that is the furthest behind has yet to fetch.", nil},

	logSize: {"kafka_log_log_size", Gauge, perPartition,
		"Bytes of record batches in the partition's log on this node.", nil},
	logStartOffset: {"kafka_log_log_logstartoffset", Gauge, perPartition,
		"First offset of the partition.", nil},
	logEndOffset: {"kafka_log_log_logendoffset", Gauge, perPartition,
		"Offset the next record gets.", nil},
	logSegments: {"kafka_log_log_numlogsegments", Gauge, perPartition,
		"Segments of the partition's log.", nil},
	highWatermark: {"kafka_cluster_partition_highwatermark", Gauge, perPartition,
		"Offset up to which consumers may read.", nil},
	logFlushMs: {"kafka_log_logflushstats_logflushrateandtimems", Histogram, nil,
		"Milliseconds a flush of a log to disk took.", diskMsBuckets},

	compactionMs: {"troupe_log_compaction_timems", Histogram, nil,
		"Milliseconds a compaction of a log took; its count is that of the compactions.",
		compactionMsBuckets},
	compactionRead: {"troupe_log_compaction_read_bytes_total", Counter, nil,
		"Bytes of record batches that compactions read, those they read twice counted twice.", nil},
	compactionRemoved: {"troupe_log_compaction_removed_bytes_total", Counter, nil,
		"Bytes of record batches that compactions removed.", nil},
	maxDirtyPercent: {"kafka_log_logcleanermanager_max_dirty_percent", Gauge, nil,
		"Percent of a compacted log on this node that could be compacted, of the log with the most, " +
			"when it was last looked at.", nil},
	uncleanable: {"kafka_log_logcleanermanager_uncleanable_partitions_count", Gauge, nil,
		"Compacted logs on this node that cannot be compacted and only grow.", nil},
	sinceCompaction: {"kafka_log_logcleanermanager_time_since_last_run_ms", Gauge, nil,
		"Milliseconds since a compaction ended, or since the start of the node.", nil},

	activeControllers: {"kafka_controller_kafkacontroller_activecontrollercount", Gauge, nil,
		"1 if this node is the controller, else 0.", nil},
	activeBrokers: {"kafka_controller_kafkacontroller_activebrokercount", Gauge, nil,
		"Live nodes of the cluster, as this node knows it.", nil},
	fencedBrokers: {"kafka_controller_kafkacontroller_fencedbrokercount", Gauge, nil,
		"Nodes of the cluster that are registered and not alive, as this node knows it.", nil},
	globalTopics: {"kafka_controller_kafkacontroller_globaltopiccount", Gauge, nil,
		"Topics of the cluster, as this node knows it.", nil},
	globalPartitions: {"kafka_controller_kafkacontroller_globalpartitioncount", Gauge, nil,
		"Partitions of the cluster, as this node knows it.", nil},
	offlinePartitions: {"kafka_controller_kafkacontroller_offlinepartitionscount", Gauge, nil,
		"Partitions of the cluster without a leader, as this node knows it.", nil},
	notPreferred: {"kafka_controller_kafkacontroller_preferredreplicaimbalancecount", Gauge, nil,
		"Partitions of the cluster not led by their preferred replica, as this node knows it.", nil},

	dirTotalBytes: {"troupe_log_dir_size_bytes", Gauge, perDir,
		"Size of the disk that holds the data directory.", nil},
	dirFreeBytes: {"troupe_log_dir_free_bytes", Gauge, perDir,
		"Bytes free for this node on the disk of the data directory.", nil},
	dirUsedBytes: {"troupe_log_dir_used_bytes", Gauge, perDir,
		"Bytes of record batches in the data directory.", nil},
	dirOnline: {"troupe_log_dir_online", Gauge, perDir,
		"1 while the data directory works, 0 after a disk error took it offline.", nil},

	groupMembers: {"kafka_consumergroup_members", Gauge, perGroup,
		"Members of a group that this node coordinates.", nil},
	groupOffset: {"kafka_consumergroup_current_offset", Gauge, perGroupPart,
		"Offset that a group coordinated here has committed in a partition.", nil},
	groupOffsetSum: {"kafka_consumergroup_current_offset_sum", Gauge, perGroupTop,
		"Sum of the offsets that a group coordinated here has committed in a topic.", nil},
	groupLag: {"kafka_consumergroup_lag", Gauge, perGroupPart,
		"Offsets between what a group coordinated here has committed and the high watermark. " +
			"Absent while the leader of the partition cannot be asked.", nil},
	groupLagSum: {"kafka_consumergroup_lag_sum", Gauge, perGroupTop,
		"Sum of the lags of a group coordinated here in a topic, of partitions whose lag is known.",
		nil},
	groupLagSeconds: {"kafka_consumergroup_lag_seconds", Gauge, perGroupPart,
		"Age of the first record that a group coordinated here has yet to read: seconds since its " +
			"timestamp, 0 if there is none. Absent where it is not known.", nil},
	groupLeftOut: {"troupe_consumergroup_partitions_left_out", Gauge, nil,
		"Partitions that groups coordinated here have committed to and that have no series, as " +
			"there are more than metrics.consumer.lag.max.partitions.", nil},

	recoveryPending: {"troupe_recovery_pending_partitions", Gauge, nil,
		"Partitions this node has yet to open after its start.", nil},
	recoveryDone: {"troupe_recovery_partitions_total", Counter, nil,
		"Partitions opened and, after a crash, recovered.", nil},
	recoveryMs: {"troupe_recovery_timems", Histogram, nil,
		"Milliseconds it took to open a partition, with its recovery.", diskMsBuckets},
	recoveryTruncatedBytes: {"troupe_recovery_truncated_bytes_total", Counter, nil,
		"Bytes cut off logs by recovery, because they held no whole batch.", nil},

	coordinatorPartitions: {"troupe_coordinator_partitions", Gauge, perKindState,
		"Partitions of an internal topic that this node coordinates for: those that are active, " +
			"and those that it is still reading (loading).", nil},
	coordinatorMembers: {"troupe_coordinator_members", Gauge, perKind,
		"Groups, or transactional ids, that this node coordinates.", nil},

	actorMailbox: {"troupe_actor_mailbox_depth", Gauge, perKind,
		"Messages that wait in the mailboxes of the actors of a kind.", nil},
	actorRestarts: {"troupe_actor_restarts_total", Counter, perKind,
		"Actors restarted by their supervisor after a panic.", nil},
	deadLetters: {"troupe_actor_dead_letters_total", Counter, nil,
		"Messages to actors that no longer exist.", nil},

	budgetUsed: {"troupe_budget_used", Gauge, perBudget,
		"What is taken of a bounded resource, in the unit of its limit.", nil},
	budgetLimit: {"troupe_budget_limit", Gauge, perBudget,
		"Bound of a resource: bytes for memory, a count for everything else.", nil},
}
