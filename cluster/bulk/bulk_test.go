package bulk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
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
			eventually(t, "the view is released", func() bool { return log.open.Load() == 0 })
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

func TestABrokenConnectionAnswersEverythingAtOnce(t *testing.T) {
	log := newLog(t, 1<<20)
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, quick(), on)
	r := relayTo(t, on.Addr().String())
	p := follow(t, PoolConfig{}, quick(), r.Addr().String())
	var answers []<-chan *data.ReplicaFetched
	for i := range 100 {
		answers = append(answers, p.ask(fetchOf(int32(i), 0, 1000)))
	}
	parked := h.take(t, 100)
	r.cut()
	for _, a := range answers {
		if f := receive(t, a); !errors.Is(f.Err, messages.ErrUnavailable) || f.Release != nil {
			t.Fatalf("%+v", f)
		}
	}
	eventually(t, "the handler is told", func() bool { return h.disconnected() == 1 })
	for _, r := range parked { // too late: nobody gets it
		r.reply(&data.ReplicaFetched{View: log.inFile(0, 1000)})
	}
	if n := log.open.Load(); n != 0 {
		t.Fatalf("%d views are not released", n)
	}
	eventually(t, "the pool suspects the node", func() bool { return len(p.suspicions()) == 1 })
	again := p.ask(fetchOf(1, 0, 0))
	h.take(t, 1)[0].reply(&data.ReplicaFetched{})
	if f := receive(t, again); f.Err != nil {
		t.Fatalf("after a reconnect: %v", f.Err)
	}
}

func TestALeaderThatIsNotThereIsCalledOnlyWhenSomebodyWaits(t *testing.T) {
	dead := listen(t)
	_ = dead.Close()
	p := follow(t, PoolConfig{}, quick(), dead.Addr().String())
	for range 3 {
		if f := receive(t, p.ask(fetchOf(0, 0, 0))); !errors.Is(f.Err, messages.ErrUnavailable) {
			t.Fatalf("%+v", f)
		}
	}
	eventually(t, "nothing runs for the peer", func() bool {
		peer := p.peer(leaderNode)
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return !peer.running
	})
	if s := p.suspicions(); len(s) != 0 {
		t.Errorf("a connection that never stood broke: %v", s)
	}
	p.mu.Lock()
	delete(p.addrs, leaderNode)
	p.mu.Unlock()
	f := receive(t, p.ask(fetchOf(0, 0, 0)))
	if !errors.Is(f.Err, messages.ErrUnavailable) || !errors.Is(f.Err, errNoAddr) {
		t.Fatalf("without an address: %v", f.Err)
	}
}

func TestAttemptsToConnectSlowDown(t *testing.T) {
	p := &peer{pool: &Pool{limits: defaultLimits}}
	for failures, ms := range []int{0, 50, 100, 200, 400, 800, 1000, 1000} {
		most := time.Duration(ms) * time.Millisecond
		if p.failures = failures; failures == 0 {
			continue
		}
		for range 100 {
			if d := p.backoff(); d < most/2 || d > most {
				t.Fatalf("after %d failures: %v, expected at most %v", failures, d, most)
			}
		}
	}
	p.failures = 1 << 20
	if d := p.backoff(); d > time.Second {
		t.Fatalf("after very many failures: %v", d)
	}
}

// Neither side hears anything, and no error either.
func TestABlackHoleIsNoticedOnBothSides(t *testing.T) {
	t.Parallel()
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	r := relayTo(t, on.Addr().String())
	p := follow(t, PoolConfig{}, defaultLimits, r.Addr().String())
	answer := p.ask(fetchOf(0, 0, 0))
	h.take(t, 1)
	began := time.Now()
	close(r.frozen)
	f := receive(t, answer)
	took := time.Since(began)
	if !errors.Is(f.Err, messages.ErrUnavailable) || !errors.Is(f.Err, errSilent) {
		t.Fatalf("%v", f.Err)
	}
	if took < 2*time.Second || took > 5*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	eventually(t, "the leader notices", func() bool { return h.disconnected() == 1 })
}

func TestAnIdleConnectionStaysAndParkedFetchesWithIt(t *testing.T) {
	l := quick()
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, l, on)
	p := follow(t, PoolConfig{}, l, on.Addr().String())
	answer := p.ask(fetchOf(0, 0, 0))
	parked := h.take(t, 1)[0]
	peer := p.peer(leaderNode)
	eventually(t, "the limit of silence has passed twice", func() bool {
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return peer.link != nil && peer.link.checks > 2*l.silent
	})
	parked.reply(&data.ReplicaFetched{LogEnd: 8})
	if f := receive(t, answer); f.Err != nil || f.LogEnd != 8 {
		t.Fatalf("%+v", f)
	}
}

func TestAConnectionNobodyUsesIsClosedWithoutSuspicion(t *testing.T) {
	l := quick()
	l.idle = 5
	h := &leader{answer: func(*data.ReplicaFetch) *data.ReplicaFetched {
		return &data.ReplicaFetched{}
	}}
	on := listen(t)
	serve(t, ServerConfig{}, h, l, on)
	p := follow(t, PoolConfig{}, l, on.Addr().String())
	for n := 1; n <= 3; n++ {
		if f := receive(t, p.ask(fetchOf(0, 0, 0))); f.Err != nil {
			t.Fatal(f.Err)
		}
		eventually(t, "the connection is closed", func() bool { return h.disconnected() == n })
	}
	if s := p.suspicions(); len(s) != 0 {
		t.Fatalf("suspected: %v", s)
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
	eventually(t, "the reader waits for long", func() bool { return silence() > 2*l.silent })
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
		eventually(t, "the view is released", func() bool { return log.open.Load() == 0 })
	}
}

func TestRecordsThatFitNoAnswerAreAnError(t *testing.T) {
	log := newLog(t, 1<<20)
	h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
		return &data.ReplicaFetched{View: log.inFile(0, q.MaxBytes)}
	}}
	on := listen(t)
	serve(t, ServerConfig{MaxRecords: 1000}, h, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	if f := receive(t, p.ask(fetchOf(0, 0, 1001))); !errors.Is(f.Err, messages.ErrBatchTooLarge) {
		t.Fatalf("%+v", f)
	}
	if n := log.open.Load(); n != 0 {
		t.Fatalf("%d views are not released", n)
	}
}

// The handler voids what is parked for a follower: it must not void what a later
// connection brought.
func TestANewConnectionOfAFollowerTakesThePlaceOfTheOldOne(t *testing.T) {
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, defaultLimits, on)
	r := relayTo(t, on.Addr().String())
	first := follow(t, PoolConfig{}, defaultLimits, r.Addr().String())
	old := first.ask(fetchOf(1, 0, 0))
	h.take(t, 1)
	close(r.frozen) // the old one looks alive to the leader
	second := follow(t, PoolConfig{}, defaultLimits, on.Addr().String())
	answer := second.ask(fetchOf(2, 0, 0))
	parked := h.take(t, 1)[0]
	if n := h.disconnected(); n != 1 {
		t.Fatalf("a fetch of the new connection came before %d of 1 old ones was gone", n)
	}
	parked.reply(&data.ReplicaFetched{})
	if f := receive(t, answer); f.Err != nil {
		t.Fatal(f.Err)
	}
	first.Close()
	if f := receive(t, old); !errors.Is(f.Err, messages.ErrUnavailable) {
		t.Fatalf("%+v", f)
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

func TestWhoIsRefusedIsToldWhy(t *testing.T) {
	on := listen(t)
	serve(t, ServerConfig{}, &leader{}, quick(), on)
	foreign := listen(t)
	defer foreign.Close()
	go func() {
		for {
			nc, err := foreign.Accept()
			if err != nil {
				return
			}
			_, _ = nc.Write([]byte("SSH-2.0-OpenSSH_9.9\r\n"))
			_ = nc.Close()
		}
	}()
	for name, c := range map[string]struct {
		me   Identity
		node messages.NodeID
		addr string
		want string
	}{
		"another cluster": {Identity{Node: 2, Cluster: "prod"}, 1, on.Addr().String(),
			`node 1 belongs to cluster "test", the caller to "prod": is the address right?`},
		"another node": {Identity{Node: 2, Cluster: "test"}, 3, on.Addr().String(),
			"another node has this address"},
		"no node": {Identity{Node: -1, Cluster: "test"}, 1, on.Addr().String(),
			"there is no node -1"},
		"another program": {Identity{Node: 2, Cluster: "test"}, 1, foreign.Addr().String(),
			"is the address that of another program?"},
	} {
		p := follow(t, PoolConfig{Identity: c.me}, quick(), c.addr)
		p.mu.Lock()
		p.addrs[c.node] = c.addr
		p.mu.Unlock()
		q := fetchOf(0, 0, 0)
		q.Follower = c.me.Node
		a := make(chan *data.ReplicaFetched, 1)
		p.Fetch(c.node, q, func(f *data.ReplicaFetched) { put(t, a, f) })
		f := receive(t, a)
		if !errors.Is(f.Err, messages.ErrUnavailable) || !strings.Contains(f.Err.Error(), c.want) {
			t.Errorf("%s: %v", name, f.Err)
		}
	}
	h := hello{min: 2, max: 3, purpose: toProbe, node: 5, cluster: "test"}
	me := Identity{Node: 1, Cluster: "test"}
	_, w := me.judge(h.encode()[helloHead:])
	want := "node 1 speaks versions 1 to 1 of the bulk protocol, node 5 versions 2 to 3: " +
		"upgrade the older one"
	if w.status != statusVersion || w.text != want {
		t.Errorf("another version: %+v", w)
	}
}

func TestWhoSaysNothingOrNonsenseIsHungUpOn(t *testing.T) {
	l := quick()
	l.handshake = 50 * time.Millisecond
	on := listen(t)
	serve(t, ServerConfig{}, &leader{}, l, on)
	good := hello{min: 1, max: 1, purpose: toFetch, node: 9, cluster: "test"}
	for name, say := range map[string][]byte{
		"nothing":        nil,
		"half a hello":   good.encode()[:9],
		"another magic":  []byte("GET / HTTP/1.1\r\n\r\n"),
		"no frames":      append(good.encode(), 0, 0, 0, 0, 1),
		"a leader's":     append(good.encode(), appendEmpty(nil, typePong)...),
		"a huge frame":   append(good.encode(), 0x7f, 0xff, 0xff, 0xff, typeFetch),
		"silence at all": good.encode(),
	} {
		nc, err := net.Dial("tcp", on.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := nc.Write(say); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1024)
		for err == nil {
			_, err = nc.Read(b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = nc.Close()
	}
}

// stranger is a follower that keeps to the handshake only.
func stranger(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	me := Identity{Node: 9, Cluster: "test"}
	if _, err := me.introduce(nc, toFetch); err != nil {
		t.Fatal(err)
	}
	return nc
}

func TestAFollowerThatAsksForTooMuchIsHungUpOn(t *testing.T) {
	l := quick()
	l.pending = 10
	h := &leader{}
	on := listen(t)
	serve(t, ServerConfig{}, h, l, on)
	nc := stranger(t, on.Addr().String())
	var b []byte
	for i := range uint64(11) {
		b = appendFetch(b, i, fetchOf(0, 0, 0))
	}
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is hung up on", func() bool { return h.disconnected() == 1 })
	h.take(t, 10)
}

// It pings, so it lives; but it holds on to a view for as long as it likes.
func TestAFollowerThatTakesNothingIsHungUpOn(t *testing.T) {
	log := newLog(t, 8<<20)
	l := quick()
	l.write = 100 * time.Millisecond
	h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
		return &data.ReplicaFetched{View: log.inFile(0, 8<<20)}
	}}
	on := listen(t)
	serve(t, ServerConfig{}, h, l, on)
	nc := stranger(t, on.Addr().String())
	var b []byte
	for i := range uint64(5) {
		b = appendFetch(b, i, fetchOf(0, 0, 8<<20))
	}
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
	ping := appendEmpty(nil, typePing)
	eventually(t, "it is hung up on", func() bool {
		_, _ = nc.Write(ping)
		return h.disconnected() == 1
	})
	eventually(t, "the views are released", func() bool { return log.open.Load() == 0 })
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

func TestAProbeOfAFreshConnection(t *testing.T) {
	on := listen(t)
	s := serve(t, ServerConfig{}, &leader{}, defaultLimits, on)
	p := follow(t, PoolConfig{}, defaultLimits, "")
	pong, err := p.Ping(t.Context(), on.Addr().String())
	if err != nil || pong != (Pong{Node: leaderNode, Incarnation: "first"}) {
		t.Fatalf("%+v, %v", pong, err)
	}
	s.Close()
	began := time.Now()
	if _, err := p.Ping(t.Context(), on.Addr().String()); err == nil {
		t.Fatal("a closed port answers")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to be refused", took)
	}
	mute := listen(t) // the kernel accepts, nobody answers: a process that is stopped
	defer mute.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Ping(ctx, mute.Addr().String()); err == nil {
		t.Fatal("a process that does nothing answers")
	}
	if ctx.Err() == nil {
		t.Error("the probe ended before its time")
	}
}
