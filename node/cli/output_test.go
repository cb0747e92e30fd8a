package cli

import (
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestNumbersAreForReading(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("%d is %q", n, got)
		}
	}
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB",
		1.5 * (1 << 20): "1.5 MiB", 1 << 50: "1024.0 TiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("%f is %q", n, got)
		}
	}
	for _, tt := range []struct {
		records, size int64
		took          time.Duration
		want          string
	}{
		{0, 0, 0, "0 records, 0 B in 1 ms (0 B/s, 0 records/s)"},
		{1, 1 << 20, 500 * time.Millisecond,
			"1 record, 1.0 MiB in 500 ms (2.0 MiB/s, 2 records/s)"},
		{3000, 3 << 30, 3 * time.Second,
			"3,000 records, 3.0 GiB in 3.0 s (1.0 GiB/s, 1,000 records/s)"},
	} {
		if got := tally(tt.records, tt.size, tt.took); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestNothingPrintedDrivesATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"orders":        "orders",
		"größe \"x\"":   "größe \"x\"",
		"\x1b[2Jhi\x07": `\x1b[2Jhi\a`,
		"a\nb":          `a\nb`,
		"\xff":          `\xff`,
		"\u202eevil":    `\u202eevil`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}

func TestTablesAlignAndDropEmptyColumns(t *testing.T) {
	tab := newTable("NAME", ">N", "NOTE")
	tab.add("größe", "1", "")
	tab.add("x", "100", "")
	var out strings.Builder
	if err := tab.withoutEmpty("NOTE").write(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME     N\ngröße    1\nx      100\n"
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// Whatever a string holds, a YAML reader must get the string a JSON reader gets.
func FuzzYAMLSaysWhatJSONSays(f *testing.F) {
	for _, s := range []string{"", "true", "1_000", "null", "~", "a: b", "- x", "é\n", "\x00", "0x1f",
		"2026-03-01", "'", "#", "\u2028", "\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rows := []ConfigRow{{Name: s, Value: s + " ", Origin: "\n" + s}}
		text, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		var want []map[string]string
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := printYAML(&out, rows); err != nil {
			t.Fatal(err)
		}
		var got []map[string]any
		if err := yaml.Unmarshal([]byte(out.String()), &got); err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
		for field, value := range want[0] {
			if got[0][field] != value {
				t.Fatalf("%s is %q in JSON and %#v in\n%s", field, value, got[0][field], out.String())
			}
		}
	})
}

func TestVersionTellsTheBuild(t *testing.T) {
	build := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	v := describeBuild(build)
	if v.Version != "v1.2.3" || v.Commit != "abc" || !v.Modified {
		t.Errorf("%+v", v)
	}
	if v := describeBuild(nil); v.Version != "unknown" || v.Commit != "unknown" {
		t.Errorf("%+v", v)
	}
	if out := succeed(t, nil, "", "version", "-o", "json"); !json.Valid([]byte(out)) ||
		!strings.Contains(out, `"platform"`) {
		t.Errorf("printed %s", out)
	}
	if flag, command := succeed(t, nil, "", "--version"), succeed(t, nil, "", "version"); flag !=
		command || !strings.HasPrefix(flag, "troupe ") {
		t.Errorf("--version prints %q, version %q", flag, command)
	}
}
