package testkit

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// BinaryEnv names the environment variable with the path of a troupe binary to
// test instead of one built from this module.
const BinaryEnv = "TESTKIT_BINARY"

const mainPackage = "github.com/troupelog/troupe"

// built is the binary of this test process.
var built struct {
	once  sync.Once
	dir   string // set by Main
	path  string
	err   error
	extra []string // more folders to remove in the end
}

// Main runs the tests of a package and removes the binary they built and what
// they share. Call it from TestMain; Binary and StartCopy need it.
func Main(m *testing.M) {
	playCopier()
	dir, err := os.MkdirTemp("", "troupe-testkit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		os.Exit(1)
	}
	built.dir = dir
	code := m.Run()
	if shared.consul != nil {
		shared.consul.kill()
	}
	for _, dir := range append(built.extra, dir) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "testkit:", err)
		}
	}
	os.Exit(code)
}

// Binary returns the path of the troupe binary, built on the first call of a
// test process. A binary that does not build fails every test that asks for it.
func Binary(tb testing.TB) string {
	tb.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		tb.Fatalf("testkit: %v", built.err)
	}
	return built.path
}

func build() (string, error) {
	if path := os.Getenv(BinaryEnv); path != "" {
		return filepath.Abs(path)
	}
	if built.dir == "" {
		return "", fmt.Errorf("no place to build in: call testkit.Main from TestMain")
	}
	if err := watchSources(); err != nil {
		return "", err
	}
	path := filepath.Join(built.dir, "troupe")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, mainPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as "make build" does
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", mainPackage, err, out)
	}
	return path, nil
}

// watchSources looks at every folder of the module that is tested. A test's
// result is cached by the files the test process has looked at; those that only
// "go build" reads do not count, so a change of the node would be answered with
// "ok (cached)".
func watchSources() error {
	mod, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", mainPackage).Output()
	if err != nil {
		return fmt.Errorf("go list -m %s: %w", mainPackage, err)
	}
	root := strings.TrimSpace(string(mod))
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || path == root {
			return err
		}
		// Hidden folders, and those of "make run" and "make build", change by
		// themselves and hold no sources.
		if top := filepath.Dir(path) == root; strings.HasPrefix(e.Name(), ".") ||
			top && (e.Name() == "bin" || e.Name() == "data" || e.Name() == "data-cluster") {
			return fs.SkipDir
		}
		return nil
	})
}
