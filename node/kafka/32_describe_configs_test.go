package kafka

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
)

func describeRequest(kind messages.ConfigResourceType, name string, keys ...string,
) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceType(kind), name
	r.ConfigNames = keys
	req.Resources = append(req.Resources, r)
	return req
}

// describe returns the one resource of the answer.
func describe(t *testing.T, f *fakeCluster, req *kmsg.DescribeConfigsRequest, version int16,
) kmsg.DescribeConfigsResponseResource {
	t.Helper()
	resp := ask[*kmsg.DescribeConfigsResponse](t, f, req, version)
	if len(resp.Resources) != 1 {
		t.Fatalf("%d resources", len(resp.Resources))
	}
	return resp.Resources[0]
}

// config returns one setting of a resource.
func config(t *testing.T, r kmsg.DescribeConfigsResponseResource, name string,
) kmsg.DescribeConfigsResponseResourceConfig {
	t.Helper()
	i := slices.IndexFunc(r.Configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool {
		return c.Name == name
	})
	if i < 0 {
		t.Fatalf("%s is not described", name)
	}
	return r.Configs[i]
}

// synonyms lists "origin name=value", the one in force first.
func synonyms(c kmsg.DescribeConfigsResponseResourceConfig) []string {
	var all []string
	for _, s := range c.ConfigSynonyms {
		all = append(all, fmt.Sprintf("%d %s=%s", s.Source, s.Name, *s.Value))
	}
	return all
}

func TestDescribeConfigsShowsEverySettingOfATopicWithItsSource(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	f.change("a", func(t *messages.Topic) {
		t.Configs = messages.Config{"retention.ms": "1000", "cleanup.policy": "compact"}
	})
	f.set("log.retention.hours", "2")
	f.set("log.segment.bytes", "5000")
	f.configureNodes(map[messages.NodeID]messages.Config{
		fakeNode: {"log.segment.bytes": "7000"}, messages.NoNode: {"log.segment.bytes": "6000"},
	})
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigTopic, "a")
		req.IncludeSynonyms, req.IncludeDocumentation = true, true
		r := describe(t, f, req, v)
		equal(t, "code", r.ErrorCode, codeNone)
		equal(t, "settings", len(r.Configs), len(configs.Topics()))

		retention := config(t, r, "retention.ms")
		equal(t, "override", *retention.Value, "1000")
		equal(t, "source", retention.Source, kmsg.ConfigSourceDynamicTopicConfig)
		got := synonyms(retention)
		equal(t, "synonyms", got[:2], []string{"1 retention.ms=1000", "4 log.retention.hours=2"})

		segment := config(t, r, "segment.bytes")
		equal(t, "value for the node", *segment.Value, "7000")
		equal(t, "source", segment.Source, kmsg.ConfigSourceDynamicBrokerConfig)
		equal(t, "synonyms", synonyms(segment)[:3], []string{
			"2 log.segment.bytes=7000", "3 log.segment.bytes=6000", "4 log.segment.bytes=5000"})

		index := config(t, r, "index.interval.bytes")
		equal(t, "default", *index.Value, "4096")
		equal(t, "source", index.Source, kmsg.ConfigSourceDefaultConfig)
		for _, c := range r.Configs {
			if c.ReadOnly || c.IsSensitive {
				t.Errorf("%s of a topic is read-only or sensitive", c.Name)
			}
			if v >= 3 && (c.ConfigType == 0 || c.Documentation == nil || *c.Documentation == "") {
				t.Errorf("%s has no type or documentation", c.Name)
			}
		}
		if v >= 3 {
			equal(t, "type", index.ConfigType, kmsg.ConfigType(3))
		}
	})
}

func TestDescribeConfigsConvertsUnitsOfBrokerSettings(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	f.set("log.retention.hours", "2")
	c := config(t, describe(t, f, describeRequest(messages.ConfigTopic, "a"), 4), "retention.ms")
	equal(t, "value", *c.Value, "7200000")
	equal(t, "source", c.Source, kmsg.ConfigSourceStaticBrokerConfig)
}

func TestDescribeConfigsShowsOnlyWhatIsAskedFor(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigTopic, "a", "segment.bytes", "no.such.setting")
		r := describe(t, f, req, v)
		equal(t, "settings", len(r.Configs), 1)
		c := config(t, r, "segment.bytes")
		equal(t, "synonyms", len(c.ConfigSynonyms), 0)
		equal(t, "documentation", c.Documentation, nil)

		req.Resources[0].ConfigNames = []string{}
		equal(t, "settings for no names", len(describe(t, f, req, v).Configs), len(configs.Topics()))
	})
}

func TestDescribeConfigsShowsEverySettingOfThisNode(t *testing.T) {
	f := newFakeCluster()
	f.set("log.segment.bytes", "5000")
	f.set("num.partitions", "4")
	f.settings["message.max.bytes"] = Setting{
		Name: "message.max.bytes", Value: "1048588", Default: "1048588",
	}
	f.configureNodes(map[messages.NodeID]messages.Config{
		2: {"log.segment.bytes": "1"}, messages.NoNode: {"log.segment.bytes": "6000"},
	})
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigBroker, "1")
		req.IncludeSynonyms = true
		r := describe(t, f, req, v)
		equal(t, "settings", len(r.Configs), len(configs.Brokers()))
		segment := config(t, r, "log.segment.bytes")
		equal(t, "value", *segment.Value, "6000")
		equal(t, "source", segment.Source, kmsg.ConfigSourceDynamicDefaultBrokerConfig)
		equal(t, "read-only", segment.ReadOnly, false)
		equal(t, "synonyms", synonyms(segment)[:2],
			[]string{"3 log.segment.bytes=6000", "4 log.segment.bytes=5000"})
		partitions := config(t, r, "num.partitions")
		equal(t, "value", *partitions.Value, "4")
		equal(t, "source", partitions.Source, kmsg.ConfigSourceStaticBrokerConfig)
		listeners := config(t, r, "listeners")
		equal(t, "listeners are read-only", listeners.ReadOnly, true)
		maxBytes := config(t, r, "message.max.bytes")
		equal(t, "source of what nobody set", maxBytes.Source, kmsg.ConfigSourceDefaultConfig)
		equal(t, "its synonyms", synonyms(maxBytes), []string{"5 message.max.bytes=1048588"})
		rack := config(t, r, "broker.rack")
		equal(t, "what is not set is null", rack.Value, nil)
		equal(t, "source of nothing", rack.Source, kmsg.ConfigSourceDefaultConfig)
	})
}

func TestDescribeConfigsShowsWhatIsSetForAllNodes(t *testing.T) {
	f := newFakeCluster()
	f.set("num.partitions", "4")
	f.configureNodes(map[messages.NodeID]messages.Config{
		fakeNode: {"log.segment.bytes": "1"}, messages.NoNode: {"log.segment.bytes": "6000"},
	})
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigBroker, "")
		req.IncludeSynonyms = true
		r := describe(t, f, req, v)
		equal(t, "settings", len(r.Configs), 1)
		equal(t, "synonyms", synonyms(config(t, r, "log.segment.bytes")),
			[]string{"3 log.segment.bytes=6000"})
	})
}

func TestDescribeConfigsNeverShowsSecrets(t *testing.T) {
	secret := configs.Def{Name: "a.password", Type: configs.Password, Sensitive: true}
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms = true
	out := describedConfig(&configEntry{def: &secret, value: configs.Value{
		Value:    "hunter2",
		Synonyms: []configs.Synonym{{Name: "a.password", Value: "hunter2"}},
	}}, req)
	equal(t, "value", out.Value, nil)
	equal(t, "synonym", out.ConfigSynonyms[0].Value, nil)
	equal(t, "sensitive", out.IsSensitive, true)
}

func TestDescribeConfigsRefusesOtherResources(t *testing.T) {
	f := newFakeCluster()
	eachVersion(t, 32, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			what string
			kind messages.ConfigResourceType
			name string
			want int16
		}{
			{"a missing topic", messages.ConfigTopic, "gone", codeUnknownTopicOrPartition},
			{"an invalid topic", messages.ConfigTopic, "a b", codeInvalidTopic},
			{"a node that is not there", messages.ConfigBroker, "2", codeInvalidRequest},
			{"a node that is no number", messages.ConfigBroker, "one", codeInvalidRequest},
			{"loggers", 8, "1", codeInvalidRequest},
			{"a group without a name", messages.ConfigGroup, "", codeInvalidRequest},
			{"an unknown type", 99, "x", codeInvalidRequest},
		} {
			t.Run(tt.what, func(t *testing.T) {
				r := describe(t, f, describeRequest(tt.kind, tt.name), v)
				equal(t, "code", r.ErrorCode, tt.want)
				hasText(t, tt.what, r.ErrorMessage)
				equal(t, "type", r.ResourceType, kmsg.ConfigResourceType(tt.kind))
				equal(t, "name", r.ResourceName, tt.name)
				equal(t, "settings", len(r.Configs), 0)
			})
		}
	})
}

func TestDescribeConfigsShowsAGroupTheSettingsOfTheNode(t *testing.T) {
	f := newFakeCluster()
	f.set("group.consumer.session.timeout.ms", "50000")
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigGroup, "g")
		req.IncludeSynonyms = true
		r := describe(t, f, req, v)
		equal(t, "code", r.ErrorCode, codeNone)
		equal(t, "settings", len(r.Configs), 2)
		beat, session := r.Configs[0], r.Configs[1]
		equal(t, "names", []string{beat.Name, session.Name},
			[]string{"consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"})
		equal(t, "values", []string{*beat.Value, *session.Value}, []string{"5000", "50000"})
		equal(t, "default", beat.Source, kmsg.ConfigSourceDefaultConfig)
		equal(t, "set", session.Source, kmsg.ConfigSourceStaticBrokerConfig)
		equal(t, "can be altered", !beat.ReadOnly, false)
		equal(t, "where it comes from", session.ConfigSynonyms[0].Name,
			"group.consumer.session.timeout.ms")
	})
}

func TestDescribeConfigsDescribesAResourceOnce(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	req := describeRequest(messages.ConfigTopic, "a", "segment.bytes")
	for range 1000 {
		req.Resources = append(req.Resources, req.Resources[0])
	}
	equal(t, "settings", len(describe(t, f, req, 4).Configs), 1)
}

func TestDescribeConfigsShowsOfAnotherNodeWhatIsSetForIt(t *testing.T) {
	f := newFakeCluster()
	f.addNodes()
	f.set("num.partitions", "4")
	f.configureNodes(map[messages.NodeID]messages.Config{
		2:               {"log.segment.bytes": "1000000"},
		messages.NoNode: {"log.segment.bytes": "6000", "message.max.bytes": "7000"},
	})
	eachVersion(t, 32, func(t *testing.T, v int16) {
		req := describeRequest(messages.ConfigBroker, "2")
		req.IncludeSynonyms = true
		r := describe(t, f, req, v)
		equal(t, "code", r.ErrorCode, codeNone)
		equal(t, "settings", len(r.Configs), 2)
		segment := config(t, r, "log.segment.bytes")
		equal(t, "value", *segment.Value, "1000000")
		equal(t, "source", segment.Source, kmsg.ConfigSourceDynamicBrokerConfig)
		equal(t, "synonyms", synonyms(segment),
			[]string{"2 log.segment.bytes=1000000", "3 log.segment.bytes=6000"})
		equal(t, "source for all", config(t, r, "message.max.bytes").Source,
			kmsg.ConfigSourceDynamicDefaultBrokerConfig)
		equal(t, "of the third", len(describe(t, f, describeRequest(messages.ConfigBroker, "3"), v).
			Configs), 2)
	})
}
