package door

import (
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
)

// Layers knows all places a node setting may come from, as of one image.
type Layers struct {
	node, cluster messages.Config    // set at run time
	static        map[string]Setting // of the node's own configuration
}

// place is one place that sets a node setting.
type place struct {
	value  string
	origin configs.Origin
}

// LayersOf returns the layers of the settings of node self.
func LayersOf(image *messages.Image, self messages.NodeID, s Settings) *Layers {
	l := &Layers{
		node:    image.NodeConfigs[self],
		cluster: image.NodeConfigs[messages.NoNode],
		static:  map[string]Setting{},
	}
	for _, set := range s.Broker() {
		l.static[set.Name] = set
	}
	return l
}

// of returns the places that set name, the one in force first.
func (l *Layers) of(name string) []place {
	var all []place
	if v, ok := l.node[name]; ok {
		all = append(all, place{v, configs.OriginBroker})
	}
	if v, ok := l.cluster[name]; ok {
		all = append(all, place{v, configs.OriginClusterBrokers})
	}
	set, known := l.static[name]
	if known && set.Static {
		all = append(all, place{set.Value, configs.OriginStatic})
	}
	switch d, ok := configs.Broker(name); {
	case known && set.Default != "":
		all = append(all, place{set.Default, configs.OriginDefault})
	case ok && !d.Optional:
		all = append(all, place{d.Default, configs.OriginDefault})
	}
	return all
}

// Lookup is a configs.Lookup: the place in force.
func (l *Layers) Lookup(name string) (string, configs.Origin) {
	if all := l.of(name); len(all) > 0 {
		return all[0].value, all[0].origin
	}
	return "", configs.OriginDefault
}

// Spread lists every place of every node setting among the synonyms, where the
// table names only the place in force.
func (l *Layers) Spread(synonyms []configs.Synonym) []configs.Synonym {
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
