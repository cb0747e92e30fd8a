package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnErrorShowsItsKindItsErrnoAndItsFile(t *testing.T) {
	for _, tt := range []struct {
		errno syscall.Errno
		kind  error
	}{
		{unix.ENOSPC, ErrNoSpace}, {unix.EDQUOT, ErrNoSpace},
		{unix.EMFILE, ErrTooManyFiles}, {unix.ENFILE, ErrTooManyFiles},
		{unix.EROFS, ErrReadOnly}, {unix.EACCES, ErrReadOnly}, {unix.EPERM, ErrReadOnly},
		{unix.EIO, ErrIO}, {unix.EUCLEAN, ErrIO}, {unix.EREMOTEIO, ErrIO}, {unix.ESTALE, ErrIO},
		{unix.ENOENT, fs.ErrNotExist}, {unix.EEXIST, fs.ErrExist},
	} {
		for _, raw := range []error{
			tt.errno,
			&fs.PathError{Op: "x", Path: "other", Err: tt.errno},
			&os.LinkError{Op: "x", Old: "other", New: "other", Err: tt.errno},
			os.NewSyscallError("x", tt.errno),
		} {
			err := fail("write", "a.log", raw)
			var pathErr *fs.PathError
			if !errors.Is(err, tt.kind) || !errors.Is(err, tt.errno) || !errors.As(err, &pathErr) {
				t.Errorf("%T of %v became %#v", raw, tt.errno, err)
			}
			if want := "write a.log: " + tt.errno.Error(); err.Error() != want {
				t.Errorf("the error reads %q, want %q", err, want)
			}
		}
	}
	for _, kind := range []error{ErrNoSpace, ErrTooManyFiles, ErrReadOnly, ErrIO, ErrLocked} {
		if errors.Is(fail("open", "a", unix.EINVAL), kind) {
			t.Errorf("an invalid argument is %v", kind)
		}
	}
	if fail("read", "a", nil) != nil || fail("read", "a", io.EOF) != io.EOF {
		t.Error("success and EOF must pass through")
	}
}

func TestADeviceThatIsFullReportsWhatItWrote(t *testing.T) {
	file, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := newOSFile(file, "/dev/full", true)
	defer f.Close()
	for _, write := range []func() (int64, error){
		func() (int64, error) { return f.Writev([][]byte{{1}, {2}}, 0) },
		func() (int64, error) { n, err := f.WriteAt([]byte{1}, 0); return int64(n), err },
	} {
		if n, err := write(); n != 0 || !errors.Is(err, ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
	}
}

func TestOnlyRegularFilesOpen(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, "/dev/null"} {
		if _, err := (OS{}).Open(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("opening %s for reading: %v", name, err)
		}
		if _, err := (OS{}).OpenWrite(name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("opening %s for writing: %v", name, err)
		}
	}
}

// stutter is a pwritev that takes at most a few bytes at a time and is
// interrupted now and then.
type stutter struct {
	file  []byte
	most  int
	calls int
	fail  error // after room bytes
	room  int
}

func (s *stutter) pwritev(_ int, bufs [][]byte, off int64) (int, error) {
	s.calls++
	if s.calls%3 == 1 {
		return -1, unix.EINTR
	}
	data := slices.Concat(bufs...)
	data = data[:min(len(data), s.most, s.room-int(off))]
	if len(data) == 0 {
		return -1, s.fail
	}
	s.file = append(s.file[:off], data...)
	return len(data), nil
}

func TestWritevGoesOnAfterShortWritesAndSignals(t *testing.T) {
	bufs := [][]byte{nil, []byte("abc"), {}, []byte("defgh"), []byte("i"), nil}
	for most := 1; most < 12; most++ {
		for room := range 11 {
			before := slices.Clone(bufs)
			s := &stutter{most: most, room: room, fail: unix.ENOSPC}
			n, err := writevAll(s.pwritev, 0, bufs, 0)
			want := "abcdefghi"[:min(9, room)]
			if string(s.file) != want || int(n) != len(want) || (err != nil) != (room < 9) {
				t.Fatalf("%d at a time, room for %d: wrote %q, said %d, %v", most, room, s.file, n, err)
			}
			for i := range bufs {
				if !bytes.Equal(bufs[i], before[i]) {
					t.Fatal("the caller's buffers were changed")
				}
			}
		}
	}
}

func TestWritevThatMakesNoProgressStops(t *testing.T) {
	nothing := func(int, [][]byte, int64) (int, error) { return 0, nil }
	if n, err := writevAll(nothing, 0, [][]byte{{1}}, 0); n != 0 || err != io.ErrShortWrite {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
}

func TestAnAllocationThatFailsIsTakenBack(t *testing.T) {
	w := world{FS: OS{}, t: t, dir: t.TempDir()}
	f := w.put("a", "hello").(*osFile)
	half := func(failure error) func(int, uint32, int64, int64) error {
		return func(fd int, _ uint32, _, n int64) error { // what ext4 does on a full disk
			w.check(unix.Ftruncate(fd, n/2))
			return failure
		}
	}
	err := f.allocateWith(half(unix.ENOSPC), 1000)
	w.expect(fail("allocate", "a", err), ErrNoSpace)
	w.expectContent("a", "hello")

	// A file system that cannot reserve space makes the file longer all the same.
	w.check(f.allocateWith(func(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }, 7))
	w.expectContent("a", "hello\x00\x00")
	w.check(f.allocateWith(func(int, uint32, int64, int64) error { return unix.EOPNOTSUPP }, 3))
	w.expectContent("a", "hello\x00\x00")
}

func TestAllocationReservesBlocks(t *testing.T) {
	w := world{FS: OS{}, t: t, dir: t.TempDir()}
	f := w.put("a", "")
	w.check(f.Allocate(1 << 20))
	var st unix.Stat_t
	w.check(unix.Stat(w.path("a"), &st))
	if st.Blocks*512 < 1<<20 {
		t.Errorf("%d bytes are reserved, want 1 MiB", st.Blocks*512)
	}
}

// A descriptor in use must not be closed: its number could name another file the
// moment after.
func TestCloseLeavesTheDescriptorToThoseWhoUseIt(t *testing.T) {
	w := world{FS: OS{}, t: t, dir: t.TempDir()}
	f := w.put("a", "hello")
	inside, closed := make(chan struct{}), make(chan struct{})
	var user sync.WaitGroup
	user.Go(func() {
		ok := f.Control(func(fd uintptr) {
			close(inside)
			<-closed
			b := make([]byte, 5)
			if n, err := unix.Pread(int(fd), b, 0); n != 5 || err != nil || string(b) != "hello" {
				t.Errorf("the descriptor reads %q, %v", b, err)
			}
		})
		if !ok {
			t.Error("an open file showed no descriptor")
		}
	})
	<-inside
	w.check(f.Close())
	if f.Control(func(uintptr) { t.Error("a closed file showed its descriptor") }) {
		t.Error("a closed file claims to have a descriptor")
	}
	close(closed)
	user.Wait()
	if err := f.(*osFile).file.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("the last user left the file open: %v", err)
	}
}

func TestCloseRacesWithEverything(t *testing.T) {
	w := world{FS: OS{}, t: t, dir: t.TempDir()}
	w.put("a", "hello")
	for range 50 {
		f, err := w.OpenWrite(w.path("a"))
		w.check(err)
		var users sync.WaitGroup
		start := make(chan struct{})
		for _, use := range []func(){
			func() { _, _ = f.ReadAt(make([]byte, 5), 0) },
			func() { _, _ = f.Writev([][]byte{[]byte("hello")}, 0) },
			func() { _ = f.Sync() },
			func() { f.Control(func(uintptr) {}) },
			func() { _ = f.Close() },
			func() { _ = f.Close() },
		} {
			users.Go(func() { <-start; use() })
		}
		close(start)
		users.Wait()
		w.expect(f.Close(), fs.ErrClosed)
	}
	w.expectContent("a", "hello")
}

func TestOpenFileGivesLibrariesTheirFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "db")
	f, err := OS{}.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = OS{}.OpenFile(name+"/x", os.O_RDWR, 0)
	world{t: t}.expect(err, unix.ENOTDIR)
}
