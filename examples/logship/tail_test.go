package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPlaceIsReadAsItIsWritten(t *testing.T) {
	for _, p := range []place{{}, {1, 0}, {1 << 60, 1 << 50}} {
		if got, err := parsePlace(p.String()); err != nil || got != p {
			t.Errorf("%v became %v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "1", "a:1", "1:b", "1:-1", ":"} {
		if p, err := parsePlace(bad); err == nil {
			t.Errorf("%q is %v", bad, p)
		}
	}
}

// lines returns what the tail has now, and the place behind it.
func lines(t *testing.T, l *tail) (got []string, behind place) {
	t.Helper()
	for {
		line, at, ok, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return got, behind
		}
		got, behind = append(got, string(line)), at
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestALineIsReadWhenItIsWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := open(path, place{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	steps := []struct {
		write string
		want  string // joined by "|"
	}{
		{"", ""}, {"a", ""}, {"b\n", "ab"}, {"\nc\nd", "|c"}, {"e\n", "de"},
		{strings.Repeat("x", lineMax) + "y\n", strings.Repeat("x", lineMax) + "|y"},
	}
	var behind place
	for _, s := range steps {
		write(t, path, s.write)
		got, at := lines(t, l)
		if strings.Join(got, "|") != s.want {
			t.Errorf("after %.20q: got %.40q, want %.40q", s.write, got, s.want)
		}
		if len(got) > 0 {
			behind = at
		}
	}
	// Another tail goes on there.
	write(t, path, "next\n")
	again, err := open(path, behind)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if got, _ := lines(t, again); len(got) != 1 || got[0] != "next" {
		t.Errorf("got %.40q", got)
	}
}

func TestTheLastLineOfARenamedLogNeedsNoEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "a\nb")
	l, err := open(path, place{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	first, _ := lines(t, l)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	before, _ := lines(t, l) // nobody knows yet whether there comes more
	write(t, path, "c\n")
	after, _ := lines(t, l)
	got := strings.Join(first, "|") + " " + strings.Join(before, "|") + " " + strings.Join(after, "|")
	if got != "a  b|c" {
		t.Errorf("got %q", got)
	}
}

func FuzzTheTailCutsAtLineEnds(f *testing.F) {
	f.Add([]byte("a\n\nb"), 3)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		path := filepath.Join(t.TempDir(), "log")
		l, err := open(path, place{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		cut = max(0, min(cut, len(text)))
		var all []string
		for _, part := range [][]byte{text[:cut], text[cut:]} {
			write(t, path, string(part))
			got, _ := lines(t, l)
			all = append(all, got...)
		}
		whole := text[:bytes.LastIndexByte(text, '\n')+1]
		got := strings.Join(all, "\n") + "\n"
		if len(text) < lineMax && len(all) > 0 && got != string(whole) {
			t.Errorf("%q became %q", text, all)
		}
		if len(all) == 0 && len(whole) > 0 {
			t.Errorf("nothing was read of %q", text)
		}
	})
}
