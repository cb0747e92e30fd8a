package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/netio"
)

// Bounds of reading a frame.
const (
	// readBufferSize is what a connection's read-ahead buffer holds, in bytes:
	// many small requests in one read, and little enough for idle connections.
	readBufferSize = 4 << 10
	// firstStep is what a frame may take on the word of its size alone, in
	// bytes. Each time that is full the frame may take stepFactor times as much,
	// scarceFactor once half of all memory is taken: a size is believed only as
	// far as bytes have arrived.
	firstStep    = 64 << 10
	stepFactor   = 32
	scarceFactor = 2
	// slowestSender is the pace, in bytes per second, below which a frame under
	// way is given up, after the grace of Config.ReadTimeout.
	slowestSender = 32 << 10
	// crowdedShare is what part of the grace is left to a frame under way while
	// others wait for memory: whoever holds some must use it.
	crowdedShare = 15
)

// requestMemory is a frame's bytes and its share of the budgets. It has one
// owner at a time, who releases it once.
type requestMemory struct {
	pool  *netio.Buffers
	pipe  *pipeline
	buf   *netio.Buffer
	claim claim
	bytes []byte // the frame without its size
}

// release gives the frame's memory back; its bytes must not be used any more.
func (m *requestMemory) release() {
	m.pool.Put(m.buf)
	held := m.claim.held
	m.buf, m.bytes = nil, nil
	m.claim.release()
	m.pipe.charge(-held)
}

// charge adds n bytes to what the request holds, for memory made from it.
func (m *requestMemory) charge(n int64) {
	m.claim.force(n)
	m.pipe.charge(n)
}

// resize moves what was read into a buffer of at least n bytes, and returns it.
// It waits for room in the budget until ctx ends.
func (m *requestMemory) resize(ctx context.Context, read, n int) error {
	size := netio.SizeFor(n)
	if err := m.claim.grow(ctx, int64(size)); err != nil {
		return err
	}
	m.pipe.charge(int64(size))
	old := m.buf
	m.buf = m.pool.Get(n)
	if old == nil {
		return nil
	}
	copy(m.buf.B, old.B[:read])
	m.claim.shrink(int64(len(old.B)))
	m.pipe.charge(-int64(len(old.B)))
	m.pool.Put(old)
	return nil
}

// frameReader takes request frames off a connection. The reader goroutine owns it.
type frameReader struct {
	nc       net.Conn
	buf      *bufio.Reader
	grace    time.Duration // Config.ReadTimeout
	draining *atomic.Bool  // the node stops
}

func newFrameReader(nc net.Conn, grace time.Duration, draining *atomic.Bool) *frameReader {
	return &frameReader{nc: nc, buf: bufio.NewReaderSize(nc, readBufferSize), grace: grace,
		draining: draining}
}

// size waits for a frame until the deadline and returns how long it is, in
// bytes; 0 < size <= max. A time-out leaves what arrived where it is, so that
// size can be called again.
func (r *frameReader) size(deadline time.Time, max int) (int, error) {
	if err := r.nc.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	// Whoever stops the connection sets draining first and a deadline that has
	// passed second: if this comes too early to see the one, it meets the other.
	if r.draining.Load() {
		return 0, errDraining
	}
	b, err := r.buf.Peek(4)
	if err != nil {
		return 0, err
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	if n <= 0 || n > max {
		return 0, fmt.Errorf("%w: %d bytes, 1 to %d are allowed (socket.request.max.bytes)",
			errOversized, n, max)
	}
	if _, err := r.buf.Discard(4); err != nil {
		return 0, err
	}
	return n, nil
}

// body reads the frame of n bytes into m. Memory grows with what arrives, never
// with what is claimed. Waiting for the budget ends with ctx; waiting for the
// client ends when it sends slower than slowestSender, and soon if it does so
// while others wait for the budget.
func (r *frameReader) body(ctx context.Context, m *requestMemory, n int) error {
	left := r.grace
	started := time.Now()
	if err := r.nc.SetReadDeadline(started.Add(left)); err != nil {
		return err
	}
	if _, err := r.buf.Peek(1); err != nil { // take nothing before anything comes
		return err
	}
	left -= time.Since(started)
	for step, read := firstStep, 0; read < n; step *= m.claim.from.stepFactor() {
		if err := m.resize(ctx, read, min(step, n)); err != nil {
			return err
		}
		for end := min(len(m.buf.B), n); read < end; {
			k, rest, err := r.read(m.buf.B[read:end], left, m.claim.from)
			if err != nil {
				return err
			}
			read += k
			earned := time.Duration(k) * time.Second / slowestSender
			left = min(rest+earned, r.grace)
		}
	}
	m.claim.complete()
	m.bytes = m.buf.B[:n]
	return nil
}

// read waits for bytes for the time left to the client, and returns what is
// left after it. While others wait for the budget that is a share of the grace
// at most.
func (r *frameReader) read(into []byte, left time.Duration, b *budget,
) (n int, rest time.Duration, err error) {
	share := r.grace / crowdedShare
	for {
		if b.crowded() {
			left = min(left, share)
		}
		started := time.Now()
		// Wakes up once in a share, to see whether others came to wait.
		if err := r.nc.SetReadDeadline(started.Add(min(left, share))); err != nil {
			return 0, left, err
		}
		n, err := r.buf.Read(into)
		left -= time.Since(started)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, left, err
		case r.draining.Load():
			return 0, left, errDraining
		case left <= 0:
			return 0, left, err
		}
	}
}
