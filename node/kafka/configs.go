package kafka

import (
	"maps"
	"slices"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
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

// layer is one place that sets a node setting.
type layer struct {
	value  string
	origin configs.Origin
}

// brokerLayers knows all places a node setting may come from.
type brokerLayers struct {
	node, cluster messages.Config    // set at run time
	static        map[string]Setting // of the node's own configuration
}

func (s *Server) layers(image *messages.Image) *brokerLayers {
	l := &brokerLayers{
		node:    image.NodeConfigs[s.cluster.Self()],
		cluster: image.NodeConfigs[messages.NoNode],
		static:  map[string]Setting{},
	}
	for _, set := range s.settings.Broker() {
		l.static[set.Name] = set
	}
	return l
}

// of returns the places that set name, the one in force first.
func (l *brokerLayers) of(name string) []layer {
	var all []layer
	if v, ok := l.node[name]; ok {
		all = append(all, layer{v, configs.OriginBroker})
	}
	if v, ok := l.cluster[name]; ok {
		all = append(all, layer{v, configs.OriginClusterBrokers})
	}
	set, known := l.static[name]
	if known && set.Static {
		all = append(all, layer{set.Value, configs.OriginStatic})
	}
	switch d, ok := configs.Broker(name); {
	case known && set.Default != "":
		all = append(all, layer{set.Default, configs.OriginDefault})
	case ok && !d.Optional:
		all = append(all, layer{d.Default, configs.OriginDefault})
	}
	return all
}

// lookup is a configs.Lookup: the place in force.
func (l *brokerLayers) lookup(name string) (string, configs.Origin) {
	if all := l.of(name); len(all) > 0 {
		return all[0].value, all[0].origin
	}
	return "", configs.OriginDefault
}

// spread lists every place of every node setting among the synonyms, where the
// table names only the place in force.
func (l *brokerLayers) spread(synonyms []configs.Synonym) []configs.Synonym {
	var all []configs.Synonym
	var last string
	for _, syn := range synonyms {
		places := l.of(syn.Name)
		if syn.Origin == configs.OriginTopic || len(places) == 0 {
			all = append(all, syn)
			continue
		}
		if syn.Name == last {
			continue
		}
		last = syn.Name
		for _, p := range places {
			all = append(all, configs.Synonym{Name: syn.Name, Value: p.value, Origin: p.origin})
		}
	}
	return all
}

// topicConfigs returns all settings in force for a topic with those overrides,
// sorted by name.
func topicConfigs(l *brokerLayers, overrides messages.Config) []configEntry {
	defs := configs.Topics()
	entries := make([]configEntry, 0, len(defs))
	for _, d := range defs {
		v, _ := configs.Effective(d.Name, overrides, l.lookup)
		v.Synonyms = l.spread(v.Synonyms)
		entries = append(entries, configEntry{def: d, value: v})
	}
	return entries
}

// topicValue returns one setting in force for a topic.
func topicValue(l *brokerLayers, topic *messages.Topic, name string) string {
	v, _ := configs.Effective(name, topic.Configs, l.lookup)
	return v.Value
}

// brokerConfigs returns all settings in force on this node, sorted by name.
func brokerConfigs(l *brokerLayers) []configEntry {
	defs := configs.Brokers()
	entries := make([]configEntry, 0, len(defs))
	for _, d := range defs {
		v, _ := configs.EffectiveBroker(d.Name, l.lookup)
		v.Synonyms = l.spread(v.Synonyms)
		entries = append(entries, configEntry{def: d, value: v, readOnly: d.ReadOnly()})
	}
	return entries
}

// groupConfigs returns the settings in force for a consumer group, sorted by name:
// those of the node, under the names that Kafka has for one group.
func groupConfigs(l *brokerLayers) []configEntry {
	var entries []configEntry
	for _, name := range []string{
		"consumer.heartbeat.interval.ms", "consumer.session.timeout.ms",
	} {
		d, _ := configs.Broker("group." + name)
		v, _ := configs.EffectiveBroker(d.Name, l.lookup)
		v.Synonyms = l.spread(v.Synonyms)
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
