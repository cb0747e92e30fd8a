package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/netio"
	"github.com/troupelog/troupe/testkit"
)

// diskFile is a file of the operating system as a log hands it out. Without a
// descriptor it stands for files that are only in memory.
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

// onDisk makes a file of content in front of which there is some other data.
func onDisk(t testing.TB, content []byte, hidden bool) (messages.File, int64) {
	t.Helper()
	const before = 1000
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, append(make([]byte, before), content...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return diskFile{File: f, hidden: hidden}, before
}

// largeBatch is a batch of about size bytes that do not repeat.
func largeBatch(t testing.TB, size int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return batchOf(t, string(b))
}

func TestRecordsInFilesArriveAsTheyAre(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		for _, size := range []int{1, 1000, sendfileMin - 100, sendfileMin, 300 << 10, 5 << 20} {
			t.Run(fmt.Sprintf("%d bytes, descriptor hidden %v", size, hidden), func(t *testing.T) {
				f := withTopic(3)
				var want [3][]byte
				for i := range int32(3) {
					p := f.replica("t", i)
					p.config.MaxMessageBytes = 10 << 20
					want[i] = bytes.Clone(f.store(t, i, largeBatch(t, size+int(i))))
					file, at := onDisk(t, want[i], hidden)
					p.extents = split(file, at, want[i])
				}
				s := serveFake(t, f, Config{})
				w := dial(t, s)
				req := fetchFrom(12, 0, 0, 1, 2)
				req.MaxBytes = 50 << 20
				for i := range req.Topics[0].Partitions {
					req.Topics[0].Partitions[i].PartitionMaxBytes = 10 << 20
				}
				w.send(req, req)
				for i := range int32(2) {
					for j, p := range receive[*kmsg.FetchResponse](w, i, req).Topics[0].Partitions {
						if !bytes.Equal(p.RecordBatches, want[j]) {
							t.Fatalf("answer %d, partition %d: %d bytes differ from the %d stored",
								i, j, len(p.RecordBatches), len(want[j]))
						}
					}
				}
			})
		}
	}
}

// split serves a batch as an extent in memory and two in a file.
func split(file messages.File, at int64, content []byte) func(record.Batch) []messages.Extent {
	return func(record.Batch) []messages.Extent {
		n := len(content)
		a, b := n/10, n/10+n/100
		return []messages.Extent{
			{Mem: content[:a:a], Len: a},
			{File: file, Pos: at + int64(a), Len: b - a},
			{File: file, Pos: at + int64(b), Len: n - b},
		}
	}
}

func TestManyConnectionsShareOneFile(t *testing.T) {
	f := withTopic(1)
	p := f.replica("t", 0)
	p.config.MaxMessageBytes = 10 << 20
	want := bytes.Clone(f.store(t, 0, largeBatch(t, 1<<20)))
	file, at := onDisk(t, want, false)
	p.extents = func(record.Batch) []messages.Extent {
		return []messages.Extent{{File: file, Pos: at, Len: len(want)}}
	}
	s := serveFake(t, f, Config{})
	var wg sync.WaitGroup
	for range 8 {
		w := dial(t, s)
		wg.Go(func() {
			req := fetchFrom(12, 0, 0)
			for i := range int32(10) {
				if _, err := w.Write(frame(i, req)); err != nil {
					t.Error(err)
					return
				}
				_, b, err := w.tryResponse()
				if err != nil || !bytes.Contains(b, want) {
					t.Errorf("answer %d: %d bytes are not those stored: %v", i, len(b), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// The reader of requests sends as much as the connection takes; the rest is the
// writer's, and what is behind it comes behind it.
func TestAClientThatReadsLateGetsWholeAnswersInOrder(t *testing.T) {
	f := withTopic(1)
	p := f.replica("t", 0)
	p.config.MaxMessageBytes = 10 << 20
	want := bytes.Clone(f.store(t, 0, largeBatch(t, 5<<20)))
	file, at := onDisk(t, want, false)
	p.extents = split(file, at, want)
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	large := fetchFrom(12, 0, 0)
	large.MaxBytes, large.Topics[0].Partitions[0].PartitionMaxBytes = 10<<20, 10<<20
	reqs := []kmsg.Request{large, anyAPIVersions(), large, large, anyAPIVersions(), large}
	w.send(reqs...)
	testkit.Eventually(t, "answers wait for the client", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.pipe.mu.Lock()
			waits := len(c.pipe.fifo)+c.pipe.taken >= 3
			c.pipe.mu.Unlock()
			return waits
		}
		return false
	})
	for i, req := range reqs {
		if req.Key() != keyFetch {
			receive[*kmsg.ApiVersionsResponse](w, int32(i), req)
			continue
		}
		got := receive[*kmsg.FetchResponse](w, int32(i), req).Topics[0].Partitions[0]
		if !bytes.Equal(got.RecordBatches, want) {
			t.Fatalf("answer %d: %d bytes differ from those stored", i, len(got.RecordBatches))
		}
	}
}

func TestAFileThatIsTooShortClosesTheConnection(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		for _, size := range []int{1000, 1 << 20} {
			t.Run(fmt.Sprintf("%d bytes, descriptor hidden %v", size, hidden), func(t *testing.T) {
				f := withTopic(1)
				p := f.replica("t", 0)
				p.config.MaxMessageBytes = 10 << 20
				stored := f.store(t, 0, largeBatch(t, size))
				file, at := onDisk(t, stored[:len(stored)/2], hidden)
				p.extents = func(record.Batch) []messages.Extent {
					return []messages.Extent{{File: file, Pos: at, Len: len(stored)}}
				}
				w := dial(t, serveFake(t, f, Config{}))
				req := fetchFrom(12, 0, 0)
				req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 10<<20, 10<<20
				w.send(req)
				w.expectClosed()
			})
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		for _, way := range []string{"memory", "file"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, way), func(b *testing.B) {
				f := withTopic(1)
				p := f.replica("t", 0)
				stored := f.store(b, 0, largeBatch(b, size-200))
				if way == "file" {
					file, at := onDisk(b, stored, false)
					p.extents = func(record.Batch) []messages.Extent {
						return []messages.Extent{{File: file, Pos: at, Len: len(stored)}}
					}
				}
				w := dial(b, serveFake(b, f, Config{}))
				req := frame(0, fetchFrom(12, 0, 0))
				buf := make([]byte, len(stored)+4096)
				b.SetBytes(int64(len(stored)))
				b.ReportAllocs()
				for b.Loop() {
					w.raw(req)
					w.readInto(buf)
				}
			})
		}
	}
}

// faulty is a file that runs into a bug.
type faulty struct{ messages.File }

func (faulty) Control(func(uintptr)) bool { return false }

func (faulty) ReadAt([]byte, int64) (int, error) { panic("a bug") }

// Half an answer may have left, so nothing can come behind it.
func TestNothingIsSentBehindAnAnswerThatPanicked(t *testing.T) {
	f := withTopic(1)
	p := f.replica("t", 0)
	p.extents = func(b record.Batch) []messages.Extent {
		return []messages.Extent{{File: faulty{}, Len: b.Size()}}
	}
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	w.send(fetchFrom(12, time.Minute, 0), anyAPIVersions())
	testkit.Eventually(t, "an answer waits behind the parked one", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.pipe.mu.Lock()
			waits := len(c.pipe.fifo) == 2 && c.pipe.fifo[1].ready && !c.pipe.tended
			c.pipe.mu.Unlock()
			if waits {
				return true
			}
		}
		return false
	})
	f.store(t, 0, batchOf(t, "a"))
	if b, err := io.ReadAll(w); len(b) > 0 || isTimeout(err) {
		t.Errorf("%d bytes came, and %v", len(b), err)
	}
}

// recorded is a connection that keeps what is written to it.
type recorded struct {
	net.Conn
	bytes.Buffer
}

func (r *recorded) Write(b []byte) (int, error)      { return r.Buffer.Write(b) }
func (r *recorded) Read(b []byte) (int, error)       { return r.Buffer.Read(b) }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// Wherever the connection was full: in front of, in, or behind records, of which a
// partition may have none.
func TestAnAnswerGoesOnFromAnyByte(t *testing.T) {
	content := []byte("0123456789abcdef")
	file, at := onDisk(t, content, true)
	extents := func(ends ...int) messages.View {
		v, from := messages.View{}, 0
		for i, end := range ends {
			e := messages.Extent{Mem: content[from:end], Len: end - from}
			if i%2 == 1 {
				e = messages.Extent{File: file, Pos: at + int64(from), Len: end - from}
			}
			v.Extents, v.Bytes, from = append(v.Extents, e), end, end
		}
		return v
	}
	a := answer{head: []byte("HEADMIDDLEEND"),
		cuts:  []cut{{at: 4, view: 0}, {at: 4, view: 1}, {at: 10, view: 2}, {at: 13, view: 3}},
		views: []messages.View{extents(2, 7, 16), extents(1), extents(3, 4), extents(5, 9)}}
	want := "HEAD" + "0123456789abcdef" + "0" + "MIDDLE" + "0123" + "END" + "012345678"
	for a.left = range want {
		var nc recorded
		s := netio.NewSender(&nc, &netio.Buffers{}, time.Minute, sendfileMin)
		if err := errors.Join(sendAnswer(s, &a), s.Flush()); err != nil {
			t.Fatal(err)
		}
		if got := nc.String(); got != want[a.left:] {
			t.Errorf("from byte %d: %q, want %q", a.left, got, want[a.left:])
		}
	}
}
