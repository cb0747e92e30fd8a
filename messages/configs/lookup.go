package configs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
)

var (
	topics, topicByName   = index(KindTopic)
	brokers, brokerByName = index(KindBroker)
)

// index collects the settings of one kind, sorted by name.
func index(kind Kind) ([]*Def, map[string]*Def) {
	var all []*Def
	byName := map[string]*Def{}
	add := func(table []Def, own Kind) {
		for i := range table {
			d := &table[i]
			if d.Kind == 0 {
				d.Kind = own
			}
			d.Dynamic = d.Dynamic || d.Kind == KindTopic
			if why, ok := notYet[d.Name]; ok {
				d.NoEffect = why
			}
			if d.Kind&kind != 0 {
				all = append(all, d)
				byName[d.Name] = d
			}
		}
	}
	add(topicTable, KindTopic)
	add(brokerTable, KindBroker)
	add(coordinatorTable, KindBroker)
	slices.SortFunc(all, func(a, b *Def) int { return strings.Compare(a.Name, b.Name) })
	return all, byName
}

// Topic returns the definition of a topic setting.
func Topic(name string) (*Def, bool) {
	d, ok := topicByName[name]
	return d, ok
}

// Broker returns the definition of a node setting.
func Broker(name string) (*Def, bool) {
	d, ok := brokerByName[name]
	return d, ok
}

// Topics returns all topic settings sorted by name. The slice is the caller's.
func Topics() []*Def { return slices.Clone(topics) }

// Brokers returns all node settings sorted by name. The slice is the caller's.
func Brokers() []*Def { return slices.Clone(brokers) }

// CheckTopic checks a whole set of topic overrides: that every name is known
// and every value allowed, and that they do not contradict each other. Settings
// that are not overridden count with their defaults. The error wraps
// messages.ErrInvalidConfig.
func CheckTopic(overrides map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		d, ok := Topic(name)
		if !ok {
			return Unknown(name, KindTopic)
		}
		if err := d.Check(overrides[name]); err != nil {
			return err
		}
	}
	s := ForTopic(nil, overrides)
	if s.MinCompactionLagMs > s.MaxCompactionLagMs {
		return fmt.Errorf("min.compaction.lag.ms (%d) is above max.compaction.lag.ms (%d): "+
			"no record could ever be compacted in time: %w",
			s.MinCompactionLagMs, s.MaxCompactionLagMs, messages.ErrInvalidConfig)
	}
	return nil
}

// CanonicalTopic returns a copy of a set of topic overrides that passed
// CheckTopic, each value in its canonical form.
func CanonicalTopic(overrides map[string]string) map[string]string {
	if overrides == nil {
		return nil
	}
	out := make(map[string]string, len(overrides))
	for name, value := range overrides { // any order: each stands for itself
		if d, ok := Topic(name); ok {
			value = d.Canonical(value)
		}
		out[name] = value
	}
	return out
}

// Unknown returns the error for a name that is no setting of that kind, with
// the nearest one that is. It wraps messages.ErrInvalidConfig.
func Unknown(name string, kind Kind) error {
	what := "setting"
	if kind == KindTopic {
		what = "topic setting"
	}
	hint := ""
	if near := Nearest(name, kind); near != "" {
		hint = fmt.Sprintf(", did you mean %s?", strconv.Quote(near))
	}
	return fmt.Errorf("unknown %s %s%s: %w", what, strconv.Quote(name), hint,
		messages.ErrInvalidConfig)
}

// Nearest returns the setting of that kind whose name is most like name, or ""
// when none is close. A topic setting asked for among node settings leads to
// the node setting behind it, and the other way round.
func Nearest(name string, kind Kind) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if d, ok := topicByName[name]; ok && kind == KindBroker && len(d.Fallbacks) > 0 {
		return d.Fallbacks[0].Broker
	}
	if kind == KindTopic {
		for _, d := range topics {
			for _, f := range d.Fallbacks {
				if f.Broker == name {
					return d.Name
				}
			}
		}
	}
	var candidates []*Def
	if kind&KindTopic != 0 {
		candidates = append(candidates, topics...)
	}
	if kind&KindBroker != 0 {
		candidates = append(candidates, brokers...)
	}
	best, bestDistance := "", len(name)/3+1
	for _, d := range candidates {
		if n := distance(name, d.Name, bestDistance); n < bestDistance {
			best, bestDistance = d.Name, n
		}
	}
	return best
}

// distance is the number of edits (insert, delete, replace) between a and b, or
// at least limit if it is not below limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
