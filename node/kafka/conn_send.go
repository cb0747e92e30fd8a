package kafka

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/troupelog/troupe/messages"
)

// Bounds of sending.
const (
	// sendfileMin is the size, in bytes, from which a file extent goes out by
	// sendfile. Below it, the system calls cost more than a copy does.
	sendfileMin = 64 << 10
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

// sender writes answers to a connection: memory is gathered into few system
// calls, and large file extents go by sendfile. The writer goroutine owns it.
type sender struct {
	nc      net.Conn
	raw     rawConn // nil: cannot send files
	timeout time.Duration
	pool    *bufferPool

	gather  net.Buffers // to send next, in order
	size    int         // bytes of gather
	scratch *buffer     // copies that gather refers to; nil until one is needed
	fill    int         // bytes used of scratch
	bytes   int64       // sent in all
}

// answer sends one answer. What it gathered may be left for flush.
func (s *sender) answer(a *answer) error {
	at := 0
	for _, c := range a.cuts {
		if err := s.memory(a.head[at:c.at]); err != nil {
			return err
		}
		at = c.at
		if err := s.view(&a.views[c.view]); err != nil {
			return err
		}
	}
	return s.memory(a.head[at:])
}

func (s *sender) view(v *messages.View) error {
	for i := range v.Extents {
		e := &v.Extents[i]
		var err error
		switch {
		case e.Mem != nil:
			err = s.memory(e.Mem)
		case e.Len >= sendfileMin && s.raw != nil:
			err = s.file(e)
		default:
			err = s.copied(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// memory gathers b; it must stay as it is until the next flush.
func (s *sender) memory(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), sendChunk)
		s.gather = append(s.gather, b[:n])
		s.size += n
		b = b[n:]
		if len(s.gather) >= gatherMax || s.size >= sendChunk {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// copied reads an extent into scratch memory and gathers that.
func (s *sender) copied(e *messages.Extent) error {
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
		s.fill += n
		pos, left = pos+int64(n), left-n
		if err := s.memory(b); err != nil {
			return err
		}
	}
	return nil
}

// room returns free scratch memory.
func (s *sender) room() ([]byte, error) {
	if s.scratch == nil {
		s.scratch = s.pool.get(copyChunk)
	}
	if s.fill == len(s.scratch.b) {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	return s.scratch.b[s.fill:], nil
}

// flush sends what was gathered.
func (s *sender) flush() error {
	if s.size == 0 {
		return nil
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
func (s *sender) reset() {
	clear(s.gather)
	s.gather, s.size, s.fill = s.gather[:0], 0, 0
}

// rest gives the scratch memory back: nothing is to be sent soon.
func (s *sender) rest() {
	s.reset()
	s.pool.put(s.scratch)
	s.scratch = nil
}
