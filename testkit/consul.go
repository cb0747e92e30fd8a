package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ConsulEnv names the environment variable with the path of a consul binary to
// use instead of the one on PATH or the one built from this module.
const ConsulEnv = "TESTKIT_CONSUL"

// Consul is a Consul agent of its own: a server, the only one of its
// datacenter, with the data in a folder. Its methods fail the test when the
// process does not do as it is told; one goroutine at a time may call them.
type Consul struct {
	Addr  string // HOST:PORT of its HTTP API; kept over restarts
	Dir   string // its data
	Token string // that may do everything; "" without access control

	tb    testing.TB
	args  []string
	ports [3]int // HTTP, server RPC, gossip
	log   *LogBuffer
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
}

// consulReadyTimeout bounds the wait for an agent to elect itself.
const consulReadyTimeout = time.Minute

var consulClient = &http.Client{Timeout: 5 * time.Second}

// shared is the agent of this test process.
var shared struct {
	once   sync.Once
	consul *Consul
	err    error
}

// SharedConsul returns the address of an agent that all tests of a process
// share: each uses names of its own and leaves the agent as it is. It starts
// with the first call and ends with the process.
func SharedConsul(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.consul, shared.err = startShared() })
	if shared.err != nil {
		tb.Fatalf("testkit: %v", shared.err)
	}
	return shared.consul.Addr
}

// startShared puts the data where it outlives the test that came first.
func startShared() (*Consul, error) {
	dir, err := os.MkdirTemp("", "troupe-consul-")
	if err != nil {
		return nil, err
	}
	built.extra = append(built.extra, dir)
	return newConsul(Consul{Dir: dir})
}

// StartConsul runs an agent for one test and returns once it is ready. It ends
// with the test.
func StartConsul(tb testing.TB) *Consul {
	tb.Helper()
	return startConsul(tb, Consul{})
}

// StartGuardedConsul is StartConsul with access control: who has no token may do
// nothing.
func StartGuardedConsul(tb testing.TB) *Consul {
	tb.Helper()
	const token = "7c0b7f5a-5f3c-4a43-a1a1-6a1d9c1b8f10"
	return startConsul(tb, Consul{Token: token, args: []string{"-hcl",
		`acl { enabled = true, default_policy = "deny", tokens { initial_management = "` + token +
			`", agent = "` + token + `" } }`}})
}

func startConsul(tb testing.TB, what Consul) *Consul {
	tb.Helper()
	what.Dir = filepath.Join(tb.TempDir(), "consul")
	c, err := newConsul(what)
	if err != nil {
		tb.Fatalf("testkit: %v", err)
	}
	c.tb = tb
	tb.Cleanup(func() {
		c.kill()
		if tb.Failed() {
			tb.Logf("log of Consul at %s:\n%s", c.Addr, c.log.tail(tailLines))
		}
	})
	return c
}

// newConsul starts an agent on free ports. They are free when they are chosen
// only, so a start that fails is tried again on others.
func newConsul(what Consul) (*Consul, error) {
	var err error
	for range 3 {
		c := &what
		c.log = &LogBuffer{}
		if c.ports, err = freePorts(); err != nil {
			return nil, err
		}
		c.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports[0]))
		if err = c.start(); err == nil {
			return c, nil
		}
		err = fmt.Errorf("%w\n%s", err, c.log.tail(tailLines))
	}
	return nil, err
}

// freePorts looks below the range from which systems take the ports of outgoing
// connections: those could occupy a port while its agent is down.
func freePorts() (ports [3]int, err error) {
	const low, high = 15000, 30000
	for i := range ports {
		var ln net.Listener
		for range 100 {
			at := net.JoinHostPort("127.0.0.1", strconv.Itoa(low+rand.IntN(high-low)))
			if ln, err = net.Listen("tcp", at); err == nil {
				break
			}
		}
		if err != nil {
			return ports, fmt.Errorf("no free port for Consul: %w", err)
		}
		defer ln.Close() // not before all are chosen
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// start runs the process and waits until it serves.
func (c *Consul) start() error {
	binary, err := consulBinary()
	if err != nil {
		return err
	}
	port := strconv.Itoa
	c.cmd = exec.Command(binary, append([]string{
		"agent", "-server", "-bootstrap-expect=1", "-data-dir", c.Dir, "-log-level=warn",
		"-node=testkit", "-bind=127.0.0.1", "-client=127.0.0.1",
		"-http-port", port(c.ports[0]), "-server-port", port(c.ports[1]),
		"-serf-lan-port", port(c.ports[2]), "-serf-wan-port=-1", "-dns-port=-1",
		"-grpc-port=-1", "-grpc-tls-port=-1",
		// Elect at once; do not ask the makers for a newer version.
		"-hcl", "performance { raft_multiplier = 1 } disable_update_check = true",
	}, c.args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = childAttributes()
	if err := c.cmd.Start(); err != nil {
		return err
	}
	done, cmd := make(chan struct{}), c.cmd
	c.done = done
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(done)
	}()
	if err := c.awaitReady(); err != nil {
		c.kill()
		return err
	}
	return nil
}

// awaitReady waits until the agent has elected itself and knows itself healthy:
// before that it makes no sessions.
func (c *Consul) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), consulReadyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !c.healthy(ctx) {
		select {
		case <-c.done:
			return fmt.Errorf("consul ended before it was ready: %v", c.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("consul was not ready within %v", consulReadyTimeout)
		case <-tick.C:
		}
	}
	return nil
}

func (c *Consul) healthy(ctx context.Context) bool {
	url := "http://" + c.Addr + "/v1/health/node/testkit?consistent"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	req.Header.Set("X-Consul-Token", c.Token)
	resp, err := consulClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var checks []struct{ CheckID, Status string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&checks) != nil {
		return false
	}
	for _, check := range checks {
		if check.CheckID == "serfHealth" && check.Status == "passing" {
			return true
		}
	}
	return false
}

// Kill ends the agent as kill -9 does.
func (c *Consul) Kill() {
	c.tb.Helper()
	if !alive(c.done) {
		c.tb.Fatalf("testkit: Consul has already ended: %v", c.cmd.ProcessState)
	}
	c.kill()
}

// Stop asks the agent to end and waits until it has.
func (c *Consul) Stop() {
	c.tb.Helper()
	c.signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.kill()
		c.tb.Fatalf("testkit: Consul did not stop within %v", stopTimeout)
	}
}

// Pause freezes the agent until Resume: it accepts connections and says nothing.
func (c *Consul) Pause() { c.tb.Helper(); c.signal(syscall.SIGSTOP) }

// Resume lets a paused agent go on.
func (c *Consul) Resume() { c.tb.Helper(); c.signal(syscall.SIGCONT) }

// Restart runs the agent again on the same ports and data. One that runs is
// stopped first.
func (c *Consul) Restart() {
	c.tb.Helper()
	if alive(c.done) {
		c.Stop()
	}
	if err := c.start(); err != nil {
		c.tb.Fatalf("testkit: %v\n%s", err, c.log.tail(tailLines))
	}
}

// Wipe deletes the data of an agent that does not run, as if its machine had
// been replaced.
func (c *Consul) Wipe() {
	c.tb.Helper()
	if alive(c.done) {
		c.tb.Fatal("testkit: Consul runs on the data that is to be deleted")
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		c.tb.Fatalf("testkit: %v", err)
	}
}

func (c *Consul) signal(s syscall.Signal) {
	c.tb.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.tb.Fatalf("testkit: %v: %v", s, err)
	}
}

func (c *Consul) kill() {
	if c.done != nil {
		_ = c.cmd.Process.Kill() // fails only when it has ended
		<-c.done
	}
}

func alive(done <-chan struct{}) bool {
	select {
	case <-done:
		return false
	default:
		return done != nil
	}
}

// consulBinary returns the consul of ConsulEnv, of PATH, or of this module, in
// that order. The last is built if it is not there.
func consulBinary() (string, error) {
	if path := os.Getenv(ConsulEnv); path != "" {
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("consul"); err == nil {
		return path, nil
	}
	const remedy = "put a consul on PATH, or name one in " + ConsulEnv
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", mainPackage).Output()
	if err != nil {
		return "", fmt.Errorf("there is no consul: %s: %w", remedy, err)
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(root)), "tools", "consul.sh"))
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("there is no consul and it could not be built: %s: %w\n%s",
			remedy, err, errs.String())
	}
	lines := strings.Fields(out.String())
	if len(lines) == 0 {
		return "", fmt.Errorf("tools/consul.sh printed no path: %s", remedy)
	}
	return lines[len(lines)-1], nil
}
