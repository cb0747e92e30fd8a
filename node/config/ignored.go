package config

import (
	"slices"
	"strings"
)

// Foreign is a setting of Kafka, or a group of them, that is none of Troupe's.
type Foreign struct {
	Name    string // a name, or the beginning of names and "*"
	Why     string
	Refused bool // else it is accepted and ignored
}

// Foreigners returns all settings of Kafka that are known and none of Troupe's,
// sorted by name. The slice is the caller's.
func Foreigners() []Foreign {
	var all []Foreign
	for _, g := range meaninglessGroups {
		all = append(all, Foreign{Name: g.prefix + "*", Why: g.why})
	}
	for name, why := range meaninglessSettings {
		all = append(all, Foreign{Name: name, Why: why})
	}
	for name, why := range refused {
		all = append(all, Foreign{Name: name, Why: why, Refused: true})
	}
	slices.SortFunc(all, func(a, b Foreign) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Why settings of Kafka mean nothing here.
const (
	noZooKeeper  = "Troupe has no ZooKeeper"
	noQuorum     = "Troupe has no KRaft quorum"
	noThreads    = "Troupe has no thread pools to size"
	noBuffers    = "the operating system sizes socket buffers"
	noSecurity   = "Troupe serves PLAINTEXT listeners only"
	noTiering    = "Troupe has no tiered storage"
	noQuotas     = "Troupe has no quotas"
	noShares     = "Troupe has no share groups"
	noStreams    = "Troupe has no streams groups"
	noPurgatory  = "Troupe has no purgatory"
	noJMX        = "Troupe has no JMX; see /metrics"
	noFetchers   = "replication between nodes is not by Kafka's fetchers"
	noCleaner    = "Troupe compacts one log at a time in each data directory"
	noConfluent  = "Confluent's additions are not part of Troupe"
	noPlugins    = "Troupe loads no Java classes"
	removed      = "Kafka removed it, too"
	noCheckpoint = "Troupe writes its checkpoints when a log needs one"
	noPacing     = "Troupe has no such background work to pace"
	noChoice     = "Troupe has no such choice"
	forListeners = "read only to tell which listeners are for clients"
)

// meaninglessGroups are settings of Kafka by the beginning of their names.
var meaninglessGroups = []struct{ prefix, why string }{
	{"zookeeper.", noZooKeeper},
	{"controller.quorum.", noQuorum},
	{"controller.performance.", noQuorum},
	{"controller.quota.", noQuotas},
	{"metadata.", noQuorum},
	{"ssl.", noSecurity},
	{"sasl.", noSecurity},
	{"listener.name.", noSecurity},
	{"security.", noSecurity},
	{"password.encoder.", noSecurity},
	{"delegation.token.", noSecurity},
	{"remote.", noTiering},
	{"share.coordinator.", noShares},
	{"group.share.", noShares},
	{"share.fetch.purgatory.", noPurgatory},
	{"group.streams.", noStreams},
	{"internal.metadata.", noQuorum},
	{"quota.", noQuotas},
	{"replication.quota.", noQuotas},
	{"alter.log.dirs.replication.quota.", noQuotas},
	{"replica.fetch.", noFetchers},
	{"replica.socket.", noFetchers},
	{"follower.fetch.", noFetchers},
	{"socket.connection.setup.", noFetchers},
	{"kafka.metrics.", noJMX},
	{"metrics.", noJMX},
	{"confluent.", noConfluent},
}

// meaninglessSettings are settings of Kafka by their names.
var meaninglessSettings = map[string]string{
	"process.roles":                          "every node of Troupe can do everything",
	"initial.broker.registration.timeout.ms": noQuorum,
	"server.max.startup.time.ms":             noQuorum,
	"unclean.leader.election.interval.ms":    noPacing,
	"controller.socket.timeout.ms":           noQuorum,
	"control.plane.listener.name":            noQuorum,
	"early.start.listeners":                  noQuorum,
	"unstable.api.versions.enable":           noQuorum,
	"unstable.feature.versions.enable":       noQuorum,
	"controller.listener.names":              forListeners,
	"listener.security.protocol.map":         forListeners,
	"inter.broker.listener.name":             "nodes talk to each other through actor.listener",
	"inter.broker.protocol.version":          removed,
	"log.message.format.version":             removed,
	"log.message.downconversion.enable":      removed,
	"broker.id.generation.enable":            noZooKeeper,
	"reserved.broker.max.id":                 noZooKeeper,

	"num.network.threads":                           noThreads,
	"num.io.threads":                                noThreads,
	"background.threads":                            noThreads,
	"queued.max.requests":                           "queued.max.request.bytes bounds the queue",
	"num.replica.fetchers":                          noThreads,
	"num.replica.alter.log.dirs.threads":            noThreads,
	"group.coordinator.threads":                     noThreads,
	"transaction.coordinator.threads":               noThreads,
	"socket.send.buffer.bytes":                      noBuffers,
	"socket.receive.buffer.bytes":                   noBuffers,
	"socket.listen.backlog.size":                    noBuffers,
	"offsets.load.buffer.size":                      noBuffers,
	"transaction.state.log.load.buffer.size":        noBuffers,
	"request.timeout.ms":                            noFetchers,
	"replica.selector.class":                        noPlugins,
	"replica.high.watermark.checkpoint.interval.ms": noCheckpoint,
	"log.flush.offset.checkpoint.interval.ms":       noCheckpoint,
	"log.flush.start.offset.checkpoint.interval.ms": noCheckpoint,
	"log.dir.failure.timeout.ms":                    noQuorum,
	"log.initial.task.delay.ms":                     noPacing,
	"leader.imbalance.per.broker.percentage":        noPacing,
	"controlled.shutdown.max.retries":               noPacing,
	"controlled.shutdown.retry.backoff.ms":          noPacing,
	"connection.failed.authentication.delay.ms":     noSecurity,
	"connections.max.reauth.ms":                     noSecurity,
	"max.connection.creation.rate":                  noQuotas,
	"max.connections.per.ip.overrides":              noQuotas,
	"max.request.partition.size.limit":              noPacing,
	"telemetry.max.bytes":                           "Troupe takes no metrics from clients",

	"log.cleaner.threads":               noCleaner,
	"log.cleaner.io.buffer.load.factor": noCleaner,
	"log.cleaner.io.buffer.size":        noCleaner,
	"log.message.timestamp.difference.max.ms": "Kafka 4 replaced it by " +
		"log.message.timestamp.before.max.ms and after.max.ms",

	"fetch.purgatory.purge.interval.requests":          noPurgatory,
	"producer.purgatory.purge.interval.requests":       noPurgatory,
	"delete.records.purgatory.purge.interval.requests": noPurgatory,

	"metric.reporters":               noJMX,
	"auto.include.jmx.reporter":      noJMX,
	"config.providers":               noPlugins,
	"client.quota.callback.class":    noPlugins,
	"principal.builder.class":        noPlugins,
	"super.users":                    "there is no authorizer",
	"allow.everyone.if.no.acl.found": "there is no authorizer",

	"offsets.commit.required.acks":               removed,
	"offsets.topic.compression.codec":            noChoice,
	"group.coordinator.append.linger.ms":         noPacing,
	"group.coordinator.new.enable":               removed,
	"group.coordinator.rebalance.protocols":      noChoice,
	"group.consumer.migration.policy":            noChoice,
	"group.consumer.regex.refresh.interval.ms":   noPacing,
	"add.partitions.to.txn.retry.backoff.ms":     noPacing,
	"add.partitions.to.txn.retry.backoff.max.ms": noPacing,
	"transaction.two.phase.commit.enable":        noChoice,
}

// refused are settings of Kafka that would be unsafe to ignore, with the remedy.
var refused = map[string]string{
	"authorizer.class.name": "Troupe has no access control and would let everybody in; " +
		"remove it to accept that",
	"create.topic.policy.class.name": "Troupe runs no Java policies and would create any topic; " +
		"remove it to accept that",
	"alter.config.policy.class.name": "Troupe runs no Java policies and would accept any change; " +
		"remove it to accept that",
	"host.name":            "Kafka removed it in 3.0; use listeners",
	"port":                 "Kafka removed it in 3.0; use listeners",
	"advertised.host.name": "Kafka removed it in 3.0; use advertised.listeners",
	"advertised.port":      "Kafka removed it in 3.0; use advertised.listeners",
}

// meaningless reports whether a name is a setting of Kafka that Troupe accepts
// but has no use for, and why.
func meaningless(name string) (why string, ok bool) {
	if why, ok := meaninglessSettings[name]; ok {
		return why, true
	}
	for _, group := range meaninglessGroups {
		if strings.HasPrefix(name, group.prefix) {
			return group.why, true
		}
	}
	return "", false
}
