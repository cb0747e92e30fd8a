package bulk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

func TestAFetchIsAnsweredWithTheRecordsOfTheView(t *testing.T) {
	log := newLog(t, 8<<20)
	for _, size := range []int{0, 1, 1000, fileMin - 1, fileMin, 64 << 10, 1 << 20, 5 << 20} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
				f := &data.ReplicaFetched{LeaderEpoch: q.LeaderEpoch, HighWatermark: 7, LogEnd: 9}
				if q.MaxBytes > 0 {
					f.View = log.inFile(int(q.Offset), q.MaxBytes)
				}
				return f
			}}
			on := listen(t)
			serve(t, ServerConfig{}, h, defaultLimits, on)
			p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
			q := fetchOf(3, 1234, size)
			q.LeaderEpoch = 5
			f := receive(t, p.ask(q))
			if f.Err != nil || f.LeaderEpoch != 5 || f.HighWatermark != 7 || f.LogEnd != 9 {
				t.Fatalf("%+v", f)
			}
			equal(t, f.Records, log.content[1234:1234+size])
			if (f.Release == nil) != (size == 0) {
				t.Fatalf("%d bytes of records, something to release: %v", size, f.Release != nil)
			}
			if f.Release != nil {
				f.Release()
			}
			testkit.Eventually(t, "the view is released", func() bool { return log.open.Load() == 0 })
		})
	}
}

func TestTheLeaderSeesWhoAsksForWhat(t *testing.T) {
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	want := aFetch
	want.Follower = followerNode
	answer := p.ask(&want)
	got := h.take(t, 1)[0]
	if *got.q != want {
		t.Fatalf("%+v was asked, %+v arrived", want, *got.q)
	}
	diverging := data.EpochEnd{Epoch: 4, End: 44}
	got.reply(&data.ReplicaFetched{Diverging: &diverging})
	if f := receive(t, answer); f.Diverging == nil || *f.Diverging != diverging {
		t.Fatalf("%+v", f)
	}
}

func TestAnswersComeInAnyOrder(t *testing.T) {
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	var answers []<-chan *data.ReplicaFetched
	for i := range 100 {
		answers = append(answers, p.ask(fetchOf(int32(i), i, 0)))
	}
	parked := h.take(t, 100)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(100) {
		parked[i].reply(&data.ReplicaFetched{LogEnd: parked[i].q.Offset})
	}
	for i, a := range answers {
		if f := receive(t, a); f.LogEnd != messages.Offset(i) {
			t.Fatalf("fetch %d has the answer of %d", i, f.LogEnd)
		}
	}
}

// A parked fetch is an entry in two tables.
func TestParkedFetchesCostNoGoroutineAndAreBounded(t *testing.T) {
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	first := p.ask(fetchOf(0, 0, 0))
	h.take(t, 1)[0].reply(&data.ReplicaFetched{})
	receive(t, first)
	var wg sync.WaitGroup
	before := runtime.NumGoroutine()
	for i := range MaxPending {
		wg.Add(1)
		p.Fetch(leaderNode, fetchOf(int32(i), 0, 0), func(f *data.ReplicaFetched) {
			defer wg.Done()
			if f.Err != nil {
				t.Error(f.Err)
			}
		})
	}
	parked := h.take(t, MaxPending)
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines became %d", before, n)
	}
	f := receive(t, p.ask(fetchOf(0, 0, 0)))
	if !errors.Is(f.Err, messages.ErrOverloaded) {
		t.Fatalf("one fetch too many: %v", f.Err)
	}
	for _, r := range parked {
		r.reply(&data.ReplicaFetched{})
	}
	wg.Wait()
}

// countedConn counts writes; the first ones wait.
type countedConn struct {
	net.Conn
	writes atomic.Int64
	held   chan struct{}
}

func (c *countedConn) Write(b []byte) (int, error) {
	if c.writes.Add(1) == 2 { // the first is the handshake
		<-c.held
	}
	return c.Conn.Write(b)
}

type countedListener struct {
	net.Listener
	conns chan *countedConn
}

func (l *countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &countedConn{Conn: nc, held: make(chan struct{})}
	l.conns <- c
	return c, nil
}

func TestManySmallAnswersLeaveInFewWrites(t *testing.T) {
	log := newLog(t, 1<<20)
	h := &leader{}
	on := &countedListener{listen(t), make(chan *countedConn, 1)}
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	const n = 1000
	var answers []<-chan *data.ReplicaFetched
	for i := range n {
		answers = append(answers, p.ask(fetchOf(int32(i), i, 100)))
	}
	parked := h.take(t, n)
	c := <-on.conns
	for _, r := range parked {
		r.reply(&data.ReplicaFetched{View: log.inFile(int(r.q.Offset), r.q.MaxBytes)})
	}
	close(c.held)
	for i, a := range answers {
		f := receive(t, a)
		equal(t, f.Records, log.content[i:i+100])
		f.Release()
	}
	if w := c.writes.Load(); w > 10 {
		t.Errorf("%d answers left in %d writes", n, w)
	}
}

func TestTheReceiveBudgetHoldsTheLeaderBackUntilRecordsAreReleased(t *testing.T) {
	const size, limit = 64 << 10, 4 * 64 << 10
	log := newLog(t, 1<<20)
	h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
		return &data.ReplicaFetched{View: log.inFile(int(q.Offset), q.MaxBytes)}
	}}
	l := quick()
	on := listen(t)
	serve(t, ServerConfig{}, h, l, on)
	p := follow(t, PoolConfig{ReceiveBytes: limit}, l, on.Addr().String())
	answers := make(chan *data.ReplicaFetched, 100)
	for i := range 100 {
		p.Fetch(leaderNode, fetchOf(int32(i), 0, size), func(f *data.ReplicaFetched) { answers <- f })
	}
	peer := p.peer(leaderNode)
	silence := func() int {
		peer.mu.Lock()
		defer peer.mu.Unlock()
		if peer.link == nil || !peer.link.full.Load() {
			return 0
		}
		return peer.link.checks
	}
	// The peer cannot be heard while the reader waits: it is not given up for that.
	testkit.Eventually(t, "the reader waits for long", func() bool { return silence() > 2*l.silent })
	if n := len(answers); n != limit/size {
		t.Fatalf("%d answers of %d bytes came under a budget of %d", n, size, limit)
	}
	for range 100 {
		f := receive(t, answers)
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		equal(t, f.Records, log.content[:size])
		f.Release()
	}
	large := receive(t, p.ask(fetchOf(0, 0, 3*limit)))
	equal(t, large.Records, log.content[:3*limit])
	large.Release()
}

func TestAFileThatIsTooShortBreaksTheConnection(t *testing.T) {
	log := newLog(t, 1<<20)
	for _, size := range []int{1000, fileMin, 1 << 20} {
		h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
			return &data.ReplicaFetched{View: log.inFile(1<<20-size/2, size)}
		}}
		on := listen(t)
		serve(t, ServerConfig{}, h, quick(), on)
		p := follow(t, PoolConfig{}, quick(), on.Addr().String())
		f := receive(t, p.ask(fetchOf(0, 0, size)))
		if !errors.Is(f.Err, messages.ErrUnavailable) {
			t.Fatalf("%d bytes: %v", size, f.Err)
		}
		testkit.Eventually(t, "the view is released", func() bool { return log.open.Load() == 0 })
	}
}

func TestRecordsThatFitNoAnswerAreAnError(t *testing.T) {
	log := newLog(t, 1<<20)
	inMemory := func(at, n int) messages.View {
		v := log.inFile(at, n)
		v.Extents = []messages.Extent{{Mem: log.content[at : at+n]}}
		return v
	}
	for kind, view := range map[string]func(at, n int) messages.View{
		"of a file": log.inFile, "in memory": inMemory,
	} {
		h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
			return &data.ReplicaFetched{View: view(0, q.MaxBytes)}
		}}
		on := listen(t)
		serve(t, ServerConfig{MaxRecords: 1000}, h, defaultLimits, on)
		p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
		f := receive(t, p.ask(fetchOf(0, 0, 1001)))
		if !errors.Is(f.Err, messages.ErrBatchTooLarge) {
			t.Fatalf("%s: %+v", kind, f)
		}
		if n := log.open.Load(); n != 0 {
			t.Fatalf("%s: %d views are not released", kind, n)
		}
	}
}

func TestClosingAnswersEverything(t *testing.T) {
	h := &leader{}
	on := listen(t)
	s := serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{Throttle: 1}, defaultLimits, on.Addr().String())
	answers := []<-chan *data.ReplicaFetched{p.ask(fetchOf(0, 0, 0))}
	for range 3 {
		a := make(chan *data.ReplicaFetched, 1)
		q := fetchOf(0, 0, 100)
		q.Throttled = true
		p.Fetch(leaderNode, q, func(f *data.ReplicaFetched) { put(t, a, f) })
		answers = append(answers, a)
	}
	h.take(t, 2)
	p.Close()
	answers = append(answers, p.ask(fetchOf(0, 0, 0)))
	for i, a := range answers {
		select {
		case f := <-a:
			if !errors.Is(f.Err, messages.ErrUnavailable) {
				t.Errorf("fetch %d: %v", i, f.Err)
			}
		default:
			t.Errorf("fetch %d is not answered after Close", i)
		}
	}
	if s := p.suspicions(); len(s) != 0 {
		t.Errorf("suspected while closing: %v", s)
	}
	s.Close()
	if n := h.disconnected(); n != 1 {
		t.Errorf("the handler was told %d times", n)
	}
	if err := s.Serve(listen(t)); err != ErrClosed {
		t.Errorf("Serve after Close: %v", err)
	}
}

func TestAnsweringOrReleasingTwiceIsABug(t *testing.T) {
	log := newLog(t, 1000)
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	answer := p.ask(fetchOf(0, 0, 1000))
	parked := h.take(t, 1)[0]
	parked.reply(&data.ReplicaFetched{View: log.inFile(0, 1000)})
	f := receive(t, answer)
	f.Release()
	for what, again := range map[string]func(){
		"answered": func() { parked.reply(&data.ReplicaFetched{}) },
		"released": f.Release,
	} {
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, what+" twice") {
					t.Errorf("%s twice: %v", what, v)
				}
			}()
			again()
		}()
	}
}
