package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/persistence/vfs"
)

// Sources are where settings come from. An empty field says nothing.
type Sources struct {
	// FS reads File; nil is vfs.OS.
	FS vfs.FS
	// File is the path of the settings file: *.properties or *.yaml. Empty, it
	// is that of the variable TROUPE_CONFIG, if any.
	File string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// DataDir is the value of --data-dir: one or more folders, as log.dirs.
	DataDir string
	// KafkaAddr is the value of --kafka-addr: one host:port without encryption.
	KafkaAddr string
	// HTTPAddr is the value of --http-addr, a host:port.
	HTTPAddr string
	// ActorAddr is the value of --actor-addr, a host:port.
	ActorAddr string
	// BulkAddr is the value of --bulk-addr, a host:port.
	BulkAddr string
	// Consul, Cluster, NodeID and Rack are the values of --consul, --cluster,
	// --node-id and --rack.
	Consul, Cluster, NodeID, Rack string
	// Set are the values of --set, each key=value; of equal keys the last counts.
	Set []string
	// Settings are what a program that embeds the node sets, by name. They count as
	// much as flags.
	Settings map[string]string
}

// strength orders sources: a stronger one wins.
type strength int

const (
	fromFile strength = iota + 1
	fromEnv
	fromFlag
)

// entry is one setting as a source gave it.
type entry struct {
	name, value string
	origin      string // for people: "file troupe.yaml:12"
	strength    strength
}

// Load merges the sources and checks the result. The error joins everything
// that is wrong (at most errsMax of them), one line each, naming the source, the
// setting and the remedy; those about settings wrap messages.ErrInvalidConfig,
// those about the file what the file system said.
func Load(s Sources) (*Config, error) {
	l := loader{
		Config: &Config{set: map[string]entry{}, aside: map[string]entry{}},
	}
	l.takeFile(s)
	l.takeEnv(s.Environ)
	l.takeFlags(s)
	l.settle()
	l.listen()
	if l.unsaid > 0 {
		l.errs = append(l.errs, fmt.Errorf("%d more of the kind: %w",
			l.unsaid, messages.ErrInvalidConfig))
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	l.warn()
	return l.Config, nil
}

// errsMax bounds what Load reports: somebody who named the wrong file learns
// nothing from its every line.
const errsMax = 50

// loader builds a Config, the weakest source first.
type loader struct {
	*Config
	errs   []error
	unsaid int // errors beyond errsMax
}

// fail reports what is wrong at a place in a source.
func (l *loader) fail(origin, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.report(fmt.Errorf("%s: %s: %w", origin, text, messages.ErrInvalidConfig))
}

func (l *loader) report(err error) {
	if len(l.errs) == errsMax {
		l.unsaid++
		return
	}
	l.errs = append(l.errs, err)
}

// take accepts one setting of a source at least as strong as those before it.
func (l *loader) take(e entry) {
	e.name = strings.TrimSpace(e.name)
	e.value = strings.TrimSpace(e.value)
	d, ours := configs.Broker(e.name)
	if ours {
		l.takeKnown(d, e)
		return
	}
	if remedy, unsafe := refused[e.name]; unsafe {
		if e.value != "" {
			l.fail(e.origin, "%s cannot be honoured: %s", e.name, remedy)
		}
		return
	}
	if why, ok := meaningless(e.name); ok {
		e.origin = fmt.Sprintf("ignored: %s (%s)", why, e.origin)
		l.aside[e.name] = e
		return
	}
	if len(l.errs) == errsMax {
		l.unsaid++ // without looking for the nearest name
		return
	}
	l.report(fmt.Errorf("%s: %w", e.origin, configs.Unknown(e.name, configs.KindBroker)))
}

func (l *loader) takeKnown(d *configs.Def, e entry) {
	if e.value == "" && d.Optional {
		delete(l.set, e.name) // says that it is not set, whatever a weaker source said
		return
	}
	if err := d.Check(e.value); err != nil {
		l.report(fmt.Errorf("%s: %w", e.origin, err))
		return
	}
	if d.Type == configs.Boolean {
		e.value = strings.ToLower(e.value)
	}
	l.set[e.name] = e
}

// takeFlags takes the flags of their own first, then those of --set.
func (l *loader) takeFlags(s Sources) {
	own := map[string]entry{}
	flag := func(name, setting, value string) {
		if value != "" {
			own[setting] = entry{setting, value, "flag " + name, fromFlag}
		}
	}
	flag("--data-dir", "log.dirs", s.DataDir)
	flag("--http-addr", "http.listener", s.HTTPAddr)
	flag("--actor-addr", "actor.listener", s.ActorAddr)
	flag("--bulk-addr", "bulk.listener", s.BulkAddr)
	flag("--consul", "consul.address", s.Consul)
	flag("--cluster", "cluster.name", s.Cluster)
	flag("--node-id", "node.id", s.NodeID)
	flag("--rack", "broker.rack", s.Rack)
	if s.KafkaAddr != "" {
		flag("--kafka-addr", "listeners", "PLAINTEXT://"+s.KafkaAddr)
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		l.take(own[name])
	}
	for _, pair := range s.Set {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			l.fail("flag --set", "%q is not of the form key=value", pair)
			continue
		}
		if e, twice := own[name]; twice && e.value != strings.TrimSpace(value) {
			l.fail("flag --set", "%s is given by %s too; use one of them", name, e.origin)
			continue
		}
		l.take(entry{name, value, "flag --set", fromFlag})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		l.take(entry{name, s.Settings[name], "the program", fromFlag})
	}
}

// families are settings for the same thing: of those that are set, the first
// counts.
var families = [][]string{
	{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
	{"log.roll.ms", "log.roll.hours"},
	{"log.roll.jitter.ms", "log.roll.jitter.hours"},
	{"log.dirs", "log.dir"},
}

// settle decides between settings for the same thing.
func (l *loader) settle() {
	for _, family := range families {
		for i, name := range family {
			for _, other := range family[i+1:] {
				l.settlePair(name, other)
			}
		}
	}
	if e, ok := l.set["log.dir"]; ok && !l.Overridden("log.dirs") {
		l.copyTo("log.dirs", e)
	}
	l.settleNodeID()
	l.settleListeners()
	l.refuseDrain()
}

// settleListeners opens a node of a cluster to other machines, which clients come
// to it from as other nodes do. One on its own serves its machine alone unless told
// otherwise.
func (l *loader) settleListeners() {
	consul, clustered := l.set["consul.address"]
	if _, given := l.set["listeners"]; clustered && !given {
		l.set["listeners"] = entry{"listeners", "PLAINTEXT://:9092",
			"default of a node of a cluster (" + consul.origin + ")", consul.strength}
	}
}

// settlePair sets aside one of two settings for the same thing. Kafka always
// goes by the first; here a stronger source wins, or an environment variable
// for hours could not override a file's milliseconds.
func (l *loader) settlePair(first, second string) {
	a, given := l.set[first]
	b, both := l.set[second]
	if !given || !both {
		return
	}
	if b.strength > a.strength {
		a, b = b, a
	}
	delete(l.set, b.name)
	b.origin = fmt.Sprintf("ignored: %s (%s) says it already (%s)", a.name, a.origin, b.origin)
	l.aside[b.name] = b
}

// settleNodeID makes broker.id, the older name, and node.id agree.
func (l *loader) settleNodeID() {
	broker, old := l.set["broker.id"]
	if old && broker.value == "-1" {
		delete(l.set, "broker.id")
		old = false
	}
	node, given := l.set["node.id"]
	switch {
	case given && old && node.value != broker.value:
		l.fail(broker.origin, "broker.id is %s but node.id is %s (%s): they name the same "+
			"number, give node.id alone", broker.value, node.value, node.origin)
	case given && !old:
		l.copyTo("broker.id", node)
	case old && !given:
		l.copyTo("node.id", broker)
	}
}

// refuseDrain refuses what would drain the node at every start, whatever its
// operators decided meanwhile.
func (l *loader) refuseDrain() {
	if e, set := l.set["node.drain"]; set {
		l.fail(e.origin, "node.drain is decided while the node runs: use \"troupe node drain\"")
	}
}

// copyTo makes a setting follow another one that is set.
func (l *loader) copyTo(name string, e entry) {
	e.origin = fmt.Sprintf("%s (%s)", e.name, e.origin)
	e.name = name
	l.set[name] = e
}

// warn collects what was given without effect.
func (l *loader) warn() {
	var foreign []string
	for _, name := range slices.Sorted(maps.Keys(l.aside)) {
		if _, ours := configs.Broker(name); !ours {
			foreign = append(foreign, name)
			continue
		}
		l.warnings = append(l.warnings, name+" is "+l.aside[name].origin)
	}
	idle := map[string][]string{} // by the reason
	for _, name := range slices.Sorted(maps.Keys(l.set)) {
		if why := def(name).NoEffect; why != "" {
			idle[why] = append(idle[why], fmt.Sprintf("%s (%s)", name, l.set[name].origin))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(idle)) {
		verb := "has"
		if len(idle[why]) > 1 {
			verb = "have"
		}
		l.warnings = append(l.warnings,
			fmt.Sprintf("%s %s no effect: %s", strings.Join(idle[why], ", "), verb, why))
	}
	if len(foreign) > 0 {
		l.warnings = append(l.warnings,
			"settings of Kafka that mean nothing to Troupe are ignored: "+
				strings.Join(foreign, ", "))
	}
}
