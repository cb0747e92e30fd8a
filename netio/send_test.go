package netio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

// diskFile is a file of the operating system. Hidden, it has no descriptor, like
// files that are only in memory.
type diskFile struct {
	*os.File
	hidden bool
}

// Control implements messages.File.
func (d diskFile) Control(f func(fd uintptr)) bool {
	if d.hidden {
		return false
	}
	raw, err := d.SyscallConn()
	return err == nil && raw.Control(f) == nil
}

func connected(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// randomFile returns n random bytes, and a file that holds them.
func randomFile(t *testing.T, r *rand.Rand, n int) ([]byte, *os.File) {
	t.Helper()
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return content, f
}

// Whatever order copies, memory and files come in, the bytes arrive in it.
func TestBytesLeaveInTheOrderTheyCameIn(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		content, f := randomFile(t, r, 1<<20)
		near, far := connected(t)
		pool := &Buffers{Poison: true}
		s := NewSender(near, pool, time.Minute, 16<<10)
		var want []byte
		got := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(far)
			got <- b
		}()
		for range 300 {
			n := 1 + r.IntN(1<<r.IntN(18))
			at := r.IntN(len(content) - n)
			want = append(want, content[at:at+n]...)
			var err error
			switch r.IntN(5) {
			case 0:
				err = s.Memory(content[at : at+n])
			case 1:
				v := messages.View{Extents: []messages.Extent{
					{File: diskFile{f, r.IntN(2) == 0}, Pos: int64(at), Len: n}}, Bytes: n}
				err = s.View(&v, 0)
			case 2:
				if err = s.Flush(); err == nil && s.Gathered() != 0 {
					t.Fatal("something is left after Flush")
				}
				fallthrough
			default:
				b := bytes.Clone(content[at : at+n])
				if err == nil {
					err = s.Copy(b)
				}
				clear(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if s.Sent() != int64(len(want)) {
			t.Fatalf("%d bytes were sent of %d", s.Sent(), len(want))
		}
		s.Rest()
		near.Close()
		if !bytes.Equal(<-got, want) {
			t.Fatalf("seed %d: what arrived is not what was sent", seed)
		}
	}
}

// A peer that takes nothing fills the connection; what had left by then and what is
// sent again from there are together what was to be sent.
func TestATriedSendGoesOnWhereTheConnectionWasFull(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	content, f := randomFile(t, r, 4<<20)
	near, far := connected(t)
	s := NewSender(near, &Buffers{Poison: true}, time.Minute, 16<<10)
	v := messages.View{Bytes: len(content), Extents: []messages.Extent{
		{Mem: content[:1000]},
		{File: diskFile{f, false}, Pos: 1000, Len: 2<<20 - 1000},
		{File: diskFile{f, true}, Pos: 2 << 20, Len: 20 << 10},
		{File: diskFile{f, false}, Pos: 2<<20 + 20<<10, Len: 2<<20 - 20<<10},
	}}
	var err error
	whole := 0
	for ; err == nil; whole++ {
		before := s.Sent()
		err = s.Try(func() error { return s.View(&v, 0) })
		if err == nil && s.Sent()-before != int64(v.Bytes) {
			t.Fatalf("%d bytes of %d left without an error", s.Sent()-before, v.Bytes)
		}
	}
	if !errors.Is(err, ErrFull) || s.Gathered() != 0 {
		t.Fatalf("a full connection says %v with %d bytes gathered", err, s.Gathered())
	}
	left := int(s.Sent()) - (whole-1)*v.Bytes
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	if err := s.View(&v, left); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	near.Close()
	if !bytes.Equal(<-got, bytes.Repeat(content, whole)) {
		t.Fatal("what arrived is not what was sent")
	}
}

// Sending a file allocates nothing: consumers that catch up do it thousands of times a
// second.
func TestSendingAFileAllocatesNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	near, far := connected(t)
	var all sync.WaitGroup
	all.Go(func() { _, _ = io.Copy(io.Discard, far) })
	s := NewSender(near, &Buffers{}, time.Minute, 16<<10)
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	v := messages.View{Bytes: 64 << 10, Extents: []messages.Extent{
		{File: plainFile{f, raw}, Len: 64 << 10}}}
	head := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		if err := errors.Join(s.Memory(head), s.View(&v, 0)); err != nil {
			t.Fatal(err)
		}
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
	near.Close()
	all.Wait()
}

// plainFile has its descriptor ready.
type plainFile struct {
	*os.File
	raw syscall.RawConn
}

// Control implements messages.File.
func (p plainFile) Control(f func(fd uintptr)) bool { return p.raw.Control(f) == nil }
