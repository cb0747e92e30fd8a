package figures

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func runOf(seconds ...int) (rs []Result) {
	for _, s := range seconds {
		rs = append(rs, Result{Bytes: 10e9, Took: time.Duration(s) * time.Second,
			CPU: time.Duration(2*s) * time.Second})
	}
	return rs
}

func example() *Run {
	return &Run{Rows: []Row{
		{Workload: "a <b>", Group: "g", Runs: map[string][]Result{
			"own": runOf(10, 20, 5), "other": runOf(20, 20, 20)}},
		{Workload: "latency", Group: "l", Runs: map[string][]Result{
			"own": {{P99: time.Millisecond, Extra: map[string]float64{"files": 3}}}}},
	}}
}

func TestRatiosAreThoseOfTheRounds(t *testing.T) {
	row := example().Rows[0]
	median, least, most := row.Ratio("own", "other", Result.MBPerSecond)
	if median != 2 || least != 1 || most != 4 {
		t.Errorf("ratio %v, from %v to %v", median, least, most)
	}
	if median, _, _ := row.Median("own", Result.MBPerSecond); median != 1000 {
		t.Errorf("median %v", median)
	}
	even := Row{Runs: map[string][]Result{"own": runOf(10, 40)}} // 1000 and 250 MB/s
	if median, _, _ := even.Median("own", Result.MBPerSecond); median != 625 {
		t.Errorf("median of two runs is %v", median)
	}
	if median, _, _ := row.Median("nobody", Result.MBPerSecond); median != 0 {
		t.Errorf("median of no runs is %v", median)
	}
}

func TestATableHasTheFiguresThatThereAre(t *testing.T) {
	got := example().Table("g", []string{"own", "other"}, "own")
	want := `| workload | broker | MB/s | broker CPU s/GB | own to this: MB/s, broker CPU s/GB |
|---|---|---:|---:|---|
| a <b> | own | 1,000 (500 to 2,000) | 2.00 |  |
|  | other | 500 (500 to 500) | 4.00 | 2.00, 0.50 |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := example().Table("l", []string{"own"}, "own"); !strings.Contains(got, "| files |") {
		t.Errorf("no column of its own:\n%s", got)
	}
	if got := example().Table("none", nil, "own"); !strings.Contains(got, "Not measured") {
		t.Errorf("got %q", got)
	}
}

func TestAClaimHoldsOnlyWithinItsBounds(t *testing.T) {
	claim := Claim{Workload: "a <b>", Own: "own", Base: "other", Value: Result.MBPerSecond}
	for _, c := range []struct {
		least, most float64
		workload    string
		made, held  bool
	}{
		{2, 0, "a <b>", true, true}, {2.1, 0, "a <b>", true, false}, {0, 2, "a <b>", true, true},
		{0, 1.9, "a <b>", true, false}, {1, 0, "none", false, false}, {1, 0, "latency", false, false},
	} {
		claim.Least, claim.Most, claim.Workload = c.least, c.most, c.workload
		v := example().Judge([]Claim{claim})[0]
		if v.Made != c.made || v.Held != c.held {
			t.Errorf("%+v: %+v", c, v)
		}
	}
	none := Claim{Workload: "a <b>", Own: "own", Base: "other", Most: 2,
		Value: func(r Result) float64 { return float64(r.P99) }}
	if v := example().Judge([]Claim{none})[0]; v.Made || v.Held {
		t.Errorf("what nobody measured is below its bound: %+v", v)
	}
	own := Claim{Workload: "latency", Own: "own", Most: 2, Unit: "ms",
		Value: func(r Result) float64 { return float64(r.P99.Milliseconds()) }}
	text := Verdicts(example().Judge([]Claim{own}))
	if !strings.Contains(text, "≤ 2 ms") || !strings.Contains(text, "| yes |") {
		t.Error(text)
	}
}

func TestBlocksOfADocumentAreFilled(t *testing.T) {
	block := func(words []string) (string, error) {
		if words[0] != "table" {
			return "", errors.New("unknown")
		}
		return "new " + words[1] + "\n", nil
	}
	got, err := Fill("a\n<!-- bench: table x -->\nold\n<!-- /bench -->\nb\n", block)
	want := "a\n<!-- bench: table x -->\n\nnew x\n\n<!-- /bench -->\nb\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if again, err := Fill(got, block); err != nil || again != got {
		t.Errorf("filled again: %q, %v", again, err)
	}
	for _, bad := range []string{
		"<!-- bench: table x -->\nold\n", "<!-- bench: table x", "<!-- bench: other -->\n<!-- /bench -->",
	} {
		if _, err := Fill(bad, block); err == nil {
			t.Errorf("%q was filled", bad)
		}
	}
}

func TestAPlotIsWellFormed(t *testing.T) {
	run := example()
	for _, log := range []bool{false, true} {
		p := Plot{Title: "T & t", Unit: "MB/s", Rows: []string{"a <b>", "none"}, Log: log,
			Value: Result.MBPerSecond}
		svg := run.SVG(p, []string{"own", "other"})
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, svg)
			}
		}
		if strings.Contains(svg, "NaN") || strings.Count(svg, "<line") != 2 {
			t.Errorf("got\n%s", svg)
		}
	}
	if svg := run.SVG(Plot{Rows: []string{"none"}, Value: Result.MBPerSecond}, nil); svg != "" {
		t.Errorf("a plot of nothing: %s", svg)
	}
}

func TestQuantilesAreValuesThatWereSeen(t *testing.T) {
	var r Result
	r.SetLatencies([]time.Duration{5, 1, 3})
	if r.P50 != 3 || r.P99 != 5 || r.Max != 5 {
		t.Errorf("got %+v", r)
	}
	if Quantile(nil, 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	if duration(1500) != "1.5 µs" || duration(2.5e6) != "2.50 ms" || whole(1234567) != "1,234,567" {
		t.Error(duration(1500), duration(2.5e6), whole(1234567))
	}
}
