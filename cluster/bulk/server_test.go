package bulk

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

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
	testkit.Eventually(t, "it is hung up on", func() bool { return h.disconnected() == 1 })
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
	testkit.Eventually(t, "it is hung up on", func() bool {
		_, _ = nc.Write(ping)
		return h.disconnected() == 1
	})
	testkit.Eventually(t, "the views are released", func() bool { return log.open.Load() == 0 })
}
