package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// describedTopic is what "topic describe" knows of a topic.
type describedTopic struct {
	Name       string               `json:"name"`
	TopicID    string               `json:"topicId"`
	Internal   bool                 `json:"internal"`
	Partitions []describedPartition `json:"partitions"`
	Configs    []describedConfig    `json:"configs"`
}

// describedPartition is one partition. Pointers are nil when nobody could say,
// as for the offsets of a partition without a leader.
type describedPartition struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"` // -1: none
	LeaderEpoch int32   `json:"leaderEpoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Offline     []int32 `json:"offline"`
	StartOffset *int64  `json:"startOffset"` // of the first record there is
	EndOffset   *int64  `json:"endOffset"`   // of the record to come
	SizeBytes   *int64  `json:"sizeBytes"`   // on the leader's disk
	Error       string  `json:"error,omitempty"`
}

// describedConfig is one setting of a topic.
type describedConfig struct {
	Name      string  `json:"name"`
	Value     *string `json:"value"` // null when sensitive or unset
	Source    string  `json:"source"`
	Sensitive bool    `json:"sensitive"`
}

func newTopicDescribe(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "describe NAME...",
		Short: "Show the partitions, offsets and settings of topics",
		Long: `Describe shows where each partition is, which offsets it holds and how much disk
it takes on its leader, and the settings that differ from the defaults.`,
		Example: `  troupe topic describe orders
  troupe topic describe orders --all
  troupe topic describe orders -o json`,
		Args: need(0, "the NAME of a topic"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return g.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				topics, err := describeTopics(ctx, adm, names)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), topics, func(w io.Writer) error {
					return writeDescribed(w, topics, all)
				})
			})
		},
		ValidArgsFunction: g.topicNames(0),
	}
	cmd.Flags().BoolVar(&all, "all", false,
		"show settings at their default too (JSON and YAML always do)")
	return cmd
}

// describeTopics gathers everything about names, in their order.
func describeTopics(
	ctx context.Context, adm *kadm.Client, names []string,
) ([]describedTopic, error) {
	details, err := adm.ListTopics(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := details[name].Err; err != nil {
			return nil, topicError(name, err, "")
		}
	}
	// Partial answers are shown as far as they go: a partition without a leader
	// has no offsets, and a broker may not tell sizes. Only a context that ended
	// makes the command fail.
	starts, _ := adm.ListStartOffsets(ctx, names...)
	ends, _ := adm.ListEndOffsets(ctx, names...)
	dirs, _ := adm.DescribeAllLogDirs(ctx, details.TopicsSet())
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]describedTopic, 0, len(names))
	for _, name := range names {
		d := details[name]
		t := describedTopic{Name: name, TopicID: topicID(d.ID), Internal: d.IsInternal,
			Partitions: []describedPartition{}, Configs: []describedConfig{}}
		for _, p := range d.Partitions.Sorted() {
			t.Partitions = append(t.Partitions, describePartition(p, starts, ends, dirs))
		}
		rc, err := configs.On(name, nil)
		if err != nil {
			return nil, topicError(name, err, rc.ErrMessage)
		}
		if rc.Err != nil {
			return nil, topicError(name, rc.Err, rc.ErrMessage)
		}
		t.Configs = append(t.Configs, describeConfigs(rc.Configs)...)
		out = append(out, t)
	}
	return out, nil
}

func describePartition(
	p kadm.PartitionDetail, starts, ends kadm.ListedOffsets, dirs kadm.DescribedAllLogDirs,
) describedPartition {
	d := describedPartition{
		Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
		Replicas:    nonNil(p.Replicas),
		ISR:         nonNil(p.ISR),
		Offline:     nonNil(p.OfflineReplicas),
		StartOffset: listed(starts, p), EndOffset: listed(ends, p),
	}
	if p.Err != nil {
		d.Error = kafkaText(p.Err, "")
	}
	if on, ok := dirs[p.Leader].LookupPartition(p.Topic, p.Partition); ok {
		d.SizeBytes = &on.Size
	}
	return d
}

// listed is p's offset in list, or nil.
func listed(list kadm.ListedOffsets, p kadm.PartitionDetail) *int64 {
	o, ok := list.Lookup(p.Topic, p.Partition)
	if !ok || o.Err != nil || o.Offset < 0 {
		return nil
	}
	return &o.Offset
}

func nonNil(ids []int32) []int32 {
	if ids == nil {
		return []int32{}
	}
	return ids
}

func describeConfigs(configs []kadm.Config) []describedConfig {
	var out []describedConfig
	for _, c := range configs {
		out = append(out, describedConfig{Name: c.Key, Value: c.Value,
			Source: sourceName(c.Source), Sensitive: c.Sensitive})
	}
	slices.SortFunc(out, func(a, b describedConfig) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// sourceDefault is the source of a setting nobody set.
const sourceDefault = "default"

// sourceName says where a setting comes from, in the words of our output.
func sourceName(s kmsg.ConfigSource) string {
	switch s {
	case kmsg.ConfigSourceDynamicTopicConfig:
		return "topic"
	case kmsg.ConfigSourceDynamicBrokerConfig:
		return "broker"
	case kmsg.ConfigSourceDynamicDefaultBrokerConfig:
		return "cluster"
	case kmsg.ConfigSourceStaticBrokerConfig:
		return "start"
	case kmsg.ConfigSourceDefaultConfig:
		return sourceDefault
	default:
		return strings.ToLower(s.String())
	}
}

// topicID prints an id as Kafka's tools do.
func topicID(id kadm.TopicID) string { return messages.TopicID(id).String() }

func writeDescribed(w io.Writer, topics []describedTopic, all bool) error {
	for i, t := range topics {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "%s: %s, id %s\n\n", printable(t.Name),
			plural(int64(len(t.Partitions)), "partition"), t.TopicID); err != nil {
			return err
		}
		if err := partitionTable(t.Partitions).write(w); err != nil {
			return err
		}
		if err := writeConfigs(w, t.Configs, all); err != nil {
			return err
		}
	}
	return nil
}

func partitionTable(partitions []describedPartition) *table {
	t := newTable(">PARTITION", ">LEADER", "REPLICAS", "ISR", ">START", ">END", ">SIZE", "NOTE")
	for _, p := range partitions {
		leader, size := "none", "-"
		if p.Leader >= 0 {
			leader = strconv.Itoa(int(p.Leader))
		}
		if p.SizeBytes != nil {
			size = byteSize(float64(*p.SizeBytes))
		}
		note := p.Error
		if note == "" && len(p.Offline) > 0 {
			note = "offline: " + ids(p.Offline)
		}
		t.add(strconv.Itoa(int(p.Partition)), leader, ids(p.Replicas), ids(p.ISR),
			offsetText(p.StartOffset), offsetText(p.EndOffset), size, note)
	}
	return t.withoutEmpty("NOTE")
}

func ids(list []int32) string {
	words := make([]string, len(list))
	for i, id := range list {
		words[i] = strconv.Itoa(int(id))
	}
	return orDash(strings.Join(words, ","))
}

func offsetText(o *int64) string {
	if o == nil {
		return "-"
	}
	return strconv.FormatInt(*o, 10)
}

// writeConfigs shows the settings that differ from their default, or all.
func writeConfigs(w io.Writer, configs []describedConfig, all bool) error {
	t := newTable("SETTING", "VALUE", "SOURCE")
	hidden := 0
	for _, c := range configs {
		if c.Source == sourceDefault && !all {
			hidden++
			continue
		}
		value := "-"
		switch {
		case c.Sensitive:
			value = "(hidden)"
		case c.Value != nil:
			value = orDash(*c.Value)
		}
		t.add(c.Name, value, c.Source)
	}
	if len(t.rows) > 1 {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := t.write(w); err != nil {
			return err
		}
	}
	if hidden > 0 {
		_, err := fmt.Fprintf(w, "\n%s at the default; show with --all\n",
			plural(int64(hidden), "setting"))
		return err
	}
	return nil
}
