package topics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
)

// AlterConfigs decides changes to one resource: all of them or none.
func (p *Plan) AlterConfigs(a messages.AlterConfigs) error {
	switch a.Resource.Type {
	case messages.ConfigTopic:
		return p.alterTopic(a)
	case messages.ConfigBroker:
		return p.alterBroker(a)
	case messages.ConfigGroup: // they have none of their own yet
	}
	return fmt.Errorf(
		"resources of type %d cannot be configured: %w",
		a.Resource.Type,
		messages.ErrInvalidRequest,
	)
}

func (p *Plan) alterTopic(a messages.AlterConfigs) error {
	t := p.topic(messages.TopicRef{Name: a.Resource.Name})
	if t == nil {
		return fmt.Errorf("topic %q: %w", a.Resource.Name, messages.ErrUnknownTopicOrPartition)
	}
	next, err := applyChanges(t.Configs, a, configs.KindTopic)
	if err != nil {
		return err
	}
	if err := configs.CheckTopic(next); err != nil {
		return err
	}
	if maps.Equal(next, t.Configs) {
		return nil
	}
	before := p.allRules([]*messages.Topic{t})
	changed := *t
	changed.Configs = next
	p.put(&changed)
	p.reconsider([]*messages.Topic{&changed}, before)
	return nil
}

func (p *Plan) alterBroker(a messages.AlterConfigs) error {
	node := messages.NoNode
	if a.Resource.Name != "" {
		n, err := strconv.ParseInt(a.Resource.Name, 10, 32)
		if err != nil || p.node(messages.NodeID(n)) == nil {
			return fmt.Errorf("there is no node %q: %w", a.Resource.Name, messages.ErrInvalidRequest)
		}
		node = messages.NodeID(n)
	}
	all := p.ownConfigs()
	next, err := applyChanges(all[node], a, configs.KindBroker)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if def, ok := configs.Broker(name); ok && !def.Dynamic && next[name] != all[node][name] {
			return fmt.Errorf("%s cannot be changed while the node runs; "+
				"set it in the node's configuration and restart: %w", name, messages.ErrInvalidRequest)
		}
	}
	if _, set := next[drainSetting]; set && node == messages.NoNode {
		return fmt.Errorf("%s empties one node: name it: %w", drainSetting,
			messages.ErrInvalidRequest)
	}
	if maps.Equal(next, all[node]) {
		return nil
	}
	before := p.allRules(p.all())
	all[node] = next
	p.configs = all
	if node != messages.NoNode {
		p.setDraining(node, next[drainSetting] == "true")
	}
	p.reconsider(p.all(), before)
	return nil
}

// ownConfigs returns a copy of the settings of nodes as the plan leaves them, for
// p.configs.
func (p *Plan) ownConfigs() map[messages.NodeID]messages.Config {
	all := maps.Clone(p.nodeConfigs())
	if all == nil {
		all = map[messages.NodeID]messages.Config{}
	}
	return all
}

// applyChanges applies the operations of a to the overrides and checks the outcome.
func applyChanges(old messages.Config, a messages.AlterConfigs,
	kind configs.Kind) (messages.Config, error) {
	lookup := configs.Broker
	if kind == configs.KindTopic {
		lookup = configs.Topic
	}
	next := messages.Config{}
	if !a.Replace {
		maps.Copy(next, old)
	}
	for _, c := range a.Changes {
		if c.Op == messages.ConfigDelete { // of any name: it is not set afterwards
			delete(next, c.Key)
			continue
		}
		def, ok := lookup(c.Key)
		if !ok {
			return nil, configs.Unknown(c.Key, kind)
		}
		switch c.Op {
		case messages.ConfigSet:
			next[c.Key] = c.Value
		case messages.ConfigAppend, messages.ConfigSubtract:
			if def.Type != configs.List {
				return nil, fmt.Errorf("%s is not a list: it can be set but not appended to or "+
					"subtracted from: %w", c.Key, messages.ErrInvalidConfig)
			}
			current, overridden := next[c.Key]
			if !overridden {
				current = def.Default
			}
			next[c.Key] = mergeList(current, c.Value, c.Op == messages.ConfigAppend)
		default:
			return nil, fmt.Errorf("operation %d on %s: %w", c.Op, c.Key, messages.ErrInvalidRequest)
		}
		if err := def.Check(next[c.Key]); err != nil {
			return nil, err
		}
		next[c.Key] = def.Canonical(next[c.Key])
	}
	return next, nil
}

// mergeList adds or takes away the elements of a comma-separated list, keeping
// the order and naming each once.
func mergeList(current, operand string, add bool) string {
	have := configs.SplitList(current)
	for _, e := range configs.SplitList(operand) {
		at := slices.Index(have, e)
		if add && at < 0 {
			have = append(have, e)
		}
		if !add && at >= 0 {
			have = slices.Delete(have, at, at+1)
		}
	}
	return strings.Join(have, ",")
}
