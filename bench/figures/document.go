package figures

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	blockBegins = "<!-- bench: "
	blockEnds   = "<!-- /bench -->"
)

// Fill replaces what is between the marks of a document by what block returns for the
// mark's words:
//
//	<!-- bench: table produce -->
//	...
//	<!-- /bench -->
//
// A block without an end, or of which block knows nothing, is an error.
func Fill(document string, block func(words []string) (string, error)) (string, error) {
	var b strings.Builder
	for rest := document; ; {
		before, after, found := strings.Cut(rest, blockBegins)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		mark, after, closed := strings.Cut(after, " -->")
		_, rest2, ended := strings.Cut(after, blockEnds)
		if !closed || !ended {
			return "", fmt.Errorf("block %q has no end: put %q behind it", mark, blockEnds)
		}
		text, err := block(strings.Fields(mark))
		if err != nil {
			return "", fmt.Errorf("block %q: %w", mark, err)
		}
		fmt.Fprintf(&b, "%s%s -->\n\n%s\n%s", blockBegins, mark, text, blockEnds)
		rest = rest2
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
