package kafka

import (
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
	// aheadIdle is what a connection that waits for a request can read ahead, in
	// bytes: little, because there are many of them.
	aheadIdle = 4 << 10
	// aheadBusy is the same of one whose requests came faster than they were read.
	aheadBusy = 64 << 10
	// aheadLarge is how much is read behind a frame that is itself large: reading it
	// costs a system call less, but a copy more.
	aheadLarge = 4 << 10
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
// It waits for room in the budget until ctx ends, and calls pause before that.
func (m *requestMemory) resize(ctx context.Context, read, n int, pause func()) error {
	size := netio.SizeFor(n)
	if err := m.claim.grow(ctx, int64(size), pause); err != nil {
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
	in       *netio.Receiver
	pool     *netio.Buffers
	budget   *budget
	grace    time.Duration // Config.ReadTimeout
	draining *atomic.Bool  // the node stops
	pause    func()        // called before it waits for anything

	small []byte        // aheadIdle bytes
	large *netio.Buffer // aheadBusy bytes; nil while there is little to read
	ahead []byte        // small or large: what was read ahead
	at    int           // ahead[at:end] is not used yet
	end   int
	dry   bool      // the last read took all there was
	armed time.Time // the read deadline in force, if it is not later
}

// newFrameReader returns a reader of the frames of nc, which pool and budget lend it
// memory to read ahead. The others are the fields of the same name.
func newFrameReader(nc net.Conn, pool *netio.Buffers, budget *budget, grace time.Duration,
	draining *atomic.Bool, pause func(),
) *frameReader {
	small := make([]byte, aheadIdle)
	return &frameReader{nc: nc, in: netio.NewReceiver(nc), pool: pool, budget: budget, grace: grace,
		draining: draining, pause: pause, small: small, ahead: small, dry: true}
}

// close gives back what the reader borrowed.
func (r *frameReader) close() {
	r.at = r.end
	r.giveBack()
}

// giveBack goes on with little memory to read ahead.
func (r *frameReader) giveBack() {
	if r.large == nil {
		return
	}
	r.at, r.end = 0, copy(r.small, r.ahead[r.at:r.end])
	r.budget.charge(-int64(len(r.large.B)))
	r.pool.Put(r.large)
	r.large, r.ahead = nil, r.small
}

// buffered returns how many bytes were read ahead.
func (r *frameReader) buffered() int { return r.end - r.at }

// take copies what was read ahead.
func (r *frameReader) take(into []byte) int {
	n := copy(into, r.ahead[r.at:r.end])
	r.at += n
	return n
}

// size waits for a frame until the deadline and returns how long it is, in
// bytes; 0 < size <= max. A time-out leaves what arrived where it is, so that
// size can be called again; it may come early.
func (r *frameReader) size(deadline func() time.Time, max int) (int, error) {
	if r.draining.Load() {
		return 0, errDraining
	}
	for r.buffered() < 4 {
		if err := r.more(deadline); err != nil {
			return 0, err
		}
	}
	n := int(int32(binary.BigEndian.Uint32(r.ahead[r.at:])))
	if n <= 0 || n > max {
		return 0, fmt.Errorf("%w: %d bytes, 1 to %d are allowed (socket.request.max.bytes)",
			errOversized, n, max)
	}
	r.at += 4
	return n, nil
}

// more reads ahead.
func (r *frameReader) more(deadline func() time.Time) error {
	r.resize()
	n, err := r.try(r.ahead[r.end:], nil)
	if errors.Is(err, netio.ErrWouldWait) {
		r.resize() // it may wait for long
		n, err = r.wait(r.ahead[r.end:], nil, deadline())
	}
	r.end += n
	return err
}

// resize makes room to read ahead: much while the client sends faster than its
// requests are read and memory is plenty.
func (r *frameReader) resize() {
	switch {
	case r.dry && r.buffered() <= len(r.small):
		r.giveBack()
	case !r.dry && r.large == nil && r.budget.spare(aheadBusy):
		r.large = r.pool.Get(aheadBusy)
		r.at, r.end = 0, copy(r.large.B, r.ahead[r.at:r.end])
		r.ahead = r.large.B
	}
	r.at, r.end = 0, copy(r.ahead, r.ahead[r.at:r.end])
}

// try reads what has arrived, unless the last read took all of it.
func (r *frameReader) try(a, b []byte) (int, error) {
	if r.dry {
		return 0, netio.ErrWouldWait
	}
	n, err := r.in.Try(a, b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = netio.ErrWouldWait // a deadline from long ago
	}
	r.dry = n < len(a)+len(b)
	return n, err
}

// wait reads once something has arrived, or fails at the deadline or before it.
func (r *frameReader) wait(a, b []byte, deadline time.Time) (int, error) {
	r.pause()
	if err := r.arm(deadline); err != nil {
		return 0, err
	}
	// Whoever stops the connection sets draining first and a deadline that has
	// passed second: if this comes too early to see the one, it meets the other.
	if r.draining.Load() {
		return 0, errDraining
	}
	n, err := r.in.Wait(a, b)
	if err != nil {
		r.armed = time.Time{}
	}
	r.dry = n < len(a)+len(b)
	return n, err
}

// arm has waits end at the deadline. An earlier one stays in force until it ends a
// wait: setting it costs more than a read of nothing does now and then.
func (r *frameReader) arm(deadline time.Time) error {
	if !r.armed.IsZero() && !r.armed.After(deadline) {
		return nil
	}
	r.armed = deadline
	return r.nc.SetReadDeadline(deadline)
}

// body reads the frame of n bytes into m. Memory grows with what arrives, never
// with what is claimed. Waiting for the budget ends with ctx; waiting for the
// client ends when it sends slower than slowestSender, and soon if it does so
// while others wait for the budget.
func (r *frameReader) body(ctx context.Context, m *requestMemory, n int) error {
	left := r.grace
	for r.buffered() == 0 { // take nothing before anything comes
		if err := r.first(&left); err != nil {
			return err
		}
	}
	for step, read := firstStep, 0; read < n; step *= m.claim.from.stepFactor() {
		if err := m.resize(ctx, read, min(step, n), r.pause); err != nil {
			return err
		}
		end := min(len(m.buf.B), n)
		read += r.take(m.buf.B[read:end])
		for read < end {
			k, err := r.read(m.buf.B[read:end], end == n, &left, m.claim.from)
			if err != nil {
				return err
			}
			read += k
			earned := time.Duration(k) * time.Second / slowestSender
			left = min(left+earned, r.grace)
		}
	}
	m.claim.complete()
	m.bytes = m.buf.B[:n]
	return nil
}

// first reads ahead within the time left to the client, and takes from it the time
// that it waited.
func (r *frameReader) first(left *time.Duration) error {
	var started time.Time
	err := r.more(func() time.Time {
		started = time.Now()
		return started.Add(*left)
	})
	if started.IsZero() {
		return err
	}
	*left -= time.Since(started)
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case r.draining.Load():
		return errDraining
	case *left > 0:
		return nil // an earlier deadline
	}
	return err
}

// read reads into a frame, and ahead if that is its last part, within the time left
// to the client, from which it takes the time that it waited. While others wait for
// the budget that is a share of the grace at most.
func (r *frameReader) read(into []byte, last bool, left *time.Duration, b *budget) (int, error) {
	behind := r.behind(len(into), last)
	n, err := r.try(into, behind)
	share := r.grace / crowdedShare
	for errors.Is(err, netio.ErrWouldWait) || errors.Is(err, os.ErrDeadlineExceeded) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			switch {
			case r.draining.Load():
				return 0, errDraining
			case *left <= 0:
				return 0, err
			}
		}
		if b.crowded() {
			*left = min(*left, share)
		}
		behind = r.behind(len(into), last)
		started := time.Now()
		// Wakes up once in a share, to see whether others came to wait.
		n, err = r.wait(into, behind, started.Add(min(*left, share)))
		*left -= time.Since(started)
	}
	if err != nil {
		return 0, err
	}
	r.at, r.end = 0, max(0, n-len(into))
	return min(n, len(into)), nil
}

// behind returns where to put what comes behind a frame of which n bytes are missing.
// Nothing is read ahead then.
func (r *frameReader) behind(n int, last bool) []byte {
	if !last {
		return nil
	}
	r.resize()
	if n >= aheadBusy/2 {
		return r.ahead[:aheadLarge]
	}
	return r.ahead
}
