// Package bulk carries replication between nodes: followers fetch batches from
// leaders over TCP connections of its own, apart from control messages, so that a
// fetch never delays a vote. The same listener answers health probes.
//
// There is one connection from a follower's node to a leader's node, and it
// carries the fetches of all partitions. A fetch may stay parked at the leader for
// ever: it costs an entry in a table, no timer and no goroutine. Answers come in
// any order. When a connection breaks, every fetch under way is answered with
// messages.ErrUnavailable.
//
// package node makes one Server and one Pool. The bytes on the wire are specified
// in docs/format/bulk.md.
package bulk

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// Handler is the leader's side of a node.
type Handler interface {
	// Fetch takes a follower's request. It must not block. reply is called once,
	// from any goroutine, now or much later; it takes over the answer's View.
	Fetch(q *data.ReplicaFetch, reply func(*data.ReplicaFetched))
	// Disconnected says that the follower's connection is gone: nobody waits for
	// the answers of what is parked, though replying is still allowed. It must not
	// block. It is called before the first Fetch of a later connection of that
	// follower, and after the last one of this.
	Disconnected(follower messages.NodeID, conn uint64)
}

// Identity is what a node tells its peers as they connect.
type Identity struct {
	Node    messages.NodeID
	Cluster string // its name; nodes of another cluster are refused; at most 255 bytes
	// Incarnation is that of the node's present registration, at most 255 bytes.
	// Nil stands for none.
	Incarnation func() string
}

func (i *Identity) incarnation() string {
	if i.Incarnation == nil {
		return ""
	}
	return i.Incarnation()
}

// Bounds and times of connections.
const (
	// MaxPending bounds the fetches under way on one connection. Above it, they
	// are answered with messages.ErrOverloaded. It is part of the protocol.
	MaxPending = 65536
	// DefaultReceiveBytes bounds the records that one peer has sent and that were
	// not released yet, in bytes. An answer larger than that comes alone.
	DefaultReceiveBytes = 64 << 20
	// DefaultMaxRecords bounds the records of one answer, in bytes. No batch can
	// be larger than a Produce request that brought it.
	DefaultMaxRecords = 128 << 20

	// fileMin is the size, in bytes, from which a file extent goes by sendfile.
	fileMin = 16 << 10
	// maxConnections bounds the connections of a Server, probes included.
	maxConnections = 1024
	// readBuffer is the size of the read buffer of a follower's connection, in bytes:
	// some hundred fetches at once.
	readBuffer = 32 << 10
	// answerBuffer is that of the connection to a leader: small answers whole, and
	// little of a large one, whose records are then read to where they stay.
	answerBuffer = 4 << 10
)

// limits are bounds and times that only tests change.
type limits struct {
	pending   int           // MaxPending
	handshake time.Duration // for connecting, TLS and the first words
	write     time.Duration // a peer may take nothing for so long while something waits
	check     time.Duration // between looks at the connections
	ping      int           // checks between two pings
	silent    int           // checks without a byte after which a peer counts as gone
	idle      int           // checks without a fetch after which a client hangs up
	backoff   time.Duration // before the first attempt to connect again
	maxDelay  time.Duration // between attempts to connect
}

// defaultLimits pings once per second and connection. A peer that missed three
// pings is gone: the third has a quarter of a second to be answered. Silence is
// counted in looks, not in time, or a process that was paused would believe that
// all its peers are dead.
var defaultLimits = limits{
	pending:   MaxPending,
	handshake: 3 * time.Second,
	write:     30 * time.Second,
	check:     250 * time.Millisecond,
	ping:      4,
	silent:    13,
	idle:      4 * 120,
	backoff:   50 * time.Millisecond,
	maxDelay:  time.Second,
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// within makes nc fail when the time is up or ctx ends; stop takes that back, and
// reports false if ctx ended before.
func within(ctx context.Context, nc net.Conn, d time.Duration) (stop func() bool) {
	_ = nc.SetDeadline(time.Now().Add(d)) // a socket that is closed fails anyway
	undo := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	return func() bool {
		live := undo()
		if live {
			_ = nc.SetDeadline(time.Time{})
		}
		return live
	}
}

// secured puts TLS on a connection; a nil config leaves it plain.
func secured(
	ctx context.Context, nc net.Conn, config *tls.Config,
	side func(net.Conn, *tls.Config) *tls.Conn,
) (net.Conn, error) {
	if config == nil {
		return nc, nil
	}
	t := side(nc, config)
	return t, t.HandshakeContext(ctx)
}

// socketOf returns the socket below TLS, or nc itself.
func socketOf(nc net.Conn) net.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}
