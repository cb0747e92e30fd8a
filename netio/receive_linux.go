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

// trySend is one write. It is made once, so that sending allocates nothing.
type trySend struct {
	from []byte
	n    int
	err  error
	do   func(fd uintptr) bool
}

func (t *trySend) once(fd uintptr) bool {
	t.n, t.err = unix.Write(int(fd), t.from)
	return true
}

// TrySend sends as much of b as the connection takes without waiting, and returns how
// much that was; 0 for a connection that is no plain socket. It must not be called while
// another method of the Sender runs, nor while anything is gathered.
func (s *Sender) TrySend(b []byte) (int, error) {
	if s.raw == nil {
		return 0, nil
	}
	t := &s.try
	if t.do == nil {
		t.do = t.once
	}
	t.from = b
	err := s.raw.Write(t.do)
	t.from = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // of the Sender, from long ago: its next moves it on
		return 0, nil
	case err != nil:
		return 0, err
	case again(t.err), errors.Is(t.err, unix.EINTR):
		return 0, nil
	case t.err != nil:
		return 0, fmt.Errorf("write: %w", t.err)
	}
	s.bytes += int64(t.n)
	return t.n, nil
}
