package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Values of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// print writes a result: v as JSON or YAML, or what human writes for people.
// The field names of both are those of v's json tags.
func (g *globals) print(w io.Writer, v any, human func(w io.Writer) error) error {
	switch g.output {
	case formatJSON:
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	case formatYAML:
		return printYAML(w, v)
	}
	return human(w)
}

// printYAML goes through JSON, which is YAML too: so names and order are the
// same in both, from one set of tags.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(escapeForYAML(b), &doc); err != nil {
		return err
	}
	blockStyle(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

// escapeForYAML escapes the few characters that may stand in JSON as they are but
// not in YAML. In JSON text they can only be part of strings.
func escapeForYAML(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		allowed := r == '\n' || r >= ' ' && r <= '~' || r >= 0xa0 && r <= 0xfffd && r != 0xfeff ||
			r >= 0x10000
		if allowed {
			out = utf8.AppendRune(out, r)
		} else {
			out = fmt.Appendf(out, "\\u%04x", r)
		}
	}
	return out
}

// blockStyle undoes JSON's braces and quotes; the encoder quotes what needs it.
func blockStyle(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// table is aligned text without boxes. Columns whose heading starts with '>'
// are aligned to the right.
type table struct {
	rows [][]string // the first one is the heading
}

func newTable(heading ...string) *table { return &table{rows: [][]string{heading}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(t.text(i, cell)))
		}
	}
	var out strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			text := t.text(i, cell)
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if t.right(i) {
				line.WriteString(pad + text + "  ")
			} else {
				line.WriteString(text + pad + "  ")
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// withoutEmpty drops the column with this heading if no row has a text in it.
func (t *table) withoutEmpty(heading string) *table {
	at := slices.Index(t.rows[0], heading)
	for _, row := range t.rows[1:] {
		if row[at] != "" {
			return t
		}
	}
	for i, row := range t.rows {
		t.rows[i] = slices.Delete(row, at, at+1)
	}
	return t
}

func (t *table) right(i int) bool { return strings.HasPrefix(t.rows[0][i], ">") }

// text is a cell as printed. Only headings are marked, so a '>' in a cell stays.
func (t *table) text(i int, cell string) string {
	if cell == t.rows[0][i] {
		return strings.TrimPrefix(cell, ">")
	}
	return printable(cell)
}

// printable escapes what a terminal would act on, such as control characters in
// a name or a setting.
func printable(s string) string {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var out strings.Builder
	for i, r := range s {
		if !bad(r) {
			out.WriteRune(r)
			continue
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		quoted := strconv.QuoteToASCII(s[i : i+n])
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

// count is n with a comma every three digits.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// byteSize is n bytes in the largest binary unit it fills.
func byteSize(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// tally is the line that sums up a transfer.
func tally(records, size int64, took time.Duration) string {
	seconds := max(took.Seconds(), 0.001)
	shown := fmt.Sprintf("%.1f s", seconds)
	if seconds < 1 {
		shown = fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%s, %s in %s (%s/s, %s records/s)",
		plural(records, "record"), byteSize(float64(size)), shown,
		byteSize(float64(size)/seconds), count(int64(float64(records)/seconds)))
}

// plural is a count and what is counted.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}
