package node

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"go.uber.org/goleak"

	"github.com/troupelog/troupe/cluster"
	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages/wire"
	"github.com/troupelog/troupe/node/config"
	"github.com/troupelog/troupe/persistence/vfs"
)

// authority signs certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority writes its certificate to "ca.pem" of a new folder.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.write(t, "ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(t *testing.T, name string, until time.Time, usage ...x509.ExtKeyUsage) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name},
		ExtKeyUsage: usage, NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".pem", "CERTIFICATE", cert.Raw)
	a.write(t, name+".key", "PRIVATE KEY", der)
}

func (a *authority) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, by := a.cert, a.key
	if parent == nil { // itself
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(a.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// settings are those of a node with a certificate of that name.
func (a *authority) settings(name string) map[string]string {
	return map[string]string{
		settingCertificate: filepath.Join(a.dir, name+".pem"),
		settingKey:         filepath.Join(a.dir, name+".key"),
		settingCA:          filepath.Join(a.dir, "ca.pem"),
	}
}

// load is loadSecured with these settings.
func load(settings map[string]string) (secured, error) {
	cfg, err := config.Load(config.Sources{DataDir: "/d", Settings: settings})
	if err != nil {
		return secured{}, err
	}
	return loadSecured(cfg, vfs.OS{}, time.Now())
}

// both are the usages that a certificate must allow.
var both = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// remoteEnv makes the test binary a program that asks the actor "echo" at an address; the
// library does not let two of its listeners live in one process under the race detector.
const remoteEnv = "TROUPE_TEST_REMOTE"

// askFromOutside is that program: its environment has the address and the folder of the
// certificates. It prints how that went and lives until its input ends.
func askFromOutside(spec string) {
	address, dir, _ := strings.Cut(spec, " ")
	a := &authority{dir: dir}
	s, err := load(a.settings("client"))
	if err == nil {
		err = echoed(address, s)
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin) // it stays connected
}

func echoed(address string, s secured) error {
	system := cluster.NewSystem(slog.New(slog.DiscardHandler))
	e := transport.Endpoint{Bind: "127.0.0.1:0", Server: s.server, Client: s.client}
	err := e.Listen(func(rc *remote.Config) *remote.Remote { return remote.NewRemote(system, rc) })
	if err != nil {
		return err
	}
	answer, err := system.Root.RequestFuture(actor.NewPID(address, "echo"),
		&wire.ClientHello{ClientId: "outside"}, 20*time.Second).Result()
	if err != nil {
		return err
	}
	if hello, ok := answer.(*wire.ClientHello); !ok || hello.GetClientId() != "outside" {
		return fmt.Errorf("it answered %v", answer)
	}
	return nil
}

// secureNode is a node with TLS and an actor "echo".
func secureNode(t *testing.T, a *authority) *Node {
	t.Helper()
	a.issue(t, "node", time.Time{}, both...)
	a.issue(t, "client", time.Time{}, both...)
	settings := a.settings("node")
	settings["actor.listener"] = "127.0.0.1:0"
	n := embedded(t, Options{DataDir: t.TempDir(), Settings: settings})
	root := n.Actors().(*actor.ActorSystem).Root
	_, err := root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		if hello, ok := ctx.Message().(*wire.ClientHello); ok {
			ctx.Respond(hello)
		}
	}), "echo")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestActorsTalkOverTLSBothWays(t *testing.T) {
	a := newAuthority(t)
	n := secureNode(t, a)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), remoteEnv+"="+n.ActorAddr()+" "+a.dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "<nil>\n" {
		t.Errorf("it says %q (%v)", line, err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	ofTheProgram := goleak.IgnoreAnyFunction("os/exec.(*Cmd).watchCtx")
	if err := goleak.Find(ofTheProgram); err != nil {
		t.Errorf("while a peer was connected: %v", err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// refused fails unless the other end hangs up without having said anything that is no
// alert.
func refused(t *testing.T, what string, conn io.Reader) {
	t.Helper()
	got, err := io.ReadAll(conn)
	const alert = 21
	if len(got) > 0 && got[0] != alert {
		t.Errorf("%s was answered %q, %v", what, got, err)
	}
}

func TestOnlyPeersWithACertificateReachActors(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	n := secureNode(t, a)
	dial := func() net.Conn {
		conn, err := net.DialTimeout("tcp", n.ActorAddr(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	plain := dial()
	if _, err := io.WriteString(plain, preface); err != nil {
		t.Fatal(err)
	}
	refused(t, "a peer without TLS", plain)

	stranger.issue(t, "client", time.Time{}, both...)
	foreign, err := tls.LoadX509KeyPair(filepath.Join(stranger.dir, "client.pem"),
		filepath.Join(stranger.dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := load(a.settings("client"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		with    []tls.Certificate
		version uint16
		served  bool
	}{
		{"a peer with a certificate", known.client.Certificates, tls.VersionTLS13, true},
		{"a peer without a certificate", nil, tls.VersionTLS13, false},
		{"a peer of another authority", []tls.Certificate{foreign}, tls.VersionTLS13, false},
		{"a peer with an older TLS", known.client.Certificates, tls.VersionTLS12, false},
	} {
		cfg := known.client.Clone()
		cfg.Certificates, cfg.MinVersion, cfg.MaxVersion = tt.with, tls.VersionTLS12, tt.version
		cfg.NextProtos = []string{"h2"}
		conn := tls.Client(dial(), cfg)
		_, err := io.WriteString(conn, preface)
		var first [9]byte
		if err == nil {
			_, err = io.ReadFull(conn, first[:])
		}
		if (err == nil) != tt.served {
			t.Errorf("%s was answered %q, %v", tt.name, first, err)
		}
	}
}

func TestANodeDoesNotTalkToStrangers(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	for _, x := range []*authority{a, stranger} {
		x.issue(t, "node", time.Time{}, both...)
	}
	ours, err := load(a.settings("node"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := load(stranger.settings("node"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		server *tls.Config
		well   bool
	}{{ours.server, true}, {theirs.server, false}} {
		server := tt.server.Clone()
		server.ClientAuth = tls.NoClientCert // it would take anybody
		ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			if conn, err := ln.Accept(); err == nil {
				_ = conn.(*tls.Conn).Handshake() // the other end tells
				_ = conn.Close()
			}
		})
		conn, err := tls.Dial("tcp", ln.Addr().String(), ours.client)
		if err == nil {
			_ = conn.Close()
		}
		serving.Wait()
		_ = ln.Close()
		if (err == nil) != tt.well {
			t.Errorf("the connection ended with %v", err)
		}
	}
}

func TestCertificatesThatCannotWorkAreNamed(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.issue(t, "node", time.Time{}, both...)
	a.issue(t, "other", time.Time{}, both...)
	a.issue(t, "old", time.Now().Add(-time.Minute), both...)
	a.issue(t, "half", time.Time{}, x509.ExtKeyUsageServerAuth)
	a.write(t, "empty.pem", "NOTHING", nil)
	in := func(name string) string { return filepath.Join(a.dir, name) }
	with := func(base, setting, value string) map[string]string {
		s := a.settings(base)
		s[setting] = value
		return s
	}
	for _, tt := range []struct {
		name     string
		settings map[string]string
		says     []string
	}{
		{"one setting of three", map[string]string{settingCA: in("ca.pem")},
			[]string{settingCertificate, settingKey}},
		{"a file that is not there", with("node", settingKey, in("gone")), []string{in("gone")}},
		{"a key of another", with("node", settingKey, in("other.key")), []string{in("other.key")}},
		{"an authority that is none", with("node", settingCA, in("empty.pem")),
			[]string{in("empty.pem"), settingCA}},
		{"another authority", with("node", settingCA, filepath.Join(stranger.dir, "ca.pem")),
			[]string{in("node.pem"), "signed"}},
		{"an old certificate", a.settings("old"), []string{in("old.pem"), "expired"}},
		{"a certificate for servers", a.settings("half"), []string{in("half.pem"), "clients"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(tt.settings)
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q lacks %q", err, s)
				}
			}
		})
	}
	settings := a.settings("old")
	if _, err := Start(t.Context(), Options{DataDir: t.TempDir(), Settings: settings}); err == nil {
		t.Error("a node starts with a certificate that has expired")
	}
	if s, err := load(nil); err != nil || s.server != nil || s.client != nil {
		t.Errorf("without settings it is %+v, %v", s, err)
	}
}

// What a node starts it must end: programs start and stop several.
func TestMain(m *testing.M) {
	if spec := os.Getenv(remoteEnv); spec != "" {
		askFromOutside(spec)
		return
	}
	goleak.VerifyTestMain(m)
}
