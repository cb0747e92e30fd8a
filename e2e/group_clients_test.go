package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestPythonClientsShareATopic(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	t.Run("kafka-python", func(t *testing.T) {
		createTopic(t, node, "kafka-python", 3)
		out := testkit.Command(t, "", python, "testdata/kafka_python_group.py",
			node.Kafka, "kafka-python")
		if out != "1530 records shared\n" {
			t.Errorf("it said %q", out)
		}
	})
	for _, strategy := range []string{"range", "roundrobin", "cooperative-sticky"} {
		t.Run("confluent-kafka "+strategy, func(t *testing.T) {
			createTopic(t, node, strategy, 3)
			createTopic(t, node, strategy+"-out", 3)
			out := testkit.Command(t, "", python, "testdata/confluent_kafka_group.py",
				node.Kafka, strategy, strategy)
			if out != "900 records copied\n" {
				t.Errorf("it said %q", out)
			}
		})
	}
}

// kcat reads in a group, is killed, and another goes on where it had committed.
func TestKcatReadsInAGroup(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	createTopic(t, node, "orders", 4)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint("order ", i))
	}
	read := func(count int) []string {
		t.Helper()
		out := testkit.Command(t, "", "kcat", "-b", node.Kafka, "-q", "-G", "readers",
			"-X", "auto.offset.reset=earliest", "-c", fmt.Sprint(count), "orders")
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	testkit.Command(t, strings.Join(want[:120], "\n"), "kcat", "-b", node.Kafka, "-P", "-t", "orders")
	got := read(120)
	testkit.Command(t, strings.Join(want[120:], "\n"), "kcat", "-b", node.Kafka, "-P", "-t", "orders")
	got = append(got, read(80)...)
	if !sameSet(got, want) {
		t.Errorf("%d records were read, want %d", len(got), len(want))
	}
}

// Two kcats share a topic; one is killed, and the other reads on alone.
func TestAKcatTakesOverFromOneThatWasKilled(t *testing.T) {
	node := testkit.StartNode(t, testkit.FastGroups())
	createTopic(t, node, "orders", 4)
	start := func() (*exec.Cmd, *testkit.LogBuffer) {
		t.Helper()
		out := &testkit.LogBuffer{}
		cmd := exec.CommandContext(t.Context(), "kcat", "-b", node.Kafka, "-u", "-G", "readers",
			"-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=2000",
			"-X", "heartbeat.interval.ms=300", "-f", "partition %p: %s\n", "orders")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	first, said := start()
	_, alsoSaid := start()
	testkit.Eventually(t, "each has two partitions", func() bool {
		return shares(said.String()) == 2 && shares(alsoSaid.String()) == 2
	})
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	testkit.Eventually(t, "the other has all partitions", func() bool {
		return shares(alsoSaid.String()) == 4
	})
	var want []string
	for p := range 4 {
		testkit.Command(t, "order", "kcat", "-b", node.Kafka, "-P", "-t", "orders", "-p", fmt.Sprint(p))
		want = append(want, fmt.Sprintf("partition %d: order", p))
	}
	testkit.Eventually(t, "the other reads all partitions", func() bool {
		lines := strings.Split(alsoSaid.String(), "\n")
		return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(lines, w) })
	})
}

// shares returns how many partitions kcat says it was last assigned.
func shares(said string) int {
	at := strings.LastIndex(said, "assigned:")
	if at < 0 {
		return 0
	}
	line, _, _ := strings.Cut(said[at:], "\n")
	return strings.Count(line, "[")
}
