package bulk

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/netio"
)

// ServerConfig is what a Server needs to know. Zero values mean the defaults.
type ServerConfig struct {
	Identity
	// TLS is spoken with those who connect; nil: none. Records are then copied
	// instead of sent by sendfile. To know the peers, it demands certificates
	// (tls.RequireAndVerifyClientCert).
	TLS        *tls.Config
	MaxRecords int // bytes of one answer's records, alike on all nodes; DefaultMaxRecords
	Log        *slog.Logger
}

// ErrClosed is what Serve returns after Close.
var ErrClosed = errors.New("bulk listener is closed")

// Reasons why a connection ends.
var (
	errReplaced = errors.New("the follower connected anew")
	errSilent   = errors.New("peer does not answer pings")
	errTooMany  = errors.New("peer has more fetches under way than it may")
	errStopped  = errors.New("this node stops")
)

// Server answers followers and probes. Its methods may be called by any goroutine.
type Server struct {
	config  ServerConfig
	handler Handler
	limits  limits
	buffers netio.Buffers

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup // goroutines of the server

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	sockets   map[net.Conn]struct{}             // accepted and not closed yet
	followers map[messages.NodeID]*followerConn // at most one for a node
	last      uint64                            // number of the newest connection
}

// NewServer returns a Server that serves nothing yet.
func NewServer(config ServerConfig, handler Handler) *Server {
	return newServer(config, handler, defaultLimits)
}

func newServer(config ServerConfig, handler Handler, l limits) *Server {
	orDefault(&config.MaxRecords, DefaultMaxRecords)
	config.Log = orDiscard(config.Log)
	s := &Server{
		config:    config,
		handler:   handler,
		limits:    l,
		listeners: map[net.Listener]struct{}{},
		sockets:   map[net.Conn]struct{}{},
		followers: map[messages.NodeID]*followerConn{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.running.Go(s.watch)
	return s
}

// Serve accepts connections until Close, and then returns ErrClosed. The listener
// is closed when it returns.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.addListener(l) {
		return ErrClosed
	}
	var backoff time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			backoff = 0
			s.start(nc)
			continue
		}
		if s.ctx.Err() != nil {
			return ErrClosed
		}
		var t interface{ Temporary() bool } // deprecated in general, but not for Accept
		if !errors.As(err, &t) || !t.Temporary() {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		// Out of descriptors, mostly: others must close before this can succeed.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		s.config.Log.Warn("Connection of a node could not be accepted", "error", err,
			"retry_ms", backoff.Milliseconds())
		if !pause(s.ctx, backoff) {
			return ErrClosed
		}
	}
}

// pause waits for d, and reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

// start serves a connection on a goroutine of its own.
func (s *Server) start(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || len(s.sockets) >= maxConnections {
		_ = nc.Close()
		return
	}
	s.sockets[nc] = struct{}{}
	s.running.Go(func() {
		err := s.serve(nc)
		_ = nc.Close()
		s.mu.Lock()
		delete(s.sockets, nc)
		s.mu.Unlock()
		if s.ctx.Err() == nil {
			s.config.Log.Debug("Connection of a node closed", "remote", nc.RemoteAddr(),
				"reason", err)
		}
	})
}

// serve runs one connection from its first byte to its last.
func (s *Server) serve(nc net.Conn) error {
	live := within(s.ctx, nc, s.limits.handshake)
	defer live()
	secure, err := secured(s.ctx, nc, s.config.TLS, tls.Server)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	b, err := readHello(secure)
	if err != nil {
		return err
	}
	h, w := s.config.judge(b)
	var f *followerConn
	if w.status == statusOK && h.purpose == toFetch {
		f = s.admit(h.node, secure)
		defer s.dismiss(f)
	}
	if _, err := secure.Write(w.encode()); err != nil {
		return err
	}
	if w.status != statusOK {
		return fmt.Errorf("%w: %s", errRefused, w.text)
	}
	if !live() || f == nil {
		return nil
	}
	return f.serve()
}

// admit makes the connection the follower's only one. The one before is over
// when it returns.
func (s *Server) admit(node messages.NodeID, nc net.Conn) *followerConn {
	s.mu.Lock()
	s.last++
	f := newFollowerConn(s, node, s.last, nc)
	before := s.followers[node]
	s.followers[node] = f
	s.mu.Unlock()
	if before != nil {
		before.end(errReplaced)
		<-before.over
	}
	return f
}

// dismiss says that the connection is over.
func (s *Server) dismiss(f *followerConn) {
	s.handler.Disconnected(f.node, f.number)
	s.mu.Lock()
	if s.followers[f.node] == f {
		delete(s.followers, f.node)
	}
	s.mu.Unlock()
	close(f.over)
}

// watch looks at every connection now and then.
func (s *Server) watch() {
	ticker := time.NewTicker(s.limits.check)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		for _, f := range s.followers {
			f.check(s.limits.silent)
		}
		s.mu.Unlock()
	}
}

// Close stops listening, closes every connection and waits until all is given
// back. Handlers may still reply to what is parked. Serve, if it was called,
// returns.
func (s *Server) Close() {
	s.mu.Lock()
	s.stop()
	for l := range s.listeners {
		_ = l.Close()
	}
	for _, f := range s.followers {
		f.end(errStopped)
	}
	for nc := range s.sockets {
		_ = nc.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}
