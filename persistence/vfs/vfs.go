// Package vfs is the only code of Troupe that opens files.
//
// Everything durable goes through FS: the operating system's (OS), one in
// memory whose crashes lose what was not synced (Mem), or a wrapper that
// injects faults (Faulty). So a test can cut the power, fill the disk or flip a
// bit at any operation, and a missing sync of a directory shows up.
//
// Names are slash-separated paths. All methods of FS, and of File but for what
// its comment says, are safe for concurrent use.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// Errors an FS returns, wrapped in *fs.PathError; test with errors.Is. Missing
// and existing files are fs.ErrNotExist and fs.ErrExist.
var (
	// ErrNoSpace: the disk is full (ENOSPC or EDQUOT).
	ErrNoSpace = errors.New("no space left on device")
	// ErrTooManyFiles: the process or the system may open no more (EMFILE, ENFILE).
	ErrTooManyFiles = errors.New("too many open files")
	// ErrReadOnly: the file system or folder may not be written (EROFS, EACCES, EPERM).
	ErrReadOnly = errors.New("read-only")
	// ErrLocked: another process holds the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrIO: the disk failed (EIO and kin).
	ErrIO = errors.New("input/output error")
)

// FS is a file system.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a new, empty file for reading and writing; it fails with
	// fs.ErrExist if the name is taken. It is durable after SyncDir of its folder.
	Create(name string) (File, error)
	// Remove deletes a file or an empty folder; durable after SyncDir of its folder.
	Remove(name string) error
	// RemoveAll deletes a folder and all below it; a missing one is no error.
	RemoveAll(name string) error
	// Rename replaces newName atomically; durable after SyncDir of both folders.
	// A folder is never replaced: fs.ErrExist.
	Rename(oldName, newName string) error
	// MkdirAll makes a folder and its parents. Each new one is durable after
	// SyncDir of the folder it is in.
	MkdirAll(name string) error
	// ReadDir lists a folder, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes a file or folder.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the entries of a folder durable.
	SyncDir(name string) error
	// Lock takes the exclusive lock of a file, creating it if need be, without
	// waiting: ErrLocked if another process (or an earlier Lock) holds it. The
	// lock ends with Close or with the process.
	Lock(name string) (io.Closer, error)
	// Usage returns the size of the disk below name and what is free for us, in bytes.
	Usage(name string) (total, free int64, err error)
}

// File is an open file. Positions are always explicit.
//
// WriteAt, Writev, Allocate and Truncate are called by one goroutine at a time;
// ReadAt, Sync, Map and Control by any.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Name is the name it was opened with.
	Name() string
	// Size is the file's size in bytes.
	Size() (int64, error)
	// Writev writes the buffers one after the other from off on: one system
	// call where the system can. n counts the bytes written even on error.
	Writev(bufs [][]byte, off int64) (n int64, err error)
	// Allocate reserves disk space so that the file is at least size bytes
	// long; new bytes read as zeros. On ErrNoSpace the file has its old size.
	Allocate(size int64) error
	// Truncate sets the size.
	Truncate(size int64) error
	// Sync makes the data (and the size) durable, as fdatasync does.
	Sync() error
	// WriteBehind starts writing a range to disk without waiting; a hint.
	WriteBehind(off, n int64)
	// Map maps the first n bytes read-only, coherent with writes. n is at most
	// the file's size. Access after Unmap, or to a part that was truncated
	// away, faults.
	Map(n int64) (Mapping, error)
	// Control calls f with the descriptor, kept open meanwhile; ok is false for
	// files that have none. It makes a File a messages.File.
	Control(f func(fd uintptr)) (ok bool)
}

// Mapping is a read-only view of a file's bytes.
type Mapping interface {
	// Bytes is the mapped range, valid until Unmap.
	Bytes() []byte
	// Populate reads a range into memory in a system call, so that touching it
	// later does not stop a scheduler's processor on a page fault.
	Populate(off, n int64) error
	// Unmap ends the mapping. No slice of Bytes may be used after it.
	Unmap() error
}

// ReadFile returns the whole content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
