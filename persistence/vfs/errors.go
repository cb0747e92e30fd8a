package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// classified is an error of the system together with the sentinel it belongs
// to, so that errors.Is finds both: callers branch on the sentinel, operators
// and tests still see the errno.
type classified struct {
	kind  error
	cause error
}

func (e *classified) Error() string   { return e.cause.Error() }
func (e *classified) Unwrap() []error { return []error{e.kind, e.cause} }

// fail wraps err in a *fs.PathError of op and name, and in the sentinel of its
// kind. A nil error and io.EOF pass through: readers compare io.EOF with ==.
func fail(op, name string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	err = bare(err)
	if kind := kindOf(err); kind != nil {
		err = &classified{kind: kind, cause: err}
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// bare strips the wrappers of package os: fail names operation and file itself.
func bare(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &call):
		return call.Err
	}
	return err
}

// kindOf returns the sentinel an errno belongs to, or nil. Missing and existing
// files need none: the errno itself answers to fs.ErrNotExist and fs.ErrExist.
func kindOf(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return nil
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return ErrNoSpace
	case syscall.EMFILE, syscall.ENFILE:
		return ErrTooManyFiles
	case syscall.EROFS, syscall.EACCES, syscall.EPERM:
		return ErrReadOnly
	case syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE, syscall.EBADMSG:
		return ErrIO
	}
	if isDiskFailure(errno) {
		return ErrIO
	}
	return nil
}
