package refdoc

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/node/metrics"
)

var rewrite = flag.Bool("rewrite", false, "write docs/reference anew")

func TestTheReferenceInDocsIsTheOneOfTheTables(t *testing.T) {
	folder := filepath.Join("..", "..", "docs", "reference")
	for name, text := range map[string]string{
		"config.md": Config(), "metrics.md": Metrics(),
	} {
		path := filepath.Join(folder, name)
		if *rewrite {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(committed) != text {
			t.Errorf("%s is out of date: go test ./node/refdoc -rewrite", path)
		}
	}
}

func TestTheReferenceHasARowForEverySetting(t *testing.T) {
	text := Config()
	nodes, topics, _ := strings.Cut(text, "## Settings of topics")
	topics, foreign, _ := strings.Cut(topics, "## Settings of Kafka that a node refuses")
	for _, d := range configs.Brokers() {
		if !strings.Contains(nodes, "\n| `"+d.Name+"` | ") {
			t.Errorf("no row for node setting %s", d.Name)
		}
	}
	for _, d := range configs.Topics() {
		if !strings.Contains(topics, "\n| `"+d.Name+"` | ") {
			t.Errorf("no row for topic setting %s", d.Name)
		}
	}
	for _, f := range config.Foreigners() {
		if !strings.Contains(foreign, "`"+f.Name+"`") {
			t.Errorf("%s is not named", f.Name)
		}
	}
	for _, d := range metrics.Table() {
		if !strings.Contains(Metrics(), "\n| `"+d.Name+"` | "+string(d.Kind)+" | ") {
			t.Errorf("no row for metric %s", d.Name)
		}
	}
}

func TestEveryRowHasAllItsCells(t *testing.T) {
	for _, text := range []string{Config(), Metrics()} {
		cells := 0
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "|") {
				cells = 0
				continue
			}
			n := strings.Count(line, "|") - strings.Count(line, `\|`)
			if cells != 0 && n != cells {
				t.Errorf("%d cells instead of %d: %s", n-1, cells-1, line)
			}
			cells = n
		}
	}
}

func TestASettingIsDescribedWithItsBounds(t *testing.T) {
	text := Config()
	for _, row := range []string{
		"| `node.id` | `1` (Kafka: none) | int, from 0 | Number of this node, unlike that of any " +
			"other node of the cluster. |\n",
		"| `log.retention.minutes` | none | int, minutes | retention.ms of topics that do not set " +
			"it, when log.retention.ms is not set. |\n",
	} {
		if !strings.Contains(text, row) {
			t.Errorf("no row %s", row)
		}
	}
}
