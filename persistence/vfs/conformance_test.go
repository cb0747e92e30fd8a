package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// world is a file system under test and an empty folder in it.
type world struct {
	FS
	t   *testing.T
	dir string
}

func (w world) path(name string) string { return path.Join(w.dir, name) }

// put makes a file with a content.
func (w world) put(name, content string) File {
	w.t.Helper()
	f, err := w.Create(w.path(name))
	w.check(err)
	_, err = f.WriteAt([]byte(content), 0)
	w.check(err)
	w.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (w world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// expect fails the test unless err is target, in a *fs.PathError.
func (w world) expect(err, target error) {
	w.t.Helper()
	var pathErr *fs.PathError
	if !errors.Is(err, target) || !errors.As(err, &pathErr) {
		w.t.Errorf("got error %v, want %v in a *fs.PathError", err, target)
	}
}

func (w world) expectContent(name, want string) {
	w.t.Helper()
	got, err := ReadFile(w, w.path(name))
	w.check(err)
	if string(got) != want {
		w.t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

func (w world) expectNames(dir string, want ...string) {
	w.t.Helper()
	entries, err := w.ReadDir(w.path(dir))
	w.check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("%q holds %q, want %q", dir, got, want)
	}
}

// TestAllFileSystemsBehaveAlike runs every promise of FS and File against the
// real disk, the one in memory, and the faulty one without faults.
func TestAllFileSystemsBehaveAlike(t *testing.T) {
	for _, system := range []struct {
		name string
		make func(t *testing.T) (FS, string)
	}{
		{"OS", func(t *testing.T) (FS, string) { return OS{}, t.TempDir() }},
		{"Mem", func(*testing.T) (FS, string) { return NewMem(), "/" }},
		{"Faulty", func(*testing.T) (FS, string) { return NewFaulty(NewMem(), 1), "/" }},
		{"Faulty over OS", func(t *testing.T) (FS, string) { return NewFaulty(OS{}, 1), t.TempDir() }},
	} {
		for _, tt := range promises {
			t.Run(system.name+"/"+tt.name, func(t *testing.T) {
				fsys, dir := system.make(t)
				tt.check(world{FS: fsys, t: t, dir: dir})
			})
		}
	}
}

var promises = []struct {
	name  string
	check func(world)
}{
	{"a new file is empty and can be written and read", newFile},
	{"create refuses a name that is taken", createTaken},
	{"missing files and folders are not exist", missing},
	{"a folder is not a file and a file is not a folder", kinds},
	{"a file opened for reading cannot be changed", readOnlyHandle},
	{"a closed file refuses everything", closedFile},
	{"writev writes the buffers one after the other", writev},
	{"writev takes more buffers than one system call does", writevMany},
	{"writing behind the end leaves zeros in between", writeBehindEnd},
	{"reading past the end is EOF after the bytes there are", readPastEnd},
	{"negative positions and sizes are invalid", negative},
	{"allocate makes the file longer and never shorter", allocate},
	{"truncate cuts and bytes cut off come back as zeros", truncate},
	{"a mapping shows what is written later", mappingCoherent},
	{"a mapping is bounded by the size of the file", mappingBounds},
	{"a mapping outlives its file", mappingOutlives},
	{"an unmapped mapping refuses to be used", unmapped},
	{"rename replaces a file", renameReplaces},
	{"rename refuses to replace a folder", renameFolder},
	{"a folder moves with all it holds", renameTree},
	{"remove refuses a folder that is not empty", removeFolder},
	{"remove all takes a tree and does not mind a missing one", removeAll},
	{"an open file survives its removal", removedWhileOpen},
	{"read dir sorts by name and tells folders from files", readDir},
	{"stat describes files and folders", stat},
	{"a lock is exclusive until it is closed", lock},
	{"usage is the size of the disk and what is free", usageOfDisk},
	{"sync and its hints succeed", syncs},
	{"many goroutines read while one writes", concurrent},
}

func newFile(w world) {
	f := w.put("a", "hello")
	if f.Name() != w.path("a") {
		w.t.Errorf("the file is named %q", f.Name())
	}
	if size, err := f.Size(); size != 5 || err != nil {
		w.t.Errorf("size is %d, %v", size, err)
	}
	w.expectContent("a", "hello")
	g, err := w.OpenWrite(w.path("a"))
	w.check(err)
	_, err = g.WriteAt([]byte("J"), 0)
	w.check(err)
	w.check(g.Close())
	w.expectContent("a", "Jello")
}

func createTaken(w world) {
	w.put("a", "x")
	_, err := w.Create(w.path("a"))
	w.expect(err, fs.ErrExist)
	w.check(w.MkdirAll(w.path("d")))
	_, err = w.Create(w.path("d"))
	w.expect(err, fs.ErrExist)
}

func missing(w world) {
	_, err := w.Open(w.path("no"))
	w.expect(err, fs.ErrNotExist)
	_, err = w.OpenWrite(w.path("no"))
	w.expect(err, fs.ErrNotExist)
	_, err = w.Create(w.path("no/a"))
	w.expect(err, fs.ErrNotExist)
	_, err = w.Stat(w.path("no"))
	w.expect(err, fs.ErrNotExist)
	_, err = w.ReadDir(w.path("no"))
	w.expect(err, fs.ErrNotExist)
	_, err = w.Lock(w.path("no/lock"))
	w.expect(err, fs.ErrNotExist)
	_, _, err = w.Usage(w.path("no"))
	w.expect(err, fs.ErrNotExist)
	w.expect(w.Remove(w.path("no")), fs.ErrNotExist)
	w.expect(w.SyncDir(w.path("no")), fs.ErrNotExist)
	w.expect(w.Rename(w.path("no"), w.path("b")), fs.ErrNotExist)
	w.put("a", "x")
	w.expect(w.Rename(w.path("a"), w.path("no/b")), fs.ErrNotExist)
	_, err = ReadFile(w, w.path("no"))
	w.expect(err, fs.ErrNotExist)
}

func kinds(w world) {
	w.check(w.MkdirAll(w.path("d")))
	w.put("f", "x")
	_, err := w.Open(w.path("d"))
	w.expect(err, syscall.EISDIR)
	_, err = w.OpenWrite(w.path("d"))
	w.expect(err, syscall.EISDIR)
	_, err = w.Lock(w.path("d"))
	w.expect(err, syscall.EISDIR)
	_, err = w.Open(w.path("f/x"))
	w.expect(err, syscall.ENOTDIR)
	_, err = w.Create(w.path("f/x"))
	w.expect(err, syscall.ENOTDIR)
	_, err = w.ReadDir(w.path("f"))
	w.expect(err, syscall.ENOTDIR)
	w.expect(w.MkdirAll(w.path("f")), syscall.ENOTDIR)
	w.expect(w.MkdirAll(w.path("f/x")), syscall.ENOTDIR)
	w.expect(w.SyncDir(w.path("f")), syscall.ENOTDIR)
	w.expect(w.RemoveAll(w.path("f/x")), syscall.ENOTDIR)
	w.expect(w.Rename(w.path("d"), w.path("f")), syscall.ENOTDIR)
}

func readOnlyHandle(w world) {
	w.put("a", "hello")
	f, err := w.Open(w.path("a"))
	w.check(err)
	defer f.Close()
	_, err = f.WriteAt([]byte("x"), 0)
	w.expect(err, syscall.EBADF)
	_, err = f.Writev([][]byte{{1}}, 0)
	w.expect(err, syscall.EBADF)
	w.expect(f.Truncate(1), syscall.EBADF)
	w.expect(f.Allocate(10), syscall.EBADF)
	w.check(f.Sync())
	w.expectContent("a", "hello")
}

func closedFile(w world) {
	f := w.put("a", "hello")
	w.check(f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	w.expect(err, fs.ErrClosed)
	_, err = f.WriteAt([]byte("x"), 0)
	w.expect(err, fs.ErrClosed)
	_, err = f.Writev([][]byte{{1}}, 0)
	w.expect(err, fs.ErrClosed)
	_, err = f.Size()
	w.expect(err, fs.ErrClosed)
	_, err = f.Map(1)
	w.expect(err, fs.ErrClosed)
	w.expect(f.Truncate(0), fs.ErrClosed)
	w.expect(f.Allocate(1), fs.ErrClosed)
	w.expect(f.Sync(), fs.ErrClosed)
	w.expect(f.Close(), fs.ErrClosed)
	f.WriteBehind(0, 1)
	if f.Control(func(uintptr) { w.t.Error("a closed file showed its descriptor") }) {
		w.t.Error("a closed file claims to have a descriptor")
	}
}

func writev(w world) {
	f := w.put("a", "....")
	n, err := f.Writev([][]byte{[]byte("ab"), nil, []byte("c"), {}}, 2)
	w.check(err)
	if n != 3 {
		w.t.Errorf("wrote %d bytes, want 3", n)
	}
	w.expectContent("a", "..abc")
	n, err = f.Writev(nil, 100)
	w.check(err)
	if n != 0 {
		w.t.Errorf("wrote %d bytes of nothing", n)
	}
	w.expectContent("a", "..abc")
}

func writevMany(w world) {
	var bufs [][]byte
	var want bytes.Buffer
	for i := range 2500 {
		b := bytes.Repeat([]byte{byte(i)}, i%7)
		bufs = append(bufs, b)
		want.Write(b)
	}
	f := w.put("a", "")
	n, err := f.Writev(bufs, 0)
	w.check(err)
	if int(n) != want.Len() {
		w.t.Errorf("wrote %d bytes, want %d", n, want.Len())
	}
	w.expectContent("a", want.String())
}

func writeBehindEnd(w world) {
	f := w.put("a", "ab")
	_, err := f.WriteAt([]byte("z"), 5000)
	w.check(err)
	w.expectContent("a", "ab"+strings.Repeat("\x00", 4998)+"z")
}

func readPastEnd(w world) {
	f := w.put("a", "hello")
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 3); n != 2 || err != io.EOF || string(b[:2]) != "lo" {
		w.t.Errorf("read %d bytes %q, %v", n, b[:n], err)
	}
	if n, err := f.ReadAt(b, 5); n != 0 || err != io.EOF {
		w.t.Errorf("read %d bytes at the end, %v", n, err)
	}
	if n, err := f.ReadAt(b, 1<<30); n != 0 || err != io.EOF {
		w.t.Errorf("read %d bytes far behind the end, %v", n, err)
	}
	if n, err := f.ReadAt(nil, 0); n != 0 || err != nil {
		w.t.Errorf("read %d bytes into nothing, %v", n, err)
	}
}

func negative(w world) {
	f := w.put("a", "hello")
	_, err := f.ReadAt(make([]byte, 1), -1)
	w.expect(err, syscall.EINVAL)
	_, err = f.WriteAt(make([]byte, 1), -1)
	w.expect(err, syscall.EINVAL)
	_, err = f.Writev([][]byte{{1}}, -1)
	w.expect(err, syscall.EINVAL)
	_, err = f.Map(-1)
	w.expect(err, syscall.EINVAL)
	w.expect(f.Truncate(-1), syscall.EINVAL)
	w.expect(f.Allocate(-1), syscall.EINVAL)
	f.WriteBehind(-1, 5)
	f.WriteBehind(0, -5)
}

func allocate(w world) {
	f := w.put("a", "hello")
	w.check(f.Allocate(0))
	w.check(f.Allocate(3))
	w.expectContent("a", "hello")
	w.check(f.Allocate(10_000))
	w.expectContent("a", "hello"+strings.Repeat("\x00", 9_995))
	_, err := f.WriteAt([]byte("x"), 9_999)
	w.check(err)
	if size, err := f.Size(); size != 10_000 || err != nil {
		w.t.Errorf("size is %d, %v", size, err)
	}
}

func truncate(w world) {
	f := w.put("a", strings.Repeat("x", 9000))
	w.check(f.Truncate(4100))
	w.check(f.Truncate(9000))
	w.expectContent("a", strings.Repeat("x", 4100)+strings.Repeat("\x00", 4900))
	w.check(f.Truncate(0))
	_, err := f.WriteAt([]byte("y"), 2)
	w.check(err)
	w.expectContent("a", "\x00\x00y")
}

func mappingCoherent(w world) {
	f := w.put("a", "hello")
	w.check(f.Allocate(10_000))
	m, err := f.Map(10_000)
	w.check(err)
	if got := string(m.Bytes()[:6]); got != "hello\x00" {
		w.t.Errorf("the mapping shows %q", got)
	}
	_, err = f.WriteAt([]byte("J"), 0)
	w.check(err)
	_, err = f.Writev([][]byte{[]byte("a"), []byte("b")}, 8191)
	w.check(err)
	if m.Bytes()[0] != 'J' || string(m.Bytes()[8191:8193]) != "ab" {
		w.t.Error("the mapping does not show what was written")
	}
	w.check(m.Populate(0, 10_000))
	w.check(m.Populate(5000, 1))
	w.check(m.Populate(10_000, 0))
	w.check(f.Allocate(20_000))
	_, err = f.WriteAt([]byte("c"), 9_999)
	w.check(err)
	if m.Bytes()[9_999] != 'c' {
		w.t.Error("the mapping does not show what was written after the file grew")
	}
	w.check(m.Unmap())
}

func mappingBounds(w world) {
	f := w.put("a", "hello")
	_, err := f.Map(6)
	w.expect(err, syscall.EINVAL)
	empty, err := f.Map(0)
	w.check(err)
	if len(empty.Bytes()) != 0 {
		w.t.Errorf("an empty mapping has %d bytes", len(empty.Bytes()))
	}
	w.check(empty.Populate(0, 0))
	w.check(empty.Unmap())
	m, err := f.Map(5)
	w.check(err)
	if len(m.Bytes()) != 5 {
		w.t.Errorf("the mapping has %d bytes", len(m.Bytes()))
	}
	w.expect(m.Populate(0, 6), syscall.EINVAL)
	w.expect(m.Populate(-1, 1), syscall.EINVAL)
	w.expect(m.Populate(1, -1), syscall.EINVAL)
	w.expect(m.Populate(6, 0), syscall.EINVAL)
	w.check(f.Truncate(0))
	w.expect(m.Populate(0, 5), ErrIO)
	w.check(m.Unmap())
}

func mappingOutlives(w world) {
	f := w.put("a", "hello")
	m, err := f.Map(5)
	w.check(err)
	w.check(f.Close())
	w.check(w.Remove(w.path("a")))
	if string(m.Bytes()) != "hello" {
		w.t.Errorf("the mapping shows %q", m.Bytes())
	}
	w.check(m.Unmap())
}

func unmapped(w world) {
	f := w.put("a", "hello")
	m, err := f.Map(5)
	w.check(err)
	w.check(m.Unmap())
	w.expect(m.Unmap(), fs.ErrClosed)
	w.expect(m.Populate(0, 5), fs.ErrClosed)
}

// concurrent writes ever more of a file, and readers check what was published
// by both ways of reading.
func concurrent(w world) {
	const size = 64 << 10
	f := w.put("a", "")
	w.check(f.Allocate(size))
	m, err := f.Map(size)
	w.check(err)
	published := make(chan int, size/512+1)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			b := make([]byte, 512)
			for at := range published {
				if _, err := f.ReadAt(b, int64(at)); err != nil {
					w.t.Error(err)
				}
				if !bytes.Equal(b, m.Bytes()[at:at+512]) || b[0] != byte(at>>9)|1 {
					w.t.Errorf("at %d file and mapping differ, or are not what was written", at)
				}
			}
		})
	}
	for at := 0; at < size; at += 512 {
		_, err := f.WriteAt(bytes.Repeat([]byte{byte(at>>9) | 1}, 512), int64(at))
		w.check(err)
		published <- at
	}
	close(published)
	readers.Wait()
	w.check(m.Unmap())
}
