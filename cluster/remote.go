package cluster

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Limits of the transport between actor systems. A batch of messages is one gRPC
// message: remoteBatch messages of the largest size that may be sent must fit in
// remoteMaxBytes, or the whole batch is lost without a word.
const (
	remoteBatch    = 32
	remoteMaxBytes = 128 << 20
	// RemoteMessageMax is the largest message that may cross nodes; bulk data
	// travels on connections of its own.
	RemoteMessageMax = remoteMaxBytes / remoteBatch / 2

	// remoteQueue is what a connection's queue holds before it grows; Proto.Actor
	// would set aside a million places for each.
	remoteQueue = 1024
	// helloTimeout is how long a connection may say nothing. The server cannot be
	// stopped before it knows of every connection what it is.
	helloTimeout = time.Second
	// portTries bounds how often a free port is looked for: it may be taken
	// between being found and being used.
	portTries = 5
)

// endpoint is where an actor system listens and how others reach it.
type endpoint struct {
	bind      string // HOST:PORT; port 0: any
	advertise string // HOST, or HOST:PORT; "": as bind
	server    *tls.Config
	client    *tls.Config
}

// configure returns the settings of the remote, with the port decided.
func (e endpoint) configure() (*remote.Config, error) {
	host, port, err := splitPort(e.bind)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		if port, err = freePort(host); err != nil {
			return nil, err
		}
	}
	advertised := e.advertise
	if advertised == "" {
		advertised = host
	}
	if _, _, err := net.SplitHostPort(advertised); err != nil {
		advertised = net.JoinHostPort(advertised, strconv.Itoa(port))
	}
	rc := remote.Configure(host, port,
		remote.WithAdvertisedHost(advertised),
		remote.WithEndpointWriterBatchSize(remoteBatch),
		remote.WithEndpointWriterQueueSize(remoteQueue),
		remote.WithServerOptions(
			grpc.MaxRecvMsgSize(remoteMaxBytes),
			grpc.Creds(transport(e.server)),
			grpc.ConnectionTimeout(helloTimeout),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: 2 * time.Second, Timeout: 2 * time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
				MinTime: 5 * time.Second, PermitWithoutStream: true}),
			grpc.ChainStreamInterceptor(recoverStream)),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(transport(e.client)),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: 50 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
				MinConnectTimeout: time.Second})),
		remote.WithCallOptions(grpc.MaxCallRecvMsgSize(remoteMaxBytes)))
	rc.MaxRetryCount = 1 // there is no option; 0 would mean never to connect
	return rc, nil
}

func transport(cfg *tls.Config) credentials.TransportCredentials {
	if cfg == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(cfg)
}

func splitPort(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("actor address %q: %w", addr, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("actor address %q: its port is not a number: %w", addr, err)
	}
	return host, int(n), nil
}

// freePort decides the port beforehand: Proto.Actor must know the address under
// which others reach it before it listens.
func freePort(host string) (int, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("actor address: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// check refuses addresses under which no other node could reach this one.
func (e endpoint) check() error {
	host, _, err := splitPort(e.bind)
	if err != nil {
		return err
	}
	if e.advertise != "" {
		host = e.advertise
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("actor address %s: other nodes cannot connect to %q: "+
			"say which address of this machine they reach (advertise one)", e.bind, host)
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return fmt.Errorf("actor address %s: %s is an IPv6 address: advertise a host name instead",
			e.bind, host)
	}
	return nil
}

// startRemote starts to listen. Proto.Actor panics where others return an error.
func startRemote(r *remote.Remote) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("actor listener: %v", cause)
		}
	}()
	r.Start()
	return nil
}

// openSystem builds the cluster core of a node with a network and listens.
func openSystem(system *actor.ActorSystem, name string, lookup *Lookup, e endpoint) (*Core, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	_, port, _ := splitPort(e.bind)
	for try := 1; ; try++ {
		rc, err := e.configure()
		if err != nil {
			return nil, err
		}
		core := newCore(system, name, lookup, rc)
		err = startRemote(core.cluster.Remote)
		if err == nil {
			return core, nil
		}
		if port != 0 || try == portTries {
			return nil, err
		}
	}
}

// recoverStream keeps a message that cannot be decoded from ending the process:
// the connection ends instead, and is made anew.
func recoverStream(
	srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler,
) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = status.Errorf(codes.Internal, "panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return next(srv, stream)
}
