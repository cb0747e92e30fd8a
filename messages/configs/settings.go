package configs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages/invariant"
)

// TopicSettings are all settings in force for one topic, typed. Names and units
// are those of the properties; math.MaxInt64 milliseconds means never.
type TopicSettings struct {
	CleanupDelete  bool // cleanup.policy has delete
	CleanupCompact bool // cleanup.policy has compact

	CompressionType      string // "producer", "uncompressed", or a codec
	CompressionGzipLevel int
	CompressionLZ4Level  int
	CompressionZstdLevel int

	MaxMessageBytes          int
	LogAppendTime            bool // message.timestamp.type=LogAppendTime
	TimestampBeforeMaxMs     int64
	TimestampAfterMaxMs      int64
	MinInsyncReplicas        int
	UncleanLeaderElection    bool
	FollowerThrottled        []string // partition:node pairs, or "*"
	LeaderThrottled          []string
	FlushMessages            int64
	FlushMs                  int64
	RetentionBytes           int64 // negative: no limit
	RetentionMs              int64 // -1: no limit
	SegmentBytes             int64
	SegmentMs                int64
	SegmentJitterMs          int64
	SegmentIndexBytes        int
	IndexIntervalBytes       int
	FileDeleteDelayMs        int64
	Preallocate              bool
	DeleteRetentionMs        int64
	MinCompactionLagMs       int64
	MaxCompactionLagMs       int64
	MinCleanableDirtyRatio   float64
	RemoteStorageEnable      bool // stored and shown only
	LocalRetentionMs         int64
	LocalRetentionBytes      int64
	RemoteLogCopyDisable     bool
	RemoteLogDeleteOnDisable bool
}

// ForTopic computes the settings in force for a topic with the given overrides
// on a node whose settings broker returns; broker returns "" for a setting that
// is not set, and may be nil for a node with nothing set.
//
// A value that does not pass its Check counts as not set: it cannot have come
// in through this version, and a node must still serve the topic.
func ForTopic(broker func(name string) string, overrides map[string]string) TopicSettings {
	if broker == nil {
		broker = func(name string) string { v, _ := brokerDefault(name); return v }
	}
	r := reader{broker: broker, overrides: overrides}
	policies := r.list("cleanup.policy")
	return TopicSettings{
		CleanupDelete:            slices.Contains(policies, "delete"),
		CleanupCompact:           slices.Contains(policies, "compact"),
		CompressionType:          r.text("compression.type"),
		CompressionGzipLevel:     r.int("compression.gzip.level"),
		CompressionLZ4Level:      r.int("compression.lz4.level"),
		CompressionZstdLevel:     r.int("compression.zstd.level"),
		MaxMessageBytes:          r.int("max.message.bytes"),
		LogAppendTime:            r.text("message.timestamp.type") == "LogAppendTime",
		TimestampBeforeMaxMs:     r.long("message.timestamp.before.max.ms"),
		TimestampAfterMaxMs:      r.long("message.timestamp.after.max.ms"),
		MinInsyncReplicas:        r.int("min.insync.replicas"),
		UncleanLeaderElection:    r.bool("unclean.leader.election.enable"),
		FollowerThrottled:        r.list("follower.replication.throttled.replicas"),
		LeaderThrottled:          r.list("leader.replication.throttled.replicas"),
		FlushMessages:            r.long("flush.messages"),
		FlushMs:                  r.long("flush.ms"),
		RetentionBytes:           r.long("retention.bytes"),
		RetentionMs:              r.long("retention.ms"),
		SegmentBytes:             r.long("segment.bytes"),
		SegmentMs:                r.long("segment.ms"),
		SegmentJitterMs:          r.long("segment.jitter.ms"),
		SegmentIndexBytes:        r.int("segment.index.bytes"),
		IndexIntervalBytes:       r.int("index.interval.bytes"),
		FileDeleteDelayMs:        r.long("file.delete.delay.ms"),
		Preallocate:              r.bool("preallocate"),
		DeleteRetentionMs:        r.long("delete.retention.ms"),
		MinCompactionLagMs:       r.long("min.compaction.lag.ms"),
		MaxCompactionLagMs:       r.long("max.compaction.lag.ms"),
		MinCleanableDirtyRatio:   r.double("min.cleanable.dirty.ratio"),
		RemoteStorageEnable:      r.bool("remote.storage.enable"),
		LocalRetentionMs:         r.long("local.retention.ms"),
		LocalRetentionBytes:      r.long("local.retention.bytes"),
		RemoteLogCopyDisable:     r.bool("remote.log.copy.disable"),
		RemoteLogDeleteOnDisable: r.bool("remote.log.delete.on.disable"),
	}
}

// Durability are the settings in force for a topic that decide which replicas
// may lead. ForTopic has them too; a controller that looks at thousands of
// topics asks for no more than these.
type Durability struct {
	MinInsyncReplicas     int
	UncleanLeaderElection bool
}

// DurabilityOf computes them as ForTopic does.
func DurabilityOf(broker func(name string) string, overrides map[string]string) Durability {
	if broker == nil {
		broker = func(name string) string { v, _ := brokerDefault(name); return v }
	}
	r := reader{broker: broker, overrides: overrides}
	return Durability{
		MinInsyncReplicas:     r.int("min.insync.replicas"),
		UncleanLeaderElection: r.bool("unclean.leader.election.enable"),
	}
}

// reader reads typed values in force for one topic.
type reader struct {
	broker    func(name string) string
	overrides map[string]string
}

// text returns the first value that is set and passes the setting's Check.
func (r reader) text(name string) string {
	d, ok := Topic(name)
	invariant.That(ok, "%q is not a topic setting", name)
	if v, set := r.overrides[name]; set && d.Check(v) == nil {
		return strings.TrimSpace(v)
	}
	for _, f := range d.Fallbacks {
		raw := r.broker(f.Broker)
		if raw == "" {
			continue
		}
		if v, ok := f.scale(raw); ok && d.Check(v) == nil {
			return strings.TrimSpace(v)
		}
	}
	return d.Default
}

func (r reader) long(name string) int64 {
	n, err := strconv.ParseInt(r.text(name), 10, 64)
	invariant.That(err == nil, "%s passed its check: %v", name, err)
	return n
}

func (r reader) int(name string) int { return int(r.long(name)) }

func (r reader) bool(name string) bool { return strings.EqualFold(r.text(name), "true") }

func (r reader) double(name string) float64 {
	f, err := strconv.ParseFloat(r.text(name), 64)
	invariant.That(err == nil, "%s passed its check: %v", name, err)
	return f
}

func (r reader) list(name string) []string { return SplitList(r.text(name)) }
