package vfs

import (
	"io/fs"
	"syscall"
)

func renameReplaces(w world) {
	w.put("a", "new")
	old := w.put("b", "old")
	w.check(w.Rename(w.path("a"), w.path("b")))
	w.expectContent("b", "new")
	w.expectNames("", "b")
	b := make([]byte, 3)
	_, err := old.ReadAt(b, 0)
	w.check(err)
	if string(b) != "old" {
		w.t.Errorf("the replaced file, still open, reads %q", b)
	}
	w.check(w.Rename(w.path("b"), w.path("b")))
	w.expectContent("b", "new")
}

func renameFolder(w world) {
	w.check(w.MkdirAll(w.path("d")))
	w.check(w.MkdirAll(w.path("e")))
	w.put("f", "x")
	w.expect(w.Rename(w.path("f"), w.path("d")), fs.ErrExist)
	w.expect(w.Rename(w.path("e"), w.path("d")), fs.ErrExist)
	w.expect(w.Rename(w.path("d"), w.path("d")), fs.ErrExist)
	w.expect(w.Rename(w.path("d"), w.path("d/sub")), syscall.EINVAL)
	w.expectNames("", "d", "e", "f")
}

func renameTree(w world) {
	w.check(w.MkdirAll(w.path("d/sub")))
	w.put("d/sub/a", "x")
	w.check(w.MkdirAll(w.path("e")))
	w.check(w.Rename(w.path("d"), w.path("e/d")))
	w.expectContent("e/d/sub/a", "x")
	w.expectNames("", "e")
}

func removeFolder(w world) {
	w.check(w.MkdirAll(w.path("d")))
	w.put("d/a", "x")
	w.expect(w.Remove(w.path("d")), syscall.ENOTEMPTY)
	w.check(w.Remove(w.path("d/a")))
	w.check(w.Remove(w.path("d")))
	w.expectNames("")
	w.put("f", "x")
	w.expect(w.Remove(w.path("f/x")), syscall.ENOTDIR)
}

func removeAll(w world) {
	w.check(w.MkdirAll(w.path("d/e")))
	w.put("d/e/a", "x")
	w.put("d/b", "x")
	w.put("keep", "x")
	w.check(w.RemoveAll(w.path("d")))
	w.check(w.RemoveAll(w.path("d")))
	w.check(w.RemoveAll(w.path("no/such/folder")))
	w.expectNames("", "keep")
	w.check(w.RemoveAll(w.path("keep")))
	w.expectNames("")
}

func removedWhileOpen(w world) {
	f := w.put("a", "hello")
	w.check(w.Remove(w.path("a")))
	_, err := f.WriteAt([]byte("J"), 0)
	w.check(err)
	b := make([]byte, 5)
	_, err = f.ReadAt(b, 0)
	w.check(err)
	if string(b) != "Jello" {
		w.t.Errorf("the removed file reads %q", b)
	}
	w.put("a", "another")
	w.expectContent("a", "another")
}

func readDir(w world) {
	w.put("b", "xyz")
	w.put("B", "")
	w.put("a1", "")
	w.put("a", "")
	w.check(w.MkdirAll(w.path("c/d")))
	w.expectNames("", "B", "a", "a1", "b", "c")
	entries, err := w.ReadDir(w.dir)
	w.check(err)
	for _, e := range entries {
		if e.IsDir() != (e.Name() == "c") {
			w.t.Errorf("%s is a folder: %t", e.Name(), e.IsDir())
		}
		info, err := e.Info()
		w.check(err)
		if e.Name() == "b" && info.Size() != 3 {
			w.t.Errorf("b is %d bytes long", info.Size())
		}
	}
	_, err = w.ReadDir(w.path("c/d/../../c"))
	w.check(err)
}

func stat(w world) {
	w.put("a", "hello")
	w.check(w.MkdirAll(w.path("d")))
	info, err := w.Stat(w.path("a"))
	w.check(err)
	if info.Name() != "a" || info.Size() != 5 || info.IsDir() || !info.Mode().IsRegular() {
		w.t.Errorf("a is %v", info)
	}
	info, err = w.Stat(w.path("d"))
	w.check(err)
	if info.Name() != "d" || !info.IsDir() || !info.Mode().IsDir() {
		w.t.Errorf("d is %v", info)
	}
	if info.Mode().Perm()&0o007 != 0 {
		w.t.Errorf("others may use d: %v", info.Mode())
	}
}

func lock(w world) {
	first, err := w.Lock(w.path(".lock"))
	w.check(err)
	_, err = w.Lock(w.path(".lock"))
	w.expect(err, ErrLocked)
	other, err := w.Lock(w.path("other"))
	w.check(err)
	w.check(first.Close())
	second, err := w.Lock(w.path(".lock"))
	w.check(err)
	if first.Close() == nil {
		w.t.Error("a lock was closed twice")
	}
	_, err = w.Lock(w.path(".lock"))
	w.expect(err, ErrLocked) // the second close of the first lock took nothing away
	w.check(second.Close())
	w.check(other.Close())
	w.expectNames("", ".lock", "other")
}

func usageOfDisk(w world) {
	total, free, err := w.Usage(w.dir)
	w.check(err)
	if total <= 0 || free <= 0 || free > total {
		w.t.Errorf("%d of %d bytes are free", free, total)
	}
}

func syncs(w world) {
	f := w.put("a", "hello")
	f.WriteBehind(0, 5)
	w.check(f.Sync())
	w.check(w.SyncDir(w.dir))
	f.WriteBehind(100, 5)
	w.check(f.Sync())
}
