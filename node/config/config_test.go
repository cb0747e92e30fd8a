package config

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/invariant"
)

func TestValuesHaveTheirTypes(t *testing.T) {
	c := mustLoad(t, Sources{Set: []string{
		"num.partitions=12", "log.retention.bytes=1099511627776", "delete.topic.enable=FALSE",
		"log.retention.minutes=90", "log.flush.interval.ms=250",
		"leader.imbalance.check.interval.seconds=30", "log.cleanup.policy=compact, delete",
	}})
	if n, ok := c.Int("num.partitions"); n != 12 || !ok {
		t.Errorf("num.partitions: %d", n)
	}
	if n, ok := c.Bytes("log.retention.bytes"); n != 1<<40 || !ok {
		t.Errorf("log.retention.bytes: %d", n)
	}
	if n, ok := c.Long("log.retention.ms"); n != 0 || ok {
		t.Errorf("log.retention.ms is set: %d", n)
	}
	if c.Value("delete.topic.enable") != "false" || c.Bool("delete.topic.enable") {
		t.Errorf("delete.topic.enable: %q", c.Value("delete.topic.enable"))
	}
	if !c.Bool("auto.create.topics.enable") {
		t.Error("auto.create.topics.enable is not true by default")
	}
	if l := c.List("log.cleanup.policy"); !slices.Equal(l, []string{"compact", "delete"}) {
		t.Errorf("log.cleanup.policy: %q", l)
	}
	for name, want := range map[string]time.Duration{
		"log.retention.minutes":                   90 * time.Minute,
		"log.flush.interval.ms":                   250 * time.Millisecond,
		"leader.imbalance.check.interval.seconds": 30 * time.Second,
		"log.retention.hours":                     168 * time.Hour,
		"log.cleaner.max.compaction.lag.ms":       math.MaxInt64,
	} {
		if d, ok := c.Duration(name); d != want || !ok {
			t.Errorf("%s: %v, %v, want %v", name, d, ok, want)
		}
	}
	if d, ok := c.Duration("log.roll.ms"); d != 0 || ok {
		t.Errorf("log.roll.ms is set: %v", d)
	}
	if value, origin := c.Lookup("num.partitions"); value != "12" ||
		origin != configs.OriginStatic {
		t.Errorf("Lookup of a flag: %q, %d", value, origin)
	}
	if value, origin := c.Lookup("log.roll.ms"); value != "" || origin != configs.OriginDefault {
		t.Errorf("Lookup of nothing: %q, %d", value, origin)
	}
}

func TestTimesThatDoNotFitAreAsLongAsCanBe(t *testing.T) {
	c := mustLoad(t, Sources{Set: []string{
		"log.retention.minutes=-2147483648",
		"log.message.timestamp.before.max.ms=9223372036854775807",
	}})
	for name, want := range map[string]time.Duration{
		"log.retention.minutes":               math.MinInt64,
		"log.message.timestamp.before.max.ms": math.MaxInt64,
	} {
		if d, _ := c.Duration(name); d != want {
			t.Errorf("%s: %v, want %v", name, d, want)
		}
	}
}

func TestAWrongNameOrTypeIsABug(t *testing.T) {
	c := mustLoad(t, Sources{})
	for what, call := range map[string]func(){
		"Value of no setting":       func() { c.Value("log.levle") },
		"Origin of a topic setting": func() { c.Origin("retention.ms") },
		"Overridden of no setting":  func() { c.Overridden("") },
		"Int of a long":             func() { c.Int("log.retention.ms") },
		"Bool of text":              func() { c.Bool("log.level") },
		"Bytes of a time":           func() { c.Bytes("log.retention.ms") },
		"Duration of bytes":         func() { c.Duration("log.segment.bytes") },
		"List of text":              func() { c.List("log.level") },
		"Long of text":              func() { c.Long("log.level") },
	} {
		func() {
			defer func() {
				if _, ok := recover().(invariant.Violation); !ok {
					t.Errorf("%s: no violation", what)
				}
			}()
			call()
		}()
	}
}

// kafkaSettings are the names of Kafka 4.1's broker settings, and of older ones
// that files in use still have.
const kafkaSettings = `
add.partitions.to.txn.retry.backoff.max.ms add.partitions.to.txn.retry.backoff.ms
advertised.listeners alter.config.policy.class.name
alter.log.dirs.replication.quota.window.num
alter.log.dirs.replication.quota.window.size.seconds authorizer.class.name
auto.create.topics.enable auto.include.jmx.reporter auto.leader.rebalance.enable
background.threads broker.heartbeat.interval.ms broker.id broker.id.generation.enable
broker.rack broker.session.timeout.ms client.quota.callback.class compression.gzip.level
compression.lz4.level compression.type compression.zstd.level config.providers
connection.failed.authentication.delay.ms connections.max.idle.ms connections.max.reauth.ms
control.plane.listener.name controlled.shutdown.enable controlled.shutdown.max.retries
controlled.shutdown.retry.backoff.ms controller.listener.names
controller.performance.always.log.threshold.ms controller.performance.sample.period.ms
controller.quorum.append.linger.ms controller.quorum.bootstrap.servers
controller.quorum.election.backoff.max.ms controller.quorum.election.timeout.ms
controller.quorum.fetch.timeout.ms controller.quorum.request.timeout.ms
controller.quorum.retry.backoff.ms controller.quorum.voters controller.quota.window.num
controller.quota.window.size.seconds controller.socket.timeout.ms
create.topic.policy.class.name default.replication.factor
delegation.token.expiry.check.interval.ms delegation.token.expiry.time.ms
delegation.token.master.key delegation.token.max.lifetime.ms delegation.token.secret.key
delete.records.purgatory.purge.interval.requests delete.topic.enable early.start.listeners
fetch.max.bytes fetch.purgatory.purge.interval.requests
follower.fetch.last.tiered.offset.enable group.consumer.assignors
group.consumer.heartbeat.interval.ms group.consumer.max.heartbeat.interval.ms
group.consumer.max.session.timeout.ms group.consumer.max.size
group.consumer.migration.policy group.consumer.min.heartbeat.interval.ms
group.consumer.min.session.timeout.ms group.consumer.regex.refresh.interval.ms
group.consumer.session.timeout.ms group.coordinator.append.linger.ms
group.coordinator.rebalance.protocols group.coordinator.threads
group.initial.rebalance.delay.ms group.max.session.timeout.ms group.max.size
group.min.session.timeout.ms group.share.delivery.count.limit group.share.enable
group.share.heartbeat.interval.ms group.share.max.heartbeat.interval.ms
group.share.max.record.lock.duration.ms group.share.max.session.timeout.ms
group.share.max.share.sessions group.share.max.size
group.share.min.heartbeat.interval.ms group.share.min.record.lock.duration.ms
group.share.min.session.timeout.ms group.share.partition.max.record.locks
group.share.persister.class.name group.share.record.lock.duration.ms
group.share.session.timeout.ms group.streams.max.size group.streams.num.standby.replicas
initial.broker.registration.timeout.ms inter.broker.listener.name inter.broker.protocol.version
kafka.metrics.polling.interval.secs kafka.metrics.reporters
leader.imbalance.check.interval.seconds leader.imbalance.per.broker.percentage
listener.security.protocol.map listeners log.cleaner.backoff.ms
log.cleaner.dedupe.buffer.size log.cleaner.delete.retention.ms log.cleaner.enable
log.cleaner.io.buffer.load.factor log.cleaner.io.buffer.size
log.cleaner.io.max.bytes.per.second log.cleaner.max.compaction.lag.ms
log.cleaner.min.cleanable.ratio log.cleaner.min.compaction.lag.ms log.cleaner.threads
log.cleanup.policy log.dir log.dir.failure.timeout.ms log.dirs
log.flush.interval.messages log.flush.interval.ms log.flush.offset.checkpoint.interval.ms
log.flush.scheduler.interval.ms log.flush.start.offset.checkpoint.interval.ms
log.index.interval.bytes log.index.size.max.bytes log.initial.task.delay.ms
log.local.retention.bytes log.local.retention.ms log.message.downconversion.enable
log.message.format.version log.message.timestamp.after.max.ms
log.message.timestamp.before.max.ms log.message.timestamp.difference.max.ms
log.message.timestamp.type log.preallocate log.retention.bytes
log.retention.check.interval.ms log.retention.hours log.retention.minutes
log.retention.ms log.roll.hours log.roll.jitter.hours log.roll.jitter.ms log.roll.ms
log.segment.bytes log.segment.delete.delay.ms max.connection.creation.rate
max.connections max.connections.per.ip max.connections.per.ip.overrides
max.incremental.fetch.session.cache.slots max.request.partition.size.limit
message.max.bytes metadata.log.dir metadata.log.max.record.bytes.between.snapshots
metadata.log.max.snapshot.interval.ms metadata.log.segment.bytes metadata.log.segment.ms
metadata.max.idle.interval.ms metadata.max.retention.bytes metadata.max.retention.ms
metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms
min.insync.replicas node.id num.io.threads num.network.threads num.partitions
num.recovery.threads.per.data.dir num.replica.alter.log.dirs.threads num.replica.fetchers
offset.metadata.max.bytes offsets.commit.required.acks offsets.commit.timeout.ms
offsets.load.buffer.size offsets.retention.check.interval.ms offsets.retention.minutes
offsets.topic.compression.codec offsets.topic.num.partitions
offsets.topic.replication.factor offsets.topic.segment.bytes
password.encoder.cipher.algorithm password.encoder.secret principal.builder.class
process.roles producer.id.expiration.check.interval.ms producer.id.expiration.ms
producer.purgatory.purge.interval.requests queued.max.request.bytes queued.max.requests
quota.window.num quota.window.size.seconds remote.fetch.max.wait.ms
remote.log.manager.task.interval.ms remote.log.storage.system.enable
replica.fetch.backoff.ms replica.fetch.max.bytes replica.fetch.min.bytes
replica.fetch.response.max.bytes replica.fetch.wait.max.ms
replica.high.watermark.checkpoint.interval.ms replica.lag.time.max.ms
replica.selector.class replica.socket.receive.buffer.bytes replica.socket.timeout.ms
replication.quota.window.num replication.quota.window.size.seconds request.timeout.ms
reserved.broker.max.id sasl.enabled.mechanisms sasl.jaas.config
sasl.mechanism.inter.broker.protocol sasl.server.max.receive.size
security.inter.broker.protocol security.providers server.max.startup.time.ms
share.fetch.purgatory.purge.interval.requests
share.coordinator.state.topic.replication.factor socket.connection.setup.timeout.max.ms
socket.connection.setup.timeout.ms socket.listen.backlog.size
socket.receive.buffer.bytes socket.request.max.bytes socket.send.buffer.bytes
ssl.client.auth ssl.keystore.location super.users telemetry.max.bytes
transaction.abort.timed.out.transaction.cleanup.interval.ms transaction.max.timeout.ms
transaction.partition.verification.enable
transaction.remove.expired.transaction.cleanup.interval.ms
transaction.state.log.load.buffer.size transaction.state.log.min.isr
transaction.state.log.num.partitions transaction.state.log.replication.factor
transaction.state.log.segment.bytes transaction.two.phase.commit.enable
transactional.id.expiration.ms unclean.leader.election.enable
unclean.leader.election.interval.ms group.coordinator.new.enable
internal.metadata.log.segment.bytes internal.metadata.delete.delay.millis
unstable.api.versions.enable unstable.feature.versions.enable zookeeper.connect
zookeeper.connection.timeout.ms
`

func TestEverySettingOfKafkaIsKnownIgnoredOrRefused(t *testing.T) {
	for name := range strings.FieldsSeq(kafkaSettings) {
		_, ours := configs.Broker(name)
		_, unsafe := refused[name]
		_, ignored := meaningless(name)
		if !ours && !unsafe && !ignored {
			t.Errorf("%s is unknown", name)
		}
	}
}

func TestWhatIsIgnoredOrRefusedIsNoSettingOfOurs(t *testing.T) {
	for name, why := range meaninglessSettings {
		_, ours := configs.Broker(name)
		_, unsafe := refused[name]
		if ours || unsafe || why == "" {
			t.Errorf("%s is ours (%v) or refused (%v)", name, ours, unsafe)
		}
	}
	for name := range refused {
		if _, ours := configs.Broker(name); ours {
			t.Errorf("%s is refused and ours", name)
		}
	}
}
