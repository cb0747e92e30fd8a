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

// sendCall is the next system call on the socket. Its functions are made once, so that
// sending allocates nothing.
type sendCall struct {
	pieces [][]byte // what to send, with flags; empty: size bytes of file from pos
	flags  int
	file   int
	pos    int64
	size   int
	wait   bool

	n   int // how much left
	err error

	do    func(fd uintptr) bool // once, for a descriptor that can be waited for
	tryDo func(fd uintptr)
	use   func(fd uintptr) // sends extent, whose file has the descriptor
	using struct {
		extent *messages.Extent
		err    error
	}
}

func (s *Sender) init() {
	c := &s.call
	c.do = c.once
	c.tryDo = func(fd uintptr) { c.once(fd) }
	c.use = func(fd uintptr) {
		e := c.using.extent
		if c.using.err = s.flush(unix.MSG_MORE); c.using.err == nil {
			c.using.err = s.sendfile(int(fd), e.Pos, e.Len)
		}
	}
}

// once makes the call and reports whether that is all that is to be done.
func (c *sendCall) once(fd uintptr) bool {
	for {
		switch len(c.pieces) {
		case 0:
			c.n, c.err = unix.Sendfile(int(fd), c.file, &c.pos, c.size)
		case 1:
			c.n, c.err = unix.SendmsgN(int(fd), c.pieces[0], nil, nil, c.flags)
		default:
			c.n, c.err = unix.SendmsgBuffers(int(fd), c.pieces, nil, nil, c.flags)
		}
		if !errors.Is(c.err, unix.EINTR) {
			return !c.wait || !again(c.err)
		}
	}
}

// run makes the call, waiting for room in the connection unless the Sender only tries.
func (s *Sender) run(name string) (int, error) {
	c := &s.call
	c.wait = !s.tries
	var err error
	if s.tries {
		err = s.raw.Control(c.tryDo) // heeds no deadline, which may be one of long ago
	} else {
		err = s.raw.Write(c.do)
	}
	switch {
	case err != nil:
		return 0, err
	case again(c.err):
		return 0, ErrFull
	case c.err != nil:
		return 0, fmt.Errorf("%s: %w", name, c.err)
	}
	s.bytes += int64(c.n)
	return c.n, nil
}

// file sends what was gathered and then an extent of a file, without a copy in
// user space. Files that have no descriptor are copied.
func (s *Sender) file(e *messages.Extent) error {
	u := &s.call.using
	u.extent = e
	ok := e.File.Control(s.call.use)
	err := u.err
	u.extent, u.err = nil, nil
	if !ok {
		return s.copied(e)
	}
	return err
}

// flush sends what was gathered. With MSG_MORE it promises that more follows at once,
// so that the kernel puts the header and the first records into one segment although
// TCP_NODELAY is on.
func (s *Sender) flush(flags int) error {
	if err := s.extend(); err != nil {
		return err
	}
	pieces := s.gather // which keeps its room for the next
	for s.size > 0 {
		s.call.pieces, s.call.flags = pieces, flags|unix.MSG_NOSIGNAL
		n, err := s.run("sendmsg")
		s.call.pieces = nil
		if err != nil {
			return err
		}
		pieces = s.consume(pieces, n)
	}
	s.reset()
	return nil
}

// tryFlush sends what was gathered without waiting.
func (s *Sender) tryFlush() error { return s.flush(0) }

// extend moves the write deadline on.
func (s *Sender) extend() error {
	if s.tries {
		return nil
	}
	return s.nc.SetWriteDeadline(time.Now().Add(s.timeout))
}

// consume returns pieces without their first n bytes, which have left.
func (s *Sender) consume(pieces [][]byte, n int) [][]byte {
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
		chunk := min(size, sendChunk)
		size -= chunk
		if err := s.extend(); err != nil {
			return err
		}
		for chunk > 0 {
			s.call.file, s.call.pos, s.call.size = file, pos, chunk
			n, err := s.run("sendfile")
			switch {
			case err != nil:
				return err
			case n == 0:
				return errShortExtent
			}
			chunk -= n
			pos += int64(n)
		}
	}
	return nil
}

func again(err error) bool { return errors.Is(err, unix.EAGAIN) }
