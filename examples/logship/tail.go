package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// place is how far a log file was read. The file is known by its inode, which it keeps
// when it is renamed.
type place struct {
	inode uint64
	next  int64 // byte to go on at
}

func (p place) String() string { return fmt.Sprintf("%d:%d", p.inode, p.next) }

// parsePlace reads what String wrote.
func parsePlace(s string) (p place, err error) {
	inode, next, ok := strings.Cut(s, ":")
	if ok {
		if p.inode, err = strconv.ParseUint(inode, 10, 64); err == nil {
			p.next, err = strconv.ParseInt(next, 10, 64)
		}
	}
	if !ok || err != nil || p.next < 0 {
		return place{}, fmt.Errorf("%q is no place in a file", s)
	}
	return p, nil
}

// tail reads the lines of a log that is written to, cut to nothing, or renamed and begun
// anew. One goroutine may use it.
type tail struct {
	path   string
	file   *os.File // nil: the log is not there
	reader *bufio.Reader
	at     place
	part   []byte // of a line that is being written; before at.next
}

// lineMax is how long a line may be; longer ones are cut into several.
const lineMax = 64 << 10

// open goes on where another tail stopped; the zero place is the beginning of the log. A
// log that was renamed meanwhile is looked for beside the path, as path.1 and the like.
func open(path string, from place) (*tail, error) {
	t := &tail{path: path}
	if from.inode == 0 {
		return t, t.begin(path, 0)
	}
	candidates, err := filepath.Glob(path + "*")
	if err != nil {
		return nil, err
	}
	slices.Sort(candidates)
	for _, name := range candidates {
		info, err := os.Stat(name)
		if err == nil && inodeOf(info) == from.inode {
			return t, t.begin(name, from.next)
		}
	}
	return t, t.begin(path, 0) // it is gone, with what was not read
}

// begin opens a file and goes to a byte of it; to the first if there are not so many.
func (t *tail) begin(name string, next int64) error {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not there yet
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if next > info.Size() {
		next = 0
	}
	if _, err := file.Seek(next, io.SeekStart); err != nil {
		return errors.Join(err, file.Close())
	}
	t.file, t.reader = file, bufio.NewReaderSize(file, lineMax)
	t.at = place{inodeOf(info), next}
	return nil
}

func inodeOf(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// next returns the next whole line, without its end, and the place behind it; no line if
// the file ends there.
func (t *tail) next() (line []byte, behind place, ok bool, err error) {
	for {
		if t.file == nil {
			if err := t.begin(t.path, 0); err != nil || t.file == nil {
				return nil, place{}, false, err
			}
		}
		line, ended, err := t.read()
		if err != nil || ended {
			return line, t.at, ended, err
		}
		// The end of the file: is it still the log, and as long as it was?
		replaced, err := t.replaced()
		if err != nil || !replaced {
			return nil, place{}, false, err
		}
		if rest, behind := t.leave(); len(rest) > 0 {
			return rest, behind, true, nil
		}
	}
}

// read takes a line, if a whole one is there, or one that is too long.
func (t *tail) read() (line []byte, ended bool, err error) {
	for {
		b, err := t.reader.ReadSlice('\n')
		t.part = append(t.part, b...)
		t.at.next += int64(len(b))
		switch {
		case err == nil, len(t.part) >= lineMax:
			line, t.part = t.part, nil
			return bytes.TrimSuffix(line, []byte("\n")), true, nil
		case errors.Is(err, io.EOF):
			return nil, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		}
	}
}

// replaced reports whether the path has become another file, or has lost what was read.
func (t *tail) replaced() (bool, error) {
	info, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // renamed, and the next one is not there yet
	}
	if err != nil {
		return false, err
	}
	return inodeOf(info) != t.at.inode || info.Size() < t.at.next, nil
}

// leave gives the file up. What its last line has, though it has no end, is returned: of a
// renamed file there comes no more.
func (t *tail) leave() (rest []byte, behind place) {
	rest, behind = t.part, t.at
	t.file.Close()
	t.file, t.part = nil, nil
	return rest, behind
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}
