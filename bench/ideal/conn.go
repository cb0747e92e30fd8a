//go:build linux

package ideal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/troupelog/troupe/bench/raw"
)

// maxIdealFrame bounds a request; readBytes is what a read asks for at most, so that what
// was read is still in a processor's cache when it is summed and written.
const (
	maxIdealFrame = 2 << 20
	readBytes     = 256 << 10
	bufferBytes   = 2 * readBytes // at first
)

// conn is a connection. Nothing is copied but by the kernel: requests stay where they were
// read to, and those for one partition that came together are written by one system call.
type conn struct {
	*ideal
	c   *net.TCPConn
	raw syscall.RawConn

	buffer     []byte
	from, have int // what is read and not done is buffer[from:have]

	partition *idealPartition // of batches
	batches   [][]byte        // that are not written yet
	answers   []byte          // that are not sent yet
	topic     []byte          // of the last request
	answer    []byte          // to a Produce of that topic, all zero but for its size
	baseAt    int             // place of the base offset in answer
}

func (b *ideal) serve(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	s := &conn{ideal: b, c: c, raw: raw, buffer: make([]byte, bufferBytes)}
	for {
		if err := s.read(); err != nil {
			return err
		}
		for {
			request, ok, err := s.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if len(request) == 0 {
				return b.reset()
			}
			if err := s.serve(request); err != nil {
				return err
			}
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// read makes room and reads what is there.
func (s *conn) read() error {
	if s.from == s.have {
		s.from, s.have = 0, 0
	}
	if len(s.buffer)-s.have < readBytes {
		s.have = copy(s.buffer, s.buffer[s.from:s.have])
		s.from = 0
	}
	if len(s.buffer)-s.have < readBytes {
		s.buffer = append(s.buffer, make([]byte, len(s.buffer))...)
	}
	n, err := s.c.Read(s.buffer[s.have:min(len(s.buffer), s.have+readBytes)])
	s.have += n
	if n > 0 {
		return nil
	}
	return err
}

// next returns the next request if all of it was read.
func (s *conn) next() (request []byte, ok bool, err error) {
	left := s.buffer[s.from:s.have]
	if len(left) < 4 {
		return nil, false, nil
	}
	size := int(binary.BigEndian.Uint32(left))
	if size > maxIdealFrame {
		return nil, false, fmt.Errorf("frame of %d bytes", size)
	}
	if len(left) < 4+size {
		return nil, false, nil
	}
	s.from += 4 + size
	return left[4 : 4+size], true, nil
}

func (s *conn) serve(request []byte) error {
	if binary.BigEndian.Uint16(request) != raw.FetchKey {
		return s.produce(request)
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.fetch(request)
}

// flush writes batches and sends answers.
func (s *conn) flush() error {
	if err := s.write(); err != nil || len(s.answers) == 0 {
		return err
	}
	_, err := s.c.Write(s.answers)
	s.answers = s.answers[:0]
	return err
}

// topicOf returns the topic of a request and the place behind it; skip is the
// size of the fixed fields in front of the array of topics.
func topicOf(request []byte, skip int) (topic, rest []byte) {
	const header = 2 + 2 + 4 + 2 + len(raw.ClientID)
	at := header + skip + 4
	n := int(binary.BigEndian.Uint16(request[at:]))
	return request[at+2 : at+2+n], request[at+2+n:]
}

// produce checks a batch, which is written with what comes behind it.
func (s *conn) produce(request []byte) error {
	topic, rest := topicOf(request, 2+2+4)
	index, batch := binary.BigEndian.Uint32(rest[4:]), rest[12:]
	const crcAt, summedFrom = 17, 21
	if crc32.Checksum(batch[summedFrom:], castagnoli) != binary.BigEndian.Uint32(batch[crcAt:]) {
		return errors.New("bad checksum")
	}
	if !bytes.Equal(topic, s.topic) {
		s.topic = bytes.Clone(topic)
		size, errorAt := raw.ProduceAnswer(string(topic))
		s.answer, s.baseAt = make([]byte, 4+size), 4+errorAt+2
		binary.BigEndian.PutUint32(s.answer, uint32(size))
		binary.BigEndian.PutUint32(s.answer[4:], 1)
	}
	if p := s.ideal.partition(index); p != s.partition {
		if err := s.write(); err != nil {
			return err
		}
		s.partition = p
	}
	s.batches = append(s.batches, batch)
	return nil
}

// write appends the batches to their partition, and adds their answers to those that are
// to be sent.
func (s *conn) write() error {
	if len(s.batches) == 0 {
		return nil
	}
	p := s.partition
	p.mu.Lock()
	defer p.mu.Unlock()
	const lastDeltaAt = 23
	p.batch = int64(len(s.batches[0]))
	p.records = int64(binary.BigEndian.Uint32(s.batches[0][lastDeltaAt:])) + 1
	for i, batch := range s.batches {
		base := (p.count + int64(i)) * p.records
		binary.BigEndian.PutUint64(batch, uint64(base))
		binary.BigEndian.PutUint32(batch[12:], 0) // leader epoch
		s.answers = append(s.answers, s.answer...)
		at := len(s.answers) - len(s.answer) + s.baseAt
		binary.BigEndian.PutUint64(s.answers[at:], uint64(base))
	}
	err := p.append(s.dir, s.batches)
	s.batches = s.batches[:0]
	return err
}

// fetch answers with as many batches as fit, straight from the file.
func (s *conn) fetch(request []byte) error {
	topic, _ := topicOf(request, 4+4+4+4+1)
	index := binary.BigEndian.Uint32(request[len(request)-raw.FetchPartitionFromEnd:])
	offset := int64(binary.BigEndian.Uint64(request[len(request)-raw.FetchOffsetFromEnd:]))
	most := int64(binary.BigEndian.Uint32(request[len(request)-raw.FetchMaxBytesFromEnd:]))
	p := s.ideal.partition(index)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.batch == 0 || offset >= p.count*p.records {
		return fmt.Errorf("offset %d is beyond the end", offset)
	}
	first := offset / p.records
	segment, within := first/p.perSegment(), first%p.perSegment()
	n := min(max(1, most/p.batch), p.count-first, p.perSegment()-within) * p.batch

	headSize, errorAt := raw.FetchAnswerHead(string(topic))
	head := make([]byte, 4+headSize)
	binary.BigEndian.PutUint32(head, uint32(headSize)+uint32(n))
	binary.BigEndian.PutUint32(head[4:], 1)
	binary.BigEndian.PutUint64(head[4+errorAt+2:], uint64(p.count*p.records))
	binary.BigEndian.PutUint32(head[headSize:], uint32(n))
	return s.sendFile(head, p.segments[segment], within*p.batch, int(n))
}

// sendFile sends the head, held back until bytes of the file follow it.
func (s *conn) sendFile(head []byte, f *os.File, at int64, n int) error {
	var sent int
	var failed error
	err := s.raw.Write(func(fd uintptr) bool {
		for len(head) > 0 {
			n, err := unix.SendmsgN(int(fd), head, nil, nil, unix.MSG_MORE)
			if err != nil {
				failed = err
				return !errors.Is(err, unix.EAGAIN)
			}
			head = head[n:]
		}
		for sent < n {
			w, err := unix.Sendfile(int(fd), int(f.Fd()), &at, n-sent)
			if err != nil || w == 0 {
				failed = err
				return !errors.Is(err, unix.EAGAIN)
			}
			sent += w
		}
		failed = nil
		return true
	})
	if err = errors.Join(err, failed); err == nil && sent < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
