package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"

	"github.com/troupelog/troupe/cluster/transport"
	"github.com/troupelog/troupe/messages"
)

// Config says where a cluster is and how it reaches this program. One of Nodes, Consul
// and Actors is needed.
type Config struct {
	// Nodes are addresses of the actor systems of some nodes, HOST:PORT.
	Nodes []string
	// Consul is where the nodes are registered, HOST:PORT or a URL, and Cluster under
	// which name; "": "troupe".
	Consul, Cluster string
	// Actors is the actor system of a node in this process: an *actor.ActorSystem.
	Actors any

	ClientID string
	// Listen is HOST:PORT where answers come in; "": the address of this machine that
	// reaches the nodes, and any port. Advertise is what the nodes are told instead.
	Listen, Advertise string
	// TLS is for connections to the nodes and from them; nil: none is secured.
	TLS *tls.Config
	// Logger is told what an operator should know; nil: nobody is.
	Logger *slog.Logger
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// check puts in the defaults and refuses what cannot be.
func (c *Config) check() error {
	if c.Cluster == "" {
		c.Cluster = "troupe"
	}
	ways := 0
	for _, given := range []bool{len(c.Nodes) > 0, c.Consul != "", c.Actors != nil} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return fmt.Errorf("set one of Nodes, Consul and Embedded, to say where the cluster is: %w",
			messages.ErrInvalidRequest)
	}
	for _, address := range c.Nodes {
		if _, _, err := transport.SplitPort(address); err != nil {
			return fmt.Errorf("%w: %w", messages.ErrInvalidRequest, err)
		}
	}
	if c.Listen != "" {
		if _, _, err := transport.SplitPort(c.Listen); err != nil {
			return fmt.Errorf("listen: %w: %w", messages.ErrInvalidRequest, err)
		}
	}
	return nil
}

// secure returns what secures the connections to this program and from it. Both ends of
// each show a certificate: who may send to an actor may stop it.
func (c *Config) secure() (server, client *tls.Config, err error) {
	if c.TLS == nil {
		return nil, nil, nil
	}
	both := c.TLS.Clone()
	if both.ClientCAs == nil {
		both.ClientCAs = both.RootCAs
	}
	if both.RootCAs == nil {
		both.RootCAs = both.ClientCAs
	}
	if len(both.Certificates) == 0 && both.GetCertificate == nil || both.RootCAs == nil {
		return nil, nil, fmt.Errorf("TLS: the nodes connect to this program to answer it: "+
			"set Certificates, RootCAs and ClientCAs: %w", messages.ErrInvalidRequest)
	}
	both.ClientAuth = tls.RequireAndVerifyClientCert
	return both, both.Clone(), nil
}

// connect makes the network of the link.
func (l *Link) connect(ctx context.Context) error {
	if l.cfg.Actors != nil {
		net, err := share(l.cfg.Actors, l)
		if err != nil {
			return err
		}
		l.net = net
		return nil
	}
	e := transport.Endpoint{Bind: l.cfg.Listen, Advertise: l.cfg.Advertise}
	var err error
	if e.Server, e.Client, err = l.cfg.secure(); err != nil {
		return err
	}
	if e.Bind == "" {
		host, err := l.cfg.localHost(ctx)
		if err != nil {
			return err
		}
		e.Bind = net.JoinHostPort(host, "0")
	}
	network, err := listen(e, l.log, l)
	if err != nil {
		return fmt.Errorf("listen for the answers of the nodes: %w", err)
	}
	l.net = network
	return nil
}

// localHost returns the address of this machine that reaches the nodes: any of them, or
// Consul, which is beside them, while nobody knows of one.
func (c *Config) localHost(ctx context.Context) (string, error) {
	if len(c.Nodes) > 0 {
		return localAddressFor(ctx, c.Nodes)
	}
	addresses, err := c.fromConsul(ctx)
	if err == nil {
		return localAddress(ctx, addresses[0])
	}
	address := c.Consul
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		address = u.Host
	}
	host, reachErr := localAddress(ctx, address)
	if reachErr != nil {
		return "", fmt.Errorf("%w; %w", err, reachErr)
	}
	return host, nil
}
