// Package netio moves bytes between views of a log, memory and connections, for
// everything in a node that serves records: the Kafka listener and replication.
//
// It owns the pools of buffers and the decision how bytes leave: gathered into
// few system calls, or by sendfile without a copy. It knows no protocol.
package netio

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/troupelog/troupe/messages"
)

// Bounds of sending.
const (
	// copyChunk is how much of a file is copied at a time where sendfile is not
	// possible, in bytes.
	copyChunk = 256 << 10
	// sendChunk is how much is sent before the write deadline moves on: a slow
	// reader is given up when a chunk does not leave in time, not when a large
	// answer takes long.
	sendChunk = 1 << 20
	// gatherMax is how many pieces are gathered for one system call; Linux
	// takes no more than 1024.
	gatherMax = 512
)

// errShortExtent: a file ended before an extent did. The frame's size is
// already out, so the connection can only be closed.
var errShortExtent = errors.New("log file is shorter than the extent to send")

// ErrFull: the connection takes no more without waiting for the peer.
var ErrFull = errors.New("the connection is full")

// Sender writes to a connection: memory is gathered into few system calls, and
// large file extents go by sendfile. One goroutine at a time uses it.
//
// What was handed in must stay as it is until it has left: when Gathered is 0.
// After an error the connection can only be closed.
type Sender struct {
	nc      net.Conn
	raw     rawConn // nil: cannot send files
	timeout time.Duration
	fileMin int
	pool    *Buffers

	gather  net.Buffers // to send next, in order
	size    int         // bytes of gather
	scratch *Buffer     // copies that gather refers to; nil until one is needed
	fill    int         // bytes used of scratch
	bytes   int64       // sent in all
	tries   bool        // does not wait
	call    sendCall
	extent  messages.Extent // that is being sent
	try     trySend
}

// NewSender returns a Sender to nc. The peer is given up when it takes nothing
// for the timeout. File extents of fileMin bytes and more go out by sendfile
// where nc is a plain TCP connection; below it, the system calls cost more than a
// copy does.
func NewSender(nc net.Conn, pool *Buffers, timeout time.Duration, fileMin int) *Sender {
	s := &Sender{nc: nc, raw: rawConnOf(nc), timeout: timeout, fileMin: fileMin, pool: pool}
	s.init()
	return s
}

// Try calls send, which uses the Sender, and flushes what that gathered; the Sender
// waits for nothing meanwhile. It fails with ErrFull where it would have to wait for the
// peer; what has left by then, Sent tells, and it keeps nothing of the rest. Connections
// that are no plain sockets are always full.
func (s *Sender) Try(send func() error) error {
	if s.raw == nil {
		return ErrFull
	}
	s.tries = true
	defer func() { s.tries = false }()
	err := send()
	if err == nil {
		err = s.Flush()
	}
	s.Rest()
	return err
}

// Sent returns how many bytes have left so far.
func (s *Sender) Sent() int64 { return s.bytes }

// Gathered returns how many bytes wait for Flush.
func (s *Sender) Gathered() int { return s.size }

// View gathers a view but for its first skip bytes, or sends it. It changes nothing of
// the view.
func (s *Sender) View(v *messages.View, skip int) error {
	for i := range v.Extents {
		if skip >= v.Extents[i].Size() {
			skip -= v.Extents[i].Size()
			continue
		}
		s.extent = v.Extents[i].From(skip)
		skip = 0
		err := s.send(&s.extent)
		s.extent = messages.Extent{}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Sender) send(e *messages.Extent) error {
	switch {
	case e.Mem != nil:
		return s.Memory(e.Mem)
	case e.Len >= s.fileMin && s.raw != nil:
		return s.file(e)
	default:
		return s.copied(e)
	}
}

// Memory gathers b; it must stay as it is until it has left.
func (s *Sender) Memory(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), sendChunk)
		s.gather = append(s.gather, b[:n])
		s.size += n
		b = b[n:]
		if len(s.gather) >= gatherMax || s.size >= sendChunk {
			if err := s.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Copy gathers a copy of b, which the caller may use again at once.
func (s *Sender) Copy(b []byte) error {
	for len(b) > 0 {
		to, err := s.room()
		if err != nil {
			return err
		}
		n := copy(to, b)
		if err := s.taken(to[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// taken gathers b, the bytes of room that were filled. What lies side by side
// leaves as one piece.
func (s *Sender) taken(b []byte) error {
	s.fill += len(b)
	if last := len(s.gather) - 1; last >= 0 && len(s.gather[last])+len(b) <= sendChunk {
		if p := s.gather[last]; cap(p) > len(p) && &p[:len(p)+1][len(p)] == &b[0] {
			s.gather[last] = p[:len(p)+len(b)]
			s.size += len(b)
			return nil
		}
	}
	return s.Memory(b)
}

// copied reads an extent into scratch memory and gathers that.
func (s *Sender) copied(e *messages.Extent) error {
	for pos, left := e.Pos, e.Len; left > 0; {
		b, err := s.room()
		if err != nil {
			return err
		}
		b = b[:min(len(b), left)]
		n, err := e.File.ReadAt(b, pos)
		if n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errShortExtent
			}
			return err
		}
		pos, left = pos+int64(n), left-n
		if err := s.taken(b); err != nil {
			return err
		}
	}
	return nil
}

// room returns free scratch memory.
func (s *Sender) room() ([]byte, error) {
	if s.scratch == nil {
		s.scratch = s.pool.Get(copyChunk)
	}
	if s.fill == len(s.scratch.B) {
		if err := s.Flush(); err != nil {
			return nil, err
		}
	}
	return s.scratch.B[s.fill:], nil
}

// Flush sends what was gathered.
func (s *Sender) Flush() error {
	if s.size == 0 {
		return nil
	}
	if s.tries {
		return s.tryFlush()
	}
	if err := s.nc.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	pieces := s.gather // WriteTo consumes the header it is called on
	n, err := pieces.WriteTo(s.nc)
	s.bytes += n
	s.reset()
	return err
}

// reset forgets what was gathered; the scratch memory is free again.
func (s *Sender) reset() {
	clear(s.gather)
	s.gather, s.size, s.fill = s.gather[:0], 0, 0
}

// Rest gives the scratch memory back: nothing is to be sent soon.
func (s *Sender) Rest() {
	s.reset()
	s.pool.Put(s.scratch)
	s.scratch = nil
}
