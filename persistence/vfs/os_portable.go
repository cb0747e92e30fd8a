//go:build !linux

package vfs

import "syscall"

// The calls below let developers build and test on other systems. They keep
// every promise of File about results; what they give up is speed, and that
// Allocate reserves space.

func isDiskFailure(syscall.Errno) bool { return false }

func (f *osFile) writev(bufs [][]byte, off int64) (written int64, err error) {
	for _, b := range bufs {
		n, err := f.file.WriteAt(b, off+written)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (f *osFile) allocate(size int64) error {
	info, err := f.file.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.file.Truncate(size)
}

// sync uses os.File.Sync, which on macOS also empties the drive's cache.
func (f *osFile) sync() error { return f.file.Sync() }

func (f *osFile) writeBehind(int64, int64) {}

func populate([]byte) error { return nil }

func usage(name string) (total, free int64, err error) {
	var st syscall.Statfs_t
	err = ignoringEINTR(func() error { return syscall.Statfs(name, &st) })
	if err != nil {
		return 0, 0, err
	}
	return int64(st.Blocks) * int64(st.Bsize), int64(st.Bavail) * int64(st.Bsize), nil
}
