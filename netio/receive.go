package netio

import (
	"errors"
	"net"
)

// ErrWouldWait: nothing has arrived that could be read.
var ErrWouldWait = errors.New("nothing to read yet")

// Receiver reads from a connection what has arrived, into two pieces of memory with
// one system call: the rest of what is being read, and what comes behind it. One
// goroutine owns it.
type Receiver struct {
	nc  net.Conn
	raw rawConn // nil: can only wait
	try tryRead
}

// NewReceiver returns a Receiver from nc.
func NewReceiver(nc net.Conn) *Receiver {
	r := &Receiver{nc: nc, raw: rawConnOf(nc)}
	r.try.init()
	return r
}

// Wait reads into a, and into b what comes behind, until the connection's read
// deadline, once anything is there. It returns how many bytes it read in all. b may
// be empty.
func (r *Receiver) Wait(a, b []byte) (int, error) {
	if r.raw == nil {
		n, err := r.nc.Read(a)
		if n > 0 {
			err = nil // it comes again
		}
		return n, err
	}
	return r.receive(a, b, true)
}

// Try is Wait that returns ErrWouldWait instead of waiting. Connections that are not
// plain sockets always do.
func (r *Receiver) Try(a, b []byte) (int, error) {
	if r.raw == nil {
		return 0, ErrWouldWait
	}
	return r.receive(a, b, false)
}
