package testkit

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the node: these tests are about the kit, not the broker.
const playNode = "TESTKIT_PLAYS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(playNode) != "" {
		os.Exit(fakeNode(os.Args[1:]))
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	os.Setenv(playNode, "1")
	os.Setenv("TROUPE_NUM_PARTITIONS", "7")
	os.Setenv(BinaryEnv, self)
	Main(m)
}

// fakeNode serves its process id over HTTP until it is told to end.
func fakeNode(args []string) int {
	if os.Getenv("TROUPE_NUM_PARTITIONS") != "" {
		fmt.Fprintln(os.Stderr, "troupe: settings of the developer leaked into the test")
		return 3
	}
	flag := func(name string) string {
		for i, a := range args[:len(args)-1] {
			if a == name {
				return args[i+1]
			}
		}
		return ""
	}
	if set := flag("--set"); set != "" {
		fmt.Fprintln(os.Stderr, "troupe: bad setting:", set)
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	l, err := net.Listen("tcp", flag("--kafka-addr"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "troupe:", err)
		return 1
	}
	defer l.Close()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, os.Getpid())
		}))
	}()
	fmt.Println("listening on", l.Addr())
	dir := flag("--data-dir")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 1
	}
	b, _ := json.Marshal(addresses{Kafka: l.Addr().String()})
	if err := os.WriteFile(filepath.Join(dir, addressFile), b, 0o644); err != nil {
		return 1
	}
	<-stop
	fmt.Println("draining")
	return 0
}

func answers(n *Node) bool {
	client := http.Client{Timeout: 200 * time.Millisecond}
	resp, err := client.Get("http://" + n.Kafka)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}

func TestANodeComesBackAtItsAddressAfterItWasKilled(t *testing.T) {
	n := StartNode(t)
	addr, pid := n.Kafka, n.PID()
	n.Kill()
	if n.Running() || answers(n) {
		t.Fatal("the node lives after Kill")
	}
	n.Restart()
	if n.Kafka != addr || n.PID() == pid || !answers(n) {
		t.Errorf("node %d at %s came back as %d at %s", pid, addr, n.PID(), n.Kafka)
	}
}

func TestANodeThatIsAskedToStopMayFinish(t *testing.T) {
	n := StartNode(t)
	n.Stop()
	if !strings.Contains(n.Log(), "draining") {
		t.Errorf("the node had no time to drain; its log is %q", n.Log())
	}
}

func TestAPausedNodeAnswersNobodyUntilItIsResumed(t *testing.T) {
	n := StartNode(t)
	n.Pause()
	Eventually(t, "the node stops answering", func() bool { return !answers(n) })
	n.Resume()
	Eventually(t, "the node answers again", func() bool { return answers(n) })
}

func TestARefusalIsReportedWithItsReason(t *testing.T) {
	code, reason := Refused(t, Set("flush", "maybe"))
	if code != 1 || reason != "troupe: bad setting: flush=maybe\n" {
		t.Errorf("exit code %d, %q", code, reason)
	}
}

func TestTheUsageOfAProcessIsKnown(t *testing.T) {
	u, err := UsageOf(os.Getpid())
	if err != nil || u.RSS < 1<<20 || u.RSS > 1<<40 {
		t.Errorf("used %+v, %v", u, err)
	}
	began := u.CPU
	Eventually(t, "CPU time passes while this test polls", func() bool {
		for i := range 1_000_000 {
			_ = fmt.Sprint(i)
		}
		u, err = UsageOf(os.Getpid())
		return err != nil || u.CPU > began
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheLogKeepsItsEnd(t *testing.T) {
	var l LogBuffer
	line := strings.Repeat("x", 1<<20) + "\n"
	for range 40 {
		fmt.Fprint(&l, line)
	}
	fmt.Fprint(&l, "first\nlast\n")
	if got := l.tail(2); got != "first\nlast" {
		t.Errorf("tail is %q", got)
	}
	if n := len(l.String()); n > logMaxBytes {
		t.Errorf("the log holds %d bytes", n)
	}
}
