// Package configs is the one table of every setting there is: those of topics
// and those of nodes (brokers), by Kafka's property names.
//
// Everything that names, checks, lists, documents or defaults a setting reads
// this table: the command line, the config file, CreateTopics, DescribeConfigs,
// the reference documentation. It owns no values: overrides live in the
// metadata image, a node's own values in its configuration. What is in force
// for a topic is computed from both by ForTopic and Effective.
//
// The package is pure, never changes after initialisation, and is safe for
// concurrent use. Any package may import it. Callers must not modify a Def.
//
// Values are text, as in Kafka's files and protocol: whole numbers without unit
// suffixes (the name says the unit), booleans as true or false, lists separated
// by commas. White space around a value is ignored, as Kafka does.
package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/troupelog/troupe/messages"
)

// Type is the type of a setting's value. The numbers are those of Kafka's
// DescribeConfigs response.
type Type int8

// The types of values.
const (
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3 // 32 bits, signed
	Short    Type = 4 // 16 bits, signed
	Long     Type = 5 // 64 bits, signed
	Double   Type = 6
	List     Type = 7 // separated by commas; may be empty
	Class    Type = 8
	Password Type = 9
)

// String returns Kafka's name of the type.
func (t Type) String() string {
	names := [...]string{Boolean: "BOOLEAN", String: "STRING", Int: "INT", Short: "SHORT",
		Long: "LONG", Double: "DOUBLE", List: "LIST", Class: "CLASS", Password: "PASSWORD"}
	if t < Boolean || int(t) >= len(names) {
		return fmt.Sprintf("Type(%d)", int8(t))
	}
	return names[t]
}

// Kind says whether a setting belongs to topics, to nodes, or, under one name,
// to both. It is a set of bits.
type Kind uint8

// The kinds of settings.
const (
	KindTopic  Kind = 1
	KindBroker Kind = 2
	KindBoth   Kind = KindTopic | KindBroker
)

// Fallback names a node setting that gives a topic setting its value where the
// topic does not override it. A positive number found there is multiplied by
// Scale (hours to milliseconds, say); a negative one stays as it is, because it
// means "no limit".
type Fallback struct {
	Broker string
	Scale  int64
}

// Range bounds a number, both ends included.
type Range struct {
	Min, Max int64
}

// Def defines one setting.
type Def struct {
	Name    string
	Kind    Kind
	Type    Type
	Default string // meaningless when Optional
	// Optional settings have no default: unset, they are null on the wire.
	Optional bool
	Doc      string // one or two sentences
	Unit     string // "ms", "bytes", ...; "" for plain numbers and text
	// Range bounds numbers; nil means that the type's own range is all there is.
	Range *Range
	// OneOf lists the allowed words of a String or the allowed elements of a
	// List; nil allows any.
	OneOf []string
	// Dynamic settings may change while a node runs. All of a topic are.
	Dynamic bool
	// Sensitive values are never shown.
	Sensitive bool
	// Fallbacks are the node settings behind a topic setting, the first that is
	// set wins.
	Fallbacks []Fallback
	// Troupe marks a setting that Kafka does not have.
	Troupe bool
	// KafkaDefault is Kafka's default where Troupe's differs; "null" for none.
	KafkaDefault string
	// NoEffect says why setting it changes nothing; "" when it does.
	NoEffect string

	// check is an extra rule; it returns what is allowed, or "" when v is fine.
	check func(v string) (allowed string)
}

// ReadOnly reports whether a node's value stands until its restart.
func (d *Def) ReadOnly() bool { return d.Kind&KindBroker != 0 && !d.Dynamic }

// Check reports whether value is allowed. The error wraps
// messages.ErrInvalidConfig and names the setting, the value (unless it is
// sensitive) and what is allowed.
func (d *Def) Check(value string) error {
	if allowed := d.refuse(strings.TrimSpace(value)); allowed != "" {
		shown := strconv.Quote(value)
		if d.Sensitive {
			shown = "the given value"
		}
		return fmt.Errorf("%s cannot be %s: it must be %s: %w",
			d.Name, shown, allowed, messages.ErrInvalidConfig)
	}
	return nil
}

// Canonical is how a value that passed Check is kept and shown: without the
// white space, capitals and signs that its type ignores. Tools compare what they
// set with what they read back.
func (d *Def) Canonical(value string) string {
	v := strings.TrimSpace(value)
	switch d.Type {
	case Boolean:
		return strings.ToLower(v)
	case Int, Short, Long:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case List:
		return strings.Join(SplitList(v), ",")
	default: // text has one form
	}
	return v
}

// refuse returns "" when v is allowed, else what is allowed.
func (d *Def) refuse(v string) string {
	var allowed string
	switch d.Type {
	case Boolean:
		if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			return "true or false"
		}
	case Int, Short, Long:
		if n, err := strconv.ParseInt(v, 10, d.bits()); err != nil || !d.inRange(n) {
			return d.allowedNumber()
		}
	case Double:
		f, err := strconv.ParseFloat(v, 64)
		// Comparing this way round refuses NaN too.
		within := d.Range == nil || f >= float64(d.Range.Min) && f <= float64(d.Range.Max)
		if err != nil || f != f || !within {
			return d.allowedNumber()
		}
	case List:
		allowed = d.refuseList(v)
	case String:
		if d.OneOf != nil && !slices.Contains(d.OneOf, v) {
			return "one of " + strings.Join(d.OneOf, ", ")
		}
	default: // classes and passwords are any text
	}
	if allowed == "" && d.check != nil {
		allowed = d.check(v)
	}
	return allowed
}

func (d *Def) refuseList(v string) string {
	if d.OneOf == nil {
		return ""
	}
	for _, e := range SplitList(v) {
		if !slices.Contains(d.OneOf, e) {
			return "a list of " + strings.Join(d.OneOf, ", ") + " separated by commas"
		}
	}
	return ""
}

func (d *Def) bits() int {
	switch d.Type {
	case Short:
		return 16
	case Int:
		return 32
	default:
		return 64
	}
}

func (d *Def) inRange(n int64) bool {
	return d.Range == nil || n >= d.Range.Min && n <= d.Range.Max
}

func (d *Def) allowedNumber() string {
	what := "a whole number"
	if d.Type == Double {
		what = "a number"
	}
	if d.Unit != "" {
		what += " of " + d.Unit
	}
	switch top := int64(1)<<(d.bits()-1) - 1; {
	case d.Range == nil && d.Type == Double:
		return what
	case d.Range == nil:
		return fmt.Sprintf("%s from %d to %d", what, -top-1, top)
	case d.Range.Max >= top:
		return fmt.Sprintf("%s, at least %d and at most %d", what, d.Range.Min, top)
	default:
		return fmt.Sprintf("%s from %d to %d", what, d.Range.Min, d.Range.Max)
	}
}

// SplitList takes a List value apart: elements are trimmed, empty ones dropped.
func SplitList(value string) []string {
	var out []string
	for e := range strings.SplitSeq(value, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}
