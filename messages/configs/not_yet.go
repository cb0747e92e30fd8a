package configs

// Why settings have no effect in this version. They are known, so that files and
// topics can be shared with Kafka; a row leaves this file when somebody obeys it.
const (
	noShares = "Troupe has no share groups yet"
	noLogin  = "Troupe has no authentication yet"
	noPace   = "idle producers are looked for when their log is looked after"
	noCheck  = "transactions that are over their time are ended when it is up, not in rounds"
	noRounds = "transactional ids that are idle are forgotten when their time is up, not in rounds"
)

// notYet is the NoEffect of these settings, of nodes and of topics.
var notYet = map[string]string{
	"group.share.max.session.timeout.ms": noShares,
	"group.share.min.session.timeout.ms": noShares,
	"group.share.session.timeout.ms":     noShares,

	"transaction.abort.timed.out.transaction.cleanup.interval.ms": noCheck,
	"transaction.remove.expired.transaction.cleanup.interval.ms":  noRounds,

	"producer.id.expiration.check.interval.ms": noPace,
	"sasl.server.max.receive.size":             noLogin,
}
