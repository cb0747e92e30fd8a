package testkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Node is a troupe process. Its methods are called by the test's goroutine only;
// they fail the test when the process does not do as it is told.
type Node struct {
	ID      int32         // as a member of a Cluster; 0 for a single node
	Kafka   string        // HOST:PORT for Kafka clients; kept over restarts
	HTTP    string        // HOST:PORT for health and metrics
	Actor   string        // HOST:PORT for nodes and the SDK; "" if it does not listen
	Dir     string        // data directory
	Startup time.Duration // from the start of the process until it was ready

	tb    testing.TB
	opts  options
	log   *LogBuffer
	cmd   *exec.Cmd
	began time.Time
	done  chan struct{} // closed when the process has ended
}

// addresses is the content of the file a node writes when it is ready.
type addresses struct {
	Kafka string `json:"kafka"`
	HTTP  string `json:"http"`
	Actor string `json:"actor"`
}

const (
	addressFile = "troupe.addr"
	stopTimeout = 30 * time.Second
	pollEvery   = 2 * time.Millisecond
)

// StartNode runs a node and returns once it is ready. The node is killed when
// the test ends, and its log is shown if the test failed.
func StartNode(tb testing.TB, opts ...Option) *Node {
	tb.Helper()
	n := newNode(tb, newOptions(tb, opts))
	n.start()
	return n
}

// newNode makes a node that does not run yet.
func newNode(tb testing.TB, o options) *Node {
	n := &Node{tb: tb, opts: o, Dir: o.dir, log: &LogBuffer{}}
	tb.Cleanup(func() {
		n.kill()
		if tb.Failed() {
			tb.Logf("log of node %d in %s:\n%s", n.ID, n.Dir, n.log.tail(tailLines))
		}
	})
	return n
}

// Refused runs a node that must not come up, and returns its exit code and what
// it wrote to standard error.
func Refused(tb testing.TB, opts ...Option) (exitCode int, stderr string) {
	tb.Helper()
	o := newOptions(tb, opts)
	log := &LogBuffer{}
	cmd := o.command(tb)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		tb.Fatalf("testkit: %v", err)
	}
	timer := time.AfterFunc(o.timeout, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		tb.Fatalf("testkit: %v", err)
	}
	if code := cmd.ProcessState.ExitCode(); code > 0 {
		return code, log.String()
	}
	tb.Fatalf("testkit: the node had to refuse to start, but: %v\n%s", cmd.ProcessState, log)
	return 0, ""
}

func newOptions(tb testing.TB, opts []Option) options {
	o := options{host: "127.0.0.1", timeout: defaultReadyTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	if o.kafka == "" {
		o.kafka = net.JoinHostPort(o.host, "0")
	}
	if o.dir == "" {
		o.dir = filepath.Join(tb.TempDir(), "data")
	}
	return o
}

func (o *options) command(tb testing.TB) *exec.Cmd {
	line := slices.Concat(o.prefix, []string{
		Binary(tb), "start",
		"--data-dir", o.dir, "--kafka-addr", o.kafka,
		"--http-addr", net.JoinHostPort(o.host, "0"),
	}, o.args)
	if o.actor != "" {
		line = append(line, "--actor-addr", o.actor) // the last one counts
	}
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(environment(), o.env...)
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// environment is the environment without settings of Troupe: what a developer
// has set for a node of his own must not decide how a test goes.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(nameValue string) bool {
		return strings.HasPrefix(nameValue, "TROUPE_")
	})
}

func (n *Node) start() {
	n.tb.Helper()
	n.launch()
	n.await()
}

// launch runs the process.
func (n *Node) launch() {
	n.tb.Helper()
	// A file of an earlier life must not pass for readiness.
	err := os.Remove(filepath.Join(n.Dir, addressFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.tb.Fatalf("testkit: %v", err)
	}
	n.cmd = n.opts.command(n.tb)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.began = time.Now()
	if err := n.opts.begin(n.cmd); err != nil {
		n.tb.Fatalf("testkit: %v", err)
	}
	done, cmd := make(chan struct{}), n.cmd
	n.done = done
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(done)
	}()
}

// await returns once the process is ready.
func (n *Node) await() {
	n.tb.Helper()
	a, err := n.awaitReady()
	if err != nil {
		n.kill()
		n.tb.Fatalf("testkit: %v\n%s", err, n.log.tail(tailLines))
	}
	n.Startup = time.Since(n.began)
	n.Kafka, n.HTTP, n.Actor = a.Kafka, a.HTTP, a.Actor
	n.opts.kafka = a.Kafka // clients that know the node find it after a restart
	if n.opts.keepActor {
		n.opts.actor = a.Actor
	}
}

func (n *Node) awaitReady() (addresses, error) {
	deadline := time.NewTimer(n.opts.timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var a addresses
		b, err := os.ReadFile(filepath.Join(n.Dir, addressFile))
		if err == nil && json.Unmarshal(b, &a) == nil && a.Kafka != "" {
			return a, nil
		}
		select {
		case <-n.done:
			return a, fmt.Errorf("the node ended before it was ready: %v", n.cmd.ProcessState)
		case <-deadline.C:
			return a, fmt.Errorf("the node was not ready within %v", n.opts.timeout)
		case <-tick.C:
		}
	}
}

// PID returns the process id.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Usage returns the CPU time and memory the process has used.
func (n *Node) Usage() Usage {
	n.tb.Helper()
	u, err := UsageOf(n.PID())
	if err != nil {
		n.tb.Fatalf("testkit: %v", err)
	}
	return u
}

// Log returns all the process has written, over all its lives.
func (n *Node) Log() string { return n.log.String() }

// Kill ends the process as kill -9 does, at once and without a warning.
func (n *Node) Kill() {
	n.tb.Helper()
	if !n.running() {
		n.tb.Fatalf("testkit: the node has already ended: %v", n.cmd.ProcessState)
	}
	n.kill()
}

// Stop asks the process to end (SIGTERM) and waits until it has; a node that
// takes over 30 s, or ends with an error, fails the test.
func (n *Node) Stop() {
	n.tb.Helper()
	n.signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-n.done:
	case <-timer.C:
		n.kill()
		n.tb.Fatalf("testkit: the node did not stop within %v", stopTimeout)
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 0 {
		n.tb.Fatalf("testkit: the node stopped with %v", n.cmd.ProcessState)
	}
}

// Pause freezes the process (SIGSTOP) until Resume.
func (n *Node) Pause() {
	n.tb.Helper()
	n.signal(syscall.SIGSTOP)
}

// Resume lets a paused process go on.
func (n *Node) Resume() {
	n.tb.Helper()
	n.signal(syscall.SIGCONT)
}

// Restart runs the node again on the same data (unless another Dir is given) and
// opts added to those it was started with. A node that runs is stopped first.
func (n *Node) Restart(opts ...Option) {
	n.tb.Helper()
	if n.running() {
		n.Stop()
	}
	for _, opt := range opts {
		opt(&n.opts)
	}
	n.Dir = n.opts.dir
	n.start()
}

// Launch is Restart for a node that does not run, without waiting until it is ready:
// Await does. Nodes that wait for each other are launched first.
func (n *Node) Launch() {
	n.tb.Helper()
	n.launch()
}

// Await waits until a node that was launched is ready.
func (n *Node) Await() {
	n.tb.Helper()
	n.await()
}

// Running reports whether the process lives.
func (n *Node) Running() bool { return n.running() }

func (n *Node) running() bool {
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

func (n *Node) signal(s syscall.Signal) {
	n.tb.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.tb.Fatalf("testkit: %v: %v", s, err)
	}
}

// kill ends the process if it lives. A paused one dies too.
func (n *Node) kill() {
	if n.done == nil {
		return
	}
	_ = n.cmd.Process.Kill() // fails only when it has ended
	<-n.done
}

// Troupe runs a command of the binary against the node and returns what it
// wrote to standard output. A command that fails fails the test.
func (n *Node) Troupe(args ...string) string {
	n.tb.Helper()
	out, err := n.TryTroupe("", args...)
	if err != nil {
		n.tb.Fatalf("testkit: troupe %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TryTroupe is Troupe with standard input, for commands that may fail: the error
// then holds what the command wrote to standard error.
func (n *Node) TryTroupe(stdin string, args ...string) (stdout string, err error) {
	n.tb.Helper()
	cmd := exec.CommandContext(n.tb.Context(), Binary(n.tb), args...)
	cmd.Env = append(environment(), "TROUPE_BROKERS="+n.Kafka)
	return run(cmd, stdin)
}

func run(cmd *exec.Cmd, stdin string) (string, error) {
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Command runs a client program, such as kcat, and returns what it wrote to
// standard output. A program that fails fails the test.
func Command(tb testing.TB, stdin, name string, args ...string) string {
	tb.Helper()
	out, err := run(exec.CommandContext(tb.Context(), name, args...), stdin)
	if err != nil {
		tb.Fatalf("testkit: %s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// Eventually waits until condition is true and fails the test after a minute. It
// looks often at first, so that what takes a moment is seen after a moment, and
// then every 10 ms at most, for conditions that ask a node.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	eventually(tb, what, condition, func() string { return "" })
}

// eventually also says how things are when it gives up.
func eventually(tb testing.TB, what string, condition func() bool, instead func() string) {
	tb.Helper()
	const patience = time.Minute
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	pause := time.Millisecond
	again := time.NewTimer(pause)
	defer again.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			tb.Fatalf("testkit: not within %v: %s; %s", patience, what, instead())
		case <-again.C:
		}
		pause = min(2*pause, 10*time.Millisecond)
		again.Reset(pause)
	}
}
