package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/magiconair/properties"
)

// parseProperties reads Java's .properties: comments with # or !, "=", ":" or
// white space between key and value, \ before what is special, and at the end of
// a line that goes on. Of equal keys the last counts, as in Java. Unlike some
// other programs, Kafka has no ${...}.
//
// The library reads the lines one by one, because it does not tell their
// numbers.
func parseProperties(text []byte) (lines []line, errs []error) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	last := map[string]int{} // index in lines, by name
	for _, l := range logicalLines(text) {
		// The library would leave a goroutine behind for each of these.
		if strings.HasPrefix(l.value, "=") || strings.HasPrefix(l.value, ":") {
			errs = append(errs, fmt.Errorf("%d: malformed line: nothing before %q",
				l.number, l.value[:1]))
			continue
		}
		p, err := loader.LoadBytes([]byte(l.value))
		if err != nil {
			_, reason, _ := strings.Cut(err.Error(), "Line 1: ")
			errs = append(errs, fmt.Errorf("%d: malformed line: %s", l.number, reason))
			continue
		}
		for _, name := range p.Keys() {
			value, _ := p.Get(name)
			if i, again := last[name]; again {
				lines[i] = line{name, value, l.number}
				continue
			}
			last[name] = len(lines)
			lines = append(lines, line{name, value, l.number})
		}
	}
	return lines, errs
}

// logicalLines joins lines that end in an odd number of backslashes with the
// next, and drops comments and empty lines. The text of each is in value.
func logicalLines(text []byte) []line {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	var lines []line
	var open *line // goes on in the next natural line
	number := 0
	for natural := range strings.Lines(string(text)) {
		number++
		natural = strings.TrimLeft(strings.TrimSuffix(natural, "\n"), " \t\f")
		if open == nil {
			if natural == "" || natural[0] == '#' || natural[0] == '!' {
				continue
			}
			lines = append(lines, line{number: number})
			open = &lines[len(lines)-1]
		}
		slashes := len(natural) - len(strings.TrimRight(natural, `\`))
		if slashes%2 == 0 {
			open.value += natural
			open = nil
			continue
		}
		open.value += natural[:len(natural)-1]
	}
	return lines
}
