package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is a Server on a loopback port over a fake cluster.
type testServer struct {
	*Server
	addr   string
	served chan error
	once   sync.Once
}

// serveFake starts a server over f and stops it with the test. It then checks
// that all memory and all views were given back.
func serveFake(t testing.TB, f *fakeCluster, config Config) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	coordinators := f.coordinators
	if coordinators == nil {
		coordinators = f.coords
	}
	s := &testServer{Server: New(config, f, f, coordinators, f), addr: ln.Addr().String(),
		served: make(chan error, 1)}
	_, measured := t.(*testing.B)
	s.buffers.Poison = !measured
	go func() {
		s.served <- s.Serve(Listener{Listener: ln, Name: "PLAINTEXT", AdvertisedHost: "127.0.0.1",
			AdvertisedPort: int32(ln.Addr().(*net.TCPAddr).Port)})
	}()
	t.Cleanup(func() {
		s.stop(t)
		f.checkViews(t)
	})
	return s
}

// stop shuts the server down and checks that it gave everything back.
func (s *testServer) stop(t testing.TB) {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-s.served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if st := s.Stats(); st.Connections != 0 || st.QueuedBytes != 0 {
			t.Errorf("after shutdown there are %+v", st)
		}
	})
}

// checkViews fails if a view is not released. Another server of the same cluster
// may still be about to do so: its client has the answer a moment before.
func (f *fakeCluster) checkViews(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	replicas := maps.Clone(f.replicas)
	f.mu.Unlock()
	for id, p := range replicas {
		testkit.Eventually(t, fmt.Sprintf("the views of partition %d are released", id.Partition),
			func() bool { return p.views.Load() == 0 })
	}
}

// wire is a client that speaks frames, not requests: it can break every rule.
type wire struct {
	t testing.TB
	net.Conn
	next int32 // correlation id
}

func dial(t testing.TB, s *testServer) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, Conn: nc}
}

// frame encodes a request frame.
func frame(correlation int32, req kmsg.Request) []byte {
	b := make([]byte, 4, 64)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = binary.BigEndian.AppendUint16(b, 4)
	b = append(b, "test"...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// send sends requests in one write, and returns the first correlation id.
func (w *wire) send(reqs ...kmsg.Request) int32 {
	w.t.Helper()
	first := w.next
	var b []byte
	for _, r := range reqs {
		b = append(b, frame(w.next, r)...)
		w.next++
	}
	w.raw(b)
	return first
}

func (w *wire) raw(b []byte) {
	w.t.Helper()
	if _, err := w.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// response reads one response frame and returns its correlation id and the rest.
func (w *wire) response() (correlation int32, rest []byte) {
	w.t.Helper()
	correlation, rest, err := w.tryResponse()
	if err != nil {
		w.t.Fatalf("read response: %v", err)
	}
	return correlation, rest
}

func (w *wire) tryResponse() (int32, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(w, head[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, int(binary.BigEndian.Uint32(head[:]))-4)
	if _, err := io.ReadFull(w, b); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(head[4:])), b, nil
}

// receive reads the response to req, the next in line.
func receive[R kmsg.Response](w *wire, correlation int32, req kmsg.Request) R {
	w.t.Helper()
	got, b := w.response()
	if got != correlation {
		w.t.Fatalf("response to request %d, want %d", got, correlation)
	}
	resp := req.ResponseKind()
	if resp.IsFlexible() && resp.Key() != keyAPIVersions {
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		w.t.Fatalf("decode response: %v", err)
	}
	return resp.(R)
}

// request sends req and returns its response.
func request[R kmsg.Response](w *wire, req kmsg.Request) R {
	w.t.Helper()
	return receive[R](w, w.send(req), req)
}

// expectClosed fails unless the server closes the connection without a word.
func (w *wire) expectClosed() {
	w.t.Helper()
	if n, b, err := w.tryResponse(); err == nil {
		w.t.Fatalf("answer %d (%d bytes), want a closed connection", n, len(b))
	} else if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		w.t.Fatal("the connection stays open")
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func versioned[R kmsg.Request](req R, version int16) R {
	req.SetVersion(version)
	return req
}

func TestMaxConnectionsMakesTheNextClientWait(t *testing.T) {
	s := serveFake(t, newFakeCluster(), Config{MaxConnections: 2})
	ask := func(w *wire) {
		request[*kmsg.ApiVersionsResponse](w, versioned(kmsg.NewPtrApiVersionsRequest(), 0))
	}
	first, second, third := dial(t, s), dial(t, s), dial(t, s)
	ask(first)
	ask(second)
	third.send(versioned(kmsg.NewPtrApiVersionsRequest(), 0))
	if n := s.Stats().Connections; n != 2 {
		t.Fatalf("%d connections are served", n)
	}
	_ = first.Close()
	if n, _ := third.response(); n != 0 {
		t.Fatalf("answer %d", n)
	}
}

func TestSeveralListenersAdvertiseTheirOwnAddress(t *testing.T) {
	f := newFakeCluster()
	s := serveFake(t, f, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(Listener{Listener: ln, Name: "OUTSIDE", AdvertisedHost: "outside.example",
			AdvertisedPort: 19092})
	}()
	outside := dial(t, &testServer{addr: ln.Addr().String()})
	resp := request[*kmsg.MetadataResponse](outside, versioned(kmsg.NewPtrMetadataRequest(), 12))
	if b := resp.Brokers[0]; b.Host != "outside.example" || b.Port != 19092 {
		t.Fatalf("advertised %s:%d", b.Host, b.Port)
	}
	s.stop(t)
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Fatalf("Serve returned %v", err)
	}
	if err := s.Serve(Listener{Listener: ln}); !errors.Is(err, ErrServerClosed) {
		t.Fatalf("Serve after Shutdown returned %v", err)
	}
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	f := newFakeCluster()
	s := New(Config{}, f, f, f.coords, f)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := s.Serve(Listener{Listener: ln}); err == nil || errors.Is(err, ErrServerClosed) {
		t.Fatalf("Serve returned %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestConfigNamesTheSettingThatCannotBe(t *testing.T) {
	if err := (&Config{}).Validate(); err != nil {
		t.Fatalf("the zero config: %v", err)
	}
	err := (&Config{FetchMaxBytes: -1}).Validate()
	if err == nil || fmt.Sprint(err) != "fetch.max.bytes is negative; leave it out for the default" {
		t.Fatalf("err = %v", err)
	}
}

// readInto reads one response frame without allocating.
func (w *wire) readInto(b []byte) {
	if _, err := io.ReadFull(w, b[:4]); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.ReadFull(w, b[:binary.BigEndian.Uint32(b)]); err != nil {
		w.t.Fatal(err)
	}
}

// A listener of every interface has no address that is right for all clients; each
// is told the one that it came in on. An empty host, which they were told before, is
// no address at all.
func TestAListenerOfEveryInterfaceAdvertisesWhereTheClientCameIn(t *testing.T) {
	s := serveFake(t, newFakeCluster(), Config{})
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	served := make(chan error, 1)
	go func() { served <- s.Serve(Listener{Listener: ln, AdvertisedPort: int32(port)}) }()
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		c := dial(t, &testServer{addr: net.JoinHostPort(host, strconv.Itoa(port))})
		resp := request[*kmsg.MetadataResponse](c, versioned(kmsg.NewPtrMetadataRequest(), 12))
		if b := resp.Brokers[0]; b.Host != host || b.Port != int32(port) {
			t.Errorf("through %s the node advertises %s:%d", host, b.Host, b.Port)
		}
	}
	s.stop(t)
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Error(err)
	}
}
