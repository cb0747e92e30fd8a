package clientlib

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Config says where the cluster is. One of Nodes, Consul and Embedded is needed.
type Config struct {
	// Nodes are actor addresses (HOST:PORT, the node's actor.listener) of some nodes; the
	// others are found through them.
	Nodes []string
	// Consul is the address of the Consul agent where the nodes register, HOST:PORT or a
	// URL. CONSUL_HTTP_TOKEN and the other variables of Consul's own tools count too.
	Consul string
	// Cluster is the name of the cluster in Consul (cluster.name); "": "troupe".
	Cluster string
	// Embedded is a node in this process: a *node.Node. Nothing goes over the network.
	Embedded Embedded

	// ClientID is how logs and metrics of the nodes call this program; "": its name.
	ClientID string
	// Listen is HOST:PORT where the nodes reach this program with their answers; "": the
	// IPv4 address of this machine that reaches the nodes, and any port. Advertise is what
	// they are told instead, HOST or HOST:PORT.
	Listen, Advertise string
	// TLS secures the connections to the nodes and from them, which need the same: it
	// must have a certificate for both directions, RootCAs and ClientCAs. Nil: nothing
	// is secured.
	TLS *tls.Config
	// DialTimeout bounds the search for the first node if the context of Dial has no
	// deadline; 0: 10 s.
	DialTimeout time.Duration
	// Logger is told what an operator should know: sessions with nodes, topics that are
	// missing, dead letters, what does not work and is tried again. Nil: nobody is.
	Logger *slog.Logger
}

// Embedded is a node in the same process, for Config.Embedded. *node.Node is one.
type Embedded interface {
	// Actors is for this package alone.
	Actors() any
}
