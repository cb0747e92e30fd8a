package configs

// Why settings have no effect in this version. They are known, so that files and
// topics can be shared with Kafka; a row leaves this file when somebody obeys it.
const (
	noGroups = "Troupe has no consumer groups yet"
	noTxns   = "Troupe has no transactions yet"
	noLogin  = "Troupe has no authentication yet"
	noPace   = "idle producers are looked for when their log is looked after"
)

// notYet is the NoEffect of these settings, of nodes and of topics.
var notYet = map[string]string{
	"group.consumer.assignors":                 noGroups,
	"group.consumer.heartbeat.interval.ms":     noGroups,
	"group.consumer.max.heartbeat.interval.ms": noGroups,
	"group.consumer.max.session.timeout.ms":    noGroups,
	"group.consumer.max.size":                  noGroups,
	"group.consumer.min.heartbeat.interval.ms": noGroups,
	"group.consumer.min.session.timeout.ms":    noGroups,
	"group.consumer.session.timeout.ms":        noGroups,
	"group.initial.rebalance.delay.ms":         noGroups,
	"group.max.session.timeout.ms":             noGroups,
	"group.max.size":                           noGroups,
	"group.min.session.timeout.ms":             noGroups,
	"group.share.max.session.timeout.ms":       noGroups,
	"group.share.min.session.timeout.ms":       noGroups,
	"group.share.session.timeout.ms":           noGroups,
	"offset.metadata.max.bytes":                noGroups,
	"offsets.commit.timeout.ms":                noGroups,
	"offsets.retention.check.interval.ms":      noGroups,
	"offsets.retention.minutes":                noGroups,
	"offsets.topic.num.partitions":             noGroups,
	"offsets.topic.replication.factor":         noGroups,
	"offsets.topic.segment.bytes":              noGroups,

	"transaction.abort.timed.out.transaction.cleanup.interval.ms": noTxns,
	"transaction.max.timeout.ms":                                  noTxns,
	"transaction.partition.verification.enable":                   noTxns,
	"transaction.remove.expired.transaction.cleanup.interval.ms":  noTxns,
	"transaction.state.log.min.isr":                               noTxns,
	"transaction.state.log.num.partitions":                        noTxns,
	"transaction.state.log.replication.factor":                    noTxns,
	"transaction.state.log.segment.bytes":                         noTxns,
	"transactional.id.expiration.ms":                              noTxns,

	"producer.id.expiration.check.interval.ms": noPace,
	"sasl.server.max.receive.size":             noLogin,
}
