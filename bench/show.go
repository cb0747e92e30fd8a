//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/troupelog/troupe/bench/figures"
	"github.com/troupelog/troupe/bench/peer"
)

// figuresFile is where a document's folder keeps what was measured, from which it can be
// written again.
const figuresFile = "performance/figures.json"

// brokers is the order in which they are shown.
var brokers = []string{peer.Ideal, peer.Troupe, peer.Kafka, peer.NATS, franzGo, sdk}

// describe says where and with what the run is.
func (b *bench) describe(ctx context.Context) (*figures.Run, error) {
	run := &figures.Run{Versions: map[string]string{}, Date: time.Now().UTC(),
		Command: "go run ./bench " + strings.Join(os.Args[1:], " "), Machine: machine(b.root)}
	for _, k := range b.kinds {
		v, err := k.Version(ctx)
		if err != nil {
			return nil, fmt.Errorf("version of %s: %w", k.Name, err)
		}
		run.Versions[k.Name] = v
	}
	return run, nil
}

// show prints the run, and writes it into the document if there is one.
func (b *bench) show(run *figures.Run) error {
	for _, group := range groupsOf(run) {
		fmt.Printf("## %s\n\n%s\n", group, run.Table(group, brokers, peer.Troupe))
	}
	var made []figures.Verdict
	for _, v := range run.Judge(claims()) {
		if v.Made {
			made = append(made, v)
		}
	}
	if len(made) > 0 {
		fmt.Printf("## what has to hold\n\n%s\n", figures.Verdicts(made))
	}
	if b.guard {
		return failed(run.Judge(smokeClaims()))
	}
	if b.document == "" {
		return nil
	}
	text, err := json.MarshalIndent(run, "", " ")
	if err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(b.document), figuresFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return writeDocument(b.document, run)
}

// render writes the document from what was measured before.
func render(document string) error {
	if document == "" {
		return errors.New("-render: name the document with -document")
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(document), figuresFile))
	if err != nil {
		return err
	}
	run := &figures.Run{}
	if err := json.Unmarshal(text, run); err != nil {
		return fmt.Errorf("%s: %w", figuresFile, err)
	}
	return writeDocument(document, run)
}

// writeDocument fills the marked blocks of the document and draws its plots.
func writeDocument(document string, run *figures.Run) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	folder := filepath.Join(filepath.Dir(document), filepath.Dir(figuresFile))
	text, err := figures.Fill(string(old), func(words []string) (string, error) {
		switch {
		case len(words) == 1 && words[0] == "machine":
			return about(run), nil
		case len(words) == 1 && words[0] == "claims":
			return figures.Verdicts(run.Judge(claims())), nil
		case len(words) > 1 && words[0] == "table":
			return run.Table(strings.Join(words[1:], " "), brokers, peer.Troupe), nil
		case len(words) == 2 && words[0] == "plot":
			return drawPlot(folder, words[1], run)
		}
		return "", errors.New("nothing is known of that name")
	})
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return os.WriteFile(document, []byte(text), 0o644)
}

// drawPlot writes a plot beside the figures and returns the reference to it.
func drawPlot(folder, name string, run *figures.Run) (string, error) {
	p, ok := plots()[name]
	if !ok {
		return "", errors.New("there is no such plot")
	}
	svg := run.SVG(p, brokers)
	if svg == "" {
		return "Not measured in this run.\n", nil
	}
	if err := os.WriteFile(filepath.Join(folder, name+".svg"), []byte(svg), 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("![%s](%s/%s.svg)\n", p.Title, filepath.Dir(figuresFile), name), nil
}

// groupsOf returns the groups of the rows, each once, in their order.
func groupsOf(run *figures.Run) (groups []string) {
	seen := map[string]bool{}
	for _, row := range run.Rows {
		if !seen[row.Group] {
			seen[row.Group] = true
			groups = append(groups, row.Group)
		}
	}
	return groups
}

// about lists the machine, the versions and the command.
func about(run *figures.Run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- Measured on %s by `%s`.\n", run.Date.Format("2006-01-02"), run.Command)
	for _, m := range run.Machine {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	for _, name := range brokers {
		if v := run.Versions[name]; v != "" {
			fmt.Fprintf(&b, "- %s: %s\n", name, v)
		}
	}
	return b.String()
}

// machine describes this one as far as /proc tells.
func machine(dir string) []string {
	model := field("/proc/cpuinfo", "model name")
	memory := field("/proc/meminfo", "MemTotal")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // unknown: left out
	congestion, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return []string{
		fmt.Sprintf("%d CPUs (%s), memory %s", runtime.NumCPU(), model, memory),
		fmt.Sprintf("Linux %s, %s, TCP %s, %s", strings.TrimSpace(string(kernel)),
			fileSystem(dir), strings.TrimSpace(string(congestion)), runtime.Version()),
		"Brokers and load share the CPUs; all traffic is on loopback.",
	}
}

// field returns the first value of a name in a file of "name: value" lines.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem returns the type of the file system that a folder is on.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	kind, longest := "unknown file system", 0
	for line := range strings.Lines(string(text)) {
		parts := strings.Fields(line)
		if len(parts) < 3 {
			continue
		}
		at := strings.TrimSuffix(parts[1], "/") + "/"
		if strings.HasPrefix(dir+"/", at) && len(at) >= longest {
			kind, longest = parts[2], len(at)
		}
	}
	return kind
}
