package vfs

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// iovMax is the most buffers one pwritev takes (IOV_MAX of Linux).
const iovMax = 1024

// isDiskFailure reports the errnos by which only Linux reports a bad disk or a
// corrupt file system.
func isDiskFailure(errno syscall.Errno) bool {
	switch errno {
	case unix.EUCLEAN, unix.EREMOTEIO, unix.ENOMEDIUM, unix.EHWPOISON:
		return true
	}
	return false
}

func (f *osFile) writev(bufs [][]byte, off int64) (int64, error) {
	return writevAll(unix.Pwritev, f.fd, bufs, off)
}

// writevAll writes bufs at off with as few calls of pwritev as it takes. The
// kernel may write less than it was given (a signal, a disk about to be full,
// 2 GiB at once); the rest is then tried again, and the call that writes
// nothing says why. bufs itself is left as it is.
func writevAll(
	pwritev func(fd int, bufs [][]byte, off int64) (int, error), fd int, bufs [][]byte, off int64,
) (written int64, err error) {
	for len(bufs) > 0 {
		if len(bufs[0]) == 0 {
			bufs = bufs[1:]
			continue
		}
		group := bufs[:min(len(bufs), iovMax)]
		n, err := pwritev(fd, group, off+written)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, io.ErrShortWrite
		}
		written += int64(n)
		bufs = skip(bufs, n)
	}
	return written, nil
}

// skip returns bufs without their first n bytes. It copies the slice of slices
// only when n ends inside a buffer.
func skip(bufs [][]byte, n int) [][]byte {
	for n > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n == 0 {
		return bufs
	}
	rest := append([][]byte(nil), bufs...)
	rest[0] = rest[0][n:]
	return rest
}

func (f *osFile) allocate(size int64) error {
	return f.allocateWith(unix.Fallocate, size)
}

// allocateWith reserves blocks and sets the size in one step. Keeping the size
// as it is would cost a journal commit for each flush of an append later.
func (f *osFile) allocateWith(
	fallocate func(fd int, mode uint32, off, n int64) error, size int64,
) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	err = ignoringEINTR(func() error { return fallocate(f.fd, 0, 0, size) })
	switch err {
	case nil:
		return nil
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return f.file.Truncate(max(size, info.Size()))
	}
	// ext4 keeps what it did allocate, and the grown size, when the disk fills up.
	if undo := f.file.Truncate(info.Size()); undo != nil {
		return undo
	}
	return err
}

func (f *osFile) sync() error {
	return ignoringEINTR(func() error { return unix.Fdatasync(f.fd) })
}

// writeBehind ignores errors: sync_file_range makes nothing durable, and Sync
// reports what goes wrong.
func (f *osFile) writeBehind(off, n int64) {
	_ = unix.SyncFileRange(f.fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// populate faults pages in. Linux before 5.14 does not know MADV_POPULATE_READ;
// there the pages are at least read ahead.
func populate(pages []byte) error {
	err := ignoringEINTR(func() error { return unix.Madvise(pages, unix.MADV_POPULATE_READ) })
	switch err {
	case unix.EINVAL:
		return unix.Madvise(pages, unix.MADV_WILLNEED)
	case unix.EFAULT: // a touch would raise SIGBUS
		return &classified{kind: ErrIO, cause: err}
	}
	return err
}

func usage(name string) (total, free int64, err error) {
	var st unix.Statfs_t
	err = ignoringEINTR(func() error { return unix.Statfs(name, &st) })
	if err != nil {
		return 0, 0, err
	}
	unit := st.Frsize // f_blocks counts fragments; old file systems leave it 0
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Blocks) * unit, int64(st.Bavail) * unit, nil
}
