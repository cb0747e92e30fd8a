package e2e

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

// process runs the binary with pipes for its output, which is told to no one.
func process(t *testing.T, args ...string) (cmd *exec.Cmd, stdout, stderr *os.File) {
	t.Helper()
	var ends [4]*os.File
	for i := 0; i < len(ends); i += 2 {
		var err error
		if ends[i], ends[i+1], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
	}
	cmd = exec.CommandContext(t.Context(), testkit.Binary(t), args...)
	cmd.Stdout, cmd.Stderr = ends[1], ends[3]
	err := cmd.Start()
	ends[1].Close()
	ends[3].Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails only when it has ended
		_ = cmd.Wait()
		ends[0].Close()
		ends[2].Close()
	})
	return cmd, ends[0], ends[2]
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// expectCleanStop checks that a node ended as told, with its marker and without
// its addresses.
func expectCleanStop(t *testing.T, dir string) {
	t.Helper()
	if exists(filepath.Join(dir, "troupe.addr")) {
		t.Error("troupe.addr is left behind")
	}
	if !exists(filepath.Join(dir, ".kafka_cleanshutdown")) {
		t.Error("the marker of a clean shutdown is missing")
	}
}

func TestTheAddressesPrintedAreThoseInTheFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, stdout, _ := process(t, "start", "--data-dir", dir, "--kafka-addr", "127.0.0.1:0",
		"--http-addr", "127.0.0.1:0")
	out := bufio.NewReader(stdout)
	first, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "troupe.addr"))
	if err != nil {
		t.Fatalf("the first line is printed before the file is there: %v", err)
	}
	second, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	kafka, http := strings.TrimSpace(strings.TrimPrefix(first, "kafka ")),
		strings.TrimSpace(strings.TrimPrefix(second, "http "))
	want := `{"kafka":"` + kafka + `","http":"` + http + `","actor":""}` + "\n"
	if string(text) != want || !json.Valid(text) {
		t.Errorf("the file holds %q, want %q", text, want)
	}
	for _, addr := range []string{kafka, http} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("nobody listens at an address printed: %v", err)
			continue
		}
		conn.Close()
	}
}

func TestTheAddressesOfAKilledNodeAreGoneBeforeTheNextIsReady(t *testing.T) {
	n := testkit.StartNode(t)
	name := filepath.Join(n.Dir, "troupe.addr")
	expectRefusal(t, []string{"another process"}, testkit.Dir(n.Dir))
	if !exists(name) {
		t.Fatal("a refused second process took the addresses of the first away")
	}
	n.Kill()
	if !exists(name) {
		t.Fatal("there is no file of a killed node to test with")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	expectRefusal(t, []string{"in use"}, testkit.Dir(n.Dir), testkit.KafkaAddr(l.Addr().String()))
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("want %v, got %v", fs.ErrNotExist, err)
	}
}

func TestAClosedTerminalStopsANodeInGoodOrder(t *testing.T) {
	// A node does not mind a hang-up that it was told to ignore, which a test under
	// nohup would pass on to it: what this process catches it does not.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	n := testkit.StartNode(t)
	hangUp(t, n)
	testkit.Eventually(t, "the node stops", func() bool { return !n.Running() })
	expectCleanStop(t, n.Dir)
}

func TestANodeUnderNohupOutlivesItsTerminal(t *testing.T) {
	n := testkit.StartNode(t, testkit.Under("nohup"))
	hangUp(t, n)
	n.Troupe("topic", "create", "orders")
	n.Stop() // fails if the node has ended
	expectCleanStop(t, n.Dir)
}

func hangUp(t *testing.T, n *testkit.Node) {
	t.Helper()
	if err := syscall.Kill(n.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

func TestANodeOutlivesTheReadersOfItsOutput(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cmd, stdout, stderr := process(t, "start", "--data-dir", dir, "--kafka-addr", "127.0.0.1:0",
		"--http-addr", "127.0.0.1:0")
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	stderr.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // which it logs
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	expectCleanStop(t, dir)
}

func TestAnActorPortIsOpenedIfAskedFor(t *testing.T) {
	n := testkit.StartNode(t, testkit.Args("--actor-addr", "127.0.0.1:0"))
	text, err := os.ReadFile(filepath.Join(n.Dir, "troupe.addr"))
	if err != nil {
		t.Fatal(err)
	}
	var addr struct{ Actor string }
	if err := json.Unmarshal(text, &addr); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the address is printed", func() bool {
		return strings.Contains(n.Log(), "actor "+addr.Actor+"\n")
	})
	conn, err := net.Dial("tcp", addr.Actor)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expectRefusal(t, []string{addr.Actor, "in use", "--actor-addr"},
		testkit.Args("--actor-addr", addr.Actor))
	n.Troupe("topic", "create", "orders")
	produceOne(t, n, "first")
	n.Restart()
	expectRecords(t, n, "first")
}
