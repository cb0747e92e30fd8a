package figures

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Plot is horizontal bars: for each workload one bar for each broker, as long as the
// median, with a whisker from the least to the most of the rounds.
type Plot struct {
	Title string
	Unit  string
	Rows  []string // workloads, from top to bottom
	Value func(Result) float64
	Log   bool // a logarithmic axis, for latencies
}

// Sizes in pixels.
const (
	plotWidth  = 860
	plotLeft   = 330
	plotRight  = 90
	plotTop    = 56
	barHeight  = 13
	groupSpace = 12
)

var plotColours = []string{"#8a8f98", "#1668dc", "#d4572a", "#2f9e62", "#8250c4"}

// SVG draws what the run has of the plot, or returns "" if it has nothing of it.
func (r *Run) SVG(p Plot, brokers []string) string {
	rows, low, high := r.extent(p, brokers)
	if len(rows) == 0 {
		return ""
	}
	scale := func(v float64) float64 {
		span := float64(plotWidth - plotLeft - plotRight)
		if p.Log {
			return span * math.Log(max(v, low)/low) / math.Log(high/low)
		}
		return span * v / high
	}
	var b strings.Builder
	at := plotTop
	for _, row := range rows {
		at += groupSpace
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotLeft-8,
			at+barHeight, html.EscapeString(row.Workload))
		for i, broker := range brokers {
			median, least, most := row.Median(broker, p.Value)
			if median == 0 {
				continue
			}
			drawBar(&b, at, plotColours[i%len(plotColours)], p.label(median),
				scale(median), scale(least), scale(most))
			at += barHeight + 2
		}
	}
	return p.head(at+groupSpace, brokers) + b.String() + "</svg>\n"
}

// extent returns the rows that have figures, and what the axis has to show.
func (r *Run) extent(p Plot, brokers []string) (rows []Row, low, high float64) {
	low = math.Inf(1)
	for _, name := range p.Rows {
		row := r.Row(name)
		if row == nil {
			continue
		}
		seen := false
		for _, broker := range brokers {
			median, least, most := row.Median(broker, p.Value)
			if median != 0 {
				seen, low, high = true, min(low, least), max(high, most)
			}
		}
		if seen {
			rows = append(rows, *row)
		}
	}
	return rows, low / 2, high
}

func (p Plot) label(v float64) string {
	i := slices.IndexFunc(columns, func(c column) bool { return c.head == p.Unit })
	if i >= 0 {
		return columns[i].show(v)
	}
	return short(v)
}

func (p Plot) head(height int, brokers []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" `+
		`viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(p.Title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	axis := ""
	if p.Log {
		axis = ", logarithmic"
	}
	fmt.Fprintf(&b, `<text x="8" y="20" font-size="14" font-weight="bold">%s (%s%s)</text>`+"\n",
		html.EscapeString(p.Title), html.EscapeString(p.Unit), axis)
	x := plotLeft
	for i, broker := range brokers {
		fmt.Fprintf(&b, `<rect x="%d" y="34" width="10" height="10" fill="%s"/>`+
			`<text x="%d" y="43">%s</text>`+"\n", x, plotColours[i%len(plotColours)], x+14,
			html.EscapeString(broker))
		x += 28 + 8*len(broker)
	}
	return b.String()
}

func drawBar(b *strings.Builder, at int, colour, label string, median, least, most float64) {
	y := float64(at) + barHeight/2.0
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, plotLeft, at,
		cmp.Or(median, 1), barHeight, colour)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222222"/>`,
		plotLeft+least, y, plotLeft+most, y)
	fmt.Fprintf(b, `<text x="%.1f" y="%d" font-size="11">%s</text>`+"\n",
		plotLeft+max(median, most)+5, at+barHeight-2, html.EscapeString(label))
}
