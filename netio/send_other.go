//go:build !linux

package netio

import (
	"net"

	"github.com/troupelog/troupe/messages"
)

// rawConn is a connection that files can be sent to: there are none here.
type rawConn = *struct{}

func rawConnOf(net.Conn) rawConn { return nil }

// file copies: sendfile with a position and MSG_MORE is Linux's.
func (s *Sender) file(e *messages.Extent) error { return s.copied(e) }

// sendCall is the next system call on the socket: there are none here.
type sendCall struct{}

func (s *Sender) init() {}

// tryFlush is not called: nothing is tried without a socket.
func (s *Sender) tryFlush() error { return ErrFull }

// TrySend leaves all of it to Memory and Flush: sending without waiting is Linux's.
func (s *Sender) TrySend([]byte) (int, error) { return 0, nil }

// trySend is one write without waiting: there are none here.
type trySend struct{}

// tryRead is one read without waiting: there are none here.
type tryRead struct{}

func (*tryRead) init() {}

func (r *Receiver) receive(a, _ []byte, _ bool) (int, error) { return r.nc.Read(a) }
