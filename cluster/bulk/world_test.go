package bulk

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		serveAsChild()
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	leaderNode   messages.NodeID = 1
	followerNode messages.NodeID = 2
)

// diskFile is a file of the operating system as a log hands it out. Hidden, it has
// no descriptor, like files that are only in memory.
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

// log is what a leader serves: bytes that do not repeat, in memory and in a file.
type log struct {
	content []byte
	file    *os.File
	open    atomic.Int64 // views not released
}

func newLog(t testing.TB, size int) *log {
	t.Helper()
	l := &log{content: make([]byte, size)}
	r := rand.New(rand.NewPCG(1, 1))
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(l.content[i:], r.Uint64())
	}
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, l.content, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.file, err = os.Open(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.file.Close() })
	return l
}

// view returns n bytes from at, cut into extents of all kinds.
func (l *log) view(r *rand.Rand, at, n int) messages.View {
	v := messages.View{Bytes: n}
	for n > 0 {
		k := min(n, 1+r.IntN(1<<r.IntN(20)))
		e := messages.Extent{Len: k}
		switch r.IntN(3) {
		case 0:
			e.Mem = l.content[at : at+k : at+k]
		default:
			e.File, e.Pos = diskFile{l.file, r.IntN(8) == 0}, int64(at)
		}
		v.Extents = append(v.Extents, e)
		at, n = at+k, n-k
	}
	var once atomic.Bool
	l.open.Add(1)
	v.Done = func() {
		if once.Swap(true) {
			panic("a view was released twice")
		}
		l.open.Add(-1)
	}
	return v
}

// inFile returns n bytes from at as one extent of a file.
func (l *log) inFile(at, n int) messages.View {
	v := l.view(rand.New(rand.NewPCG(0, 0)), 0, 0)
	v.Extents = []messages.Extent{{File: diskFile{l.file, false}, Pos: int64(at), Len: n}}
	v.Bytes = n
	return v
}

// parkedFetch waits at the leader.
type parkedFetch struct {
	q     *data.ReplicaFetch
	reply func(*data.ReplicaFetched)
}

// leader is a Handler that parks everything until told otherwise.
type leader struct {
	mu     sync.Mutex
	answer func(q *data.ReplicaFetch) *data.ReplicaFetched // nil, or nil returned: park
	parked []parkedFetch
	gone   []uint64 // connections, in the order in which they went
}

func (l *leader) Fetch(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
	l.mu.Lock()
	var f *data.ReplicaFetched
	if l.answer != nil {
		f = l.answer(q)
	}
	if f == nil {
		l.parked = append(l.parked, parkedFetch{q, reply})
	}
	l.mu.Unlock()
	if f != nil {
		reply(f)
	}
}

func (l *leader) Disconnected(_ messages.NodeID, conn uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = append(l.gone, conn)
}

// take waits until n fetches are parked and returns them.
func (l *leader) take(t testing.TB, n int) []parkedFetch {
	t.Helper()
	var taken []parkedFetch
	testkit.Eventually(t, "fetches are parked", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.parked) < n {
			return false
		}
		taken, l.parked = slices.Clone(l.parked[:n]), slices.Clone(l.parked[n:])
		return true
	})
	return taken
}

func (l *leader) disconnected() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.gone)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve runs a server until the test ends.
func serve(t testing.TB, config ServerConfig, h Handler, l limits, on net.Listener) *Server {
	t.Helper()
	if config.Cluster == "" {
		config.Identity = Identity{Node: leaderNode, Cluster: "test",
			Incarnation: func() string { return "first" }}
	}
	s := newServer(config, h, l)
	_, measured := t.(*testing.B)
	s.buffers.Poison = !measured
	served := make(chan error, 1)
	go func() { served <- s.Serve(on) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != ErrClosed {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return s
}

// fetcher is a Pool with an address book and what it was told.
type fetcher struct {
	*Pool
	t testing.TB

	mu     sync.Mutex
	addrs  map[messages.NodeID]string
	broken []error
}

func follow(t testing.TB, config PoolConfig, l limits, addr string) *fetcher {
	t.Helper()
	f := &fetcher{t: t, addrs: map[messages.NodeID]string{leaderNode: addr}}
	if config.Cluster == "" {
		config.Identity = Identity{Node: followerNode, Cluster: "test"}
	}
	config.Addr = func(n messages.NodeID) (string, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		a, ok := f.addrs[n]
		return a, ok
	}
	config.Broken = func(_ messages.NodeID, reason error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.broken = append(f.broken, reason)
	}
	f.Pool = newPool(config, l)
	_, measured := t.(*testing.B)
	f.Pool.buffers.Poison = !measured
	t.Cleanup(func() {
		f.Close()
		for n, p := range f.Pool.peers {
			if p.budget.inUse() != 0 || len(p.pending) != 0 {
				t.Errorf("node %d: %d bytes and %d fetches are left", n, p.budget.inUse(),
					len(p.pending))
			}
		}
	})
	return f
}

func (f *fetcher) suspicions() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.broken)
}

// ask fetches and returns a channel for the answer; a second answer would block,
// and fail the test with it.
func (f *fetcher) ask(q *data.ReplicaFetch) <-chan *data.ReplicaFetched {
	answers := make(chan *data.ReplicaFetched, 1)
	f.Fetch(leaderNode, q, func(a *data.ReplicaFetched) { put(f.t, answers, a) })
	return answers
}

func put(t testing.TB, answers chan *data.ReplicaFetched, a *data.ReplicaFetched) {
	select {
	case answers <- a:
	default:
		t.Error("a fetch was answered twice")
	}
}

func receive(t testing.TB, answers <-chan *data.ReplicaFetched) *data.ReplicaFetched {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("no answer came")
		return nil
	}
}

// fetchOf is a request for n bytes from at.
func fetchOf(partition int32, at, n int) *data.ReplicaFetch {
	return &data.ReplicaFetch{Partition: messages.PartitionID{Partition: partition},
		Follower: followerNode, Offset: messages.Offset(at), MaxBytes: n}
}

// quick are limits for tests that wait for checks or for another attempt. A
// second of silence is allowed: the machine may be busy.
func quick() limits {
	l := defaultLimits
	l.check, l.silent = 10*time.Millisecond, 100
	l.backoff, l.maxDelay = time.Millisecond, 10*time.Millisecond
	return l
}

func equal(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes arrived that are not the %d sent", len(got), len(want))
	}
}

// relay forwards connections to an address until it is cut or frozen.
type relay struct {
	net.Listener
	to string

	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // closed: nothing is forwarded, in neither direction
	done   sync.WaitGroup
}

func relayTo(t testing.TB, addr string) *relay {
	t.Helper()
	r := &relay{Listener: listen(t), to: addr, frozen: make(chan struct{})}
	r.done.Go(func() {
		for {
			near, err := r.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", r.to)
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			r.done.Go(func() { r.forward(near, far) })
			r.done.Go(func() { r.forward(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = r.Close()
		r.cut()
		r.done.Wait()
	})
	return r
}

func (r *relay) forward(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-r.frozen: // into the hole: neither an error nor a byte comes out
			if err == nil {
				continue
			}
			return
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			_ = from.Close()
			return
		}
	}
}

// cut breaks every connection.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	r.conns = nil
}
