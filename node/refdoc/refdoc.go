// Package refdoc writes the reference documentation out of the tables the
// program itself runs by, so that neither can be wrong about the other.
//
// Its test keeps docs/reference equal to it; go test ./node/refdoc -rewrite
// writes the files anew. Nothing else imports it. It is pure.
package refdoc

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/metrics"
)

const generated = "<!-- Generated from the program's tables: " +
	"go test ./node/refdoc -rewrite. Do not edit. -->\n\n"

// Config returns docs/reference/config.md.
func Config() string {
	var b strings.Builder
	b.WriteString("# Settings\n\n" + generated + configIntro)
	b.WriteString("## Settings of nodes\n\n")
	b.WriteString("A setting marked *dynamic* may change while the node runs; " +
		"the others need a restart.\n\n")
	settings(&b, configs.Brokers(), configs.KindBroker)
	b.WriteString("\n## Settings of topics\n\n")
	b.WriteString("Given when a topic is created, and changed at any time. " +
		"A topic that does not set one uses that of the node, where one is named.\n\n")
	settings(&b, configs.Topics(), configs.KindTopic)
	foreigners(&b)
	return b.String()
}

// configIntro has ' for the backquotes of Markdown.
var configIntro = strings.ReplaceAll(`Names, types and units are those of Kafka.
A node takes each of its settings from the strongest source that gives it:

1. flags: '--set log.retention.hours=24', and the flags with names of their own ('--data-dir' is
   'log.dirs', '--kafka-addr' is 'listeners', '--http-addr' is 'http.listener', '--actor-addr' is
   'actor.listener');
2. the environment: 'TROUPE_LOG_RETENTION_HOURS=24', with '_' for every dot;
3. the file of '--config' or 'TROUPE_CONFIG': YAML ('*.yaml'; keys with dots, nested, or both), or
   properties as Java has them ('*.properties'), so that the file of a Kafka broker works;
4. the default.

'troupe config' prints every setting in force and its source. Numbers have no suffixes, the name
says the unit. Of settings for the same thing ('log.retention.ms', '.minutes' and '.hours') the one
from the stronger source counts; within one source the one with the smallest unit, as in Kafka.

`, "'", "`")

// settings writes one table.
func settings(b *strings.Builder, defs []*configs.Def, kind configs.Kind) {
	b.WriteString("| setting | default | values | meaning |\n|---|---|---|---|\n")
	for _, d := range defs {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n",
			d.Name, defaultOf(d), cell(valuesOf(d)), cell(meaningOf(d, kind)))
	}
}

func defaultOf(d *configs.Def) string {
	text := code(d.Default)
	if d.Optional {
		text = "none"
	}
	switch d.KafkaDefault {
	case "":
		return text
	case "null":
		return text + " (Kafka: none)"
	}
	return text + " (Kafka: " + code(d.KafkaDefault) + ")"
}

// valuesOf says what a setting accepts, as far as a table can say it.
func valuesOf(d *configs.Def) string {
	if len(d.OneOf) > 0 {
		words := make([]string, len(d.OneOf))
		for i, w := range d.OneOf {
			words[i] = code(w)
		}
		if d.Type == configs.List {
			return "list of " + strings.Join(words, ", ")
		}
		return strings.Join(words, ", ")
	}
	text := strings.ToLower(d.Type.String())
	if d.Unit != "" {
		text += ", " + d.Unit
	}
	switch r := d.Range; {
	case r == nil:
		return text
	case r.Max == math.MaxInt64:
		return fmt.Sprintf("%s, from %d", text, r.Min)
	default:
		return fmt.Sprintf("%s, %d to %d", text, r.Min, r.Max)
	}
}

func meaningOf(d *configs.Def, kind configs.Kind) string {
	text := d.Doc
	if d.NoEffect != "" {
		text += " Has no effect: " + d.NoEffect + "."
	}
	if kind == configs.KindTopic && len(d.Fallbacks) > 0 {
		names := make([]string, len(d.Fallbacks))
		for i, f := range d.Fallbacks {
			names[i] = code(f.Broker)
		}
		text += " Of the node: " + strings.Join(names, ", then ") + "."
	}
	if kind == configs.KindBroker && d.Dynamic {
		text += " *Dynamic.*"
	}
	if d.Troupe {
		text += " *Troupe only.*"
	}
	return text
}

// foreigners writes what becomes of settings of Kafka that are none of ours.
func foreigners(b *strings.Builder) {
	b.WriteString("\n## Settings of Kafka that a node refuses\n\n" +
		"It would be unsafe to ignore them.\n\n| setting | why |\n|---|---|\n")
	var ignored []config.Foreign
	for _, f := range config.Foreigners() {
		if f.Refused {
			fmt.Fprintf(b, "| `%s` | %s |\n", f.Name, cell(f.Why))
			continue
		}
		ignored = append(ignored, f)
	}
	b.WriteString("\n## Settings of Kafka that a node ignores\n\n" +
		"They are accepted, so that a file can be shared with Kafka, " +
		"and named in one warning.\n\n" +
		"| why | settings |\n|---|---|\n")
	for _, group := range byReason(ignored) {
		fmt.Fprintf(b, "| %s | %s |\n", cell(group.why), strings.Join(group.names, ", "))
	}
}

type reason struct {
	why   string
	names []string
}

// byReason groups settings, the reasons sorted.
func byReason(all []config.Foreign) []reason {
	var groups []reason
	for _, f := range all {
		i := slices.IndexFunc(groups, func(r reason) bool { return r.why == f.Why })
		if i < 0 {
			i = len(groups)
			groups = append(groups, reason{why: f.Why})
		}
		groups[i].names = append(groups[i].names, code(f.Name))
	}
	slices.SortFunc(groups, func(a, b reason) int { return strings.Compare(a.why, b.why) })
	return groups
}

// Metrics returns docs/reference/metrics.md.
func Metrics() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + generated + metricsIntro)
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range metrics.Table() {
		labels := make([]string, len(d.Labels))
		for i, l := range d.Labels {
			labels[i] = code(l)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n",
			d.Name, d.Kind, strings.Join(labels, ", "), cell(d.Help))
	}
	return b.String()
}

// metricsIntro has ' for the backquotes of Markdown.
var metricsIntro = strings.ReplaceAll(`A node serves them on '/metrics' of its HTTP listener,
in the text format of Prometheus. Names that begin with 'kafka_' are those the JMX exporter gives
metrics of Kafka with the same meaning, so that dashboards made for Kafka work; those of consumer
groups have the names of kafka_exporter, and come from the node that coordinates the group.
'troupe_' ones are ours alone. Metrics of the process ('process_') and of the Go runtime ('go_')
stand beside them.
Series of a topic appear with its first request. There is no series for all topics together: sum
over 'topic'.

`, "'", "`")

func code(s string) string {
	if s == "" {
		return "empty"
	}
	return "`" + s + "`"
}

// cell escapes what would end a cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(s, "|", `\|`)
}
