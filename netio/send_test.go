package netio

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
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

// Whatever order copies, memory and files come in, the bytes arrive in it.
func TestBytesLeaveInTheOrderTheyCameIn(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		content := make([]byte, 1<<20)
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
				err = s.View(&v)
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
