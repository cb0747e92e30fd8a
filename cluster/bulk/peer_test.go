package bulk

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

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
	testkit.Eventually(t, "the handler is told", func() bool { return h.disconnected() == 1 })
	for _, r := range parked { // too late: nobody gets it
		r.reply(&data.ReplicaFetched{View: log.inFile(0, 1000)})
	}
	if n := log.open.Load(); n != 0 {
		t.Fatalf("%d views are not released", n)
	}
	testkit.Eventually(t, "the pool suspects the node",
		func() bool { return len(p.suspicions()) == 1 })
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
	testkit.Eventually(t, "nothing runs for the peer", func() bool {
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
	testkit.Eventually(t, "the leader notices", func() bool { return h.disconnected() == 1 })
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
	testkit.Eventually(t, "the limit of silence has passed twice", func() bool {
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
		testkit.Eventually(t, "the connection is closed", func() bool { return h.disconnected() == n })
	}
	if s := p.suspicions(); len(s) != 0 {
		t.Fatalf("suspected: %v", s)
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
