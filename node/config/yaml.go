package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a YAML file: an alias may name a list of aliases, and so on, until a
// few lines stand for more nodes than there is memory.
const (
	yamlNodesMax = 10_000
	yamlDepthMax = 16
)

// parseYAML reads settings as keys with dots, as nested keys, or as both. The
// text of a value counts as it stands, so that 1e3 or yes are not read as
// something else; lists are joined with commas.
func parseYAML(text []byte) (lines []line, errs []error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil // empty, or comments only
	}
	if err != nil {
		return nil, []error{yamlError(err)}
	}
	if !errors.Is(decoder.Decode(&more), io.EOF) {
		return nil, []error{errors.New("1: more than one YAML document")}
	}
	w := yamlWalk{lineOf: map[string]int{}}
	if root := doc.Content[0]; root.Kind == yaml.MappingNode {
		w.walk("", root, 0)
	} else if root.Tag != "!!null" {
		w.fail(root, "the file must hold settings, as name: value")
	}
	return w.lines, w.errs
}

// yamlError puts the line first, like our own errors.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var number int
	if n, _ := fmt.Sscanf(text, "line %d:", &number); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
		return fmt.Errorf("%d: %s", number, text)
	}
	return fmt.Errorf("1: %s", text)
}

type yamlWalk struct {
	lines  []line
	errs   []error
	lineOf map[string]int // by name of a setting seen
	nodes  int            // visited, an alias each time
}

func (w *yamlWalk) fail(n *yaml.Node, format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("%d: %s", n.Line, fmt.Sprintf(format, args...)))
}

// walk adds the settings below a node; name is the key that led there.
func (w *yamlWalk) walk(name string, n *yaml.Node, depth int) {
	w.nodes++
	if w.nodes == yamlNodesMax || depth == yamlDepthMax {
		w.fail(n, "too many or too deeply nested values")
	}
	if w.nodes >= yamlNodesMax || depth >= yamlDepthMax {
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			w.walkKey(name, n.Content[i], n.Content[i+1], depth)
		}
	case yaml.SequenceNode:
		w.add(name, w.join(n), n)
	case yaml.AliasNode:
		w.walk(name, n.Alias, depth+1)
	case yaml.ScalarNode:
		w.add(name, scalar(n), n)
	}
}

func (w *yamlWalk) walkKey(name string, key, value *yaml.Node, depth int) {
	if key.Kind != yaml.ScalarNode || key.Value == "" || key.Tag == "!!merge" {
		w.fail(key, "a key must be the name of a setting or a part of it")
		return
	}
	if name != "" {
		name += "."
	}
	w.walk(name+key.Value, value, depth+1)
}

// join turns a list of values into Kafka's notation.
func (w *yamlWalk) join(list *yaml.Node) string {
	var elements []string
	for _, n := range list.Content {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind != yaml.ScalarNode {
			w.fail(n, "an element of a list must be a plain value")
			return ""
		}
		elements = append(elements, scalar(n))
	}
	return strings.Join(elements, ",")
}

func (w *yamlWalk) add(name, value string, n *yaml.Node) {
	if first, again := w.lineOf[name]; again {
		w.fail(n, "%s is given twice, first in line %d", name, first)
		return
	}
	w.lineOf[name] = n.Line
	w.lines = append(w.lines, line{name, value, n.Line})
}

// scalar returns the text of a plain value; ~ and nothing at all are empty.
func scalar(n *yaml.Node) string {
	if n.Tag == "!!null" {
		return ""
	}
	return n.Value
}
