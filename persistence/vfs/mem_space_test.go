package vfs

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestADiskFillsUpAtAnyByte(t *testing.T) {
	const size = blockSize + 100
	for capacity := range int64(size + 1) {
		w, m := memWorld(t)
		m.SetCapacity(capacity)
		f, err := w.Create("/a")
		w.check(err)
		bufs := [][]byte{[]byte(strings.Repeat("x", 50)), []byte(strings.Repeat("y", size-50))}
		n, err := f.Writev(bufs, 0)
		if n != capacity || (err != nil) != (capacity < size) {
			t.Fatalf("with room for %d bytes, %d of %d were written, %v", capacity, n, size, err)
		}
		if err != nil {
			w.expect(err, ErrNoSpace)
			w.expect(err, syscall.ENOSPC)
		}
		if got, _ := f.Size(); got != capacity || m.Used() != capacity {
			t.Fatalf("with room for %d bytes the file has %d, of which %d count", capacity, got, m.Used())
		}
		w.check(f.Close())
	}
}

func TestAFullDiskLeavesAnAllocationUndone(t *testing.T) {
	w, m := memWorld(t)
	m.SetCapacity(10_000)
	f := w.put("a", "hello")
	w.expect(f.Allocate(10_001), ErrNoSpace)
	w.expectContent("a", "hello")
	if m.Used() != 5 {
		t.Errorf("%d bytes are used, want 5", m.Used())
	}
	w.check(f.Allocate(10_000))
	_, err := f.WriteAt([]byte(strings.Repeat("x", 10_000)), 0)
	w.check(err)
	_, err = f.WriteAt([]byte("x"), 10_000)
	w.expect(err, ErrNoSpace)
}

func TestOverwritingAndNamingWorkOnAFullDisk(t *testing.T) {
	w, m := memWorld(t)
	m.SetCapacity(5)
	f := w.put("a", "hello")
	_, err := f.WriteAt([]byte("J"), 0)
	w.check(err)
	w.put("b", "")
	w.check(w.MkdirAll("/d"))
	w.check(w.Rename("/a", "/d/a"))
	w.check(f.Truncate(3))
	w.check(f.Truncate(100)) // a hole costs nothing until it is written
	_, err = f.WriteAt([]byte("xyz"), 3)
	w.expect(err, ErrNoSpace)
	w.expectContent("d/a", "Jelxy"+strings.Repeat("\x00", 95))
}

func TestSpaceComesBackWhenTheLastUserOfAFileIsGone(t *testing.T) {
	w, m := memWorld(t)
	f := w.put("a", "hello")
	mapping, err := f.Map(5)
	w.check(err)
	w.put("b", "xyz")
	w.check(w.Rename("/b", "/a"))
	for _, step := range []struct {
		name string
		do   func() error
		used int64
	}{
		{"the file is open and mapped", func() error { return nil }, 8},
		{"the file is closed", f.Close, 8},
		{"the file is unmapped", mapping.Unmap, 3},
		{"the other is cut", func() error {
			g, err := w.OpenWrite("/a")
			return errors.Join(err, g.Truncate(1), g.Close())
		}, 1},
	} {
		w.check(step.do())
		if m.Used() != step.used {
			t.Errorf("%s: %d bytes are used, want %d", step.name, m.Used(), step.used)
		}
	}
}

func TestACloneOfAFullDiskCountsWhatItHolds(t *testing.T) {
	w, m := memWorld(t)
	m.SetCapacity(3 * blockSize)
	f := w.put("a", strings.Repeat("x", blockSize+10))
	w.check(f.Allocate(2 * blockSize))
	w.check(f.Sync())
	w.check(w.SyncDir("/"))
	w.put("lost", strings.Repeat("x", blockSize))
	clone := m.CrashClone(1, LoseUnsynced)
	if clone.Used() != 2*blockSize {
		t.Errorf("%d bytes are used, want %d", clone.Used(), 2*blockSize)
	}
	total, free, err := clone.Usage("/")
	w.check(err)
	if total != 3*blockSize || free != blockSize {
		t.Errorf("%d of %d bytes are free", free, total)
	}
	if kept := m.CrashClone(1, KeepAll); kept.Used() != m.Used() {
		t.Errorf("after a kill %d bytes are used, before it %d", kept.Used(), m.Used())
	}
}

func TestAMappingIsSpoiledWhenItEnds(t *testing.T) {
	w, _ := memWorld(t)
	f := w.put("a", "hello")
	m, err := f.Map(5)
	w.check(err)
	late := m.Bytes()
	w.check(m.Unmap())
	if bytes.ContainsAny(late, "helo") {
		t.Errorf("a reader who comes too late still sees %q", late)
	}
	_, err = f.WriteAt([]byte("again"), 0)
	w.check(err)
	if strings.Contains(string(late), "again") {
		t.Error("an unmapped mapping follows the file")
	}
}
