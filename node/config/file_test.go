package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestYAMLIsReadAsSettings(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		want []line
		errs []string
	}{
		{"an empty file has none", "", nil, nil},
		{"comments are none", "# nothing\n", nil, nil},
		{"null is none", "~\n", nil, nil},
		{"keys may have dots, be nested, or both",
			"log.level: warn\nlog:\n  retention:\n    ms: 5\n  segment.bytes: 1048576\n",
			[]line{{"log.level", "warn", 1}, {"log.retention.ms", "5", 4},
				{"log.segment.bytes", "1048576", 5}}, nil},
		{"a setting may be the beginning of another",
			"broker.id: 1\nbroker.id.generation.enable: true\n",
			[]line{{"broker.id", "1", 1}, {"broker.id.generation.enable", "true", 2}}, nil},
		{"values are text as it stands",
			"a: 1e3\nb: yes\nc: 0x10\nd: \"q\\tq\"\ne: 9223372036854775807\n",
			[]line{{"a", "1e3", 1}, {"b", "yes", 2}, {"c", "0x10", 3}, {"d", "q\tq", 4},
				{"e", "9223372036854775807", 5}}, nil},
		{"an address needs no quotes", "listeners: PLAINTEXT://:9092\n",
			[]line{{"listeners", "PLAINTEXT://:9092", 1}}, nil},
		{"lists are joined", "log.dirs: [/a, /b]\nx:\n- c\n- d\n",
			[]line{{"log.dirs", "/a,/b", 1}, {"x", "c,d", 3}}, nil},
		{"no value is empty", "a:\nb: ~\n", []line{{"a", "", 1}, {"b", "", 2}}, nil},
		{"an alias is what it stands for", "a: &x 5\nb: *x\nc: [*x]\n",
			[]line{{"a", "5", 1}, {"b", "5", 1}, {"c", "5", 3}}, nil},
		{"JSON is YAML", `{"log": {"level": "warn"}, "num.partitions": 3}`,
			[]line{{"log.level", "warn", 1}, {"num.partitions", "3", 1}}, nil},
		{"a setting given twice is refused in either spelling",
			"log.level: warn\nlog:\n  level: info\n",
			[]line{{"log.level", "warn", 1}},
			[]string{"3: log.level is given twice, first in line 1"}},
		{"a list of more than values is refused", "a:\n- b: c\n", []line{{"a", "", 2}},
			[]string{"2: an element of a list must be a plain value"}},
		{"a merge is refused", "x: &x {b: 1}\ny:\n  <<: *x\n", []line{{"x.b", "1", 1}},
			[]string{"3: a key must be the name of a setting or a part of it"}},
		{"text alone is refused", "hello\n", nil,
			[]string{"1: the file must hold settings, as name: value"}},
		{"a second document is refused", "a: 1\n---\nb: 2\n", nil,
			[]string{"1: more than one YAML document"}},
		{"what is no YAML is refused with its line", "a: 1\nb: [\n", nil,
			[]string{"2: did not find expected node content"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, errs := parseYAML([]byte(tt.text))
			if !slices.Equal(lines, tt.want) {
				t.Errorf("lines %v, want %v", lines, tt.want)
			}
			if got := texts(errs); !slices.Equal(got, tt.errs) {
				t.Errorf("errors %q, want %q", got, tt.errs)
			}
		})
	}
}

func TestAFewLinesOfYAMLCannotStandForMillions(t *testing.T) {
	bomb := "a: &a {" + strings.Repeat("x", 3) + ": 1}\n"
	for c := 'b'; c <= 'z'; c++ {
		prev := "*" + string(c-1)
		bomb += string(c) + ": &" + string(c) + " {p: " + prev + ", q: " + prev + "}\n"
	}
	lines, errs := parseYAML([]byte(bomb))
	if len(errs) == 0 || len(lines) > yamlNodesMax {
		t.Errorf("%d lines, errors %v", len(lines), errs)
	}
}

func TestJavaPropertiesAreReadAsJavaDoes(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		want []line
		errs []string
	}{
		{"an empty file has none", "", nil, nil},
		{"comments and empty lines are skipped and counted",
			"# a\n\n  ! b=c\nx=1\n", []line{{"x", "1", 4}}, nil},
		{"a comment does not go on", "# a \\\nx=1\n", []line{{"x", "1", 2}}, nil},
		{"separators are =, : and white space",
			"a=1\nb:2\nc 3\nd = 4\ne\t:\t5\nf\n",
			[]line{{"a", "1", 1}, {"b", "2", 2}, {"c", "3", 3}, {"d", "4", 4}, {"e", "5", 5},
				{"f", "", 6}}, nil},
		{"the first separator counts", "a=b=c:d\n", []line{{"a", "b=c:d", 1}}, nil},
		{"any end of line is one", "a=1\r\nb=2\rc=3", []line{{"a", "1", 1}, {"b", "2", 2},
			{"c", "3", 3}}, nil},
		{"a backslash at the end goes on", "a=1,\\\n  2,\\\r\n\t3\nb=4\n",
			[]line{{"a", "1,2,3", 1}, {"b", "4", 4}}, nil},
		{"two backslashes at the end do not", "a=1\\\\\nb=2\n",
			[]line{{"a", `1\`, 1}, {"b", "2", 2}}, nil},
		{"escapes are undone", `a\:b=\u00e4\t\\x` + "\n", []line{{"a:b", "ä\t\\x", 1}}, nil},
		{"there is no expansion", "a=1\nb=${a}\nc=${b\n",
			[]line{{"a", "1", 1}, {"b", "${a}", 2}, {"c", "${b", 3}}, nil},
		{"the last of equal keys counts", "a=1\nb=2\na=3\n",
			[]line{{"a", "3", 3}, {"b", "2", 2}}, nil},
		{"a value without a key is refused", "=1\n  : 2\na\n", []line{{"a", "", 3}},
			[]string{`1: malformed line: nothing before "="`,
				`2: malformed line: nothing before ":"`}},
		{"a backslash at the end of the file is nothing", "a=1\\", []line{{"a", "1", 1}}, nil},
		{"what is malformed is refused with its line", "a=1\nb=\\u00x\nc=3\n",
			[]line{{"a", "1", 1}, {"c", "3", 3}},
			[]string{"2: malformed line: invalid unicode literal"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, errs := parseProperties([]byte(tt.text))
			if !slices.Equal(lines, tt.want) {
				t.Errorf("lines %v, want %v", lines, tt.want)
			}
			if got := texts(errs); !slices.Equal(got, tt.errs) {
				t.Errorf("errors %q, want %q", got, tt.errs)
			}
		})
	}
}

func TestAByteOrderMarkIsNoPartOfTheFirstKey(t *testing.T) {
	c := mustLoad(t, Sources{
		FS: file(t, "/s.PROPERTIES", "\uFEFFlog.level=warn\n"), File: "/s.PROPERTIES",
	})
	if c.Origin("log.level") != "file /s.PROPERTIES:1" {
		t.Errorf("log.level is from %q", c.Origin("log.level"))
	}
}

func TestAMalformedFileIsReportedWithItsLine(t *testing.T) {
	_, err := Load(Sources{FS: file(t, "/s.yaml", "log.level: [\n"), File: "/s.yaml"})
	const want = "file /s.yaml:1: did not find expected node content: invalid configuration"
	if !errors.Is(err, messages.ErrInvalidConfig) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Whatever is in the file, Load returns, and what it accepts reads back.
func fuzzLoad(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Load(Sources{FS: file(t, name, text), File: name})
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and error %v", c, err)
		}
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without a text")
			}
			return
		}
		if len(c.Listeners()) == 0 {
			t.Fatal("accepted without a listener")
		}
		for _, row := range c.All() {
			if row.Static && row.Origin == "default" {
				t.Fatalf("%s has a value from nowhere", row.Name)
			}
		}
	})
}

func FuzzYAML(f *testing.F) {
	fuzzLoad(f, "/s.yaml", "log.level: warn\n", "log:\n  retention:\n    ms: 5\n",
		"log.dirs: [a, b]\n", "a: &a [*a]\n", "<<: {a: b}\n", "? [a]\n: b\n", "--- |\n x\n")
}

func FuzzProperties(f *testing.F) {
	fuzzLoad(f, "/s.properties", "log.level=warn\n", "a\\\n", "a=\\u00", "\\", "a:b\\\\\n=\n",
		stockKafka)
}

func texts(errs []error) []string {
	var out []string
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return out
}
