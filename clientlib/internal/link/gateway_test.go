package link

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/google/uuid"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages/wire"
)

// gatewayEnv makes the test binary a node instead: two remotes in one process share what
// Proto.Actor keeps in globals.
const gatewayEnv = "LINK_TEST_GATEWAY"

// gatewayConfig is what a node process is started with.
type gatewayConfig struct {
	Node    int32
	Address string
	// PEM of a certificate, its own authority, and its key; nil: no TLS.
	Cert, Key []byte
}

// secured returns what both ends of a connection use; nil: nothing.
func secured(cert, key []byte) *tls.Config {
	if cert == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
}

// runGateway serves until its standard input ends.
func runGateway(text string) {
	var cfg gatewayConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		panic(err)
	}
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(slog.DiscardHandler)
	}))
	both := secured(cfg.Cert, cfg.Key)
	err := transport.Endpoint{Bind: cfg.Address, Server: both, Client: both}.Listen(
		func(rc *remote.Config) *remote.Remote { return remote.NewRemote(system, rc) })
	if err == nil {
		err = spawnGateway(system, cfg.Node)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready", system.Address())
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// spawnGateway makes an actor system a node.
func spawnGateway(system *actor.ActorSystem, node int32) error {
	_, err := system.Root.SpawnNamed(actor.PropsFromFunc(func(ctx actor.Context) {
		m, ok := ctx.Message().(*wire.ClientRequest)
		if !ok || m.GetHello() == nil {
			return
		}
		session := ctx.SpawnPrefix(actor.PropsFromFunc(serveSession), uuid.NewString())
		ctx.Respond(&wire.ClientResponse{RequestId: m.RequestId, Result: &wire.ClientResponse_Welcome{
			Welcome: &wire.ClientWelcome{Session: session.Id, NodeId: node, WindowBytes: 4 << 20,
				Nodes: &wire.ClientNodes{Version: 1, Nodes: []*wire.ClientNode{
					{NodeId: node, Address: system.Address()}}}}}})
	}), gateway)
	return err
}

// serveSession answers appends with how large they were; fetches it never answers, and
// the partition -1 ends it.
func serveSession(ctx actor.Context) {
	m, ok := ctx.Message().(*wire.ClientRequest)
	switch {
	case !ok || m.GetFetch() != nil:
	case m.GetGoodbye() != nil || m.GetAppend().GetPartition() < 0:
		ctx.Stop(ctx.Self())
	default:
		ctx.Respond(&wire.ClientResponse{RequestId: m.RequestId,
			Result: &wire.ClientResponse_Appended{Appended: &wire.ClientAppended{
				BaseOffset: int64(len(m.GetAppend().GetRecords()))}}})
	}
}

// process is a node process.
type process struct {
	address string
	kill    func()
}

// startGateway starts a node process; its address is chosen if cfg has none.
func startGateway(t *testing.T, cfg gatewayConfig) *process {
	t.Helper()
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gatewayEnv+"="+string(text))
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
	p := &process{kill: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	}}
	t.Cleanup(func() { p.kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		t.Fatalf("the node said %q, %v", line, err)
	}
	p.address = address
	return p
}
