package figures

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// column is one figure of a table.
type column struct {
	head  string
	value func(Result) float64
	show  func(v float64) string
}

// columns are shown where a row of the table has a figure for them.
var columns = []column{
	{"MB/s", Result.MBPerSecond, whole},
	{"records/s", Result.RecordsPerSecond, whole},
	{"requests/s", Result.RequestsPerSecond, whole},
	{"due/s", func(r Result) float64 { return r.Rate }, whole},
	{"broker CPU s/GB", Result.CPUPerGB, hundredths},
	{"broker CPU µs/request", Result.CPUPerRequest, whole},
	{"broker allocations/request", Result.AllocsPerRequest, whole},
	{"client CPU s/GB", func(r Result) float64 {
		return per(r.ClientNS.Seconds(), float64(r.Bytes)/1e9)
	}, hundredths},
	{"client allocations/record", func(r Result) float64 { return r.Mallocs }, hundredths},
	{"p50", func(r Result) float64 { return float64(r.P50) }, duration},
	{"p99", func(r Result) float64 { return float64(r.P99) }, duration},
	{"p99.9", func(r Result) float64 { return float64(r.P999) }, duration},
	{"max", func(r Result) float64 { return float64(r.Max) }, duration},
	{"RSS MB", func(r Result) float64 { return float64(r.RSS) / 1e6 }, whole},
	{"disk MB", func(r Result) float64 { return float64(r.Disk) / 1e6 }, whole},
}

func whole(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func hundredths(v float64) string { return fmt.Sprintf("%.2f", v) }

// duration shows nanoseconds in the unit that suits them, with two or three digits.
func duration(v float64) string {
	d := time.Duration(v)
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.1f µs", v/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", v/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", v/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", v/1e6)
	default:
		return fmt.Sprintf("%.2f s", v/1e9)
	}
}

// Table returns the rows of a group as a table in Markdown: a line for each workload and
// broker, in the order of brokers. The first figure is shown with the least and the most
// of the rounds, and compared: own beside the broker of the line, of each round.
func (r *Run) Table(group string, brokers []string, own string) string {
	var rows []Row
	for _, row := range r.Rows {
		if row.Group == group {
			rows = append(rows, row)
		}
	}
	shown := columnsOf(rows, brokers)
	if len(shown) == 0 {
		return "Not measured in this run.\n"
	}
	var b strings.Builder
	b.WriteString("| workload | broker |")
	for _, c := range shown {
		fmt.Fprintf(&b, " %s |", c.head)
	}
	fmt.Fprintf(&b, " %s to this: %s |\n|---|---|%s---|\n", own, comparedTo(shown),
		strings.Repeat("---:|", len(shown)))
	for _, row := range rows {
		name := row.Workload
		for _, broker := range brokers {
			if len(row.Runs[broker]) == 0 {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s |%s %s |\n", name, broker,
				line(row, broker, shown), comparison(row, broker, own, shown))
			name = ""
		}
	}
	return b.String()
}

func columnsOf(rows []Row, brokers []string) (shown []column) {
	extra := map[string]bool{}
	for _, row := range rows {
		for _, broker := range brokers {
			for _, run := range row.Runs[broker] {
				for name := range run.Extra {
					extra[name] = true
				}
			}
		}
	}
	all := slices.Clone(columns)
	for _, name := range sortedKeys(extra) {
		all = append(all, column{name, func(r Result) float64 { return r.Extra[name] }, whole})
	}
	for _, c := range all {
		if slices.ContainsFunc(rows, func(row Row) bool {
			return slices.ContainsFunc(brokers, func(broker string) bool {
				_, _, most := row.Median(broker, c.value)
				return most != 0
			})
		}) {
			shown = append(shown, c)
		}
	}
	return shown
}

func line(row Row, broker string, shown []column) string {
	var b strings.Builder
	for i, c := range shown {
		median, least, most := row.Median(broker, c.value)
		switch {
		case most == 0:
			b.WriteString(" |")
		case i == 0 && len(row.Runs[broker]) > 1:
			fmt.Fprintf(&b, " %s (%s to %s) |", c.show(median), c.show(least), c.show(most))
		default:
			fmt.Fprintf(&b, " %s |", c.show(median))
		}
	}
	return b.String()
}

// compared are the columns that are compared in the last one.
var compared = []string{"MB/s", "requests/s", "broker CPU s/GB", "p99", "RSS MB"}

func comparedTo(shown []column) string {
	var heads []string
	for _, c := range shown {
		if slices.Contains(compared, c.head) {
			heads = append(heads, c.head)
		}
	}
	return strings.Join(heads, ", ")
}

func comparison(row Row, broker, own string, shown []column) string {
	if broker == own {
		return ""
	}
	var ratios []string
	for _, c := range shown {
		if !slices.Contains(compared, c.head) {
			continue
		}
		text := "-"
		if ratio, _, _ := row.Ratio(own, broker, c.value); ratio != 0 {
			text = fmt.Sprintf("%.2f", ratio)
		}
		ratios = append(ratios, text)
	}
	return strings.Join(ratios, ", ")
}
