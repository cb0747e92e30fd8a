package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type reasons []string

func (r reasons) NotReady() []string { return r }

// start serves on a free port of the loopback address and returns its URL. The
// server is shut down when the test ends.
func start(t *testing.T, o Options) (s *Server, url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Metrics == nil {
		o.Metrics = http.NotFoundHandler()
	}
	s = New(o)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve returns %v after Shutdown", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s, "http://" + ln.Addr().String()
}

func get(t *testing.T, method, url string) (status int, contentType, body string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
}

func TestEveryPathAnswersAsDocumented(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text(w, "up 1\n")
	})
	const plain, object = "text/plain; charset=utf-8", "application/json"
	for _, tt := range []struct {
		name        string
		health      reasons
		method      string
		path        string
		status      int
		contentType string
		body        string
	}{
		{"the index names the paths", nil, "GET", "/", 200, plain,
			"Troupe. See /healthz, /readyz and /metrics.\n"},
		{"a process that answers lives", nil, "GET", "/healthz", 200, plain, "ok\n"},
		{"a node that is not ready lives", reasons{"starting"}, "GET", "/healthz", 200, plain,
			"ok\n"},
		{"a load balancer may ask without the body", nil, "HEAD", "/healthz", 200, plain, ""},
		{"a ready node has no reasons", nil, "GET", "/readyz", 200, object,
			`{"ready":true,"reasons":[]}` + "\n"},
		{"a node that is not ready says why",
			reasons{"recovering partitions 3/1000", "data directory /b offline"},
			"GET", "/readyz", 503, object, `{"ready":false,"reasons":[` +
				`"recovering partitions 3/1000","data directory /b offline"]}` + "\n"},
		{"metrics come from their handler", nil, "GET", "/metrics", 200, plain, "up 1\n"},
		{"other paths do not exist", nil, "GET", "/nothing", 404, plain,
			"404 page not found\n"},
		{"profiles are off by default", nil, "GET", "/debug/pprof/", 404, plain,
			"404 page not found\n"},
		{"nothing can be changed", nil, "POST", "/healthz", 405, plain,
			"Method Not Allowed\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, url := start(t, Options{Health: tt.health, Metrics: metrics})
			status, contentType, body := get(t, tt.method, url+tt.path)
			if status != tt.status || contentType != tt.contentType || body != tt.body {
				t.Errorf("got %d %q %q, want %d %q %q",
					status, contentType, body, tt.status, tt.contentType, tt.body)
			}
		})
	}
}

func TestProfilesAreServedWhenEnabled(t *testing.T) {
	_, url := start(t, Options{Health: reasons{}, Profiling: true})
	for path, want := range map[string]string{
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "goroutine profile:",
		"/debug/pprof/symbol":            "num_symbols",
	} {
		if status, _, body := get(t, "GET", url+path); status != 200 ||
			!strings.Contains(body, want) {
			t.Errorf("%s: %d %.80q, want %q", path, status, body, want)
		}
	}
	if status, _, _ := get(t, "GET", url+"/debug/pprof/cmdline"); status != 404 {
		t.Errorf("the arguments of the process are shown: %d", status)
	}
}

func TestAHugeHeaderIsRefused(t *testing.T) {
	_, url := start(t, Options{Health: reasons{}})
	if status, _, _ := get(t, "GET", url+"/?"+strings.Repeat("x", headerBytesMax/2)); status != 200 {
		t.Errorf("half of the bound: %d", status)
	}
	resp, err := http.Get(url + "/?" + strings.Repeat("x", 4*headerBytesMax))
	if err != nil {
		return // the connection was closed before all of the header was sent
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("four times the bound: %d", resp.StatusCode)
	}
}

func TestShutdownLetsARunningAnswerFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s, url := start(t, Options{Health: reasons{}, Metrics: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-leave
			text(w, "done\n")
		})})
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	close(leave)
	if got := <-answer; got != "done\n" {
		t.Errorf("the answer is %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := http.Get(url + "/healthz"); err == nil {
		t.Error("answers after Shutdown")
	}
}

func TestShutdownCutsOffAnAnswerThatOutlivesItsContext(t *testing.T) {
	entered := make(chan struct{})
	s, url := start(t, Options{Health: reasons{}, Metrics: http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		})})
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Get(url + "/metrics")
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("an answer that was cut off came whole")
	}
}

func TestAPanicOfAHandlerIsLoggedAndTheServerLives(t *testing.T) {
	var log testkit.LogBuffer
	_, url := start(t, Options{
		Health:  reasons{},
		Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("told to") }),
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	if resp, err := http.Get(url + "/metrics"); err == nil {
		_ = resp.Body.Close()
		t.Error("a panic is answered")
	}
	if status, _, _ := get(t, "GET", url+"/healthz"); status != 200 {
		t.Errorf("health is %d after a panic", status)
	}
	if text := log.String(); !strings.Contains(text, "told to") {
		t.Errorf("the log is %q", text)
	}
}

func TestConnectionsBeyondTheLimitWait(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limit(inner, 1)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial()
	dial()
	first, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
		_, err = ln.Accept() // waits for a slot until Close
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		close(accepted)
	}()
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted beside the first")
	default:
	}
	_ = first.Close()
	_ = first.Close() // frees its slot once
	second := <-accepted
	_ = ln.Close()
	<-accepted
	_ = second.Close()
}
