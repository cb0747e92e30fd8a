// Package transport is how actor systems reach each other: the settings of Proto.Actor's
// remote, and the trouble of starting it.
//
// It owns no state. The cluster's nodes (package cluster) and the programs that use the
// SDK (package clientlib) start their remotes through it, so that both ends agree on
// limits. Batches of messages go through a codec of its own (codec.go), which does not
// copy what is large: who sends a message must not change it any more.
package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

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
// message: Batch messages of the largest size that may be sent must fit in
// maxBytes, or the whole batch is lost without a word.
const (
	Batch    = 32
	maxBytes = 128 << 20
	// MessageMax is the largest message that may cross nodes; bulk data
	// travels on connections of its own.
	MessageMax = maxBytes / Batch / 2

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

// Endpoint is where an actor system listens and how others reach it.
type Endpoint struct {
	Bind      string // HOST:PORT; port 0: any
	Advertise string // HOST, or HOST:PORT; "": as Bind
	// Server and Client secure what comes in and what goes out; nil: nothing does.
	Server, Client *tls.Config
}

// configure returns the settings of the remote, with the port decided.
func (e Endpoint) configure() (*remote.Config, error) {
	host, port, err := SplitPort(e.Bind)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		if port, err = freePort(host); err != nil {
			return nil, err
		}
	}
	advertised := e.Advertise
	if advertised == "" {
		advertised = host
	}
	if _, _, err := net.SplitHostPort(advertised); err != nil {
		advertised = net.JoinHostPort(advertised, strconv.Itoa(port))
	}
	rc := remote.Configure(host, port,
		remote.WithAdvertisedHost(advertised),
		remote.WithEndpointWriterBatchSize(Batch),
		remote.WithEndpointWriterQueueSize(remoteQueue),
		remote.WithServerOptions(
			grpc.MaxRecvMsgSize(maxBytes),
			grpc.ForceServerCodecV2(codec{}),
			grpc.Creds(secured(e.Server)),
			grpc.ConnectionTimeout(helloTimeout),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				Time: 2 * time.Second, Timeout: 2 * time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
				MinTime: 5 * time.Second, PermitWithoutStream: true}),
			grpc.ChainStreamInterceptor(recoverStream),
			grpc.ChainUnaryInterceptor(refuseCall)),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(secured(e.Client)),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: 50 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
				MinConnectTimeout: time.Second})),
		remote.WithCallOptions(
			grpc.MaxCallRecvMsgSize(maxBytes), grpc.ForceCodecV2(codec{})))
	rc.MaxRetryCount = 1 // there is no option; 0 would mean never to connect
	return rc, nil
}

func secured(cfg *tls.Config) credentials.TransportCredentials {
	if cfg == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(cfg)
}

// SplitPort takes a HOST:PORT apart. The port is a number.
func SplitPort(addr string) (host string, port int, err error) {
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
func (e Endpoint) check() error {
	host, _, err := SplitPort(e.Bind)
	if err != nil {
		return err
	}
	if e.Advertise != "" {
		host = e.Advertise
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("actor address %s: other nodes cannot connect to %q: "+
			"say which address of this machine they reach (advertise one)", e.Bind, host)
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return fmt.Errorf("actor address %s: %s is an IPv6 address: advertise a host name instead",
			e.Bind, host)
	}
	return nil
}

// start starts to listen. Proto.Actor panics where others return an error.
func start(r *remote.Remote) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("actor listener: %v", cause)
		}
	}()
	r.Start()
	return nil
}

// Listen starts a remote that listens at e, which build makes of its settings. It may
// call build several times if any port will do; the last one is started.
func (e Endpoint) Listen(build func(*remote.Config) *remote.Remote) error {
	if err := e.check(); err != nil {
		return err
	}
	_, port, _ := SplitPort(e.Bind)
	for try := 1; ; try++ {
		rc, err := e.configure()
		if err != nil {
			return err
		}
		err = start(build(rc))
		if err == nil || port != 0 || try == portTries {
			return err
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
	return next(srv, strict{stream})
}

// strict is a stream on which nobody is told to end. Actors are stopped by those who own
// them, which are on their side; but Proto.Actor does what anybody's message says, were it
// to the one that starts the others.
type strict struct{ grpc.ServerStream }

func (s strict) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if msg, ok := m.(*remote.RemoteMessage); ok && err == nil {
		withoutStops(msg.GetMessageBatch())
	}
	return err
}

// withoutStops takes the messages out of a batch that end an actor.
func withoutStops(b *remote.MessageBatch) {
	if !slices.ContainsFunc(b.GetTypeNames(), stops) {
		return
	}
	b.Envelopes = slices.DeleteFunc(b.Envelopes, func(e *remote.MessageEnvelope) bool {
		return !outside(e.TypeId, b.TypeNames) && stops(b.TypeNames[e.TypeId])
	})
}

func stops(typeName string) bool {
	return typeName == "actor.Stop" || typeName == "actor.PoisonPill"
}

// refuseCall answers the calls that Proto.Actor declares and does not have, for tools
// that look into an actor system: its own answer to them is a panic, which would end the
// process.
func refuseCall(
	_ context.Context, _ any, call *grpc.UnaryServerInfo, _ grpc.UnaryHandler,
) (any, error) {
	return nil, status.Errorf(codes.Unimplemented, "%s is not supported", call.FullMethod)
}
