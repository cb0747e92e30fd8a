package configs

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

// kafkaTopicDefaults are the topic settings of Kafka 4.1.
var kafkaTopicDefaults = map[string]string{
	"cleanup.policy":                          "delete",
	"compression.gzip.level":                  "-1",
	"compression.lz4.level":                   "9",
	"compression.type":                        "producer",
	"compression.zstd.level":                  "3",
	"delete.retention.ms":                     "86400000",
	"file.delete.delay.ms":                    "60000",
	"flush.messages":                          "9223372036854775807",
	"flush.ms":                                "9223372036854775807",
	"follower.replication.throttled.replicas": "",
	"index.interval.bytes":                    "4096",
	"leader.replication.throttled.replicas":   "",
	"local.retention.bytes":                   "-2",
	"local.retention.ms":                      "-2",
	"max.compaction.lag.ms":                   "9223372036854775807",
	"max.message.bytes":                       "1048588",
	"message.timestamp.after.max.ms":          "3600000",
	"message.timestamp.before.max.ms":         "9223372036854775807",
	"message.timestamp.type":                  "CreateTime",
	"min.cleanable.dirty.ratio":               "0.5",
	"min.compaction.lag.ms":                   "0",
	"min.insync.replicas":                     "1",
	"preallocate":                             "false",
	"remote.log.copy.disable":                 "false",
	"remote.log.delete.on.disable":            "false",
	"remote.storage.enable":                   "false",
	"retention.bytes":                         "-1",
	"retention.ms":                            "604800000",
	"segment.bytes":                           "1073741824",
	"segment.index.bytes":                     "10485760",
	"segment.jitter.ms":                       "0",
	"segment.ms":                              "604800000",
	"unclean.leader.election.enable":          "false",
}

// kafkaBrokerDefaults are node settings of Kafka 4.1 whose defaults clients and
// tools rely on; "null" stands for none.
var kafkaBrokerDefaults = map[string]string{
	"auto.create.topics.enable":           "true",
	"broker.rack":                         "null",
	"connections.max.idle.ms":             "600000",
	"default.replication.factor":          "1",
	"delete.topic.enable":                 "true",
	"fetch.max.bytes":                     "57671680",
	"group.consumer.session.timeout.ms":   "45000",
	"group.max.session.timeout.ms":        "1800000",
	"group.min.session.timeout.ms":        "6000",
	"listeners":                           "PLAINTEXT://:9092",
	"log.cleanup.policy":                  "delete",
	"log.dirs":                            "null",
	"log.flush.interval.ms":               "null",
	"log.retention.bytes":                 "-1",
	"log.retention.check.interval.ms":     "300000",
	"log.retention.hours":                 "168",
	"log.retention.minutes":               "null",
	"log.retention.ms":                    "null",
	"log.roll.hours":                      "168",
	"log.roll.ms":                         "null",
	"log.segment.bytes":                   "1073741824",
	"log.segment.delete.delay.ms":         "60000",
	"message.max.bytes":                   "1048588",
	"min.insync.replicas":                 "1",
	"num.partitions":                      "1",
	"offsets.retention.minutes":           "10080",
	"offsets.topic.num.partitions":        "50",
	"offsets.topic.replication.factor":    "3",
	"producer.id.expiration.ms":           "86400000",
	"queued.max.request.bytes":            "-1",
	"replica.fetch.max.bytes":             "1048576",
	"replica.lag.time.max.ms":             "30000",
	"sasl.server.max.receive.size":        "524288",
	"socket.request.max.bytes":            "104857600",
	"transaction.max.timeout.ms":          "900000",
	"transactional.id.expiration.ms":      "604800000",
	"unclean.leader.election.enable":      "false",
	"transaction.state.log.min.isr":       "2",
	"offsets.retention.check.interval.ms": "600000",
}

func TestDefaultsAreKafkasOrSayThatTheyDiffer(t *testing.T) {
	kafkas := func(d *Def) string {
		switch {
		case d.KafkaDefault != "":
			return d.KafkaDefault
		case d.Optional:
			return "null"
		}
		return d.Default
	}
	for _, d := range Topics() {
		want, listed := kafkaTopicDefaults[d.Name]
		if !listed {
			t.Errorf("%s is no topic setting of Kafka 4.1", d.Name)
		} else if got := kafkas(d); got != want {
			t.Errorf("%s: Kafka's default is %q, the table says %q", d.Name, want, got)
		}
	}
	if len(Topics()) != len(kafkaTopicDefaults) {
		t.Errorf("%d topic settings, Kafka 4.1 has %d", len(Topics()), len(kafkaTopicDefaults))
	}
	for name, want := range kafkaBrokerDefaults {
		d, ok := Broker(name)
		if !ok {
			t.Errorf("no node setting %s", name)
		} else if got := kafkas(d); got != want {
			t.Errorf("%s: Kafka's default is %q, the table says %q", name, want, got)
		}
	}
}

func TestEveryDefaultPassesItsOwnCheck(t *testing.T) {
	for _, d := range slices.Concat(Topics(), Brokers()) {
		if d.Optional {
			if d.Default != "" {
				t.Errorf("%s is optional but has the default %q", d.Name, d.Default)
			}
			continue
		}
		if err := d.Check(d.Default); err != nil {
			t.Errorf("default: %v", err)
		}
	}
}

func TestEveryRowIsComplete(t *testing.T) {
	for _, d := range slices.Concat(Topics(), Brokers()) {
		if d.Doc == "" || d.Type < Boolean || d.Type > Password || d.Kind == 0 {
			t.Errorf("%s lacks a doc, type or kind", d.Name)
		}
		for suffix, unit := range map[string]string{".ms": "ms", ".bytes": "bytes", ".hours": "hours"} {
			if strings.HasSuffix(d.Name, suffix) && d.Unit != unit {
				t.Errorf("%s has the unit %q", d.Name, d.Unit)
			}
		}
		if d.Kind == KindTopic && !d.Dynamic {
			t.Errorf("%s belongs to topics but cannot be changed", d.Name)
		}
		for _, f := range d.Fallbacks {
			b, ok := Broker(f.Broker)
			if !ok {
				t.Errorf("%s falls back to %s, which does not exist", d.Name, f.Broker)
			} else if b.NoEffect != d.NoEffect {
				t.Errorf("%s and %s disagree on having an effect", d.Name, b.Name)
			}
		}
	}
}

func TestWhatIsMarkedIsASetting(t *testing.T) {
	for name, why := range notYet {
		_, topic := Topic(name)
		_, broker := Broker(name)
		if !topic && !broker || why == "" {
			t.Errorf("%q is marked %q", name, why)
		}
	}
}

// A change at run time that nobody looks at would be acknowledged and mean nothing.
func TestWhatANodeReadsOnceIsNotDynamic(t *testing.T) {
	for _, name := range []string{
		"listeners", "log.dirs", "max.connections", "max.connections.per.ip",
		"num.recovery.threads.per.data.dir", "queued.max.request.bytes", "socket.request.max.bytes",
	} {
		if d, ok := Broker(name); !ok || !d.ReadOnly() {
			t.Errorf("%s can be changed while the node runs", name)
		}
	}
}

func TestATopicsDefaultIsWhatAnUnconfiguredNodeGivesIt(t *testing.T) {
	for _, d := range Topics() {
		v, ok := Effective(d.Name, nil, nil)
		if !ok || v.Value != d.Default || v.Origin != OriginDefault {
			t.Errorf("%s: default %q, but an unconfigured node gives %+v", d.Name, d.Default, v)
		}
	}
}

func TestNamesAreUniqueAndSorted(t *testing.T) {
	for _, all := range [][]*Def{Topics(), Brokers()} {
		for i := 1; i < len(all); i++ {
			if all[i-1].Name >= all[i].Name {
				t.Errorf("%s stands before %s", all[i-1].Name, all[i].Name)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, setting, value string
		refusal              string // "" when the value is allowed
	}{
		{"a number in range is allowed", "retention.ms", "1000", ""},
		{"-1 means no limit", "retention.ms", "-1", ""},
		{"white space around a value is ignored", "retention.ms", " 1000\n", ""},
		{"a number below its bound is refused", "retention.ms", "-2", "at least -1"},
		{"unit suffixes are refused", "retention.ms", "7d", "whole number of ms"},
		{"an empty number is refused", "retention.ms", "", "whole number"},
		{"a number too big for its type is refused", "segment.bytes", "2147483648", "2147483647"},
		{"a segment below one MiB is refused", "segment.bytes", "1024", "at least 1048576"},
		{"a short does not hold an int", "offsets.topic.replication.factor", "40000", "32767"},
		{"booleans ignore case", "preallocate", "TRUE", ""},
		{"1 is no boolean", "preallocate", "1", "true or false"},
		{"both cleanup policies may be given", "cleanup.policy", "compact, delete", ""},
		{"an empty cleanup policy keeps everything", "cleanup.policy", "", ""},
		{"an unknown cleanup policy is refused", "cleanup.policy", "compact,shrink", "compact, delete"},
		{"codecs are words of a list", "compression.type", "brotli", "producer"},
		{"gzip has no level 0", "compression.gzip.level", "0", "from 1 to 9"},
		{"gzip has a default level", "compression.gzip.level", "-1", ""},
		{"a ratio is a fraction", "min.cleanable.dirty.ratio", "0.25", ""},
		{"a ratio above 1 is refused", "min.cleanable.dirty.ratio", "1.5", "from 0 to 1"},
		{"a ratio must be a number", "min.cleanable.dirty.ratio", "NaN", "from 0 to 1"},
		{"a compaction lag of 0 is refused, as Kafka does", "max.compaction.lag.ms", "0", "at least 1"},
		{"a star throttles all replicas", "leader.replication.throttled.replicas", "*", ""},
		{"throttled replicas are pairs", "leader.replication.throttled.replicas", "0:1,1:2", ""},
		{"tiering cannot be switched on", "remote.storage.enable", "true", "no tiered storage"},
		{"tiering is off", "remote.storage.enable", "FALSE", ""},
		{"a lone partition is no pair", "leader.replication.throttled.replicas", "0:1,7", "pairs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, ok := Topic(tt.setting)
			if !ok {
				d, ok = Broker(tt.setting)
			}
			if !ok {
				t.Fatalf("no setting %s", tt.setting)
			}
			err := d.Check(tt.value)
			if tt.refusal == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, messages.ErrInvalidConfig) {
				t.Fatalf("got %v, want an invalid configuration", err)
			}
			for _, part := range []string{tt.setting, tt.refusal} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
		})
	}
}

func TestASensitiveValueIsNotInItsError(t *testing.T) {
	d := &Def{Name: "secret", Type: Int, Sensitive: true}
	if err := d.Check("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct {
		name, given string
		kind        Kind
		want        string
	}{
		{"a slip of the finger is found", "retention.sm", KindTopic, "retention.ms"},
		{"case does not matter", "Retention.MS", KindTopic, "retention.ms"},
		{"a missing letter is found", "log.retention.hour", KindBroker, "log.retention.hours"},
		{"a topic setting leads to the node setting behind it", "retention.ms", KindBroker,
			"log.retention.ms"},
		{"a node setting leads to the topic setting before it", "log.retention.hours", KindTopic,
			"retention.ms"},
		{"nonsense is near to nothing", "zookeeper.connect", KindBroker, ""},
		{"an empty name is near to nothing", "", KindBoth, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Nearest(tt.given, tt.kind); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckTopic(t *testing.T) {
	for _, tt := range []struct {
		name      string
		overrides map[string]string
		refusal   string
	}{
		{"no overrides are fine", nil, ""},
		{"good overrides are fine", map[string]string{"retention.ms": "5",
			"cleanup.policy": "compact"}, ""},
		{"an unknown name is refused with the nearest", map[string]string{"retention.mss": "5"},
			`did you mean "retention.ms"`},
		{"a bad value is refused", map[string]string{"retention.ms": "x"}, "retention.ms cannot be"},
		{"compaction lags that contradict each other are refused",
			map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"},
			"above max.compaction.lag.ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckTopic(tt.overrides)
			if tt.refusal == "" && err != nil {
				t.Fatal(err)
			}
			if tt.refusal != "" && (!errors.Is(err, messages.ErrInvalidConfig) ||
				!strings.Contains(err.Error(), tt.refusal)) {
				t.Errorf("got %v, want %q", err, tt.refusal)
			}
		})
	}
}

// node returns the settings of a node where those of set are set in its file.
func node(set map[string]string) Lookup {
	return func(name string) (string, Origin) {
		if v, ok := set[name]; ok {
			return v, OriginStatic
		}
		return brokerDefault(name)
	}
}

func TestEffective(t *testing.T) {
	for _, tt := range []struct {
		name      string
		overrides map[string]string
		node      map[string]string
		value     string
		origin    Origin
		synonyms  []Synonym
	}{
		{"nothing set: the default",
			nil, nil, "604800000", OriginDefault,
			[]Synonym{{"log.retention.hours", "168", OriginDefault}}},
		{"the node's hours become milliseconds",
			nil, map[string]string{"log.retention.hours": "2"}, "7200000", OriginStatic,
			[]Synonym{{"log.retention.hours", "2", OriginStatic}}},
		{"minutes go before hours",
			nil, map[string]string{"log.retention.hours": "2", "log.retention.minutes": "3"},
			"180000", OriginStatic,
			[]Synonym{{"log.retention.minutes", "3", OriginStatic},
				{"log.retention.hours", "2", OriginStatic}}},
		{"the topic goes before the node",
			map[string]string{"retention.ms": "5"}, map[string]string{"log.retention.ms": "7"},
			"5", OriginTopic,
			[]Synonym{{"retention.ms", "5", OriginTopic}, {"log.retention.ms", "7", OriginStatic},
				{"log.retention.hours", "168", OriginDefault}}},
		{"negative hours mean no limit",
			nil, map[string]string{"log.retention.hours": "-1"}, "-1", OriginStatic,
			[]Synonym{{"log.retention.hours", "-1", OriginStatic}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, ok := Effective("retention.ms", tt.overrides, node(tt.node))
			if !ok || v.Value != tt.value || v.Origin != tt.origin || !slices.Equal(v.Synonyms,
				tt.synonyms) {
				t.Errorf("got %+v", v)
			}
			broker := func(name string) string { s, _ := node(tt.node)(name); return s }
			s := ForTopic(broker, tt.overrides)
			if d, _ := Topic("retention.ms"); d.Check(tt.value) == nil && s.RetentionMs != number(t,
				tt.value) {
				t.Errorf("ForTopic says %d ms", s.RetentionMs)
			}
		})
	}
	if _, ok := Effective("no.such", nil, nil); ok {
		t.Error("found a setting that does not exist")
	}
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	r := reader{broker: func(string) string { return "" },
		overrides: map[string]string{"retention.ms": s}}
	return r.long("retention.ms")
}

func TestEffectiveBroker(t *testing.T) {
	for _, tt := range []struct {
		name, setting string
		node          map[string]string
		want          Value
	}{
		{"an optional setting that is not set is null", "log.retention.ms", nil,
			Value{Null: true, Origin: OriginDefault}},
		{"a default stands alone", "num.partitions", nil,
			Value{Value: "1", Origin: OriginDefault, Synonyms: []Synonym{{"num.partitions", "1",
				OriginDefault}}}},
		{"a set value stands before the default", "num.partitions",
			map[string]string{"num.partitions": "4"},
			Value{Value: "4", Origin: OriginStatic, Synonyms: []Synonym{
				{"num.partitions", "4", OriginStatic}, {"num.partitions", "1", OriginDefault}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, ok := EffectiveBroker(tt.setting, node(tt.node))
			if !ok || v.Value != tt.want.Value || v.Null != tt.want.Null || v.Origin != tt.want.Origin ||
				!slices.Equal(v.Synonyms, tt.want.Synonyms) {
				t.Errorf("got %+v, want %+v", v, tt.want)
			}
		})
	}
}

func TestForTopic(t *testing.T) {
	s := ForTopic(nil, nil)
	if !s.CleanupDelete || s.CleanupCompact || s.CompressionType != "producer" ||
		s.MaxMessageBytes != 1048588 || s.LogAppendTime || s.TimestampBeforeMaxMs != math.MaxInt64 ||
		s.TimestampAfterMaxMs != 3600000 || s.MinInsyncReplicas != 1 || s.SegmentBytes != 1<<30 ||
		s.MinCleanableDirtyRatio != 0.5 || s.RetentionBytes != -1 || s.FlushMs != 1000 {
		t.Errorf("defaults: %+v", s)
	}
	s = ForTopic(nil, map[string]string{
		"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime",
		"max.message.bytes": "100", "leader.replication.throttled.replicas": "0:1, 1:2",
	})
	if s.CleanupDelete || !s.CleanupCompact || !s.LogAppendTime || s.MaxMessageBytes != 100 ||
		!slices.Equal(s.LeaderThrottled, []string{"0:1", "1:2"}) {
		t.Errorf("overrides: %+v", s)
	}
	t.Run("an override that no longer passes its check counts as not set", func(t *testing.T) {
		s := ForTopic(nil, map[string]string{"segment.bytes": "lots"})
		if s.SegmentBytes != 1<<30 {
			t.Errorf("segment.bytes is %d", s.SegmentBytes)
		}
	})
}

func FuzzEverySettingReadsWhatItsCheckAllows(f *testing.F) {
	for _, d := range Topics() {
		f.Add(d.Name, d.Default)
	}
	f.Add("retention.ms", "-1")
	f.Add("min.cleanable.dirty.ratio", "0x1p-2")
	f.Fuzz(func(t *testing.T, name, value string) {
		_ = CheckTopic(map[string]string{name: value})
		ForTopic(nil, map[string]string{name: value})
		ForTopic(func(string) string { return value }, nil)
		_ = Nearest(name, KindBoth)
	})
}
