package bulk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/testkit"
)

// childCommand makes the test binary a leader's node of its own.
const childCommand = "serve-as-child"

// serveAsChild parks every fetch until standard input ends.
func serveAsChild() {
	on, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := NewServer(ServerConfig{Identity: Identity{Node: leaderNode, Cluster: "test",
		Incarnation: func() string { return "child" }}}, childHandler())
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() { _ = s.Serve(on) }()
	go serveRaw(raw)
	fmt.Println(on.Addr(), raw.Addr())
	_, _ = os.Stdin.Read(make([]byte, 1))
	s.Close()
}

// child starts a leader's node in a process of its own. It returns what the child
// says: its address, and that of a bare TCP server.
func child(t testing.TB, args ...string) (addrs string, p *os.Process) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{childCommand}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = in.Close()
		_ = cmd.Wait()
	})
	addrs, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addrs), cmd.Process
}

func sendSignal(t testing.TB, p *os.Process, s os.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestAProcessThatIsStoppedOrKilledDoesNotAnswer(t *testing.T) {
	t.Parallel()
	out, process := child(t)
	addr, _, _ := strings.Cut(out, " ")
	p := follow(t, PoolConfig{}, defaultLimits, addr)
	ping := func(timeout time.Duration) (Pong, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return p.Ping(ctx, addr)
	}
	want := Pong{Node: leaderNode, Incarnation: "child"}
	if pong, err := ping(10 * time.Second); err != nil || pong != want {
		t.Fatalf("%+v, %v", pong, err)
	}
	answer := p.ask(fetchOf(0, 0, 0))
	testkit.Eventually(t, "a connection stands", func() bool {
		peer := p.peer(leaderNode)
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return peer.link != nil
	})

	sendSignal(t, process, syscall.SIGSTOP)
	var status syscall.WaitStatus // each of its threads stops for itself
	if _, err := syscall.Wait4(process.Pid, &status, syscall.WUNTRACED, nil); err != nil ||
		!status.Stopped() {
		t.Fatalf("the process is not stopped: %v, %v", status, err)
	}
	began := time.Now()
	if pong, err := ping(500 * time.Millisecond); err == nil {
		t.Fatalf("a stopped process answers %+v", pong)
	}
	f := receive(t, answer)
	if !errors.Is(f.Err, errSilent) || !errors.Is(f.Err, messages.ErrUnavailable) {
		t.Fatalf("%v", f.Err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to notice that the process is stopped", took)
	}

	sendSignal(t, process, syscall.SIGCONT)
	if pong, err := ping(10 * time.Second); err != nil || pong != want {
		t.Fatalf("after SIGCONT: %+v, %v", pong, err)
	}
	answer = p.ask(fetchOf(0, 0, 0))
	testkit.Eventually(t, "a connection stands again", func() bool {
		peer := p.peer(leaderNode)
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return peer.link != nil
	})
	sendSignal(t, process, syscall.SIGKILL)
	began = time.Now()
	if f := receive(t, answer); !errors.Is(f.Err, messages.ErrUnavailable) {
		t.Fatalf("%v", f.Err)
	}
	if pong, err := ping(10 * time.Second); err == nil {
		t.Fatalf("a killed process answers %+v", pong)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to notice that the process is dead", took)
	}
}
