package segment

import (
	"errors"
	"fmt"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/persistence/vfs"
)

// ErrRetired means the segment was deleted or truncated away since the caller
// learned of it: look at the log's segments again.
var ErrRetired = errors.New("segment is retired")

// ErrOffsetSpace means a segment cannot hold the offset or position: both are
// stored in 31 bits relative to its base.
var ErrOffsetSpace = errors.New("offset or position does not fit the segment")

// IOError is a failed disk operation. It is a messages.ErrStorage, and a
// messages.ErrDiskFull too when the disk was full; errors.Is also sees the
// error of the file system.
type IOError struct {
	Op   string // "create", "append", "sync", "read", ...
	File string
	At   int64 // byte position in File, 0 when none applies
	Err  error
}

// Error names the operation, the file and the cause.
func (e *IOError) Error() string {
	return fmt.Sprintf("%s %s at byte %d: %v", e.Op, e.File, e.At, e.Err)
}

// Unwrap gives the sentinels the error stands for and its cause.
func (e *IOError) Unwrap() []error {
	if errors.Is(e.Err, vfs.ErrNoSpace) {
		return []error{messages.ErrDiskFull, messages.ErrStorage, e.Err}
	}
	return []error{messages.ErrStorage, e.Err}
}

// CorruptError is a place in a file that does not hold what it must. It is a
// messages.ErrStorage.
type CorruptError struct {
	File   string
	At     int64           // byte position in File
	Offset messages.Offset // of the batch there, or the first missing one; NoOffset if unknown
	Err    error           // what is wrong
}

// Error names the file, the place and what is wrong there.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d (offset %d): %v", e.File, e.At, e.Offset, e.Err)
}

// Unwrap gives messages.ErrStorage and the cause.
func (e *CorruptError) Unwrap() []error { return []error{messages.ErrStorage, e.Err} }

func ioError(op, file string, at int64, err error) error {
	if err == nil {
		return nil
	}
	var already *IOError
	if errors.As(err, &already) || errors.Is(err, ErrRetired) {
		return err
	}
	return &IOError{Op: op, File: file, At: at, Err: err}
}
