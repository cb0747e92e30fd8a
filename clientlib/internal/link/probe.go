package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
)

// probeTimeout bounds the look at an address.
const probeTimeout = time.Second

// HTTP/2, which gRPC speaks, begins with this from the client, and with settings from
// both.
const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	frameHeader   = 9
	frameType     = 3 // its place in the header
	settings      = 4
)

// errSilent is what a probe finds where something listens that is no node.
var errSilent = errors.New("something else than the actors of a node listens there " +
	"(or without TLS, or with): name the actor.listener of a node, not its Kafka listener")

// prober looks whether a node listens at an address, before Proto.Actor connects to it:
// that takes seconds to find that nobody does, and cannot be interrupted.
type prober struct{ tls *tls.Config }

func (p prober) probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if p.tls != nil {
		if conn, err = handshake(ctx, conn, address, p.tls); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, preface+emptySettings); err != nil {
		return err
	}
	var header [frameHeader]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%w (%w)", errSilent, err)
	}
	if header[frameType] != settings {
		return errSilent
	}
	return nil
}

func handshake(ctx context.Context, conn net.Conn, address string, cfg *tls.Config) (
	net.Conn, error) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// reach only looks whether anybody listens.
func reach(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	if _, _, err := transport.SplitPort(address); err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// localAddressFor returns the address of this machine that reaches the first of some
// others whose name is known.
func localAddressFor(ctx context.Context, others []string) (string, error) {
	var failed []error
	for _, other := range others {
		host, err := localAddress(ctx, other)
		if err == nil {
			return host, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

// localAddress returns the address of this machine that reaches another one. Nothing is
// sent.
func localAddress(ctx context.Context, other string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", other)
	var unknown *net.DNSError
	switch {
	case err == nil:
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).IP.String(), nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", other, context.Cause(ctx))
	case errors.As(err, &unknown):
		return "", fmt.Errorf("%s: its host is not known: %w: %w", other, messages.ErrUnavailable, err)
	}
	return "", fmt.Errorf("which address of this machine reaches %s: set Listen: %w", other, err)
}
