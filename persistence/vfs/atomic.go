package vfs

import (
	"errors"
	"io/fs"
	"path"
)

// WriteFileAtomic replaces the file name by one with content b, durably: a crash
// at any moment leaves the old file or the new one, whole. It goes through
// name+".tmp", which a crash may leave behind.
func WriteFileAtomic(fsys FS, name string, b []byte) error {
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeNew(fsys, tmp, b); err != nil {
		_ = fsys.Remove(tmp) // the error that counts is the first
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

func writeNew(fsys FS, name string, b []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
