package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/netio"
	"github.com/troupelog/troupe/testkit"
)

// framed is a frame of 1 MiB under way, to a reader with a grace of 30 seconds.
type framed struct {
	t      *testing.T
	client net.Conn
	server net.Conn
	mem    *requestMemory
	drain  atomic.Bool
	done   chan error
}

func readFrame(t *testing.T, b *budget) *framed {
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	f := &framed{t: t, client: client, server: server, done: make(chan error, 1), mem: &requestMemory{
		pool: &netio.Buffers{}, claim: claim{from: b},
		pipe: newPipeline(1, 1<<40, func(*exchange) {}),
	}}
	r := newFrameReader(server, &netio.Buffers{}, b, 30*time.Second, &f.drain, func() {})
	go func() {
		err := r.body(t.Context(), f.mem, 1<<20)
		f.mem.release()
		f.done <- err
	}()
	return f
}

func (f *framed) send(n int) { _, _ = f.client.Write(make([]byte, n)) }

// trickle sends a byte every so often, or none for 0.
func (f *framed) trickle(ctx context.Context, every time.Duration) {
	if every == 0 {
		return
	}
	for {
		select {
		case <-time.After(every):
			f.send(1)
		case <-ctx.Done():
			return
		}
	}
}

// outlived waits for the end of the frame and returns how long that took.
func (f *framed) outlived(want error) time.Duration {
	f.t.Helper()
	started := time.Now()
	if err := <-f.done; !errors.Is(err, want) {
		f.t.Fatalf("got %v, want %v", err, want)
	}
	return time.Since(started)
}

func TestAStalledFrameIsGivenUpWhenItsGraceIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := readFrame(t, newBudget(1<<30))
		f.send(100)
		if d := f.outlived(os.ErrDeadlineExceeded); d < 29*time.Second || d > 31*time.Second {
			t.Fatalf("after %v", d)
		}
	})
}

// 400 clients that send 70 KB of a frame each and stop must not lock out all
// others for as many graces as it takes to get rid of them.
func TestAStalledFrameGivesWayToThoseThatWait(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration // a byte, 0: none
	}{{"a silent client", 0}, {"a client that sends a byte now and then", 100 * time.Millisecond}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(firstStep)
				f := readFrame(t, b)
				f.send(100)
				synctest.Wait()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go f.trickle(ctx, tt.every)
				honest := &claim{from: b}
				waiting := grow(t, honest, 100)
				if d := f.outlived(os.ErrDeadlineExceeded); d > 5*time.Second {
					t.Fatalf("gave way after %v", d)
				}
				granted(t, waiting)
				honest.release()
				_ = f.client.Close()
			})
		})
	}
}

func TestASteadyClientKeepsItsFrameThoughOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1 << 20)
		f := readFrame(t, b)
		f.send(100)
		synctest.Wait()
		honest := &claim{from: b}
		waiting := grow(t, honest, 1<<20)
		tick := time.NewTicker(100 * time.Millisecond) // 40 KiB a second
		defer tick.Stop()
		for sent := 100; sent < 1<<20; sent += 4 << 10 {
			<-tick.C
			f.send(min(4<<10, 1<<20-sent))
		}
		f.outlived(nil)
		granted(t, waiting)
		honest.release()
	})
}

func TestAFrameUnderWayEndsWhenTheNodeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := readFrame(t, newBudget(1<<30))
		f.send(100)
		synctest.Wait()
		f.drain.Store(true)
		if d := f.outlived(errDraining); d > 3*time.Second {
			t.Fatalf("after %v", d)
		}
	})
}

func TestAFrameTakesSmallerStepsWhenMemoryIsScarce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit int64
		most  int64
	}{{"room enough", 1 << 30, 1 << 20}, {"half is taken", 100 << 10, 2 * firstStep}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(tt.limit)
				f := readFrame(t, b)
				f.send(firstStep + 1)
				synctest.Wait()
				if used, _ := b.stats(); used != tt.most {
					t.Fatalf("%d bytes are taken, want %d", used, tt.most)
				}
				_ = f.client.Close()
				<-f.done
			})
		})
	}
}

// A client whose requests end where the memory to read ahead does looks like one that
// sends more than is read, until there is nothing.
func TestAConnectionThatWaitsHoldsNoMemoryToReadAhead(t *testing.T) {
	s := serveFake(t, newFakeCluster(), Config{})
	w := dial(t, s)
	req := anyAPIVersions()
	b := make([]byte, aheadIdle) // a header with a long client id, and no body
	copy(b, frame(0, req))
	binary.BigEndian.PutUint32(b, aheadIdle-4)
	binary.BigEndian.PutUint16(b[12:], aheadIdle-14)
	w.raw(b)
	receive[*kmsg.ApiVersionsResponse](w, 0, req)
	testkit.Eventually(t, "all memory is given back", func() bool {
		return s.Stats().QueuedBytes == 0
	})
}

// lastWords is a connection that ends with its last bytes.
type lastWords struct {
	net.Conn
	b []byte
}

func (l *lastWords) SetReadDeadline(time.Time) error { return nil }

func (l *lastWords) Read(b []byte) (int, error) {
	n := copy(b, l.b)
	l.b = l.b[n:]
	if len(l.b) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func TestTheLastFrameOfAConnectionIsRead(t *testing.T) {
	const n = 10000
	nc := &lastWords{b: append([]byte{0, 0, n >> 8, n & 0xff}, make([]byte, n)...)}
	b := newBudget(1 << 20)
	var drain atomic.Bool
	r := newFrameReader(nc, &netio.Buffers{}, b, time.Second, &drain, func() {})
	defer r.close()
	got, err := r.size(func() time.Time { return time.Now().Add(time.Minute) }, 1<<20)
	if got != n || err != nil {
		t.Fatalf("a frame of %d bytes: %v", got, err)
	}
	mem := &requestMemory{pool: &netio.Buffers{}, claim: claim{from: b},
		pipe: newPipeline(1, 1<<20, func(*exchange) {})}
	defer mem.release()
	if err := r.body(t.Context(), mem, n); err != nil {
		t.Fatal(err)
	}
}

func TestAFrameOfWhichNothingCameEndsWhenTheNodeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := readFrame(t, newBudget(1<<30))
		synctest.Wait()
		f.drain.Store(true)
		_ = f.server.SetReadDeadline(time.Unix(1, 0))
		f.outlived(errDraining)
	})
}
