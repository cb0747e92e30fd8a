package main_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxFunctionLines = 70
	maxColumns       = 100
	maxFileLines     = 600 // about 400 is the aim
)

func TestFunctionsFilesAndLinesAreShort(t *testing.T) {
	fset, files := sources(t)
	for _, f := range files {
		if f.generated() {
			continue
		}
		lines := strings.Split(f.text, "\n")
		for i, line := range lines {
			if n := utf8.RuneCountInString(line); n > maxColumns {
				t.Errorf("%s:%d: line has %d columns, at most %d: break it",
					f.name, i+1, n, maxColumns)
			}
		}
		if f.test() {
			continue // a table of cases may be as long as it has cases
		}
		if len(lines) > maxFileLines {
			t.Errorf("%s: %d lines, at most %d: split it by what its parts know",
				f.name, len(lines), maxFileLines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			if n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, at most %d: push ifs up and loops down",
					fset.Position(fn.Pos()), fn.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

func TestEveryPackageHasADocComment(t *testing.T) {
	_, files := sources(t)
	documented := map[string]bool{}
	for _, f := range files {
		if !f.test() && f.pkg != "." {
			documented[f.pkg] = documented[f.pkg] ||
				strings.HasPrefix(f.ast.Doc.Text(), "Package "+f.ast.Name.Name+" ") ||
				f.ast.Name.Name == "main" && strings.HasPrefix(f.ast.Doc.Text(), "Command ")
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s: no file begins with \"// Package %s ...\": say what it is for, "+
				"what it owns and who may call it", pkg, path.Base(pkg))
		}
	}
}

func TestEveryExportHasADocComment(t *testing.T) {
	fset, files := sources(t)
	for _, f := range files {
		if f.test() || f.generated() || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s is exported without a doc comment: say what it promises, "+
					"its units, bounds and errors", fset.Position(name.Pos()), name.Name)
			}
		}
	}
}

// undocumented returns the exported names of a declaration without a comment. A
// comment on a group counts for its constants and variables, not for its types;
// constants of a type that are grouped are documented by that type.
func undocumented(d ast.Decl) []*ast.Ident {
	var names []*ast.Ident
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && !ofHiddenType(d) && !wellKnown[d.Name.Name] {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && s.Comment == nil &&
					(d.Doc == nil || d.Lparen.IsValid()) {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				enum := d.Lparen.IsValid() && d.Tok == token.CONST &&
					d.Specs[0].(*ast.ValueSpec).Type != nil
				if s.Names[0].IsExported() && !enum &&
					s.Doc == nil && s.Comment == nil && d.Doc == nil {
					names = append(names, s.Names[0])
				}
			}
		}
	}
	return names
}

// wellKnown methods satisfy an interface of the standard library that documents
// them.
var wellKnown = map[string]bool{
	"Error": true, "Unwrap": true, "String": true, "Is": true,
	"Len": true, "Less": true, "Swap": true,
}

func ofHiddenType(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return false
	}
	hidden := false
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !hidden {
			hidden = !id.IsExported()
			return false
		}
		return true
	})
	return hidden
}

// bannedCalls are calls with a better way, by the kind of file they are banned in.
var bannedCalls = []struct {
	call   string
	where  func(f *sourceFile) bool
	remedy string
}{
	{"time.Sleep", (*sourceFile).test, "wait for the condition, not for the clock"},
	{"t.Skip", (*sourceFile).test, "make the test possible, or delete it"},
	{"t.Skipf", (*sourceFile).test, "make the test possible, or delete it"},
	{"t.SkipNow", (*sourceFile).test, "make the test possible, or delete it"},
	{"time.Now", isPure, "take the time as an argument"},
	{"time.Since", isPure, "take the time as an argument"},
	{"time.Until", isPure, "take the time as an argument"},
	{"time.After", isPure, "return the wish for a timer; the shell arms it"},
	{"time.AfterFunc", isPure, "return the wish for a timer; the shell arms it"},
	{"time.NewTimer", isPure, "return the wish for a timer; the shell arms it"},
	{"time.NewTicker", isPure, "return the wish for a timer; the shell arms it"},
}

func isPure(f *sourceFile) bool { return !f.test() && slices.Contains(pure, f.pkg) }

func TestBannedCallsAreNotMade(t *testing.T) {
	fset, files := sources(t)
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, b := range bannedCalls {
				if types.ExprString(call.Fun) == b.call && b.where(f) {
					t.Errorf("%s: %s: %s", fset.Position(n.Pos()), b.call, b.remedy)
				}
			}
			return true
		})
	}
}

func TestPurePackagesStartNoGoroutine(t *testing.T) {
	fset, files := sources(t)
	for _, f := range files {
		if !isPure(f) || f.generated() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: go statement: a decision is made at once, by its caller",
					fset.Position(g.Pos()))
			}
			return true
		})
	}
}

// A map is ranged over in random order, and what depends on it differs from run
// to run. Where the order truly does not matter, the line says why:
// "// any order: <reason>".
func TestPurePackagesDoNotDependOnMapOrder(t *testing.T) {
	fset, files := sources(t)
	check := newChecker(fset, files)
	for _, pkg := range pure {
		info := check.info(pkg)
		for _, f := range files {
			if f.pkg != pkg || f.test() || f.generated() {
				continue
			}
			lines := strings.Split(f.text, "\n")
			ast.Inspect(f.ast, func(n ast.Node) bool {
				r, ok := n.(*ast.RangeStmt)
				if !ok || !rangesOverMap(info, r) {
					return true
				}
				at := fset.Position(r.Pos())
				if !strings.Contains(lines[at.Line-1], "// any order: ") {
					t.Errorf("%s: ranges over a map: use slices.Sorted(maps.Keys(m)), or end the "+
						"line with \"// any order: <why it does not matter>\"", at)
				}
				return true
			})
		}
	}
}

func rangesOverMap(info *types.Info, r *ast.RangeStmt) bool {
	if call, ok := r.X.(*ast.CallExpr); ok {
		switch types.ExprString(call.Fun) {
		case "maps.Keys", "maps.Values", "maps.All":
			return true
		}
	}
	typ := info.TypeOf(r.X)
	if typ == nil {
		return false
	}
	_, isMap := typ.Underlying().(*types.Map)
	return isMap
}

// checker type-checks packages of ours from the parsed files. Modules of others
// are left empty: what depends on them has no type, and that is fine here.
type checker struct {
	fset  *token.FileSet
	files []*sourceFile
	std   types.Importer
	done  map[string]*types.Package
	infos map[string]*types.Info
}

func newChecker(fset *token.FileSet, files []*sourceFile) *checker {
	return &checker{
		fset:  fset,
		files: files,
		std:   importer.ForCompiler(fset, "source", nil),
		done:  map[string]*types.Package{},
		infos: map[string]*types.Info{},
	}
}

func (c *checker) info(pkg string) *types.Info {
	if c.infos[pkg] == nil {
		c.check(pkg)
	}
	return c.infos[pkg]
}

func (c *checker) check(pkg string) *types.Package {
	var asts []*ast.File
	for _, f := range c.files {
		if f.pkg == pkg && !f.test() {
			asts = append(asts, f.ast)
		}
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
		Defs: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: c, Error: func(error) {}}
	p, _ := config.Check(modulePath+"/"+pkg, c.fset, asts, info)
	c.done[pkg], c.infos[pkg] = p, info
	return p
}

// Import finds a package for the type checker.
func (c *checker) Import(imported string) (*types.Package, error) {
	if ours, ok := strings.CutPrefix(imported, modulePath+"/"); ok {
		if p := c.done[ours]; p != nil {
			return p, nil
		}
		return c.check(ours), nil
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return c.std.Import(imported)
	}
	return nil, fmt.Errorf("%s is not looked at", imported)
}

var (
	marker = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b(\(#[0-9]+\))?`)
	// A path on somebody's machine means nothing to a reader.
	machinePath = regexp.MustCompile("(?:^|[\\s\"'`(=])/(?:home|root|work|mnt|Users)/[A-Za-z]")
	document    = regexp.MustCompile(`[A-Za-z0-9_./-]*[A-Za-z0-9_-]\.md\b`)
)

func TestUnfinishedWorkHasAnIssueNumber(t *testing.T) {
	eachLine(t, []string{".go", ".proto", ".md", "Makefile"}, func(file string, n int, line string) {
		if m := marker.FindStringSubmatch(line); m != nil && m[2] == "" && file != "tidy_test.go" {
			t.Errorf("%s:%d: %s without an issue number: do it now, or write %s(#number)",
				file, n, m[1], m[1])
		}
	})
}

func TestNothingPointsOutsideTheRepository(t *testing.T) {
	known := map[string]bool{}
	for _, name := range repositoryFiles(t, ".md") {
		known[path.Base(name)] = true
	}
	endings := []string{".go", ".proto", ".md", ".yaml", ".yml", "Makefile", "run"}
	eachLine(t, endings, func(file string, n int, line string) {
		if m := machinePath.FindString(line); m != "" {
			t.Errorf("%s:%d: a path of one machine (%s): use a relative path or t.TempDir",
				file, n, strings.TrimSpace(m))
		}
		if strings.Contains(line, "://") {
			return // a link says itself where it leads
		}
		for _, doc := range document.FindAllString(line, -1) {
			if !known[path.Base(doc)] {
				t.Errorf("%s:%d: %s is not in this repository: state the fact itself", file, n, doc)
			}
		}
	})
}

func eachLine(t *testing.T, endings []string, f func(file string, n int, line string)) {
	t.Helper()
	for _, name := range repositoryFiles(t, endings...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			f(name, i+1, line)
		}
	}
}
