package main_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	docLinks  = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	docTests  = regexp.MustCompile("`(Test\\w+)`")
	docFlow   = regexp.MustCompile(`docs/flows/(\w+\.md): (?:\w+ )?\d`)
	testFuncs = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// Pages name files and tests as proof of what they say; both must be there.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	_, files := sources(t)
	tests := map[string]bool{}
	for _, f := range files {
		for _, m := range testFuncs.FindAllStringSubmatch(f.text, -1) {
			tests[m[1]] = true
		}
		for _, m := range docFlow.FindAllStringSubmatch(f.text, -1) {
			if _, err := os.Stat(filepath.Join("docs", "flows", m[1])); err != nil {
				t.Errorf("%s: names a flow that is not there: %s", f.name, m[1])
			}
		}
	}
	for _, name := range repositoryFiles(t, ".md") {
		text, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docLinks.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := path.Join(path.Dir(name), m[1])
			if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
				t.Errorf("%s: link to %s, which is not there", name, target)
			}
		}
		for _, m := range docTests.FindAllStringSubmatch(string(text), -1) {
			if !tests[m[1]] {
				t.Errorf("%s: names %s, which is not there", name, m[1])
			}
		}
	}
}
