//go:build clients

package clients

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// fetched is where tools/clients.sh puts what it fetches and compiles.
const fetched = "../../.cache/clients/"

// quick makes the broker's part of a group short, for tests that wait for members
// to be missed. Members of the classic protocol say their own session timeout.
var quick = []testkit.Option{
	testkit.Set("group.initial.rebalance.delay.ms", "0"),
	testkit.Set("group.consumer.min.session.timeout.ms", "1000"),
	testkit.Set("group.consumer.session.timeout.ms", "3000"),
	testkit.Set("group.consumer.min.heartbeat.interval.ms", "100"),
	testkit.Set("group.consumer.heartbeat.interval.ms", "200"),
}

// jvm starts a class with little memory and no time spent on speed.
func jvm(class string, args ...string) []string {
	return slices.Concat([]string{
		"java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", fetched + "classes:" + fetched + "lib/*", class,
	}, args)
}

// java runs a class to its end and returns what it said, which is shown too. One
// that fails fails the test.
func java(t *testing.T, class string, args ...string) string {
	t.Helper()
	line := jvm(class, args...)
	out := testkit.Command(t, "", line[0], line[1:]...)
	t.Logf("%s %s\n%s", class, strings.Join(args, " "), out)
	return out
}

// tryJava is java for a class that may fail.
func tryJava(t *testing.T, class string, args ...string) (string, error) {
	t.Helper()
	line := jvm(class, args...)
	out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
	t.Logf("%s %s: %v\n%s", class, strings.Join(args, " "), err, out)
	return string(out), err
}

// proves runs a class that checks by itself, and whose last line must be the given
// one: a program that ends early proves nothing.
func proves(t *testing.T, last, class string, args ...string) {
	t.Helper()
	if out := java(t, class, args...); !strings.HasSuffix(out, last+"\n") {
		t.Errorf("%s: the last line is not %q", class, last)
	}
}

func TestJavaGroupsReadEachRecordOnceThroughRebalances(t *testing.T) {
	node := testkit.StartNode(t, quick...)
	for _, kind := range []string{
		"range", "range-static", "cooperative", "cooperative-static", "consumer", "consumer-static",
	} {
		t.Run(kind, func(t *testing.T) {
			proves(t, kind+": done", "Groups", node.Kafka, kind)
		})
	}
}

func TestJavaTransactionsAreAllOrNothing(t *testing.T) {
	node := testkit.StartNode(t, quick...)
	proves(t, "transactions: done", "Transactions", node.Kafka)
}

func TestKafkajsGroupsAndTransactions(t *testing.T) {
	t.Setenv("NODE_PATH", fetched+"npm/node_modules")
	node := testkit.StartNode(t, quick...)
	out := testkit.Command(t, "", "node", "node/groups.js", node.Kafka)
	t.Logf("node/groups.js\n%s", out)
	if !strings.HasSuffix(out, "kafkajs: done\n") {
		t.Error("the last line is not \"kafkajs: done\"")
	}
}
