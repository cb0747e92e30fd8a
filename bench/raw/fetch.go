//go:build linux

package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Fetch reads every partition from its start to its end, of which holds says how many
// batches are there: each connection all of the partitions it shares. With a time that it
// is to take (Load.For) it begins again until that is over. It has up to Window requests
// under way, for different partitions, since where a partition goes on is known when the
// answer is. Records are thrown away by the kernel.
func (d *Driver) Fetch(ctx context.Context, holds []int64) (Outcome, error) {
	var end time.Time
	if d.load.For > 0 {
		end = time.Now().Add(d.load.For)
	}
	return d.onEach(ctx, func(l *lane) error {
		f, err := newFetcher(d, l)
		if err != nil {
			return err
		}
		return f.run(holds, end)
	})
}

// fetcher is a connection that fetches.
type fetcher struct {
	*lane
	batch   Batch
	records int64
	window  int
	frame   []byte
	head    []byte
	errorAt int
	next    []int64 // batch to read, of each of partitions
	discard discard
	flying  []int // places in partitions of the requests under way, the oldest first
}

func newFetcher(d *Driver, l *lane) (f *fetcher, err error) {
	// Brokers that cut the last batch when it does not fit send no more than others.
	size := len(d.batch.Bytes)
	f = &fetcher{lane: l, batch: d.batch, records: int64(d.batch.Records),
		window: min(d.load.Window, len(l.partitions)),
		frame:  fetchFrame(d.load.Topic, max(1, fetchMaxBytes/size)*size),
		next:   make([]int64, len(l.partitions))}
	headSize, errorAt := FetchAnswerHead(d.load.Topic)
	f.head, f.errorAt = make([]byte, 4+headSize), errorAt
	f.flying = make([]int, 0, f.window)
	f.discard, err = newDiscard(f.conn)
	return f, err
}

func (f *fetcher) run(holds []int64, end time.Time) error {
	var waiting []int // partitions with more to read and no request under way
	for i, p := range f.partitions {
		if holds[p] > 0 {
			waiting = append(waiting, i)
		}
	}
	for len(waiting) > 0 || len(f.flying) > 0 {
		for len(f.flying) < f.window && len(waiting) > 0 {
			i := waiting[0]
			waiting = append(waiting[:0], waiting[1:]...)
			if err := f.ask(i); err != nil {
				return err
			}
		}
		i, n, err := f.answer()
		if err != nil {
			return fmt.Errorf("partition %d, after %d of %d batches: %w",
				f.partitions[i], f.next[i], holds[f.partitions[i]], err)
		}
		if n == 0 {
			return fmt.Errorf("partition %d has no batch %d", f.partitions[i], f.next[i])
		}
		f.next[i] += n
		switch over := !end.IsZero() && time.Now().After(end); {
		case over:
			waiting = waiting[:0]
		case f.next[i] < holds[f.partitions[i]]:
			waiting = append(waiting, i)
		case !end.IsZero():
			f.next[i] = 0
			waiting = append(waiting, i)
		}
	}
	return nil
}

// ask sends a request for the next batches of a partition.
func (f *fetcher) ask(i int) error {
	setFetch(f.frame, f.partitions[i], f.next[i]*f.records)
	f.flying = append(f.flying, i)
	_, err := f.conn.Write(f.frame)
	return err
}

// answer reads the answer to the oldest request and returns whose it was and how many
// whole batches it held. All have the size they were sent with, since a broker stores
// them so.
func (f *fetcher) answer() (i int, batches int64, err error) {
	i = f.flying[0]
	f.flying = append(f.flying[:0], f.flying[1:]...)
	if _, err := io.ReadFull(f.conn, f.head); err != nil {
		return i, 0, err
	}
	if err := answerError(f.head[4:], f.errorAt); err != nil {
		return i, 0, err
	}
	size := max(0, int(int32(binary.BigEndian.Uint32(f.head[len(f.head)-4:])))) // -1: none
	if total := int(binary.BigEndian.Uint32(f.head)); total != len(f.head)-4+size {
		return i, 0, fmt.Errorf("answer of %d bytes with %d bytes of records", total, size)
	}
	if err := f.discard.bytes(size); err != nil {
		return i, 0, err
	}
	batches = int64(size / len(f.batch.Bytes))
	f.requests++
	f.bytes += batches * int64(f.batch.Plain)
	return i, batches, nil
}

// discard reads bytes without copying them out of the kernel, which takes a third of the
// CPU that reading them into a buffer takes, and so leaves more of the machine to the
// broker. TCP counts them as read all the same.
type discard struct {
	raw  syscall.RawConn
	left *int
	err  *error
	read func(fd uintptr) bool
}

func newDiscard(c *net.TCPConn) (discard, error) {
	raw, err := c.SyscallConn()
	d := discard{raw: raw, left: new(int), err: new(error)}
	d.read = func(fd uintptr) bool {
		for *d.left > 0 {
			n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, 0, uintptr(*d.left),
				unix.MSG_TRUNC, 0, 0)
			switch {
			case errno == unix.EAGAIN:
				return false
			case errno == unix.EINTR:
				continue
			case errno != 0:
				*d.err = errno
				return true
			case n == 0:
				*d.err = io.ErrUnexpectedEOF
				return true
			}
			*d.left -= int(n)
		}
		return true
	}
	return d, err
}

func (d *discard) bytes(n int) error {
	*d.left, *d.err = n, nil
	return errors.Join(d.raw.Read(d.read), *d.err)
}
