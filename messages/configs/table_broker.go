package configs

import "strconv"

// brokerTable holds the settings of nodes but for those of the coordinators.
// Those that topics have under the same name stand in topicTable.
var brokerTable = []Def{
	{Name: "actor.listener", Type: String, Optional: true, Troupe: true,
		Doc: "host:port where this node's actors listen to other nodes, and to programs that use the " +
			"SDK. Unset, a node on its own opens no such port, and one of a cluster takes a free one " +
			"where its clients reach it."},
	{Name: "actor.ssl.ca.file", Type: String, Optional: true, Troupe: true,
		Doc: "PEM file of the authorities that sign for whoever may connect to this node's actors, " +
			"and for those that it connects to: nodes, and programs that use the SDK. It and the two " +
			"settings below are set together; TLS 1.3 then secures these connections both ways, and a " +
			"peer without a certificate is refused. The replicas' own connections (bulk.listener) and " +
			"those of Kafka clients are not encrypted."},
	{Name: "actor.ssl.certificate.file", Type: String, Optional: true, Troupe: true,
		Doc: "PEM file of this node's certificate for both ends of connections between actors, the " +
			"intermediate ones behind it. Programs that use the SDK expect the host of actor.listener " +
			"in it. Read at the start."},
	{Name: "actor.ssl.key.file", Type: String, Optional: true, Troupe: true,
		Doc: "PEM file of the private key of actor.ssl.certificate.file, without a password."},
	{Name: "advertised.listeners", Type: List, Optional: true,
		Doc: "Addresses that clients are told to connect to, as NAME://host:port, when they differ " +
			"from listeners."},
	{Name: "auto.create.topics.enable", Type: Boolean, Default: "true",
		Doc: "Create a topic with the defaults when a client asks for one that does not exist."},
	{Name: "auto.leader.rebalance.enable", Type: Boolean, Default: "true",
		Doc: "Give leadership back to preferred replicas once they are in sync, and nodes their " +
			"share of replicas."},
	{Name: "broker.heartbeat.interval.ms", Type: Int, Default: "500", KafkaDefault: "2000",
		Range: atLeast(10), Unit: "ms",
		Doc: "How often a node tells the controller that it is alive. One that misses three of them " +
			"is probed, and fenced if it does not answer."},
	{Name: "broker.id", Type: Int, Default: "-1", Range: atLeast(-1),
		Doc: "The older name of node.id. -1 means the same as node.id; any other value must equal " +
			"it."},
	{Name: "broker.rack", Type: String, Optional: true,
		Doc: "Where this node stands (rack, zone). Replicas of a partition are spread over racks."},
	{Name: "broker.session.timeout.ms", Type: Int, Default: "9000", Range: atLeast(100), Unit: "ms",
		Doc: "A node that answers probes is fenced all the same when the controller hears nothing " +
			"from it for this long."},
	{Name: "bulk.listener", Type: String, Optional: true, Troupe: true,
		Doc: "host:port where the followers on other nodes fetch records, in a cluster. Unset, a free " +
			"port where clients reach the node."},
	{Name: "cluster.id", Type: String, Optional: true, Troupe: true,
		Doc: "Id of the cluster: up to 64 letters, digits, dots, _ and -. Unset, the first node " +
			"makes one up and keeps it."},
	{Name: "cluster.name", Type: String, Default: "troupe", Troupe: true,
		Doc: "Name of the cluster that the node joins through Consul."},
	{Name: "connections.max.idle.ms", Type: Long, Default: "600000", Range: atLeast(1), Unit: "ms",
		Doc: "A client connection without a request for this long is closed."},
	{Name: "consul.address", Type: String, Optional: true, Troupe: true,
		Doc: "host:port or URL of Consul, through which the nodes of a cluster find each other. Unset, " +
			"the node is a cluster of its own. Token, TLS and namespace come from Consul's own " +
			"environment variables, CONSUL_HTTP_TOKEN and the like."},
	{Name: "consul.service.refresh.ms", Type: Int, Default: "1000", Range: atLeast(50), Unit: "ms",
		Troupe: true, Doc: "How often the node tells Consul that it is alive; at most half of " +
			"consul.service.ttl.ms."},
	{Name: "consul.service.ttl.ms", Type: Int, Default: "3000", Range: atLeast(200), Unit: "ms",
		Troupe: true, Doc: "A node that was silent towards Consul for this long is dropped."},
	{Name: "controlled.shutdown.enable", Type: Boolean, Default: "true",
		Doc: "Move leaders away before a node that is told to stop does so."},
	{Name: "default.replication.factor", Type: Int, Default: "1", Range: atLeast(1), Dynamic: true,
		Doc: "Copies of each partition of a topic whose creator did not say."},
	{Name: "delete.topic.enable", Type: Boolean, Default: "true",
		Doc: "Allow topics to be deleted."},
	{Name: "fetch.max.bytes", Type: Int, Default: "57671680", Range: atLeast(1024), Unit: "bytes",
		Doc: "Most record bytes in one fetch answer, whatever the client asks for."},
	{Name: "follower.replication.throttled.rate", Type: Long, Default: maxLong, Range: atLeast(0),
		Unit: "bytes per second", Dynamic: true,
		Doc: "What the replicas that a topic's follower.replication.throttled.replicas names may " +
			"fetch together on this node while they are not in sync. 0 means no bound, too."},
	{Name: "http.listener", Type: String, Default: "127.0.0.1:8080", Troupe: true,
		Doc: "host:port for HTTP: health, metrics. Port 0 takes any free one, an empty value opens " +
			"none."},
	{Name: "http.pprof.enable", Type: Boolean, Default: "false", Troupe: true,
		Doc: "Serve Go's profiles under /debug/pprof of the HTTP listener."},
	{Name: "leader.imbalance.check.interval.seconds", Type: Long, Default: "300", Range: atLeast(1),
		Unit: "seconds", Doc: "How often the controller looks for leaderships and replicas to move, " +
			"when nothing happened that calls for it at once."},
	{Name: "leader.replication.throttled.rate", Type: Long, Default: maxLong, Range: atLeast(0),
		Unit: "bytes per second", Dynamic: true,
		Doc: "What the replicas that a topic's leader.replication.throttled.replicas names may send " +
			"together from this node to followers that are not in sync. 0 means no bound, too."},
	{Name: "listeners", Type: List, Default: "PLAINTEXT://127.0.0.1:9092",
		KafkaDefault: "PLAINTEXT://:9092",
		Doc: "Where the node listens to Kafka clients, as NAME://host:port. No host means every " +
			"interface; port 0 takes any free one. Unlike Kafka's, the default serves this machine " +
			"alone, unless the node is one of a cluster: clients do not prove who they are yet."},
	{Name: "log.cleaner.backoff.ms", Type: Long, Default: "15000", Range: atLeast(1), Unit: "ms",
		Dynamic: true, Doc: "How often compacted topics are looked at for something to compact."},
	{Name: "log.cleaner.dedupe.buffer.size", Type: Long, Default: "67108864",
		KafkaDefault: "134217728", Range: atLeast(1 << 20), Unit: "bytes", Dynamic: true,
		Doc: "Memory for the keys of a compaction, 32 bytes each, in each data directory. A log with " +
			"more new keys than fit is compacted in several runs. Memory is taken while one runs."},
	{Name: "log.cleaner.delete.retention.ms", Type: Long, Default: "86400000", Range: atLeast(0),
		Unit: "ms", Dynamic: true, Doc: "delete.retention.ms of topics that do not set it."},
	{Name: "log.cleaner.enable", Type: Boolean, Default: "true",
		Doc: "Compact topics whose cleanup.policy has compact. Without it they grow for ever."},
	{Name: "log.cleaner.io.max.bytes.per.second", Type: Double, Default: "1.7976931348623157E308",
		Unit: "bytes per second", Dynamic: true, check: positive,
		Doc: "What compaction may read and write in each data directory; without a bound by default."},
	{Name: "log.cleaner.max.compaction.lag.ms", Type: Long, Default: maxLong, Range: atLeast(1),
		Unit: "ms", Dynamic: true, Doc: "max.compaction.lag.ms of topics that do not set it."},
	{Name: "log.cleaner.min.cleanable.ratio", Type: Double, Default: "0.5", Range: &Range{0, 1},
		Dynamic: true, Doc: "min.cleanable.dirty.ratio of topics that do not set it."},
	{Name: "log.cleaner.min.compaction.lag.ms", Type: Long, Default: "0", Range: atLeast(0),
		Unit:    "ms",
		Dynamic: true, Doc: "min.compaction.lag.ms of topics that do not set it."},
	{Name: "log.cleanup.policy", Type: List, Default: "delete", OneOf: []string{"compact", "delete"},
		Dynamic: true, Doc: "cleanup.policy of topics that do not set it."},
	{Name: "log.dir", Type: String, Optional: true,
		Doc: "The one data directory, for configurations that do not use log.dirs."},
	{Name: "log.dir.max.bytes", Type: Long, Default: "-1", Range: atLeast(-1), Unit: "bytes",
		Troupe: true,
		Doc: "Bytes that the logs in one data directory may take together; at the limit producers " +
			"get a retriable error until retention made space. -1 means that only the disk limits " +
			"them."},
	{Name: "log.dirs", Type: List, Default: "data", KafkaDefault: "null",
		Doc: "Data directories, one for each disk. Partitions are spread over them."},
	{Name: "log.flush.interval.messages", Type: Long, Default: maxLong, Range: atLeast(1),
		Unit: "records", Dynamic: true, Doc: "flush.messages of topics that do not set it."},
	{Name: "log.flush.interval.ms", Type: Long, Default: "1000", KafkaDefault: "null",
		Range: atLeast(0),
		Unit:  "ms", Dynamic: true,
		Doc: "flush.ms of topics that do not set it. Kafka leaves flushing to the operating " +
			"system; Troupe bounds what a power cut can take from a single copy."},
	{Name: "log.flush.scheduler.interval.ms", Type: Long, Default: maxLong, Unit: "ms",
		NoEffect: "log.flush.interval.ms says it all; there is no scheduler to pace",
		Doc:      "How often Kafka looks for logs to flush."},
	{Name: "log.format", Type: String, Default: "auto", OneOf: []string{"auto", "console", "json"},
		Troupe: true, Doc: "Form of the node's own log lines: auto is console on a terminal, else " +
			"json."},
	{Name: "log.index.interval.bytes", Type: Int, Default: "4096", Range: atLeast(0), Unit: "bytes",
		Dynamic: true, Doc: "index.interval.bytes of topics that do not set it."},
	{Name: "log.index.size.max.bytes", Type: Int, Default: "10485760", Range: atLeast(4),
		Unit:    "bytes",
		Dynamic: true, Doc: "segment.index.bytes of topics that do not set it."},
	{Name: "log.level", Type: String, Default: "info",
		OneOf: []string{"trace", "debug", "info", "warn", "error"}, Troupe: true,
		Doc: "Least important log lines that the node still writes."},
	{Name: "log.local.retention.bytes", Type: Long, Default: "-2", Range: atLeast(-2), Unit: "bytes",
		Dynamic: true, NoEffect: noTiering, Doc: "local.retention.bytes of topics that do not set " +
			"it."},
	{Name: "log.local.retention.ms", Type: Long, Default: "-2", Range: atLeast(-2), Unit: "ms",
		Dynamic: true, NoEffect: noTiering, Doc: "local.retention.ms of topics that do not set it."},
	{Name: "log.message.timestamp.after.max.ms", Type: Long, Default: "3600000", Range: atLeast(0),
		Unit: "ms", Dynamic: true, Doc: "message.timestamp.after.max.ms of topics that do not set " +
			"it."},
	{Name: "log.message.timestamp.before.max.ms", Type: Long, Default: maxLong, Range: atLeast(0),
		Unit: "ms", Dynamic: true, Doc: "message.timestamp.before.max.ms of topics that do not set " +
			"it."},
	{Name: "log.message.timestamp.type", Type: String, Default: "CreateTime", Dynamic: true,
		OneOf: []string{"CreateTime", "LogAppendTime"},
		Doc:   "message.timestamp.type of topics that do not set it."},
	{Name: "log.preallocate", Type: Boolean, Default: "false", Dynamic: true,
		Doc: "preallocate of topics that do not set it."},
	{Name: "log.retention.bytes", Type: Long, Default: "-1", Unit: "bytes", Dynamic: true,
		Doc: "retention.bytes of topics that do not set it; it counts for each partition."},
	{Name: "log.retention.check.interval.ms", Type: Long, Default: "300000", Range: atLeast(1),
		Unit: "ms",
		Doc:  "How often old segments are looked for."},
	{Name: "log.retention.hours", Type: Int, Default: "168", Unit: "hours",
		Doc: "retention.ms of topics that do not set it, when neither log.retention.ms nor " +
			"log.retention.minutes is set; negative keeps records for ever."},
	{Name: "log.retention.minutes", Type: Int, Optional: true, Unit: "minutes",
		Doc: "retention.ms of topics that do not set it, when log.retention.ms is not set."},
	{Name: "log.retention.ms", Type: Long, Optional: true, Unit: "ms", Dynamic: true,
		Range: atLeast(-1),
		Doc:   "retention.ms of topics that do not set it; -1 keeps records for ever."},
	{Name: "log.roll.hours", Type: Int, Default: "168", Range: atLeast(1), Unit: "hours",
		Doc: "segment.ms of topics that do not set it, when log.roll.ms is not set."},
	{Name: "log.roll.jitter.hours", Type: Int, Default: "0", Range: atLeast(0), Unit: "hours",
		Doc: "segment.jitter.ms of topics that do not set it, when log.roll.jitter.ms is not set."},
	{Name: "log.roll.jitter.ms", Type: Long, Optional: true, Range: atLeast(0), Unit: "ms",
		Dynamic: true,
		Doc:     "segment.jitter.ms of topics that do not set it."},
	{Name: "log.roll.ms", Type: Long, Optional: true, Range: atLeast(1), Unit: "ms", Dynamic: true,
		Doc: "segment.ms of topics that do not set it."},
	{Name: "log.segment.bytes", Type: Int, Default: "1073741824", Range: atLeast(1 << 20),
		Unit:    "bytes",
		Dynamic: true, Doc: "segment.bytes of topics that do not set it."},
	{Name: "log.segment.delete.delay.ms", Type: Long, Default: "60000", Range: atLeast(0), Unit: "ms",
		Dynamic: true, Doc: "file.delete.delay.ms of topics that do not set it."},
	{Name: "max.connections", Type: Int, Default: "2147483647", Range: atLeast(0),
		Doc: "Client connections a node accepts at a time. Sessions of programs that use the SDK are " +
			"counted by themselves, and as many are let in."},
	{Name: "max.connections.per.ip", Type: Int, Default: "2147483647", Range: atLeast(0),
		NoEffect: "connections are not counted by address; max.connections bounds them together",
		Doc:      "Client connections a node accepts at a time from one address."},
	{Name: "max.incremental.fetch.session.cache.slots", Type: Int, Default: "1000", Range: atLeast(0),
		Doc: "Fetch sessions (KIP-227) a node keeps at a time: with one, a consumer's requests and " +
			"their answers name only the partitions with something new. Above it, sessions make way " +
			"that were not used for 120 s or have fewer partitions; clients without one name all " +
			"partitions in each request."},
	{Name: "message.max.bytes", Type: Int, Default: "1048588", Range: atLeast(0), Unit: "bytes",
		Dynamic: true, Doc: "max.message.bytes of topics that do not set it."},
	{Name: "metrics.consumer.lag.max.partitions", Type: Int, Default: "10000",
		Range:   &Range{Min: 0, Max: 1_000_000},
		Dynamic: true, Troupe: true,
		Doc: "Partitions, over all the groups a node coordinates, that the metrics of consumer lag " +
			"show; 0 switches these metrics off."},
	{Name: "node.drain", Type: Boolean, Default: "false", Dynamic: true, Troupe: true,
		Doc: "Empty this node: its replicas and leaderships move to others, and it gets no new ones. " +
			"Set at run time for one node, as \"troupe node drain\" does."},
	{Name: "node.id", Type: Int, Default: "1", KafkaDefault: "null", Range: atLeast(0),
		Doc: "Number of this node, unlike that of any other node of the cluster."},
	{Name: "num.partitions", Type: Int, Default: "1", Range: atLeast(1), Dynamic: true,
		Doc: "Partitions of a topic whose creator did not say."},
	{Name: "num.recovery.threads.per.data.dir", Type: Int, Default: "2", Range: atLeast(1),
		Doc: "Logs of one data directory that are recovered side by side after an unclean stop."},
	{Name: "producer.id.expiration.check.interval.ms", Type: Int, Default: "600000", Range: atLeast(1),
		Unit: "ms", Doc: "How often idle producers are looked for."},
	{Name: "producer.id.expiration.ms", Type: Int, Default: "86400000", Range: atLeast(1), Unit: "ms",
		Dynamic: true,
		Doc:     "How long a partition remembers an idempotent producer that sends nothing."},
	{Name: "queued.max.request.bytes", Type: Long, Default: "268435456", KafkaDefault: "-1",
		Range: atLeast(-1), Unit: "bytes",
		Doc: "Bytes of requests a node holds at a time, all connections together; at the limit it " +
			"stops reading. Sessions of programs that use the SDK together may hold as much; at the " +
			"limit they are told to send later. Kafka's default is no limit (-1); Troupe's bounds the " +
			"memory of a node."},
	{Name: "rebalance.max.partitions", Type: Int, Default: "10", Range: atLeast(1), Troupe: true,
		Doc: "Partitions that are moved at a time when the cluster spreads its load over its nodes."},
	{Name: "replica.fetch.max.bytes", Type: Int, Default: "1048576", Range: atLeast(1), Unit: "bytes",
		Doc: "Bytes a follower asks its leader for at a time, for one partition. A batch that is " +
			"larger comes whole all the same."},
	{Name: "replica.lag.time.max.ms", Type: Long, Default: "30000", Range: atLeast(1), Unit: "ms",
		Doc: "How long a follower may stay behind the log end before it leaves the in-sync " +
			"replicas."},
	{Name: "sasl.server.max.receive.size", Type: Int, Default: "524288", Range: atLeast(1),
		Unit: "bytes",
		Doc:  "Largest request of a connection that has not authenticated itself yet."},
	{Name: "socket.request.max.bytes", Type: Int, Default: "104857600", Range: atLeast(1),
		Unit: "bytes",
		Doc:  "Largest request; a connection that announces a larger one is closed."},
}

// positive refuses a rate at which nothing would ever be done.
func positive(v string) string {
	if f, err := strconv.ParseFloat(v, 64); err != nil || f <= 0 {
		return "a number above 0"
	}
	return ""
}
