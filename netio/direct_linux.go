package netio

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Direct writes to a connection from whatever goroutine has something small to
// send, in one system call that never waits. It saves waking a writer's goroutine,
// and often a thread and a processor with it, for each message.
//
// One goroutine at a time uses it, and nobody else writes to the connection
// meanwhile.
type Direct struct {
	raw    rawConn
	pieces [][]byte
	n      int
	err    error
	send   func(fd uintptr) // made once: it would be allocated each time
}

// NewDirect returns a Direct for nc, or nil where there is none: with TLS, or on
// systems other than Linux.
func NewDirect(nc net.Conn) *Direct {
	raw := rawConnOf(nc)
	if raw == nil {
		return nil
	}
	d := &Direct{raw: raw}
	d.send = func(fd uintptr) {
		d.n, d.err = unix.SendmsgBuffers(int(fd), d.pieces, nil, nil,
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return d
}

// Write sends what the socket has room for of pieces, at most 1024 of them, and
// returns how many bytes that were: fewer than all of them, or none, is no error.
// After an error the connection can only be closed.
func (d *Direct) Write(pieces [][]byte) (int, error) {
	d.pieces = pieces
	// Not raw.Write, whose deadline would have to be set anew each time.
	err := d.raw.Control(d.send)
	d.pieces = nil
	switch {
	case err != nil:
		return 0, err
	case again(d.err), errors.Is(d.err, unix.EINTR):
		return 0, nil
	case d.err != nil:
		return 0, fmt.Errorf("sendmsg: %w", d.err)
	}
	return d.n, nil
}
