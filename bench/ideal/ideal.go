//go:build linux

// Package ideal is the ideal broker: the least that a broker can do with the frames of
// bench/raw. It reads them, checks a CRC, appends to preallocated files and serves them
// with sendfile; it has no actors, no metadata and no protocol worth the name, so it is a
// ceiling for a machine. The commands of bench may call it.
package ideal

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/troupelog/troupe/bench/raw"
)

// Files are preallocated: those of the first partitions as large as segments are, those
// of further ones so large that many fit on the disk.
const (
	idealSegmentBytes = 256 << 20
	idealLargeMax     = 16 // partitions
	idealSmallBytes   = 4 << 20
	idealReadBuffer   = 256 << 10
	maxIdealFrame     = 2 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ideal is the least a broker can do. All batches of a partition have one size,
// so a position follows from an offset by arithmetic.
type ideal struct {
	dir string

	mu         sync.Mutex
	partitions map[uint32]*idealPartition
}

// idealPartition is appended to by one connection and then read by another; mu
// orders the two.
type idealPartition struct {
	mu       sync.RWMutex
	segments []*os.File
	size     int64 // of a segment
	batch    int64 // bytes
	records  int64 // per batch
	count    int64 // batches
}

// Serve serves frames of bench/raw from files in dir until SIGTERM. It writes its
// address to dir/troupe.addr, as a node does.
func Serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"kafka": l.Addr().String()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "troupe.addr"), text, 0o644); err != nil {
		return err
	}
	accept(ctx, l, dir)
	return nil
}

// accept serves connections until the context ends, and waits for them to end.
func accept(ctx context.Context, l net.Listener, dir string) {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	b := &ideal{dir: dir, partitions: map[uint32]*idealPartition{}}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return // told to stop
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			defer func() { _ = c.Close() }() // whoever was connected sees that it ended
			err := b.serve(c.(*net.TCPConn))
			if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "ideal:", err)
			}
		})
	}
}

func (b *ideal) serve(c *net.TCPConn) error {
	in := bufio.NewReaderSize(c, idealReadBuffer)
	frame := make([]byte, maxIdealFrame)
	var answers []byte
	for {
		if _, err := io.ReadFull(in, frame[:4]); err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint32(frame))
		if size == 0 {
			return b.reset()
		}
		if size > len(frame) {
			return fmt.Errorf("frame of %d bytes", size)
		}
		request := frame[:size]
		if _, err := io.ReadFull(in, request); err != nil {
			return err
		}
		if binary.BigEndian.Uint16(request) == raw.FetchKey {
			if err := b.fetch(c, request); err != nil {
				return err
			}
			continue
		}
		answer, err := b.produce(request)
		if err != nil {
			return err
		}
		// Answers leave together when no further request is waiting.
		if answers = append(answers, answer...); in.Buffered() < 4 {
			if _, err := c.Write(answers); err != nil {
				return err
			}
			answers = answers[:0]
		}
	}
}

// topicOf returns the topic of a request and the place behind it; skip is the
// size of the fixed fields in front of the array of topics.
func topicOf(request []byte, skip int) (topic string, rest []byte) {
	const header = 2 + 2 + 4 + 2 + len(raw.ClientID)
	at := header + skip + 4
	n := int(binary.BigEndian.Uint16(request[at:]))
	return string(request[at+2 : at+2+n]), request[at+2+n:]
}

func (b *ideal) produce(request []byte) ([]byte, error) {
	topic, rest := topicOf(request, 2+2+4)
	index, batch := binary.BigEndian.Uint32(rest[4:]), rest[12:]
	const crcAt, summedFrom, lastDeltaAt = 17, 21, 23
	if crc32.Checksum(batch[summedFrom:], castagnoli) != binary.BigEndian.Uint32(batch[crcAt:]) {
		return nil, errors.New("bad checksum")
	}
	p := b.partition(index)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch = int64(len(batch))
	p.records = int64(binary.BigEndian.Uint32(batch[lastDeltaAt:])) + 1
	base := p.count * p.records
	binary.BigEndian.PutUint64(batch, uint64(base))
	binary.BigEndian.PutUint32(batch[12:], 0) // leader epoch
	if err := p.append(b.dir, index, batch); err != nil {
		return nil, err
	}
	size, errorAt := raw.ProduceAnswer(topic)
	answer := make([]byte, 4+size)
	binary.BigEndian.PutUint32(answer, uint32(size))
	binary.BigEndian.PutUint32(answer[4:], 1)
	binary.BigEndian.PutUint64(answer[4+errorAt+2:], uint64(base))
	return answer, nil
}

// perSegment is how many batches a segment holds.
func (p *idealPartition) perSegment() int64 { return p.size / p.batch }

func (p *idealPartition) append(dir string, index uint32, batch []byte) error {
	segment := p.count / p.perSegment()
	if segment == int64(len(p.segments)) {
		name := filepath.Join(dir, fmt.Sprintf("%d-%d.log", index, segment))
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		if err := unix.Fallocate(int(f.Fd()), 0, 0, p.size); err != nil {
			return err
		}
		p.segments = append(p.segments, f)
	}
	at := p.count % p.perSegment() * p.batch
	if _, err := p.segments[segment].WriteAt(batch, at); err != nil {
		return err
	}
	p.count++
	return nil
}

// fetch answers with as many batches as fit, straight from the file.
func (b *ideal) fetch(c *net.TCPConn, request []byte) error {
	topic, _ := topicOf(request, 4+4+4+4+1)
	index := binary.BigEndian.Uint32(request[len(request)-raw.FetchPartitionFromEnd:])
	offset := int64(binary.BigEndian.Uint64(request[len(request)-raw.FetchOffsetFromEnd:]))
	most := int64(binary.BigEndian.Uint32(request[len(request)-raw.FetchMaxBytesFromEnd:]))
	p := b.partition(index)
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.batch == 0 || offset >= p.count*p.records {
		return fmt.Errorf("offset %d is beyond the end", offset)
	}
	first := offset / p.records
	segment, within := first/p.perSegment(), first%p.perSegment()
	n := min(max(1, most/p.batch), p.count-first, p.perSegment()-within) * p.batch

	headSize, errorAt := raw.FetchAnswerHead(topic)
	head := make([]byte, 4+headSize)
	binary.BigEndian.PutUint32(head, uint32(headSize)+uint32(n))
	binary.BigEndian.PutUint32(head[4:], 1)
	binary.BigEndian.PutUint64(head[4+errorAt+2:], uint64(p.count*p.records))
	binary.BigEndian.PutUint32(head[headSize:], uint32(n))
	return sendFile(c, head, p.segments[segment], within*p.batch, int(n))
}

// sendFile sends the head, held back until bytes of the file follow it.
func sendFile(c *net.TCPConn, head []byte, f *os.File, at int64, n int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent int
	var failed error
	err = raw.Write(func(fd uintptr) bool {
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

func (b *ideal) partition(index uint32) *idealPartition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.partitions[index]
	if p == nil {
		p = &idealPartition{size: idealSegmentBytes}
		if len(b.partitions) >= idealLargeMax {
			p.size = idealSmallBytes
		}
		b.partitions[index] = p
	}
	return p
}

// reset deletes everything, as a broker does with a topic that is deleted.
func (b *ideal) reset() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for index, p := range b.partitions {
		for i, f := range p.segments {
			name := filepath.Join(b.dir, fmt.Sprintf("%d-%d.log", index, i))
			if err := errors.Join(f.Close(), os.Remove(name)); err != nil {
				return err
			}
		}
		delete(b.partitions, index)
	}
	return nil
}
