package kafka

import (
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/node/door"
)

// configEntry is one setting in force, as the config APIs show it.
type configEntry struct {
	def      *configs.Def
	value    configs.Value
	readOnly bool
}

// shown is the value on the wire: null for what is secret or not set.
func (e *configEntry) shown() *string {
	if e.def.Sensitive || e.value.Null {
		return nil
	}
	return &e.value.Value
}

func (e *configEntry) source() configs.Origin { return e.value.Origin }

// documentation says what the setting does, and when it does nothing.
func (e *configEntry) documentation() string {
	if e.def.NoEffect == "" {
		return e.def.Doc
	}
	return e.def.Doc + " It has no effect here: " + e.def.NoEffect
}

func (s *Server) layers(image *messages.Image) *door.Layers {
	return door.LayersOf(image, s.cluster.Self(), s.settings)
}

// topicConfigs returns all settings in force for a topic with those overrides,
// sorted by name.
func topicConfigs(l *door.Layers, overrides messages.Config) []configEntry {
	defs := configs.Topics()
	entries := make([]configEntry, 0, len(defs))
	for _, d := range defs {
		v, _ := configs.Effective(d.Name, overrides, l.Lookup)
		v.Synonyms = l.Spread(v.Synonyms)
		entries = append(entries, configEntry{def: d, value: v})
	}
	return entries
}

// topicValue returns one setting in force for a topic.
func topicValue(l *door.Layers, topic *messages.Topic, name string) string {
	v, _ := configs.Effective(name, topic.Configs, l.Lookup)
	return v.Value
}

// brokerConfigs returns all settings in force on this node, sorted by name.
func brokerConfigs(l *door.Layers) []configEntry {
	defs := configs.Brokers()
	entries := make([]configEntry, 0, len(defs))
	for _, d := range defs {
		v, _ := configs.EffectiveBroker(d.Name, l.Lookup)
		v.Synonyms = l.Spread(v.Synonyms)
		entries = append(entries, configEntry{def: d, value: v, readOnly: d.ReadOnly()})
	}
	return entries
}

// groupConfigs returns the settings in force for a consumer group, sorted by name:
// those of the node, under the names that Kafka has for one group.
func groupConfigs(l *door.Layers) []configEntry {
	var entries []configEntry
	for _, name := range []string{
		"consumer.heartbeat.interval.ms", "consumer.session.timeout.ms",
	} {
		d, _ := configs.Broker("group." + name)
		v, _ := configs.EffectiveBroker(d.Name, l.Lookup)
		v.Synonyms = l.Spread(v.Synonyms)
		of := *d
		of.Name = name
		entries = append(entries, configEntry{def: &of, value: v, readOnly: true})
	}
	return entries
}

// changedConfigs returns what is set at run time for a node, or with
// messages.NoNode for all nodes, sorted by name.
func changedConfigs(image *messages.Image, node messages.NodeID) []configEntry {
	set := map[string][]configs.Synonym{}
	for name, value := range image.NodeConfigs[node] {
		set[name] = []configs.Synonym{{Name: name, Value: value, Origin: configs.OriginBroker}}
	}
	for name, value := range image.NodeConfigs[messages.NoNode] {
		if node == messages.NoNode {
			set[name] = nil
		}
		set[name] = append(set[name],
			configs.Synonym{Name: name, Value: value, Origin: configs.OriginClusterBrokers})
	}
	var entries []configEntry
	for _, name := range slices.Sorted(maps.Keys(set)) {
		d, ok := configs.Broker(name)
		if !ok {
			continue
		}
		first := set[name][0]
		entries = append(entries, configEntry{def: d, readOnly: d.ReadOnly(), value: configs.Value{
			Value: first.Value, Origin: first.Origin, Synonyms: set[name],
		}})
	}
	return entries
}
