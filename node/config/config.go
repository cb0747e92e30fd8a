// Package config turns what a user says, on the command line, in the
// environment and in a file, into the settings a node runs with.
//
// Names, types, bounds and defaults come from the one table of messages/configs;
// this package owns where a value came from and which source wins. From strong
// to weak: flags, environment variables (TROUPE_LOG_RETENTION_MS is
// log.retention.ms), the file (YAML, or Java properties as Kafka has them),
// the default. A server.properties of a real Kafka broker is accepted: what
// means nothing here is ignored and said so, what would be unsafe to ignore is
// refused, what nobody knows is refused with the nearest name.
//
// Only the wiring of the node and the command line import this package. It
// reads one file through persistence/vfs and has no other effects.
package config

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/invariant"
)

// Config holds the settings a node runs with. It never changes and may be used
// by any goroutine. Methods that take a name panic if it is no node setting:
// that is a bug of the caller.
type Config struct {
	set       map[string]entry // by name; what some source gave and is in force
	aside     map[string]entry // by name; given, but without effect: origin says why
	listeners []Listener
	warnings  []string
}

// Row is one line of "troupe config".
type Row struct {
	Name    string
	Value   string // hidden if the setting is sensitive
	Default string
	// Origin is "default", or the source: "flag --set", "env TROUPE_LOG_LEVEL",
	// "file troupe.yaml:12"; or "ignored: ..." with the reason and the source.
	Origin  string
	Doc     string // one or two sentences; "" for a setting that is not Troupe's
	Null    bool   // nobody set it and it has no default
	Static  bool   // some source gave the value that is in force
	Ignored bool   // some source gave the value, and it has no effect
}

// All returns every setting, sorted by name: those of the table, and those of
// Kafka that some source gave and that mean nothing here. The slice is the
// caller's.
func (c *Config) All() []Row {
	rows := c.Settings()
	for name, e := range c.aside {
		if _, ours := configs.Broker(name); !ours {
			rows = append(rows, Row{
				Name: name, Value: shown(name, e.value), Origin: e.origin, Ignored: true,
			})
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// Settings returns every setting of the table, sorted by name, as DescribeConfigs
// shows them. The slice is the caller's.
func (c *Config) Settings() []Row {
	defs := configs.Brokers()
	rows := make([]Row, len(defs))
	for i, d := range defs {
		rows[i] = c.row(d)
	}
	return rows
}

func (c *Config) row(d *configs.Def) Row {
	r := Row{Name: d.Name, Default: d.Default, Doc: d.Doc, Origin: c.Origin(d.Name)}
	r.Value = c.Value(d.Name)
	_, r.Static = c.set[d.Name]
	_, given := c.aside[d.Name]
	r.Ignored = given && !r.Static
	r.Null = !r.Static && d.Optional
	if d.Sensitive && r.Value != "" {
		r.Value = hidden
	}
	return r
}

// hidden stands for a secret.
const hidden = "(hidden)"

// shown returns the value of a setting that is not ours, unless it sounds like a
// secret.
func shown(name, value string) string {
	for _, secret := range []string{"password", "secret", "key", "jaas", "credential", "token"} {
		if value != "" && strings.Contains(name, secret) {
			return hidden
		}
	}
	return value
}

// Value returns a setting in force, in Kafka's notation; "" for one that nobody
// set and that has no default.
func (c *Config) Value(name string) string {
	d := def(name)
	if e, ok := c.set[name]; ok {
		return e.value
	}
	if d.Optional {
		return ""
	}
	return d.Default
}

// Origin says where the value in force comes from; see Row.Origin.
func (c *Config) Origin(name string) string {
	def(name)
	if e, ok := c.set[name]; ok {
		return e.origin
	}
	if e, ok := c.aside[name]; ok {
		return e.origin
	}
	return "default"
}

// Overridden reports whether some source gave the value in force.
func (c *Config) Overridden(name string) bool {
	def(name)
	_, ok := c.set[name]
	return ok
}

// Lookup returns the value in force as configs.Lookup wants it.
func (c *Config) Lookup(name string) (value string, origin configs.Origin) {
	if c.Overridden(name) {
		return c.Value(name), configs.OriginStatic
	}
	return c.Value(name), configs.OriginDefault
}

// Warnings returns a sentence for everything a source gave that has no effect,
// all settings of Kafka without a meaning here in one of them. The node logs
// them once at its start.
func (c *Config) Warnings() []string { return slices.Clone(c.warnings) }

// Listeners returns the listeners for Kafka clients in the order they are
// given, at least one.
func (c *Config) Listeners() []Listener { return slices.Clone(c.listeners) }

// Int returns a whole number of at most 32 bits; ok is false if nobody set it
// and it has no default.
func (c *Config) Int(name string) (n int, ok bool) {
	t := def(name).Type
	invariant.That(t == configs.Int || t == configs.Short, "%s is no int but a %v", name, t)
	long, ok := c.Long(name)
	return int(long), ok
}

// Long returns a whole number; ok is false if nobody set it and it has no
// default.
func (c *Config) Long(name string) (n int64, ok bool) {
	value := c.Value(name)
	if value == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	invariant.That(err == nil, "%s is no whole number: %v", name, err)
	return n, true
}

// Bytes returns a number of bytes; ok is false if nobody set it and it has no
// default. What a negative number means, the setting says.
func (c *Config) Bytes(name string) (n int64, ok bool) {
	unit := def(name).Unit
	invariant.That(unit == "bytes", "%s is not in bytes but in %q", name, unit)
	return c.Long(name)
}

// Bool returns a boolean.
func (c *Config) Bool(name string) bool {
	t := def(name).Type
	invariant.That(t == configs.Boolean, "%s is no boolean but a %v", name, t)
	return strings.EqualFold(c.Value(name), "true")
}

// units are those of durations in the table.
var units = map[string]time.Duration{
	"ms":      time.Millisecond,
	"seconds": time.Second,
	"minutes": time.Minute,
	"hours":   time.Hour,
}

// Duration returns a time, whatever unit the setting has; ok is false if nobody
// set it and it has no default. Times that do not fit become the longest or
// shortest Duration: Kafka writes "never" as the largest number there is.
func (c *Config) Duration(name string) (d time.Duration, ok bool) {
	unit, isTime := units[def(name).Unit]
	invariant.That(isTime, "%s is no time but in %q", name, def(name).Unit)
	n, ok := c.Long(name)
	switch {
	case n > int64(math.MaxInt64/unit):
		return math.MaxInt64, ok
	case n < int64(math.MinInt64/unit):
		return math.MinInt64, ok
	}
	return time.Duration(n) * unit, ok
}

// List returns the elements of a list, trimmed, without empty ones.
func (c *Config) List(name string) []string {
	t := def(name).Type
	invariant.That(t == configs.List, "%s is no list but a %v", name, t)
	return configs.SplitList(c.Value(name))
}

func def(name string) *configs.Def {
	d, ok := configs.Broker(name)
	invariant.That(ok, "%q is not a node setting", name)
	return d
}
