//go:build linux

// Package ideal is the ideal broker: the least that a broker can do with the frames of
// bench/raw. It reads them, checks a CRC, appends to preallocated files and serves them
// with sendfile; it has no actors, no metadata and no protocol worth the name, so it is a
// ceiling for a machine. The commands of bench may call it.
package ideal

import (
	"context"
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
)

// Files are preallocated: those of the first partitions as large as segments are, those
// of further ones so large that many fit on the disk.
const (
	idealSegmentBytes = 256 << 20
	idealLargeMax     = 16 // partitions
	idealSmallBytes   = 4 << 20
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
	index    uint32
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

// perSegment is how many batches a segment holds.
func (p *idealPartition) perSegment() int64 { return p.size / p.batch }

// append writes batches behind the others, with as few system calls as segments allow.
func (p *idealPartition) append(dir string, batches [][]byte) error {
	for len(batches) > 0 {
		segment, within := p.count/p.perSegment(), p.count%p.perSegment()
		if segment == int64(len(p.segments)) {
			if err := p.roll(dir, segment); err != nil {
				return err
			}
		}
		n := int(min(int64(len(batches)), p.perSegment()-within))
		wrote, err := unix.Pwritev(int(p.segments[segment].Fd()), batches[:n], within*p.batch)
		if err == nil && int64(wrote) != int64(n)*p.batch {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
		p.count += int64(n)
		batches = batches[n:]
	}
	return nil
}

// roll begins a segment.
func (p *idealPartition) roll(dir string, segment int64) error {
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d-%d.log", p.index, segment)))
	if err != nil {
		return err
	}
	p.segments = append(p.segments, f)
	return unix.Fallocate(int(f.Fd()), 0, 0, p.size)
}

func (b *ideal) partition(index uint32) *idealPartition {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.partitions[index]
	if p == nil {
		p = &idealPartition{index: index, size: idealSegmentBytes}
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
