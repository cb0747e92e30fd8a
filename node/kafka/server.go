// Package kafka is the Kafka listener of a node: it speaks the wire protocol to
// clients and turns requests into calls of the backend interfaces it declares.
//
// It owns the connections, the memory that requests and responses take while
// they are under way, and the decision which Kafka error a Go error becomes.
// It knows neither actors nor files. One table (apis.go) lists every API key
// with its versions and its handler; each API has a file named after its key.
//
// Only the node's wiring creates a Server.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/troupelog/troupe/netio"
)

// Config holds the bounds of a Server. Zero values mean the defaults.
type Config struct {
	// MaxConnections bounds the connections of all listeners together
	// (max.connections); above it, clients wait to be accepted. 0: no bound.
	MaxConnections int
	// MaxIdle closes connections on which nothing happened for so long
	// (connections.max.idle.ms). Default 10 minutes; negative: never.
	MaxIdle time.Duration
	// MaxRequestBytes bounds one request (socket.request.max.bytes). Default 100 MiB.
	MaxRequestBytes int
	// QueuedMaxBytes bounds the memory of all requests and responses under way
	// (queued.max.request.bytes), but for one frame more. Default 256 MiB;
	// negative: no bound.
	QueuedMaxBytes int64
	// ConnectionMaxBytes bounds the memory of one connection's requests and
	// unsent responses, but for one request more. Default 16 MiB.
	ConnectionMaxBytes int64
	// MaxInFlight bounds the requests of one connection that are not answered
	// yet. Default 64.
	MaxInFlight int
	// FetchMaxBytes bounds the records of one Fetch response (fetch.max.bytes).
	// Default 55 MiB.
	FetchMaxBytes int
	// FetchSessions bounds the fetch sessions that are kept
	// (max.incremental.fetch.session.cache.slots). Default 1000; negative: none.
	FetchSessions int
	// ReadTimeout is how long a client may stop in the middle of a request.
	// Default 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long a client may read nothing while an answer waits.
	// Default 60 s.
	WriteTimeout time.Duration
	// Log takes what an operator should know. Default: nothing.
	Log *slog.Logger
	// Metrics counts. Default: nothing.
	Metrics Metrics
}

// Validate reports a setting that cannot be.
func (c *Config) Validate() error {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"max.connections", int64(c.MaxConnections)},
		{"socket.request.max.bytes", int64(c.MaxRequestBytes)},
		{"fetch.max.bytes", int64(c.FetchMaxBytes)},
		{"bytes of a connection", c.ConnectionMaxBytes},
		{"requests in flight", int64(c.MaxInFlight)},
		{"read timeout", int64(c.ReadTimeout)},
		{"write timeout", int64(c.WriteTimeout)},
	} {
		if v.value < 0 {
			return fmt.Errorf("%s is negative; leave it out for the default", v.name)
		}
	}
	return nil
}

// orDefault sets *v to d if it is zero.
func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.MaxIdle, 10*time.Minute)
	orDefault(&c.MaxRequestBytes, 100<<20)
	orDefault(&c.QueuedMaxBytes, 256<<20)
	orDefault(&c.ConnectionMaxBytes, 16<<20)
	orDefault(&c.MaxInFlight, 64)
	orDefault(&c.FetchMaxBytes, 55<<20)
	orDefault(&c.FetchSessions, 1000)
	if c.MaxIdle < 0 {
		c.MaxIdle = math.MaxInt64 / 4 // a deadline that time can still be added to
	}
	if c.QueuedMaxBytes < 0 {
		c.QueuedMaxBytes = math.MaxInt64 / 2
	}
	orDefault(&c.ReadTimeout, 30*time.Second)
	orDefault(&c.WriteTimeout, time.Minute)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	return c
}

// Listener is a socket to serve and the address clients are told to use.
type Listener struct {
	net.Listener
	Name string // as in "listeners", e.g. "PLAINTEXT"
	// AdvertisedHost is "" when each client is told the address that it came in on:
	// a listener of every interface has no other name that works for all.
	AdvertisedHost string
	AdvertisedPort int32
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("kafka listener is closed")

// Server is the Kafka listener of one node. Its methods may be called by any
// goroutine.
type Server struct {
	config     Config
	partitions Partitions
	cluster    Cluster
	// coordinators answers for groups and transactions.
	coordinators Coordinators
	settings     Settings
	apis         apiTable
	shapes       [keyMax + 1][]*shape // by key, and version from api.accepts
	sessions     *fetchSessions
	buffers      netio.Buffers
	budget       *budget

	ctx      context.Context         // of everything the server does
	cancel   context.CancelCauseFunc // ends it
	serving  context.Context         // ends when Shutdown begins
	drain    context.CancelFunc      // ends serving
	draining atomic.Bool
	slots    chan struct{} // one per connection; nil: no bound
	running  sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
}

// New returns a Server that serves nothing yet. A config that Validate refuses
// is a bug of the caller.
func New(config Config, partitions Partitions, cluster Cluster, coordinators Coordinators,
	settings Settings,
) *Server {
	config = config.withDefaults()
	s := &Server{
		config:       config,
		partitions:   partitions,
		cluster:      cluster,
		coordinators: coordinators,
		settings:     settings,
		apis:         newAPITable(),
		sessions:     newFetchSessions(config.FetchSessions, config.Metrics),
		budget:       newBudget(config.QueuedMaxBytes),
		listeners:    map[net.Listener]struct{}{},
		conns:        map[*conn]struct{}{},
	}
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		for v := a.accepts; v <= a.max; v++ {
			s.shapes[a.key] = append(s.shapes[a.key], schemas[a.key].shape(v))
		}
	}
	if config.MaxConnections > 0 {
		s.slots = make(chan struct{}, config.MaxConnections)
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.serving, s.drain = context.WithCancel(s.ctx)
	return s
}

// Serve accepts connections until Shutdown, and then returns ErrServerClosed.
// It may be called for several listeners. The listener is closed when it returns.
func (s *Server) Serve(l Listener) error {
	defer l.Close() // nothing can be done about a listener that does not close
	if !s.addListener(l) {
		return ErrServerClosed
	}
	defer s.removeListener(l)
	var backoff time.Duration
	for {
		if err := s.takeSlot(); err != nil {
			return ErrServerClosed
		}
		nc, err := l.Accept()
		if err == nil {
			backoff = 0
			s.start(nc, l)
			continue
		}
		s.giveSlot()
		if s.draining.Load() {
			return ErrServerClosed
		}
		if !temporary(err) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		// Out of descriptors, mostly: others must close before this can succeed.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		s.config.Log.Warn("Connection could not be accepted", "listener", l.Name, "error", err,
			"retry_ms", backoff.Milliseconds())
		if !s.pause(backoff) {
			return ErrServerClosed
		}
	}
}

// temporary reports whether accepting may succeed later. net.Error's own
// Temporary is deprecated in general, but not for Accept.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// pause waits for d, and reports false if the server is torn down meanwhile.
func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !s.draining.Load()
	case <-s.ctx.Done():
		return false
	}
}

// takeSlot waits until one more connection may be accepted.
func (s *Server) takeSlot() error {
	if s.slots == nil {
		return nil
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-s.ctx.Done():
		return ErrServerClosed
	}
}

func (s *Server) giveSlot() {
	if s.slots != nil {
		<-s.slots
	}
}

// start serves one connection on a goroutine of its own. It owns a slot.
func (s *Server) start(nc net.Conn, l Listener) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // the default of net, stated: answers must not wait for more
	}
	c := s.newConn(nc, l)
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		c.abort(errDraining)
		s.giveSlot()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.config.Metrics.ConnectionOpened()
	go func() {
		defer s.running.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.config.Metrics.ConnectionClosed()
		s.giveSlot()
	}()
}

func (s *Server) addListener(l Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.listeners[l.Listener] = struct{}{}
	return true
}

func (s *Server) removeListener(l Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l.Listener)
}

// Shutdown stops accepting, lets every connection finish the requests it has
// read, and closes it. Parked Fetches answer at once with what there is, members
// that wait for their group are sent to look for its coordinator. When
// ctx ends first, what is left is closed the hard way and Shutdown returns the
// reason; answers may be lost then, appends are not.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	s.drain()
	for l := range s.listeners {
		_ = l.Close() // Serve sees it and returns
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	defer s.cancel(ErrServerClosed)
	defer s.sessions.close()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel(ErrServerClosed)
	s.mu.Lock()
	for c := range s.conns {
		c.abort(ErrServerClosed)
	}
	s.mu.Unlock()
	<-done
	return context.Cause(ctx)
}

// Stats is how much a Server holds at one moment.
type Stats struct {
	Connections int
	QueuedBytes int64 // memory of requests and responses under way
	QueuedLimit int64
	// FetchSessions are the fetch sessions, FetchSessionPartitions what they know of.
	FetchSessions, FetchSessionPartitions int
}

// Stats returns how much the server holds now, for gauges.
func (s *Server) Stats() Stats {
	used, limit := s.budget.stats()
	sessions, partitions := s.sessions.stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Connections: len(s.conns), QueuedBytes: used, QueuedLimit: limit,
		FetchSessions: sessions, FetchSessionPartitions: partitions}
}
