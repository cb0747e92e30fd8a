// Package admin is the HTTP side of a node: whether it lives, whether it is
// ready, its metrics and, if asked for, its profiles.
//
// It knows the node through the small interface Health and a handler for the
// metrics; only the wiring of the node imports it. Nothing here changes the
// node, and the number of connections, the size of a request and the time one
// may take are bounded.
//
// Paths:
//
//	/             one line that names the others
//	/healthz      200 as long as the process answers: restart it if not
//	/readyz       200 if clients may come, else 503 and the reasons
//	/metrics      Prometheus' text format
//	/debug/pprof  Go's profiles, if enabled
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Health tells whether the node is ready.
type Health interface {
	// NotReady returns why clients should not be sent to this node now, for
	// instance "recovering partitions 3/1000" or "draining"; none if they may.
	// It is called by any goroutine and must not block.
	NotReady() []string
}

// Options of New.
type Options struct {
	Health  Health
	Metrics http.Handler // serves /metrics
	// Profiling serves /debug/pprof, which shows a caller the inside of the
	// process and costs time: off unless somebody asked for it.
	Profiling bool
	// Log gets what goes wrong in the server itself; nil drops it.
	Log *slog.Logger
}

// Bounds of the server.
const (
	connectionsMax    = 128
	headerBytesMax    = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// writeTimeout also bounds how long a CPU profile may run.
	writeTimeout = 2 * time.Minute
	idleTimeout  = time.Minute
)

// Server is the HTTP server of one node. Its methods may be called by any
// goroutine.
type Server struct {
	http http.Server
}

// New makes a server that does not listen yet.
func New(o Options) *Server {
	s := &Server{http: http.Server{
		Handler:           handler(o),
		MaxHeaderBytes:    headerBytesMax,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
	}}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.http.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	return s
}

// Serve answers what comes in on ln until Shutdown and then returns nil. It
// closes ln. At most connectionsMax connections are served at a time; others
// wait in the backlog of the operating system.
func (s *Server) Serve(ln net.Listener) error {
	err := s.http.Serve(limit(ln, connectionsMax))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening, lets running answers finish, and cuts them off when
// ctx ends; the error is that of ctx then.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close() // of no interest beside the reason for it
	}
	return err
}

func handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		text(w, "Troupe. See /healthz, /readyz and /metrics.\n")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready(w, o.Health.NotReady())
	})
	mux.Handle("GET /metrics", o.Metrics)
	if o.Profiling {
		// Not pprof.Cmdline: the arguments of the process may hold secrets.
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return mux
}

// readiness is the body of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
}

func ready(w http.ResponseWriter, reasons []string) {
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	if reasons == nil {
		reasons = []string{} // a list in JSON, not null
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error means that the caller is gone.
	_ = json.NewEncoder(w).Encode(readiness{Ready: status == http.StatusOK, Reasons: reasons})
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, s) // an error means that the caller is gone
}
