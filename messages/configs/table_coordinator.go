package configs

const maxInt = "2147483647"

// ownReplicas explains where internal topics of Troupe differ from Kafka's.
const ownReplicas = " With fewer nodes than that, there is one copy on each node, and nodes " +
	"that join later get theirs; Kafka refuses to create the topic instead."

// fewAlone explains where a node on its own has fewer partitions than the default.
const fewAlone = " A node on its own makes it with 4 unless this is set."

// within says which group settings bound another one.
const within = " One outside of the shortest and the longest counts as the nearer of them."

// coordinatorTable holds the node settings of group and transaction coordinators.
var coordinatorTable = []Def{
	{Name: "group.consumer.assignors", Type: List, Default: "uniform,range",
		OneOf: []string{"uniform", "range"},
		Doc: "Assignors that groups of the consumer protocol may use (KIP-848); the first is the " +
			"default."},
	{Name: "group.consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Range: atLeast(1),
		Unit: "ms", Dynamic: true,
		Doc: "How often members of the consumer protocol are told to send a heartbeat." + within},
	{Name: "group.consumer.max.heartbeat.interval.ms", Type: Int, Default: "15000", Range: atLeast(1),
		Unit: "ms", Doc: "Longest heartbeat interval a group of the consumer protocol may be given."},
	{Name: "group.consumer.max.session.timeout.ms", Type: Int, Default: "60000", Range: atLeast(1),
		Unit: "ms", Doc: "Longest session timeout a group of the consumer protocol may be given."},
	{Name: "group.consumer.max.size", Type: Int, Default: maxInt, Range: atLeast(1),
		Doc: "Most members of one group of the consumer protocol."},
	{Name: "group.consumer.min.heartbeat.interval.ms", Type: Int, Default: "5000", Range: atLeast(1),
		Unit: "ms", Doc: "Shortest heartbeat interval a group of the consumer protocol may be " +
			"given."},
	{Name: "group.consumer.min.session.timeout.ms", Type: Int, Default: "45000", Range: atLeast(1),
		Unit: "ms", Doc: "Shortest session timeout a group of the consumer protocol may be given."},
	{Name: "group.consumer.session.timeout.ms", Type: Int, Default: "45000", Range: atLeast(1),
		Unit: "ms", Dynamic: true,
		Doc: "A member of the consumer protocol that is silent for this long is removed." + within},
	{Name: "group.initial.rebalance.delay.ms", Type: Int, Default: "3000", Range: atLeast(0),
		Unit: "ms",
		Doc: "How long a new classic group waits for more members before its first rebalance. On a " +
			"node on its own it waits for nobody unless this is set."},
	{Name: "group.max.session.timeout.ms", Type: Int, Default: "1800000", Range: atLeast(1),
		Unit: "ms",
		Doc:  "Longest session timeout a classic consumer may ask for."},
	{Name: "group.max.size", Type: Int, Default: maxInt, Range: atLeast(1),
		Doc: "Most members of one classic group."},
	{Name: "group.min.session.timeout.ms", Type: Int, Default: "6000", Range: atLeast(1), Unit: "ms",
		Doc: "Shortest session timeout a classic consumer may ask for."},
	{Name: "group.share.max.session.timeout.ms", Type: Int, Default: "60000", Range: atLeast(1),
		Unit: "ms", Doc: "Longest session timeout a share group may be given."},
	{Name: "group.share.min.session.timeout.ms", Type: Int, Default: "45000", Range: atLeast(1),
		Unit: "ms", Doc: "Shortest session timeout a share group may be given."},
	{Name: "group.share.session.timeout.ms", Type: Int, Default: "45000", Range: atLeast(1),
		Unit: "ms", Dynamic: true, Doc: "A member of a share group that is silent for this long is " +
			"removed."},
	{Name: "offset.metadata.max.bytes", Type: Int, Default: "4096", Range: atLeast(0), Unit: "bytes",
		Doc: "Longest metadata text of one committed offset."},
	{Name: "offsets.commit.timeout.ms", Type: Int, Default: "5000", Range: atLeast(1), Unit: "ms",
		Doc: "How long a commit may wait for its replicas."},
	{Name: "offsets.retention.check.interval.ms", Type: Long, Default: "600000", Range: atLeast(1),
		Unit: "ms", Doc: "How often expired offsets are looked for."},
	{Name: "offsets.retention.minutes", Type: Int, Default: "10080", Range: atLeast(1),
		Unit: "minutes",
		Doc:  "How long the committed offsets of a group without members are kept."},
	{Name: "offsets.topic.num.partitions", Type: Int, Default: "50", Range: atLeast(1),
		Doc: "Partitions of the topic that holds committed offsets. Must not change once " +
			"it exists." + fewAlone},
	{Name: "offsets.topic.replication.factor", Type: Short, Default: "3", Range: atLeast(1),
		Doc: "Copies of each partition of the topic that holds committed offsets." + ownReplicas},
	{Name: "offsets.topic.segment.bytes", Type: Int, Default: "104857600", Range: atLeast(1),
		Unit: "bytes", Doc: "segment.bytes of the topic that holds committed offsets."},
	{Name: "transaction.abort.timed.out.transaction.cleanup.interval.ms", Type: Int, Default: "10000",
		Range: atLeast(1), Unit: "ms", Doc: "How often transactions that ran out of time are " +
			"looked for."},
	{Name: "transaction.max.timeout.ms", Type: Int, Default: "900000", Range: atLeast(1), Unit: "ms",
		Doc: "Longest transaction timeout a producer may ask for."},
	{Name: "transaction.partition.verification.enable", Type: Boolean, Default: "true", Dynamic: true,
		Doc: "Ask the coordinator whether a partition is part of the transaction before its first " +
			"batch."},
	{Name: "transaction.remove.expired.transaction.cleanup.interval.ms", Type: Int, Default: "3600000",
		Range: atLeast(1), Unit: "ms", Doc: "How often expired transactional ids are looked for."},
	{Name: "transaction.state.log.min.isr", Type: Int, Default: "2", Range: atLeast(1),
		Doc: "min.insync.replicas of the topic that holds transactions, or the number of its " +
			"copies if that is less."},
	{Name: "transaction.state.log.num.partitions", Type: Int, Default: "50", Range: atLeast(1),
		Doc: "Partitions of the topic that holds transactions. Must not change once it exists." +
			fewAlone},
	{Name: "transaction.state.log.replication.factor", Type: Short, Default: "3", Range: atLeast(1),
		Doc: "Copies of each partition of the topic that holds transactions." + ownReplicas},
	{Name: "transaction.state.log.segment.bytes", Type: Int, Default: "104857600", Range: atLeast(1),
		Unit: "bytes", Doc: "segment.bytes of the topic that holds transactions."},
	{Name: "transactional.id.expiration.ms", Type: Int, Default: "604800000", Range: atLeast(1),
		Unit: "ms", Doc: "How long an idle transactional id is remembered."},
}
