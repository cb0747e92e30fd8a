package vfs

import (
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Records are nobody's business but the node's: other users may not read them.
const (
	filePerm   fs.FileMode = 0o640
	folderPerm fs.FileMode = 0o750
)

// OS is the operating system's file system. The zero value is ready; it has no
// state, so any number of goroutines may use it.
//
// Relative names start at the process's working directory.
type OS struct{}

var _ FS = OS{}

// Open implements FS. Only regular files open: a folder is EISDIR, and a pipe or
// a device that strayed into a data directory is EINVAL.
func (OS) Open(name string) (File, error) {
	return open("open", name, os.O_RDONLY)
}

// OpenWrite implements FS.
func (OS) OpenWrite(name string) (File, error) {
	return open("open", name, os.O_RDWR)
}

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return open("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func open(op, name string, flag int) (File, error) {
	// Without O_NONBLOCK opening a pipe would wait for its other end.
	file, err := os.OpenFile(name, flag|syscall.O_NONBLOCK, filePerm)
	if err != nil {
		return nil, fail(op, name, err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = syscall.EISDIR
	case !info.Mode().IsRegular():
		err = syscall.EINVAL
	}
	if err != nil {
		_ = file.Close()
		return nil, fail(op, name, err)
	}
	return newOSFile(file, name, flag&os.O_RDWR != 0), nil
}

// OpenFile opens a file for a library that insists on an *os.File, as
// os.OpenFile does. Nothing else should call it: the file escapes this package,
// and with it the faults that tests inject.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	file, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, fail("open", name, err)
	}
	return file, nil
}

// Remove implements FS.
func (OS) Remove(name string) error { return fail("remove", name, os.Remove(name)) }

// RemoveAll implements FS.
func (OS) RemoveAll(name string) error { return fail("removeall", name, os.RemoveAll(name)) }

// Rename implements FS.
func (OS) Rename(oldName, newName string) error {
	return fail("rename", oldName+" to "+newName, os.Rename(oldName, newName))
}

// MkdirAll implements FS.
func (OS) MkdirAll(name string) error {
	return fail("mkdir", name, os.MkdirAll(name, folderPerm))
}

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, fail("readdir", name, err)
	}
	return entries, nil
}

// Stat implements FS.
func (OS) Stat(name string) (fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fail("stat", name, err)
	}
	return info, nil
}

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	dir, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return fail("syncdir", name, err)
	}
	err = dir.Sync()
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return fail("syncdir", name, err)
}

// Lock implements FS with flock: the kernel drops it when the process dies,
// however it dies, so no stale lock is ever left behind.
func (OS) Lock(name string) (io.Closer, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, fail("lock", name, err)
	}
	err = ignoringEINTR(func() error {
		return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		_ = file.Close()
		if err == syscall.EWOULDBLOCK {
			err = &classified{kind: ErrLocked, cause: ErrLocked}
		}
		return nil, fail("lock", name, err)
	}
	return file, nil
}

// Usage implements FS. free is what an ordinary user may still write: it leaves
// out the blocks kept back for root.
func (OS) Usage(name string) (total, free int64, err error) {
	total, free, err = usage(name)
	return total, free, fail("usage", name, err)
}

// ignoringEINTR repeats a system call that a signal cut short. The Go runtime
// sends itself signals to preempt goroutines, so this happens to healthy programs.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
