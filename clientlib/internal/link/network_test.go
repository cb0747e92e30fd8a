package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// dialed returns a Link that is closed, with all it has, when the test ends.
func dialed(t *testing.T, cfg Config) *Link {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		begun := time.Now()
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("Close took %v", took)
		}
		goleak.VerifyNone(t, before)
	})
	return l
}

func neverAnswered() *wire.ClientRequest {
	return &wire.ClientRequest{Command: &wire.ClientRequest_Fetch{Fetch: &wire.ClientFetch{}}}
}

func ask(t *testing.T, l *Link, node messages.NodeID, bytes int) {
	t.Helper()
	resp, err := l.AskAny(t.Context(), appendOf(bytes))
	if node != messages.NoNode {
		resp, err = l.Ask(t.Context(), node, appendOf(bytes))
	}
	if err != nil || resp.GetAppended().GetBaseOffset() != int64(bytes) {
		t.Errorf("the answer is %v, %v", resp, err)
	}
}

func TestANodeIsReachedAcrossANetworkAndFoundAgainAfterItDied(t *testing.T) {
	node := startGateway(t, gatewayConfig{Node: 1})
	_, port, _ := net.SplitHostPort(node.address)
	l := dialed(t, Config{Nodes: []string{"localhost:" + port}}) // not as the node calls itself
	ask(t, l, 1, 100)
	ask(t, l, 1, 2<<20-envelope)
	for range 2 {
		underway := send(l, 1, neverAnswered(), time.Minute)
		ask(t, l, 1, 1) // so that it was sent
		begun := time.Now()
		node.kill()
		if o := receive(t, underway); !errors.Is(o.err, ErrNoAnswer) {
			t.Errorf("what was under way ended with %v", o.err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("that took %v", took)
		}
		again := gatewayConfig{Node: 1, Address: node.address}
		node = startGateway(t, again)
		ask(t, l, messages.NoNode, 100)
		ask(t, l, 1, 100)
	}
}

func TestASessionThatEndsIsNoticedWithoutAskingIt(t *testing.T) {
	node := startGateway(t, gatewayConfig{Node: 1})
	l := dialed(t, Config{Nodes: []string{node.address}})
	underway := send(l, 1, neverAnswered(), time.Minute)
	end := appendOf(1)
	end.GetAppend().Partition = -1
	send(l, 1, end, time.Minute)
	if o := receive(t, underway); !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("what was under way ended with %v", o.err)
	}
	ask(t, l, messages.NoNode, 100)
}

func TestAClientThatIsNotReachedIsToldWhatToSet(t *testing.T) {
	node := startGateway(t, gatewayConfig{Node: 1})
	before := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, before)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := Open(ctx, Config{Nodes: []string{node.address}, Advertise: "127.0.0.1:1"})
	if err == nil {
		_ = l.Close(ctx)
		t.Fatal("it was connected")
	}
	if !strings.Contains(err.Error(), "Advertise") {
		t.Errorf("it failed with %v", err)
	}
}

// hangUp listens and ends each connection after it has read something, as a Kafka
// listener does with what is not Kafka's.
func hangUp(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	return ln.Addr().String()
}

func TestTheWrongPortIsRefusedAtOnce(t *testing.T) {
	address := hangUp(t)
	begun := time.Now()
	_, err := Open(t.Context(), Config{Nodes: []string{address}})
	if !errors.Is(err, messages.ErrUnavailable) || !strings.Contains(err.Error(), "actor.listener") {
		t.Errorf("it failed with %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestAHostThatNobodyKnowsIsNamed(t *testing.T) {
	unknown := "no-such-host.invalid:7946"
	_, err := Open(t.Context(), Config{Nodes: []string{unknown}})
	if !errors.Is(err, messages.ErrUnavailable) || !strings.Contains(err.Error(), unknown) ||
		strings.Contains(err.Error(), "Listen") {
		t.Errorf("it failed with %v", err)
	}
	node := startGateway(t, gatewayConfig{Node: 1})
	ask(t, dialed(t, Config{Nodes: []string{unknown, node.address}}), 1, 100)
}

func TestWhoGivesUpDiallingIsToldOfNothingElse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, host := range []string{"127.0.0.1:1", "localhost:1"} {
		_, err := Open(ctx, Config{Nodes: []string{host}})
		if !errors.Is(err, context.Canceled) || errors.Is(err, messages.ErrUnavailable) ||
			strings.Contains(err.Error(), "Listen") {
			t.Errorf("%s: it failed with %v", host, err)
		}
	}
}

// lines is where several goroutines write.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func TestTheLogOfAProgramHasSessionsAndNoActorsNorAnOrdinaryEnd(t *testing.T) {
	node := startGateway(t, gatewayConfig{Node: 1})
	var log lines
	l := dialed(t, Config{Nodes: []string{node.address},
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ask(t, l, 1, 100)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	text := strings.TrimSpace(log.text.String())
	if !strings.Contains(text, "session with a node") || strings.Contains(text, "\n") {
		t.Errorf("the log has %q", text)
	}
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":      {},
		"both":         {Nodes: []string{"a:1"}, Consul: "b:1"},
		"no port":      {Nodes: []string{"a"}},
		"listen":       {Nodes: []string{"a:1"}, Listen: "here"},
		"no actors":    {Actors: 5},
		"a half TLS":   {Nodes: []string{"127.0.0.1:1"}, TLS: secured(certificate(t))},
		"no authority": {Nodes: []string{"127.0.0.1:1"}, TLS: secured(certificate(t))},
	} {
		switch name {
		case "a half TLS":
			cfg.TLS.Certificates = nil
		case "no authority":
			cfg.TLS.RootCAs, cfg.TLS.ClientCAs = nil, nil
		}
		if _, err := Open(t.Context(), cfg); !errors.Is(err, messages.ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(t *testing.T) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func TestBothEndsAreSecured(t *testing.T) {
	cert, key := certificate(t)
	node := startGateway(t, gatewayConfig{Node: 1, Cert: cert, Key: key})
	l := dialed(t, Config{Nodes: []string{node.address}, TLS: secured(cert, key)})
	ask(t, l, 1, 100)
	for name, cfg := range map[string]Config{
		"without TLS":                    {},
		"with another one's certificate": {TLS: secured(certificate(t))},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		cfg.Nodes = []string{node.address}
		if l, err := Open(ctx, cfg); err == nil {
			_ = l.Close(ctx)
			t.Errorf("connected %s", name)
		}
		cancel()
	}
}

func TestANodeInTheSameProcessIsUsedAsItIs(t *testing.T) {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
	defer system.Shutdown()
	if err := spawnGateway(system, 1); err != nil {
		t.Fatal(err)
	}
	subscribers := system.EventStream.Length()
	for range 2 {
		l, err := Open(t.Context(), Config{Actors: system})
		if err != nil {
			t.Fatal(err)
		}
		ask(t, l, 1, 100)
		underway := send(l, 1, neverAnswered(), time.Minute)
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o := receive(t, underway); !errors.Is(o.err, ErrClosed) {
			t.Errorf("what was under way ended with %v", o.err)
		}
	}
	if system.IsStopped() || system.EventStream.Length() != subscribers {
		t.Errorf("stopped: %v; %d subscribers, %d before", system.IsStopped(),
			system.EventStream.Length(), subscribers)
	}
}
