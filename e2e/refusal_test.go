package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

// expectRefusal checks that the node refuses to start with one line that holds
// every one of names.
func expectRefusal(t *testing.T, names []string, opts ...testkit.Option) {
	t.Helper()
	code, stderr := testkit.Refused(t, opts...)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "troupe: ") {
		t.Errorf("the reason must be one line that begins with \"troupe: \", it is:\n%s", stderr)
	}
	for _, name := range names {
		if !strings.Contains(stderr, name) {
			t.Errorf("the reason must name %q, it is:\n%s", name, stderr)
		}
	}
}

// stoppedNode returns a node that has stored a record and was stopped.
func stoppedNode(t *testing.T) *testkit.Node {
	t.Helper()
	n := testkit.StartNode(t)
	n.Troupe("topic", "create", "orders")
	produceOne(t, n, "first")
	n.Stop()
	return n
}

func produceOne(t *testing.T, n *testkit.Node, value string) {
	t.Helper()
	if _, err := n.TryTroupe(value+"\n", "produce", "orders"); err != nil {
		t.Fatal(err)
	}
}

// expectRecords checks that a refusal has damaged nothing.
func expectRecords(t *testing.T, n *testkit.Node, want ...string) {
	t.Helper()
	var got []string
	readAll(t, n, "orders", func(r *kgo.Record) { got = append(got, string(r.Value)) })
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	expectRefusal(t, []string{addr, "in use", "--kafka-addr"}, testkit.KafkaAddr(addr))
}

func TestASecondProcessOnTheSameDataIsRefused(t *testing.T) {
	n := testkit.StartNode(t)
	n.Troupe("topic", "create", "orders")
	produceOne(t, n, "first")
	expectRefusal(t, []string{n.Dir, "another process", "--data-dir"}, testkit.Dir(n.Dir))
	produceOne(t, n, "second")
	expectRecords(t, n, "first", "second")
}

func TestAnUnknownFileAmongTheDataIsNotTouched(t *testing.T) {
	n := stoppedNode(t)
	stranger := filepath.Join(n.Dir, "thesis.doc")
	if err := os.WriteFile(stranger, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, []string{n.Dir, "thesis.doc"}, testkit.Dir(n.Dir))
	if b, err := os.ReadFile(stranger); err != nil || string(b) != "years of work" {
		t.Errorf("the unknown file now holds %q, %v", b, err)
	}
	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	expectRecords(t, n, "first")
}

func TestDataOfANewerVersionIsRefused(t *testing.T) {
	n := stoppedNode(t)
	name := filepath.Join(n.Dir, "meta.properties")
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(old), "troupe.format=1\n", "troupe.format=1000\n", 1)
	if newer == string(old) {
		t.Fatalf("meta.properties has no format: %s", old)
	}
	if err := os.WriteFile(name, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	expectRefusal(t, []string{n.Dir, "1000", "newer"}, testkit.Dir(n.Dir))
	if err := os.WriteFile(name, old, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	expectRecords(t, n, "first")
}

func TestASettingWithASlipIsRefusedWithTheRightName(t *testing.T) {
	expectRefusal(t, []string{"log.retention.hour", "log.retention.hours"},
		testkit.Set("log.retention.hour", "1"))
}

func TestASettingOutOfBoundsIsRefused(t *testing.T) {
	expectRefusal(t, []string{"num.partitions", "0"}, testkit.Set("num.partitions", "0"))
}

func TestAClusterKeepsTheIDItWasGiven(t *testing.T) {
	expectRefusal(t, []string{"cluster.id", "a b"}, testkit.Set("cluster.id", "a b"))
	n := testkit.StartNode(t, testkit.Set("cluster.id", "logs-east"))
	metadata, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), client(t, n))
	if err != nil {
		t.Fatal(err)
	}
	if id := metadata.ClusterID; id == nil || *id != "logs-east" {
		t.Errorf("clients are told the cluster id %v", id)
	}
	n.Stop()
	expectRefusal(t, []string{n.Dir, "logs-east", "logs-west"},
		testkit.Dir(n.Dir), testkit.Set("cluster.id", "logs-west"))
}
