package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"
)

// twins does the same to the real disk and to the one in memory.
type twins struct {
	t     *testing.T
	r     *rand.Rand
	sides [2]world
	files map[string][2]File
}

// TestMemDoesWhatTheDiskDoes runs random operations on both and compares every
// result: errors, counts, bytes, names.
func TestMemDoesWhatTheDiskDoes(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			tw := &twins{
				t: t, r: rand.New(rand.NewPCG(seed, 1)),
				sides: [2]world{{FS: OS{}, t: t, dir: t.TempDir()}, {FS: NewMem(), t: t, dir: "/"}},
				files: map[string][2]File{},
			}
			t.Cleanup(tw.closeAll)
			for range 400 {
				tw.step()
				if t.Failed() {
					return
				}
			}
			tw.compareTrees("")
		})
	}
}

// name draws one of a few names, so that operations meet each other.
func (tw *twins) name() string {
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f/a", "no/a", "a/x", "d/../b"}
	return names[tw.r.IntN(len(names))]
}

// both runs an operation on both sides and compares what it says.
func (tw *twins) both(what string, do func(side int, w world) (string, error)) {
	tw.t.Helper()
	disk, diskErr := do(0, tw.sides[0])
	mem, memErr := do(1, tw.sides[1])
	if disk != mem || errno(diskErr) != errno(memErr) {
		tw.t.Errorf("%s: the disk says %.200q, %v; memory says %.200q, %v",
			what, disk, diskErr, mem, memErr)
	}
}

// errno is what an error comes down to.
func errno(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return ""
	case err == io.EOF:
		return "EOF"
	case errors.Is(err, fs.ErrClosed):
		return "closed"
	case errors.As(err, &no):
		return no.Error()
	}
	return err.Error()
}

func (tw *twins) step() {
	switch op := tw.r.IntN(20); {
	case op < 8:
		tw.fileStep(op)
	case op < 16:
		tw.folderStep(op)
	case op == 16:
		tw.mapStep()
	default:
		tw.openStep()
	}
}

func (tw *twins) openStep() {
	name := tw.name()
	how := tw.r.IntN(3)
	var opened [2]File
	tw.both(fmt.Sprint("open ", how, " ", name), func(side int, w world) (string, error) {
		open := []func(string) (File, error){w.Create, w.OpenWrite, w.Open}[how]
		f, err := open(w.path(name))
		if err == nil {
			opened[side] = f
		}
		return "", err
	})
	tw.forget(name)
	if opened[0] != nil && opened[1] != nil {
		tw.files[name] = opened
	}
}

// forget closes the open file of a name.
func (tw *twins) forget(name string) {
	for _, f := range tw.files[name] {
		if f != nil {
			_ = f.Close()
		}
	}
	delete(tw.files, name)
}

// closeAll ends everything that is open.
func (tw *twins) closeAll() {
	for name := range tw.files {
		tw.forget(name)
	}
}

func (tw *twins) fileStep(op int) {
	name := tw.name()
	files, ok := tw.files[name]
	if !ok {
		return
	}
	off, size := tw.r.Int64N(20_000), tw.r.IntN(10_000)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(tw.r.Uint32())
	}
	cut := tw.r.IntN(size + 1)
	tw.both(fmt.Sprint("file op ", op, " ", name), func(side int, _ world) (string, error) {
		f := files[side]
		switch op {
		case 0, 1:
			n, err := f.WriteAt(data, off)
			return fmt.Sprint(n), err
		case 2:
			n, err := f.Writev([][]byte{data[:cut], nil, data[cut:]}, off)
			return fmt.Sprint(n), err
		case 3:
			return "", f.Truncate(off)
		case 4:
			return "", f.Allocate(off)
		case 5:
			return "", f.Sync()
		}
		b := make([]byte, size)
		n, err := f.ReadAt(b, off)
		length, sizeErr := f.Size()
		return fmt.Sprint(length, sizeErr, string(b[:n])), err
	})
}

func (tw *twins) folderStep(op int) {
	name, other := tw.name(), tw.name()
	spare := tw.r.IntN(4) > 0 // or the tree would be empty most of the time
	tw.both(fmt.Sprint("folder op ", op, " ", name, " ", other), func(_ int, w world) (string, error) {
		switch op {
		case 8:
			return "", w.Remove(w.path(name))
		case 9:
			if spare {
				return "", nil
			}
			return "", w.RemoveAll(w.path(name))
		case 10, 11:
			return "", w.Rename(w.path(name), w.path(other))
		case 12:
			return "", w.MkdirAll(w.path(name))
		case 13:
			return "", w.SyncDir(w.path(name))
		case 14:
			entries, err := w.ReadDir(w.path(name))
			return fmt.Sprint(names(entries)), err
		}
		info, err := w.Stat(w.path(name))
		if err != nil {
			return "", err
		}
		if info.IsDir() { // the size of a folder means nothing
			return fmt.Sprint(info.Name(), info.Mode()), nil
		}
		return fmt.Sprint(info.Name(), info.Mode(), info.Size()), nil
	})
}

func names(entries []fs.DirEntry) (list []string) {
	for _, e := range entries {
		list = append(list, fmt.Sprint(e.Name(), e.IsDir()))
	}
	return list
}

// mapStep compares what mappings of a file show.
func (tw *twins) mapStep() {
	name := tw.name()
	files, ok := tw.files[name]
	if !ok {
		return
	}
	share := tw.r.Int64N(3)
	tw.both("map "+name, func(side int, _ world) (string, error) {
		size, err := files[side].Size()
		if err != nil {
			return "", err
		}
		m, err := files[side].Map(size * share / 2)
		if err != nil {
			return "", err
		}
		defer m.Unmap()
		return string(m.Bytes()), m.Populate(0, int64(len(m.Bytes())))
	})
}

// compareTrees compares everything that is there in the end.
func (tw *twins) compareTrees(dir string) {
	tw.both("content of "+dir, func(_ int, w world) (string, error) {
		entries, err := w.ReadDir(w.path(dir))
		return fmt.Sprint(names(entries)), err
	})
	entries, err := tw.sides[1].ReadDir(tw.sides[1].path(dir))
	tw.sides[1].check(err)
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			tw.compareTrees(name)
			continue
		}
		tw.both("content of "+name, func(_ int, w world) (string, error) {
			b, err := ReadFile(w, w.path(name))
			return string(b), err
		})
	}
}
