package netio

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// tryRead is one read. It is made once, so that reading allocates nothing.
type tryRead struct {
	to   [2][]byte
	n    int
	err  error
	wait bool
	do   func(fd uintptr) bool
}

func (t *tryRead) init() { t.do = t.once }

// once reads what is there, and reports whether that is all that is to be done.
func (t *tryRead) once(fd uintptr) bool {
	for {
		if len(t.to[1]) == 0 {
			t.n, t.err = unix.Read(int(fd), t.to[0])
		} else {
			t.n, t.err = unix.Readv(int(fd), t.to[:])
		}
		if !errors.Is(t.err, unix.EINTR) {
			return !t.wait || !again(t.err)
		}
	}
}

func (r *Receiver) receive(a, b []byte, wait bool) (int, error) {
	t := &r.try
	t.to[0], t.to[1], t.wait = a, b, wait
	err := r.raw.Read(t.do)
	t.to[0], t.to[1] = nil, nil
	switch {
	case err != nil:
		return 0, err
	case again(t.err):
		return 0, ErrWouldWait
	case t.err != nil:
		return 0, fmt.Errorf("read: %w", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// TrySend sends as much of b as the connection takes without waiting, and returns how
// much that was; 0 for a connection that is no plain socket. It must not be called while
// a Sender's method runs.
func (s *Sender) TrySend(b []byte) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	var n int
	var sendErr error
	err := s.raw.Write(func(fd uintptr) bool {
		n, sendErr = unix.Write(int(fd), b)
		return true
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), again(sendErr), sendErr == unix.EINTR:
		return 0, nil // a Sender's deadline from long ago, which its next moves on
	case err != nil:
		return 0, err
	case sendErr != nil:
		return 0, fmt.Errorf("write: %w", sendErr)
	}
	s.bytes += int64(n)
	return n, nil
}
