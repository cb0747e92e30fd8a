package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/troupelog/troupe"

// layers is the law of imports: each package of ours and the packages of ours it
// may import. "a/..." stands for a and all below it. The order is bottom up; an
// import may only point to an earlier row, so there can be no cycle.
//
// Think hard before adding an arrow: what is pure stays pure because it cannot
// reach anything else.
var layers = []layer{
	{"messages/invariant", nil},
	{"messages", []string{"messages/invariant"}},
	{"messages/quota", nil},
	{"messages/primitive", []string{"messages/invariant"}},
	{"messages/record", []string{"messages", "messages/invariant"}},
	{"messages/configs", []string{"messages", "messages/invariant"}},
	{"messages/data", []string{"messages", "messages/invariant", "messages/record"}},
	{"messages/coord", []string{"messages", "messages/invariant"}},
	{"messages/group", []string{"messages", "messages/invariant"}},
	{"messages/txn", []string{"messages", "messages/invariant"}},
	{"messages/wire", []string{
		"messages", "messages/invariant", "messages/group", "messages/txn",
	}},

	{"actors/producers", []string{"messages/..."}},
	{"actors/replicas", []string{"messages/...", "actors/producers"}},
	{"actors/groups/consumer", []string{"messages/..."}},
	{"actors/groups", []string{"messages/...", "actors/groups/consumer"}},
	{"actors/txns", []string{"messages/..."}},
	{"cluster/placement", []string{"messages", "messages/invariant"}},
	{"actors/topics", []string{"messages/...", "cluster/placement"}},

	{"persistence/vfs", []string{"messages/invariant"}},
	{"persistence/segment", []string{"messages/...", "persistence/vfs"}},
	{"persistence/commitlog", []string{"messages/...", "persistence/vfs", "persistence/segment"}},
	{"persistence/datadir", []string{"messages/...", "persistence/vfs", "persistence/commitlog"}},
	{"persistence/registry", []string{"messages", "messages/invariant", "persistence/vfs"}},

	{"netio", []string{"messages"}},

	{"actors/control", []string{"messages/...", "actors/topics", "persistence/registry"}},
	{"cluster/transport", nil},
	{"cluster", []string{
		"messages/...", "cluster/placement", "cluster/transport", "persistence/registry",
	}},
	{"cluster/bulk", []string{"messages/...", "netio"}},
	{"actors/ask", nil},
	{"actors/alarm", nil},
	{"actors/coordinator", []string{
		"messages/...", "actors/ask", "actors/alarm", "actors/groups", "actors/txns",
	}},
	{"actors", []string{
		"messages/...", "actors/ask", "actors/alarm", "actors/control", "actors/producers",
		"actors/replicas", "actors/topics", "cluster/placement", "persistence/...",
	}},

	{"node/door", []string{"messages/..."}},
	{"node/kafka/sessions", []string{"messages"}},
	{"node/kafka", []string{"messages/...", "netio", "node/door", "node/kafka/sessions"}},
	{"node/gateway", []string{"messages/...", "actors/ask", "actors/alarm", "node/door"}},
	{"node/metrics", []string{"messages/..."}},
	{"node/lag", []string{"messages/..."}},
	{"node/logging", []string{"messages/..."}},
	{"node/admin", []string{"messages/..."}},
	{"node/config", []string{"messages/...", "persistence/vfs"}},
	{"node/refdoc", []string{"messages/...", "node/config", "node/metrics"}},
	{"node", []string{
		"messages/...", "actors", "actors/control", "actors/coordinator", "actors/topics",
		"cluster/...", "persistence/...",
		"node/door", "node/kafka", "node/gateway", "node/metrics", "node/lag", "node/logging",
		"node/admin", "node/config",
	}},
	{"node/cli", []string{"messages/...", "persistence/...", "node/config", "node"}},
	{".", []string{"node/...", "persistence/vfs"}},

	{"clientlib/internal/batches", []string{"messages", "messages/record"}},
	{"clientlib/internal/cursor", []string{
		"messages", "messages/invariant", "messages/wire",
	}},
	{"clientlib/internal/member", []string{
		"messages", "messages/group", "messages/invariant", "messages/wire",
	}},
	{"clientlib/internal/link", []string{"messages/...", "actors/ask", "cluster/transport"}},
	{"clientlib/internal/outgoing", []string{"messages", "messages/invariant", "messages/txn"}},
	{"clientlib/internal/lanes", []string{"messages/invariant"}},
	{"clientlib", []string{"messages/...", "clientlib/internal/..."}},

	{"testkit", []string{"messages/..."}},
	{"testkit/sdk", []string{"messages/...", "testkit", "clientlib"}},
	{"testkit/sim", []string{
		"messages/...", "actors", "actors/control", "actors/coordinator", "actors/topics",
		"persistence/registry", "persistence/vfs", "persistence/segment",
	}},
	{"bench/raw", []string{"messages/..."}},
	{"bench/ideal", []string{"bench/raw"}},
	{"bench/figures", nil},
	{"bench/peer", []string{"messages/...", "testkit", "bench/raw"}},
	{"bench/clients", []string{
		"messages/...", "testkit", "testkit/sdk", "clientlib", "bench/figures", "bench/peer",
	}},
	{"bench", []string{"messages/...", "testkit", "bench/..."}},
	{"tools/peers/natsload", nil}, // a module of its own
	{"e2e", []string{"messages/...", "testkit", "testkit/sdk", "clientlib"}},
	{"e2e/cluster", []string{"messages/...", "testkit", "testkit/sdk", "clientlib"}},
	{"e2e/clients", []string{"messages/...", "testkit"}},
	{"examples/cluster", nil},
	{"examples/internal/example", []string{"clientlib", "node"}},
	{"examples/internal/exampletest", []string{"clientlib", "examples/internal/example"}},
	{"examples/quickstart", []string{"clientlib", "examples/internal/example"}},
	{"examples/embed", []string{"clientlib"}},
	{"examples/orders", []string{"clientlib", "examples/internal/example"}},
	{"examples/fanout", []string{"clientlib", "examples/internal/example"}},
	{"examples/wordcount", []string{"clientlib", "examples/internal/example"}},
	{"examples/replay", []string{"clientlib", "examples/internal/example"}},
	{"examples/mixed", []string{"clientlib", "examples/internal/example"}},
	{"examples/logship", []string{"clientlib", "examples/internal/example"}},
}

// outside says which packages of ours may import a module that is not ours. A
// module that is not listed may be imported by any package that is not pure.
var outside = map[string][]string{
	"github.com/asynkron/protoactor-go": {
		"actors", "actors/ask", "actors/alarm", "actors/coordinator", "cluster", "cluster/transport",
		"node", "node/gateway", "node/logging", "clientlib/internal/link",
	},
	"github.com/twmb/franz-go/pkg/kmsg": {
		"node/kafka", "node/metrics", "node/lag", "node/cli", "bench/peer", "bench/raw",
		"bench/clients", "testkit",
	},
	"github.com/twmb/franz-go/pkg/kerr": {
		"node/kafka", "node/metrics", "node/cli", "bench/peer", "testkit",
	},
	"github.com/twmb/franz-go": {
		"node/cli", "node/lag", "bench/peer", "bench/raw", "bench/clients", "testkit", "testkit/sdk",
		"examples/mixed",
	},
	"github.com/nats-io": {"tools/peers/natsload"},
	"go.etcd.io/bbolt":   {"persistence/registry"},
	"github.com/hashicorp/consul/api": {
		"persistence/registry", "cluster", "clientlib/internal/link",
	},
	"github.com/spf13/cobra":              {"node/cli"},
	"github.com/spf13/pflag":              {"node/cli"},
	"github.com/prometheus/client_golang": {"node/metrics", "node/admin", "node"},
	"github.com/rs/zerolog": {
		"node", "node/logging", "node/admin", "node/config", "actors", "actors/control",
		"actors/coordinator",
	},
	"golang.org/x/sys": {
		"persistence/vfs", "netio", "node", "bench/ideal", "bench/raw", "bench/clients", "testkit",
	},
	"google.golang.org/grpc": {"cluster/transport"},
	"google.golang.org/protobuf": {
		"messages/wire", "actors", "cluster", "cluster/transport", "testkit/sim", "clientlib",
	},
	"github.com/klauspost/compress": {"messages/record"},
	"github.com/pierrec/lz4":        {"messages/record"},
}

// pure lists the packages that decide: no clock, no I/O, no goroutine, no
// randomness, no locks. With them go the packages they are built from.
var pure = []string{
	"clientlib/internal/batches", "clientlib/internal/cursor", "clientlib/internal/member",
	"messages", "messages/invariant", "messages/record", "messages/configs", "messages/data",
	"messages/wire", "messages/coord", "messages/group", "messages/txn", "messages/primitive",
	"actors/producers", "actors/replicas", "actors/topics", "actors/groups",
	"actors/groups/consumer", "actors/txns", "cluster/placement", "clientlib/internal/lanes",
	"clientlib/internal/outgoing", "node/kafka/sessions",
}

// impureImports are the standard packages a pure package may not import, with
// what to do instead.
var impureImports = map[string]string{
	"os":            "let the caller in persistence/vfs or node read it and pass the bytes",
	"net":           "let node do it",
	"log":           "return the fact; the shell logs it",
	"log/slog":      "return the fact; the shell logs it",
	"math/rand":     "take a seeded source as an argument",
	"math/rand/v2":  "take a seeded source as an argument",
	"crypto/rand":   "take the value as an argument",
	"sync":          "one owner per state: let an actor own it",
	"sync/atomic":   "one owner per state: let an actor own it",
	"context":       "a decision does not wait; let the shell do it",
	"os/exec":       "let the caller do it",
	"path/filepath": "paths belong to persistence/vfs",
}

// mayImport lists exceptions from impureImports.
var mayImport = map[string][]string{
	"messages/record": {"sync"}, // pools of decoders hold no state between calls
	"messages/wire":   {"sync"}, // generated code
}

type layer struct {
	pkg string
	may []string
}

// sourceFile is one parsed Go file of this module.
type sourceFile struct {
	name string // slash-separated, from the root
	pkg  string // its folder
	text string
	ast  *ast.File
}

func (f *sourceFile) test() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f *sourceFile) generated() bool { return ast.IsGenerated(f.ast) }

// sources parses every Go file of the module in process: asking the go command
// would hide the files from the test cache, and a stale "ok" with them.
func sources(t *testing.T) (*token.FileSet, []*sourceFile) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*sourceFile
	for _, name := range repositoryFiles(t, ".go") {
		text, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		files = append(files, &sourceFile{name, path.Dir(name), string(text), f})
	}
	return fset, files
}

// repositoryFiles lists the files with one of the given endings, but for what
// git ignores and hidden folders.
func repositoryFiles(t *testing.T, endings ...string) []string {
	t.Helper()
	ignored := []string{".git", "bin", "data", "data-cluster", ".cache"}
	var names []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		name = filepath.ToSlash(name)
		if err == nil && d.IsDir() && slices.Contains(ignored, name) {
			return fs.SkipDir
		}
		matches := func(ending string) bool { return strings.HasSuffix(name, ending) }
		if err == nil && !d.IsDir() && slices.ContainsFunc(endings, matches) {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestImportsPointDown(t *testing.T) {
	_, files := sources(t)
	for _, f := range files {
		if f.test() {
			continue
		}
		row := slices.IndexFunc(layers, func(l layer) bool { return l.pkg == f.pkg })
		if row < 0 {
			t.Errorf("%s: package %s is not in the table of layers_test.go: "+
				"give it a row and say what it may import", f.name, f.pkg)
			continue
		}
		for _, imported := range importsOf(f.ast) {
			ours, isOurs := strings.CutPrefix(imported, modulePath+"/")
			if isOurs && !allowed(layers[row].may, ours) {
				t.Errorf("%s: package %s may not import %s (it may import %s)",
					f.name, f.pkg, ours, strings.Join(layers[row].may, ", "))
			}
		}
	}
}

func TestTheTableOfLayersHasNoCycle(t *testing.T) {
	for i, l := range layers {
		for _, above := range layers[i:] {
			exact := slices.Contains(l.may, above.pkg)
			if above.pkg != l.pkg && exact {
				t.Errorf("%s may import %s, which stands above it", l.pkg, above.pkg)
			}
		}
	}
}

func TestOutsideModulesStayWhereTheyBelong(t *testing.T) {
	_, files := sources(t)
	for _, f := range files {
		if f.test() {
			continue
		}
		for _, imported := range importsOf(f.ast) {
			module := moduleOf(imported)
			if module != "" && !slices.Contains(outside[module], f.pkg) {
				t.Errorf("%s: package %s may not import %s: only %s may",
					f.name, f.pkg, module, strings.Join(outside[module], ", "))
			}
		}
	}
}

func TestPurePackagesCannotReachTheWorld(t *testing.T) {
	_, files := sources(t)
	for _, f := range files {
		if f.test() || f.generated() || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, imported := range importsOf(f.ast) {
			remedy, impure := impureImports[imported]
			if impure && !slices.Contains(mayImport[f.pkg], imported) {
				t.Errorf("%s: pure package %s imports %q: %s", f.name, f.pkg, imported, remedy)
			}
		}
	}
}

func importsOf(f *ast.File) []string {
	var paths []string
	for _, i := range f.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

func allowed(may []string, pkg string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		tree, isTree := strings.CutSuffix(m, "/...")
		return m == pkg || isTree && (pkg == tree || strings.HasPrefix(pkg, tree+"/"))
	})
}

// moduleOf returns the longest module of the table that an import belongs to.
func moduleOf(imported string) string {
	longest := ""
	for _, m := range slices.Sorted(maps.Keys(outside)) {
		if (imported == m || strings.HasPrefix(imported, m+"/")) && len(m) > len(longest) {
			longest = m
		}
	}
	return longest
}
