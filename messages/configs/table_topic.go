package configs

import (
	"math"
	"strings"
)

// Scales of fallbacks, in milliseconds.
const (
	minuteMs = 60_000
	hourMs   = 3_600_000
)

// maxLong is the text of the largest Long, which Kafka uses for "never".
const maxLong = "9223372036854775807"

const noTiering = "Troupe has no tiered storage; kept so that topics can be copied from Kafka"

func atLeast(n int64) *Range { return &Range{Min: n, Max: math.MaxInt64} }

func from(name string) []Fallback { return []Fallback{{Broker: name, Scale: 1}} }

// topicTable holds the settings of topics, by name. Those that nodes have under
// the same name are of KindBoth.
var topicTable = []Def{
	{Name: "cleanup.policy", Type: List, Default: "delete", OneOf: []string{"compact", "delete"},
		Fallbacks: from("log.cleanup.policy"),
		Doc: "What becomes of old data: delete drops whole segments by age and size, compact keeps " +
			"the newest record of each key. Both may be given; an empty list keeps everything."},
	{Name: "compression.gzip.level", Kind: KindBoth, Type: Int, Default: "-1", check: gzipLevel,
		Dynamic: true, Fallbacks: from("compression.gzip.level"),
		Doc: "Level used when the node compresses with gzip: 1 (fast) to 9 (small), -1 for the " +
			"default."},
	{Name: "compression.lz4.level", Kind: KindBoth, Type: Int, Default: "9", Range: &Range{1, 17},
		Dynamic: true, Fallbacks: from("compression.lz4.level"),
		Doc: "Level used when the node compresses with lz4."},
	{Name: "compression.type", Kind: KindBoth, Type: String, Default: "producer",
		OneOf:   []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"},
		Dynamic: true, Fallbacks: from("compression.type"),
		Doc: "How batches are stored: producer keeps them as they were sent, any other codec makes " +
			"the node compress them anew."},
	{Name: "compression.zstd.level", Kind: KindBoth, Type: Int, Default: "3",
		Range: &Range{-131072, 22}, Dynamic: true, Fallbacks: from("compression.zstd.level"),
		Doc: "Level used when the node compresses with zstd."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", Range: atLeast(0), Unit: "ms",
		Fallbacks: from("log.cleaner.delete.retention.ms"),
		Doc: "How long a compacted topic keeps tombstones, so that slow readers still see a " +
			"deletion."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", Range: atLeast(0), Unit: "ms",
		Fallbacks: from("log.segment.delete.delay.ms"),
		Doc:       "How long a segment's files stay on disk after it left the log."},
	{Name: "flush.messages", Type: Long, Default: maxLong, Range: atLeast(1), Unit: "records",
		Fallbacks: from("log.flush.interval.messages"),
		Doc: "Records written before the log is flushed to disk. With 1 every produce request is " +
			"on disk before it is answered."},
	{Name: "flush.ms", Type: Long, Default: "1000", KafkaDefault: maxLong, Range: atLeast(0),
		Unit: "ms", Fallbacks: from("log.flush.interval.ms"),
		Doc: "How long written records may wait for a flush to disk: what a power cut can take " +
			"from a single copy."},
	{Name: "follower.replication.throttled.replicas", Type: List, Default: "", check: throttled,
		Doc: "Replicas whose incoming replication is throttled, as partition:node pairs, or * for " +
			"all."},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", Range: atLeast(0), Unit: "bytes",
		Fallbacks: from("log.index.interval.bytes"),
		Doc:       "Bytes of records between two entries of a segment's offset index."},
	{Name: "leader.replication.throttled.replicas", Type: List, Default: "", check: throttled,
		Doc: "Replicas whose outgoing replication is throttled, as partition:node pairs, or * for " +
			"all."},
	{Name: "local.retention.bytes", Type: Long, Default: "-2", Range: atLeast(-2), Unit: "bytes",
		Fallbacks: from("log.local.retention.bytes"), NoEffect: noTiering,
		Doc: "Bytes kept on local disks of a tiered partition; -2 means retention.bytes."},
	{Name: "local.retention.ms", Type: Long, Default: "-2", Range: atLeast(-2), Unit: "ms",
		Fallbacks: from("log.local.retention.ms"), NoEffect: noTiering,
		Doc: "Age up to which a tiered partition stays on local disks; -2 means retention.ms."},
	{Name: "max.compaction.lag.ms", Type: Long, Default: maxLong, Range: atLeast(1), Unit: "ms",
		Fallbacks: from("log.cleaner.max.compaction.lag.ms"),
		Doc:       "Longest time a record of a compacted topic may stay uncompacted."},
	{Name: "max.message.bytes", Type: Int, Default: "1048588", Range: atLeast(0), Unit: "bytes",
		Fallbacks: from("message.max.bytes"),
		Doc: "Largest record batch a producer may send, header included, as compressed by the " +
			"producer."},
	{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", Range: atLeast(0),
		Unit: "ms", Fallbacks: from("log.message.timestamp.after.max.ms"),
		Doc: "How far in the future a record's timestamp may lie. Holds for CreateTime only."},
	{Name: "message.timestamp.before.max.ms", Type: Long, Default: maxLong, Range: atLeast(0),
		Unit: "ms", Fallbacks: from("log.message.timestamp.before.max.ms"),
		Doc: "How far in the past a record's timestamp may lie. Holds for CreateTime only."},
	{Name: "message.timestamp.type", Type: String, Default: "CreateTime",
		OneOf: []string{"CreateTime", "LogAppendTime"}, Fallbacks: from("log.message.timestamp.type"),
		Doc: "Whose clock a record's timestamp comes from: the producer's, or the leader's at " +
			"append."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Range: &Range{0, 1},
		Fallbacks: from("log.cleaner.min.cleanable.ratio"),
		Doc: "Share of a compacted log that must be uncompacted before compaction is worth a " +
			"run."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Range: atLeast(0), Unit: "ms",
		Fallbacks: from("log.cleaner.min.compaction.lag.ms"),
		Doc:       "Shortest time a record of a compacted topic stays uncompacted."},
	{Name: "min.insync.replicas", Kind: KindBoth, Type: Int, Default: "1", Range: atLeast(1),
		Dynamic: true, Fallbacks: from("min.insync.replicas"),
		Doc: "In-sync replicas needed to accept a write with acks=all. With fewer, producers get " +
			"NOT_ENOUGH_REPLICAS."},
	{Name: "preallocate", Type: Boolean, Default: "false", Fallbacks: from("log.preallocate"),
		Doc: "Reserve the whole file of a new segment at once, instead of in growing steps."},
	{Name: "remote.log.copy.disable", Type: Boolean, Default: "false", NoEffect: noTiering,
		Doc: "Stop copying segments of a tiered topic to remote storage."},
	{Name: "remote.log.delete.on.disable", Type: Boolean, Default: "false", NoEffect: noTiering,
		Doc: "Delete remote data when tiering is switched off."},
	{Name: "remote.storage.enable", Type: Boolean, Default: "false", NoEffect: noTiering,
		check: untiered, Doc: "Keep old segments in remote storage."},
	{Name: "retention.bytes", Type: Long, Default: "-1", Unit: "bytes",
		Fallbacks: from("log.retention.bytes"),
		Doc: "Size a partition may reach before its oldest segments are deleted; negative means no " +
			"limit. Holds where cleanup.policy has delete."},
	{Name: "retention.ms", Type: Long, Default: "604800000", Range: atLeast(-1), Unit: "ms",
		Fallbacks: []Fallback{{"log.retention.ms", 1}, {"log.retention.minutes", minuteMs},
			{"log.retention.hours", hourMs}},
		Doc: "Age at which segments are deleted; -1 keeps them for ever. Holds where " +
			"cleanup.policy has delete."},
	{Name: "segment.bytes", Type: Int, Default: "1073741824", Range: atLeast(1 << 20), Unit: "bytes",
		Fallbacks: from("log.segment.bytes"),
		Doc:       "Size at which a new segment is begun. Retention works on whole segments."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", Range: atLeast(4), Unit: "bytes",
		Fallbacks: from("log.index.size.max.bytes"),
		Doc:       "Largest offset index of a segment; a full one begins a new segment."},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", Range: atLeast(0), Unit: "ms",
		Fallbacks: []Fallback{{"log.roll.jitter.ms", 1}, {"log.roll.jitter.hours", hourMs}},
		Doc:       "Random time taken off segment.ms, so that segments do not all roll at once."},
	{Name: "segment.ms", Type: Long, Default: "604800000", Range: atLeast(1), Unit: "ms",
		Fallbacks: []Fallback{{"log.roll.ms", 1}, {"log.roll.hours", hourMs}},
		Doc:       "Age of a segment's first record at which a new segment is begun."},
	{Name: "unclean.leader.election.enable", Kind: KindBoth, Type: Boolean, Default: "false",
		Dynamic: true, Fallbacks: from("unclean.leader.election.enable"),
		Doc: "Let a replica that is not in sync become leader when no other is left. It loses " +
			"records that were acknowledged."},
}

func gzipLevel(v string) string {
	switch v {
	case "-1", "1", "2", "3", "4", "5", "6", "7", "8", "9":
		return ""
	}
	return "-1 or a level from 1 to 9"
}

// untiered refuses tiering, as Kafka does where it is not set up: who asks for it
// counts on room that the disks do not have.
func untiered(v string) string {
	if strings.EqualFold(v, "true") {
		return "false: there is no tiered storage"
	}
	return ""
}

// throttled checks a list of partition:node pairs, or a star alone.
func throttled(v string) string {
	if v == "*" {
		return ""
	}
	for _, pair := range SplitList(v) {
		partition, node, ok := strings.Cut(pair, ":")
		if !ok || !digits(partition) || !digits(node) {
			return "* or partition:node pairs separated by commas"
		}
	}
	return ""
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
