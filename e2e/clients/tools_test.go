//go:build clients

package clients

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// The classes behind Kafka's scripts.
const (
	kafkaTopics          = "org.apache.kafka.tools.TopicCommand"
	kafkaConfigs         = "kafka.admin.ConfigCommand"
	kafkaGetOffsets      = "org.apache.kafka.tools.GetOffsetShell"
	kafkaConsumerGroups  = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	kafkaTransactions    = "org.apache.kafka.tools.TransactionsCommand"
	kafkaConsoleProducer = "org.apache.kafka.tools.ConsoleProducer"
	kafkaConsoleConsumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
)

// row is a line of a table that a tool prints, by the words of the heading.
type row map[string]string

// table finds the table in what a tool printed: what begins with the given heading.
func table(out, heading string) (rows []row) {
	var names []string
	for line := range strings.Lines(out) {
		cells := strings.Fields(line)
		switch {
		case len(cells) > 0 && cells[0] == heading:
			names = cells
		case names != nil && len(cells) == len(names):
			r := row{}
			for i, name := range names {
				r[name] = cells[i]
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// has fails the test unless the row has these cells.
func (r row) has(t *testing.T, nameValues ...string) {
	t.Helper()
	for i := 0; i < len(nameValues); i += 2 {
		if name, want := nameValues[i], nameValues[i+1]; r[name] != want {
			t.Errorf("%s is %q, want %q, in %v", name, r[name], want, r)
		}
	}
}

// only returns the row of a table that must have one.
func only(t *testing.T, rows []row) row {
	t.Helper()
	if len(rows) != 1 {
		t.Fatalf("%d rows, want one: %v", len(rows), rows)
	}
	return rows[0]
}

// contains fails the test unless all these words are in what a tool printed.
func contains(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in what the tool printed:\n%s", w, out)
		}
	}
}

// fill writes numbered values to a topic of one node.
func fill(t *testing.T, node *testkit.Node, topic string, count int) {
	t.Helper()
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "key%d:value%d\n", i%17, i)
	}
	line := jvm(kafkaConsoleProducer, "--bootstrap-server", node.Kafka, "--topic", topic,
		"--property", "parse.key=true", "--property", "key.separator=:")
	testkit.Command(t, lines.String(), line[0], line[1:]...)
}

func TestKafkasToolsManageTopicsAndSettings(t *testing.T) {
	node := testkit.StartNode(t)
	tool := func(class string, args ...string) string {
		t.Helper()
		return java(t, class, slices.Concat([]string{"--bootstrap-server", node.Kafka}, args)...)
	}
	contains(t, tool(kafkaTopics, "--create", "--topic", "orders", "--partitions", "3",
		"--config", "retention.ms=3600000"), "Created topic orders.")
	fill(t, node, "orders", 300)
	contains(t, tool(kafkaTopics, "--list"), "orders")
	contains(t, tool(kafkaTopics, "--describe", "--topic", "orders"),
		"PartitionCount: 3", "retention.ms=3600000", "Partition: 2\tLeader: 1")

	ends := tool(kafkaGetOffsets, "--topic", "orders", "--time", "-1")
	sum := 0
	for line := range strings.Lines(ends) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		n, err := strconv.Atoi(parts[len(parts)-1])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	if sum != 300 {
		t.Errorf("the ends add up to %d, want 300", sum)
	}
	contains(t, tool(kafkaGetOffsets, "--topic", "orders", "--time", "earliest"),
		"orders:0:0", "orders:1:0", "orders:2:0")
	contains(t, tool(kafkaGetOffsets, "--topic", "orders", "--time", "max-timestamp"), "orders:")

	contains(t, tool(kafkaConfigs, "--alter", "--entity-type", "topics", "--entity-name", "orders",
		"--add-config", "max.message.bytes=2000000", "--delete-config", "retention.ms"),
		"Completed updating config")
	described := tool(kafkaConfigs, "--describe", "--entity-type", "topics", "--entity-name", "orders")
	contains(t, described, "max.message.bytes=2000000")
	if strings.Contains(described, "retention.ms=3600000") {
		t.Errorf("retention.ms was deleted and is there:\n%s", described)
	}
	contains(t, tool(kafkaConfigs, "--describe", "--entity-type", "brokers", "--entity-name", "1",
		"--all"), "log.segment.bytes=")
	tool(kafkaTopics, "--alter", "--topic", "orders", "--partitions", "5")
	contains(t, tool(kafkaTopics, "--describe", "--topic", "orders"), "PartitionCount: 5")
	tool(kafkaTopics, "--delete", "--topic", "orders")
	testkit.Eventually(t, "the topic is gone", func() bool {
		return !strings.Contains(tool(kafkaTopics, "--list"), "orders")
	})
}

func TestKafkasToolsManageGroups(t *testing.T) {
	node := testkit.StartNode(t, quick...)
	line := jvm(kafkaTopics, "--bootstrap-server", node.Kafka,
		"--create", "--topic", "orders", "--partitions", "3")
	testkit.Command(t, "", line[0], line[1:]...)
	fill(t, node, "orders", 300)
	for _, protocol := range []string{"classic", "consumer"} {
		t.Run(protocol, func(t *testing.T) {
			g := group{t, node, protocol}
			p := start(t, "console consumer", kafkaConsoleConsumer, "--bootstrap-server", node.Kafka,
				"--topic", "orders", "--from-beginning", "--group", g.name(),
				"--consumer-property", "group.protocol="+protocol,
				"--consumer-property", "auto.commit.interval.ms=200",
				"--consumer-property", "client.id=reader")
			g.describesOneThatReads()
			g.leavesOneThatReadsAlone()
			p.stop(t)
			g.resets()
			g.deletes()
		})
	}
}

// group is a group of two protocols that tools are tried on.
type group struct {
	t        *testing.T
	node     *testkit.Node
	protocol string
}

func (g group) name() string { return "billing-" + g.protocol }

func (g group) tool(args ...string) string {
	g.t.Helper()
	return java(g.t, kafkaConsumerGroups,
		slices.Concat([]string{"--bootstrap-server", g.node.Kafka}, args)...)
}

// offsets returns what is committed, by partition, in the order of partitions.
func (g group) offsets() (committed []string) {
	g.t.Helper()
	rows := table(g.tool("--describe", "--offsets", "--group", g.name()), "GROUP")
	slices.SortFunc(rows, func(a, b row) int {
		return strings.Compare(a["PARTITION"], b["PARTITION"])
	})
	for _, r := range rows {
		committed = append(committed, r["CURRENT-OFFSET"])
	}
	return committed
}

func (g group) describesOneThatReads() {
	g.t.Helper()
	var rows []row
	testkit.Eventually(g.t, "all is committed", func() bool {
		rows = table(g.tool("--describe", "--offsets", "--group", g.name()), "GROUP")
		behind := func(r row) bool { return r["LAG"] != "0" }
		return len(rows) == 3 && !slices.ContainsFunc(rows, behind)
	})
	for _, r := range rows {
		r.has(g.t, "TOPIC", "orders", "CURRENT-OFFSET", r["LOG-END-OFFSET"], "CLIENT-ID", "reader",
			"HOST", "/127.0.0.1")
	}
	describe := func(what string) row {
		g.t.Helper()
		out := g.tool("--describe", what, "--verbose", "--group", g.name())
		return only(g.t, table(out, "GROUP"))
	}
	member, state := describe("--members"), describe("--state")
	member.has(g.t, "CLIENT-ID", "reader", "#PARTITIONS", "3", "CURRENT-ASSIGNMENT", "orders:0,1,2")
	assignor := "range"
	if g.protocol == "consumer" {
		assignor = "uniform"
		member.has(g.t, "TARGET-ASSIGNMENT", "orders:0,1,2", "TARGET-EPOCH", member["CURRENT-EPOCH"])
		state.has(g.t, "GROUP-EPOCH", member["CURRENT-EPOCH"])
	}
	state.has(g.t, "STATE", "Stable", "#MEMBERS", "1", "ASSIGNMENT-STRATEGY", assignor,
		"COORDINATOR", g.node.Kafka, "(ID)", "(1)")
	kind := strings.ToUpper(g.protocol[:1]) + g.protocol[1:]
	contains(g.t, g.tool("--list"), g.name())
	for _, r := range table(g.tool("--list", "--state", "--type"), "GROUP") {
		if r["GROUP"] == g.name() {
			r.has(g.t, "STATE", "Stable", "TYPE", kind)
			return
		}
	}
	g.t.Errorf("%s is not listed", g.name())
}

func (g group) leavesOneThatReadsAlone() {
	g.t.Helper()
	contains(g.t, g.tool("--delete", "--group", g.name()), "GroupNotEmptyException")
	out, err := tryJava(g.t, kafkaConsumerGroups, "--bootstrap-server", g.node.Kafka,
		"--reset-offsets", "--group", g.name(), "--topic", "orders", "--to-earliest", "--execute")
	contains(g.t, fmt.Sprint(out, err), "can only be reset if the group")
}

func (g group) resets() {
	g.t.Helper()
	testkit.Eventually(g.t, "the group is empty", func() bool {
		rows := table(g.tool("--describe", "--state", "--group", g.name()), "GROUP")
		return len(rows) == 1 && rows[0]["STATE"] == "Empty" && rows[0]["#MEMBERS"] == "0"
	})
	read := g.offsets()
	reset := func(args ...string) []row {
		return table(g.tool(slices.Concat([]string{"--reset-offsets", "--group", g.name()}, args)...),
			"GROUP")
	}
	check := func(what string, want ...string) {
		g.t.Helper()
		if got := g.offsets(); !slices.Equal(got, want) {
			g.t.Errorf("%s: the offsets are %v, want %v", what, got, want)
		}
	}
	for _, r := range reset("--topic", "orders", "--to-earliest", "--dry-run") {
		r.has(g.t, "NEW-OFFSET", "0")
	}
	check("a dry run", read...)
	if rows := reset("--topic", "orders", "--to-earliest", "--execute"); len(rows) != 3 {
		g.t.Errorf("%d partitions were reset, want 3", len(rows))
	}
	check("--to-earliest", "0", "0", "0")
	reset("--topic", "orders:1", "--to-offset", "7", "--execute")
	check("--to-offset", "0", "7", "0")
	reset("--topic", "orders", "--shift-by", "2", "--execute")
	check("--shift-by", "2", "9", "2")
	reset("--topic", "orders", "--by-duration", "PT1H", "--execute")
	check("--by-duration of an hour", "0", "0", "0")
	reset("--topic", "orders", "--by-duration", "PT0S", "--execute")
	check("--by-duration of nothing", read...)
	reset("--all-topics", "--to-datetime", "2000-01-01T00:00:00.000", "--execute")
	check("--to-datetime", "0", "0", "0")
	reset("--all-topics", "--to-latest", "--execute")
	check("--to-latest", read...)
}

func (g group) deletes() {
	g.t.Helper()
	contains(g.t, g.tool("--delete-offsets", "--group", g.name(), "--topic", "orders:0"), "Successful")
	if got := g.offsets(); len(got) != 2 {
		g.t.Errorf("the offsets are %v, want two", got)
	}
	contains(g.t, g.tool("--delete", "--group", g.name()), "was successful")
	if out := g.tool("--list"); strings.Contains(out, g.name()) {
		g.t.Errorf("the group is deleted and listed:\n%s", out)
	}
	out, err := tryJava(g.t, kafkaConsumerGroups, "--bootstrap-server", g.node.Kafka,
		"--describe", "--group", g.name())
	contains(g.t, fmt.Sprint(out, err), "does not exist")
}

func TestKafkasToolsManageTransactions(t *testing.T) {
	node := testkit.StartNode(t)
	tool := func(args ...string) string {
		t.Helper()
		return java(t, kafkaTransactions,
			slices.Concat([]string{"--bootstrap-server", node.Kafka}, args)...)
	}
	line := jvm(kafkaTopics, "--bootstrap-server", node.Kafka, "--create", "--topic", "orders")
	testkit.Command(t, "", line[0], line[1:]...)
	fill(t, node, "orders", 10)
	client, err := kgo.NewClient(kgo.SeedBrokers(node.Kafka), kgo.TransactionalID("till"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: "orders", Value: []byte("one more")}
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id := strconv.FormatInt(r.ProducerID, 10)
	only(t, table(tool("list"), "TransactionalId")).has(t,
		"TransactionalId", "till", "Coordinator", "1", "ProducerId", id, "TransactionState", "Ongoing")
	described := tool("describe", "--transactional-id", "till")
	only(t, table(described, "CoordinatorId")).has(t, "TransactionalId", "till",
		"ProducerId", id, "TransactionState", "Ongoing",
		"TopicPartitions", "orders-0")
	start := strconv.FormatInt(r.Offset, 10)
	producers := func() row {
		rows := table(tool("describe-producers", "--topic", "orders", "--partition", "0"), "ProducerId")
		for _, r := range rows {
			if r["ProducerId"] == id {
				return r
			}
		}
		t.Fatalf("producer %s is not in %v", id, rows)
		return nil
	}
	producers().has(t, "CurrentTransactionStartOffset", start)
	// The coordinator knows of the transaction, so it does not hang, old as it is.
	hanging := []string{"find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0"}
	if rows := table(tool(hanging...), "Topic"); len(rows) != 0 {
		t.Errorf("a transaction hangs that its coordinator knows of: %v", rows)
	}
	tool("abort", "--topic", "orders", "--partition", "0", "--start-offset", start)
	producers().has(t, "CurrentTransactionStartOffset", "None")
	ends := func(extra ...string) string {
		return java(t, kafkaGetOffsets, slices.Concat(
			[]string{"--bootstrap-server", node.Kafka, "--topic", "orders"}, extra)...)
	}
	contains(t, ends(), "orders:0:12") // ten records, one of the transaction, the marker
}
