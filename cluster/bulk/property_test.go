package bulk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/testkit"
)

// slowLeader parks every fetch; goroutines of the test answer them in random order
// and with random views.
type slowLeader struct {
	log    *log
	parked chan parkedFetch
	gone   atomic.Int64
}

func (l *slowLeader) Fetch(q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
	l.parked <- parkedFetch{q, reply}
}

func (l *slowLeader) Disconnected(messages.NodeID, uint64) { l.gone.Add(1) }

// answerAll answers until parked is closed, shuffling as it goes. It keeps some
// back only as long as more come in: who asks may wait for just those.
func (l *slowLeader) answerAll(r *rand.Rand) {
	var waiting []parkedFetch
	for open := true; open; {
		keep := 0
		if len(waiting) == 0 {
			var p parkedFetch
			if p, open = <-l.parked; open {
				waiting = append(waiting, p)
			}
		}
		select {
		case p, ok := <-l.parked:
			if open = ok; ok {
				waiting = append(waiting, p)
				keep = r.IntN(len(waiting) + 1)
			}
		default:
		}
		r.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
		for _, p := range waiting[keep:] {
			f := &data.ReplicaFetched{LogEnd: p.q.Offset}
			if r.IntN(10) == 0 {
				f.Err = fmt.Errorf("partition %d: %w", p.q.Partition.Partition, messages.ErrNotLeader)
			} else {
				f.View = l.log.view(r, int(p.q.Offset), p.q.MaxBytes)
			}
			p.reply(f)
		}
		waiting = waiting[:keep]
	}
}

// verdict checks one answer against its request.
func (l *slowLeader) verdict(q *data.ReplicaFetch, f *data.ReplicaFetched) error {
	switch {
	case errors.Is(f.Err, messages.ErrUnavailable):
		return nil
	case errors.Is(f.Err, messages.ErrNotLeader):
		want := fmt.Sprintf("partition %d: ", q.Partition.Partition)
		if !strings.HasPrefix(f.Err.Error(), want) {
			return fmt.Errorf("the error of another partition: %w", f.Err)
		}
		return nil
	case f.Err != nil:
		return f.Err
	case f.LogEnd != q.Offset:
		return fmt.Errorf("fetch from %d has the answer of %d", q.Offset, f.LogEnd)
	case !bytes.Equal(f.Records, l.log.content[q.Offset:int(q.Offset)+q.MaxBytes]):
		return fmt.Errorf("%d bytes from %d are not those stored", len(f.Records), q.Offset)
	}
	return nil
}

// Whatever the sizes, the order of answers and the moments at which connections
// break: each fetch is answered once, with its own records, and each view and
// buffer is released once.
func TestEveryFetchIsAnsweredOnceWhateverHappens(t *testing.T) {
	log := newLog(t, 4<<20)
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			secure := seed%4 == 3
			r := rand.New(rand.NewPCG(seed, 7))
			h := &slowLeader{log: log, parked: make(chan parkedFetch, 1000)}
			l := quick()
			on := listen(t)
			var server, client *tls.Config
			if secure {
				server, client = mutualTLS(t)
			}
			s := serve(t, ServerConfig{TLS: server}, h, l, on)
			via := relayTo(t, on.Addr().String())
			p := follow(t, PoolConfig{TLS: client, ReceiveBytes: 1 << (14 + r.IntN(8))}, l,
				via.Addr().String())
			var answering, asking sync.WaitGroup
			for i := range uint64(3) {
				answering.Go(func() { h.answerAll(rand.New(rand.NewPCG(seed, i))) })
			}
			var done, arrived atomic.Int64
			const partitions, each = 20, 40
			for i := range int32(partitions) {
				asking.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(100+i)))
					for range each {
						n := r.IntN(1 << r.IntN(20))
						q := fetchOf(i, r.IntN(len(log.content)-n), n)
						a := make(chan *data.ReplicaFetched, 1)
						p.Fetch(leaderNode, q, func(f *data.ReplicaFetched) { put(t, a, f) })
						f := receive(t, a)
						if err := h.verdict(q, f); err != nil {
							t.Errorf("partition %d: %v", i, err)
						}
						if f.Err == nil {
							arrived.Add(1)
						}
						if f.Release != nil {
							f.Release()
						}
						done.Add(1)
					}
				})
			}
			for range 1 + r.IntN(6) {
				at := done.Load() + int64(r.IntN(100))
				testkit.Eventually(t, "some more is answered", func() bool {
					return done.Load() >= min(at, partitions*each)
				})
				via.cut()
			}
			asking.Wait()
			p.Close()
			s.Close()
			close(h.parked)
			answering.Wait()
			if n := log.open.Load(); n != 0 {
				t.Errorf("%d views are not released", n)
			}
			if arrived.Load() == 0 || h.gone.Load() == 0 {
				t.Errorf("%d answers arrived, %d connections ended", arrived.Load(), h.gone.Load())
			}
		})
	}
}

// mutualTLS makes an authority and a certificate that both sides use.
func mutualTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: own, ClientCAs: roots,
			ClientAuth: tls.RequireAndVerifyClientCert},
		&tls.Config{Certificates: own, RootCAs: roots}
}

func TestTLSKnowsThePeersOnBothSides(t *testing.T) {
	server, client := mutualTLS(t)
	anonymous := client.Clone()
	anonymous.Certificates = nil
	stranger, _ := mutualTLS(t)
	for name, c := range map[string]struct {
		server, client *tls.Config
		ok             bool
	}{
		"both":                    {server, client, true},
		"caller has no key":       {server, anonymous, false},
		"caller speaks no TLS":    {server, nil, false},
		"listener speaks no TLS":  {nil, client, false},
		"listener is a stranger":  {stranger, client, false},
		"neither, as is the rule": {nil, nil, true},
	} {
		l := quick()
		l.handshake = 500 * time.Millisecond
		on := listen(t)
		h := &leader{answer: func(q *data.ReplicaFetch) *data.ReplicaFetched {
			return &data.ReplicaFetched{LogEnd: 3}
		}}
		serve(t, ServerConfig{TLS: c.server}, h, l, on)
		p := follow(t, PoolConfig{TLS: c.client}, l, on.Addr().String())
		f := receive(t, p.ask(fetchOf(0, 0, 0)))
		if (f.Err == nil) != c.ok {
			t.Errorf("%s: fetch: %v", name, f.Err)
		}
		if _, err := p.Ping(t.Context(), on.Addr().String()); (err == nil) != c.ok {
			t.Errorf("%s: ping: %v", name, err)
		}
	}
}
