//go:build linux

package peer

import (
	"slices"
	"strings"
	"testing"
)

func nodesOf(n int) []kafkaNode {
	all := []kafkaNode{
		{dir: "d/node-1", addr: "127.0.0.1:1001", controller: "127.0.0.1:2001"},
		{dir: "d/node-2", addr: "127.0.0.1:1002", controller: "127.0.0.1:2002"},
		{dir: "d/node-3", addr: "127.0.0.1:1003", controller: "127.0.0.1:2003"},
	}
	return all[:n]
}

func hasLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	got := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(got, line) {
			t.Errorf("the line %q is missing in:\n%s", line, text)
		}
	}
}

func TestAKafkaNodeOnItsOwnKeepsEverythingOnce(t *testing.T) {
	hasLines(t, properties(nodesOf(1), 0, nil),
		"process.roles=broker,controller", "node.id=1", "log.dirs=d/node-1",
		"listeners=PLAINTEXT://127.0.0.1:1001,CONTROLLER://127.0.0.1:2001",
		"controller.quorum.voters=1@127.0.0.1:2001",
		"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1", "min.insync.replicas=1")
}

func TestThreeKafkaNodesReplicateAsInProduction(t *testing.T) {
	hasLines(t, properties(nodesOf(3), 2, nil),
		"node.id=3", "log.dirs=d/node-3",
		"listeners=PLAINTEXT://127.0.0.1:1003,CONTROLLER://127.0.0.1:2003",
		"controller.quorum.voters=1@127.0.0.1:2001,2@127.0.0.1:2002,3@127.0.0.1:2003",
		"default.replication.factor=3", "min.insync.replicas=2",
		"offsets.topic.replication.factor=3", "transaction.state.log.replication.factor=3",
		"transaction.state.log.min.isr=2")
}

func TestSettingsOfTheCallerWin(t *testing.T) {
	text := properties(nodesOf(1), 0, map[string]string{"num.io.threads": "2", "a.b": "c"})
	hasLines(t, text, "num.io.threads=2", "a.b=c")
	if strings.Count(text, "num.io.threads") != 1 {
		t.Errorf("a setting is there twice:\n%s", text)
	}
	if kafkaSettings["num.io.threads"] == "2" {
		t.Error("the settings of one broker became those of all")
	}
}

func TestSettingsOfJetStreamAreInItsBlock(t *testing.T) {
	const want = "listen: \"127.0.0.1:4222\"\nmax_payload: 2MB\n" +
		"jetstream {\n  store_dir: \"d\"\n  sync_interval: always\n}\n"
	got := natsConfig("127.0.0.1:4222", "d",
		map[string]string{"max_payload": "2MB", "jetstream.sync_interval": "always"})
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
