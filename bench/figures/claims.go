package figures

import (
	"fmt"
	"strings"
)

// Claim is something that has to hold of a ratio between two brokers.
type Claim struct {
	Text     string // what is claimed, for a reader
	Workload string
	Own      string // the broker of which something is claimed
	Base     string // the one it is measured by; empty: Value itself is bounded
	Value    func(Result) float64
	Unit     string  // of Value, when there is no base
	Least    float64 // bound from below; 0: none
	Most     float64 // bound from above; 0: none
}

// Verdict is what a run says of a claim.
type Verdict struct {
	Claim
	Seen       float64
	Low, High  float64 // the least and the most of the rounds
	Held, Made bool    // Made: it was measured
}

// Judge compares the claims with the run.
func (r *Run) Judge(claims []Claim) []Verdict {
	verdicts := make([]Verdict, 0, len(claims))
	for _, c := range claims {
		v := Verdict{Claim: c}
		if row := r.Row(c.Workload); row != nil && len(row.Runs[c.Own]) > 0 {
			if c.Base != "" {
				v.Seen, v.Low, v.High = row.Ratio(c.Own, c.Base, c.Value)
				v.Made = v.High > 0 // else one of them has no such figure
			} else {
				v.Made = true
				v.Seen, v.Low, v.High = row.Median(c.Own, c.Value)
			}
		}
		v.Held = v.Made && v.Seen >= c.Least && (c.Most == 0 || v.Seen <= c.Most)
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// Verdicts returns a table of verdicts in Markdown.
func Verdicts(verdicts []Verdict) string {
	var b strings.Builder
	b.WriteString("| claim | bound | seen (least to most of the rounds) | held |\n" +
		"|---|---:|---:|---|\n")
	for _, v := range verdicts {
		seen, held := "not measured", ""
		if v.Made {
			seen = fmt.Sprintf("%s (%s to %s)%s", short(v.Seen), short(v.Low), short(v.High), v.unit())
			held = "**no**"
			if v.Held {
				held = "yes"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.Text, v.bound(), seen, held)
	}
	return b.String()
}

func (c Claim) unit() string {
	if c.Unit == "" {
		return ""
	}
	return " " + c.Unit
}

func (c Claim) bound() string {
	switch {
	case c.Least != 0 && c.Most != 0:
		return fmt.Sprintf("%s to %s%s", short(c.Least), short(c.Most), c.unit())
	case c.Least != 0:
		return fmt.Sprintf("≥ %s%s", short(c.Least), c.unit())
	default:
		return fmt.Sprintf("≤ %s%s", short(c.Most), c.unit())
	}
}

func short(v float64) string {
	if v >= 100 {
		return whole(v)
	}
	return fmt.Sprintf("%.3g", v)
}
