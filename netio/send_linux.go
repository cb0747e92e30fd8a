package netio

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/troupelog/troupe/messages"
)

// rawConn is a connection that files can be sent to.
type rawConn = syscall.RawConn

// rawConnOf returns the socket below nc, or nil if there is none to speak of,
// as with TLS.
func rawConnOf(nc net.Conn) rawConn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// file sends what was gathered and then an extent of a file, without a copy in
// user space. Files that have no descriptor are copied.
func (s *Sender) file(e *messages.Extent) error {
	var err error
	if ok := e.File.Control(func(fd uintptr) {
		if err = s.flushMore(); err == nil {
			err = s.sendfile(int(fd), e.Pos, e.Len)
		}
	}); !ok {
		return s.copied(e)
	}
	return err
}

// flushMore is flush with the promise that more follows at once, so that the
// kernel puts the header and the first records into one segment although
// TCP_NODELAY is on.
func (s *Sender) flushMore() error {
	if err := s.nc.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	pieces := s.gather // which keeps its room for the next
	for s.size > 0 {
		var n int
		var sendErr error
		err := s.raw.Write(func(fd uintptr) bool {
			n, sendErr = unix.SendmsgBuffers(int(fd), pieces, nil, nil,
				unix.MSG_MORE|unix.MSG_NOSIGNAL)
			return !again(sendErr)
		})
		if err == nil && sendErr != nil && sendErr != unix.EINTR {
			err = fmt.Errorf("sendmsg: %w", sendErr)
		}
		if err != nil {
			return err
		}
		pieces = s.consume(pieces, max(n, 0))
	}
	s.reset()
	return nil
}

// consume returns pieces without their first n bytes, which have left.
func (s *Sender) consume(pieces [][]byte, n int) [][]byte {
	s.bytes += int64(n)
	s.size -= n
	for n > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces[0] = pieces[0][n:]
	}
	return pieces
}

// sendfile sends size bytes of a file from pos. The position is explicit: many
// connections share the descriptor, and its own position with it.
func (s *Sender) sendfile(file int, pos int64, size int) error {
	for size > 0 {
		n := min(size, sendChunk)
		if err := s.nc.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return err
		}
		if err := s.sendfileChunk(file, &pos, n); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func (s *Sender) sendfileChunk(file int, pos *int64, size int) error {
	for size > 0 {
		var n int
		var sendErr error
		err := s.raw.Write(func(fd uintptr) bool {
			n, sendErr = unix.Sendfile(int(fd), file, pos, size)
			return !again(sendErr)
		})
		switch {
		case err != nil:
			return err
		case sendErr == unix.EINTR:
			continue
		case sendErr != nil:
			return fmt.Errorf("sendfile: %w", sendErr)
		case n == 0:
			return errShortExtent
		}
		size -= n
		s.bytes += int64(n)
	}
	return nil
}

func again(err error) bool { return errors.Is(err, unix.EAGAIN) }
