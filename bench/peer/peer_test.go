//go:build linux

package peer

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupelog/troupe/bench/ideal"
	"github.com/troupelog/troupe/testkit"
)

// TestMain is the ideal broker when it is asked for.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == IdealCommand {
		if err := ideal.Serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.Main(m)
}

func startIdealIn(t *testing.T, dir string) *Broker {
	t.Helper()
	b, err := NewIdeal().Start(t.Context(), Options{Dir: dir, Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

func TestABrokerIsKilledAndStartsAgainInItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ideal")
	b := startIdealIn(t, dir)
	if u, err := b.Usage(); err != nil || u.RSS == 0 {
		t.Errorf("it uses %+v, %v", u, err)
	}
	drop, err := b.Create(t.Context(), Topic{Name: "a", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	drop()
	if err := b.Died(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	b.Kill()
	if err := b.Died(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("after it was killed: %v", err)
	}
	if _, err := b.Usage(); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("the usage of a killed broker: %v", err)
	}

	b = startIdealIn(t, dir)
	c, err := net.Dial("tcp", b.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	b.Stop()
	if size, err := b.Disk(); err != nil || size == 0 {
		t.Errorf("its folder has %d bytes, %v", size, err)
	}
}

func TestTroupeTakesAFirstRecordBeforeAndAfterItIsKilled(t *testing.T) {
	troupe := NewTroupe(testkit.Binary(t))
	o := Options{Dir: filepath.Join(t.TempDir(), "troupe"), Nodes: 1,
		Settings: map[string]string{"num.partitions": "3"}}
	start := func() *Broker {
		t.Helper()
		b, err := troupe.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Kill)
		return b
	}
	b := start()
	if err := b.FirstRecord(t.Context(), Topic{Name: "first", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	drop, err := b.Create(t.Context(), Topic{Name: "other", Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Fill(t.Context(), Topic{Name: "other", Partitions: 4}, 8<<20); err != nil {
		t.Fatal(err)
	}
	if size, err := b.Disk(); err != nil || size < 8<<20 {
		t.Errorf("8 MiB were written, and its folder has %d bytes, %v", size, err)
	}
	drop()
	if b.hasFolder("other") || !b.hasFolder("first") {
		t.Error("the wrong topic is gone")
	}
	b.Kill()
	if err := start().FirstRecord(t.Context(), Topic{Name: "first"}); err != nil {
		t.Fatal(err)
	}
}

func TestAProcessThatEndsTooEarlyIsQuoted(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	long := strings.Repeat("x", 10_000)
	p, err := run(log, []string{"LONG=" + long}, "sh", "-c", "echo $LONG; echo trouble >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(t.Context(), func() bool { return false })
	if err == nil || !strings.HasSuffix(err.Error(), "trouble\n") ||
		!strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("got %v", err)
	}
	if n := len(err.Error()); n > 5000 {
		t.Errorf("it quotes %d bytes", n)
	}
}

func TestAFolderOfATopicIsTold(t *testing.T) {
	b := &Broker{Dir: t.TempDir()}
	for _, dir := range []string{"node-1/log/other-0", "node-1/log/topic-10-0.77-delete"} {
		if err := os.MkdirAll(filepath.Join(b.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !b.hasFolder("topic-10") {
		t.Error("the folder of a deleted partition was not seen")
	}
	if b.hasFolder("topic-1") {
		t.Error("another topic's folder was taken for its own")
	}
}

func TestWhatANodeNeedsBesideItselfIsCounted(t *testing.T) {
	idle := func() *process {
		p, err := run(filepath.Join(t.TempDir(), "log"), nil, "sleep", "600")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.stop)
		return p
	}
	b := &Broker{processes: []*process{idle()}, others: []*process{idle()}}
	rss := func(p *process) int64 {
		u, err := testkit.UsageOf(p.cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return u.RSS
	}
	// A process that has just begun has no memory yet.
	testkit.Eventually(t, "both processes are counted", func() bool {
		node, other := rss(b.processes[0]), rss(b.others[0])
		both, err := b.Usage()
		return err == nil && node > 0 && other > 0 && both.RSS == node+other
	})
}
