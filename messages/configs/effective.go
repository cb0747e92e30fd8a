package configs

import (
	"strconv"
	"strings"
)

// Origin says where a value comes from. The numbers are those of Kafka's
// DescribeConfigs response.
type Origin int8

// The origins of values.
const (
	OriginTopic          Origin = 1 // the topic's own override
	OriginBroker         Origin = 2 // set at run time, for one node
	OriginClusterBrokers Origin = 3 // set at run time, for all nodes
	OriginStatic         Origin = 4 // a flag, the environment or the config file of the node
	OriginDefault        Origin = 5 // nobody set it
)

// Synonym is one of the places a value may come from.
type Synonym struct {
	Name   string
	Value  string
	Origin Origin
}

// Value is a setting in force.
type Value struct {
	Value  string
	Null   bool // nothing is set and there is no default
	Origin Origin
	// Synonyms lists all places that have a value, the one in force first.
	Synonyms []Synonym
}

// Lookup returns the value of a node setting and its origin. An unset Optional
// setting is "".
type Lookup func(name string) (value string, origin Origin)

// Effective returns the value of a topic setting for a topic with the given
// overrides on a node with the given settings, and all places it could come
// from. A nil broker stands for a node with nothing set. ok is false if there
// is no such topic setting.
func Effective(name string, overrides map[string]string, broker Lookup) (v Value, ok bool) {
	d, ok := Topic(name)
	if !ok {
		return Value{}, false
	}
	if broker == nil {
		broker = brokerDefault
	}
	values := make([]string, 0, 4) // of the synonyms, in the topic's unit
	if own, set := overrides[name]; set {
		v.Synonyms = append(v.Synonyms, Synonym{name, own, OriginTopic})
		values = append(values, own)
	}
	for _, f := range d.Fallbacks {
		raw, origin := broker(f.Broker)
		scaled, ok := f.scale(raw)
		if raw == "" || !ok {
			continue
		}
		v.Synonyms = append(v.Synonyms, Synonym{f.Broker, raw, origin})
		values = append(values, scaled)
	}
	if len(d.Fallbacks) == 0 {
		v.Synonyms = append(v.Synonyms, Synonym{name, d.Default, OriginDefault})
		values = append(values, d.Default)
	}
	if len(values) == 0 {
		v.Value, v.Origin = d.Default, OriginDefault
		return v, true
	}
	v.Value, v.Origin = values[0], v.Synonyms[0].Origin
	return v, true
}

// EffectiveBroker returns a node setting in force, from its value on this node
// and the origin. ok is false if there is no such node setting.
func EffectiveBroker(name string, broker Lookup) (v Value, ok bool) {
	d, ok := Broker(name)
	if !ok {
		return Value{}, false
	}
	if broker == nil {
		broker = brokerDefault
	}
	value, origin := broker(name)
	v = Value{Value: value, Null: value == "" && d.Optional, Origin: origin}
	if v.Null {
		return v, true
	}
	v.Synonyms = append(v.Synonyms, Synonym{name, value, origin})
	if origin != OriginDefault && !d.Optional {
		v.Synonyms = append(v.Synonyms, Synonym{name, d.Default, OriginDefault})
	}
	return v, true
}

// brokerDefault looks settings up on a node where nothing is set.
func brokerDefault(name string) (string, Origin) {
	if d, ok := Broker(name); ok && !d.Optional {
		return d.Default, OriginDefault
	}
	return "", OriginDefault
}

// scale turns a node setting's value into the topic setting's unit. ok is false
// when the value is not a number that fits, though it should be.
func (f Fallback) scale(value string) (scaled string, ok bool) {
	if f.Scale == 1 {
		return value, true
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil {
		return "", false
	}
	if n < 0 {
		return "-1", true
	}
	if product := n * f.Scale; product/f.Scale == n {
		return strconv.FormatInt(product, 10), true
	}
	return "", false
}
