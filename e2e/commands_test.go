package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/troupelog/troupe/testkit"
)

// says runs a command that must work and say something; blanks between columns count
// as one.
func says(t *testing.T, n *testkit.Node, what string, args ...string) {
	t.Helper()
	out := regexp.MustCompile(` +`).ReplaceAllString(n.Troupe(args...), " ")
	if !strings.Contains(out, what) {
		t.Errorf("troupe %s says\n%s\nnot %q", strings.Join(args, " "), out, what)
	}
}

// refuses runs a command that must fail with an error that says something.
func refuses(t *testing.T, n *testkit.Node, what string, args ...string) {
	t.Helper()
	if _, err := n.TryTroupe("", args...); err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("troupe %s ends with %v, not with %q", strings.Join(args, " "), err, what)
	}
}

// An operator's day with groups: what commands do stands in what the next one says.
func TestTheCommandsLookAfterGroups(t *testing.T) {
	n := testkit.StartNode(t)
	createTopic(t, n, "orders", 2)
	p := client(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	hour := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 10 {
		r := &kgo.Record{Topic: "orders", Partition: int32(i % 2), Value: fmt.Append(nil, i),
			Timestamp: hour.Add(time.Duration(i) * time.Minute)}
		if err := p.ProduceSync(patient(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if out := n.Troupe("consume", "orders", "--group", "billing"); len(strings.Fields(out)) != 10 {
		t.Errorf("the group read %q", out)
	}
	if out := n.Troupe("consume", "orders", "--group", "billing"); out != "" {
		t.Errorf("the group read again %q", out)
	}
	says(t, n, "billing Empty classic", "group", "list")
	says(t, n, "billing orders 1 5 5 0\n", "group", "lag", "billing")

	says(t, n, "orders 0 5 0 5\norders 1 5 0 5\n", "group", "reset", "billing", "orders",
		"--to", "start", "--dry-run")
	says(t, n, "billing Empty 0 2 0\n", "group", "lag", "--total")
	says(t, n, "orders 0 5 0 5\norders 1 5 0 5\n", "group", "reset", "billing", "orders",
		"--to", "start")
	says(t, n, "billing Empty 0 2 10\n", "group", "lag", "--total")
	says(t, n, "orders 1 0 3 2\n", "group", "reset", "billing", "orders:1", "--to", "3")
	says(t, n, "orders 1 3 2 3\n", "group", "reset", "billing", "orders:1", "--shift", "-1")
	says(t, n, "orders 0 0 4 1\norders 1 2 4 1\n", "group", "reset", "billing", "--all-topics",
		"--to", hour.Add(8*time.Minute).Format(time.RFC3339Nano))
	says(t, n, "orders 0 4 3 2\norders 1 4 3 2\n", "group", "reset", "billing", "--all-topics",
		"--to", fmt.Sprint("@", hour.Add(5*time.Minute+time.Second).UnixMilli()))
	says(t, n, "orders 0 3 5 0\norders 1 3 5 0\n", "group", "reset", "billing", "--all-topics",
		"--to", "1m")
	says(t, n, "orders 0 5 3 2\norders 1 5 3 2\n", "group", "reset", "billing", "--all-topics",
		"--to", "-2")
	if out := n.Troupe("consume", "orders", "--group", "billing", "--count", "3"); len(
		strings.Fields(out)) != 3 {
		t.Errorf("the group read %q", out)
	}
	says(t, n, "billing Empty 0 2 1\n", "group", "lag", "--total")
	says(t, n, `deleted group "billing"`, "group", "delete", "billing")
	refuses(t, n, `the cluster has no group "billing"`, "group", "describe", "billing")
}

func TestAGroupWithMembersIsNeitherResetNorDeleted(t *testing.T) {
	n := testkit.StartNode(t, testkit.FastGroups())
	for i, protocol := range protocols {
		t.Run(string(protocol), func(t *testing.T) {
			topic, group := fmt.Sprint("orders-", i), fmt.Sprint("billing-", i)
			createTopic(t, n, topic, 2)
			produce(t, client(t, n), topic, "one")
			c := client(t, n, append(protocol.Options(), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
				kgo.ClientID("amy"))...)
			if got := poll(t, c, 1); len(got) != 1 {
				t.Fatalf("read %q", got)
			}
			says(t, n, group+": Stable, ", "group", "describe", group)
			says(t, n, "/127.0.0.1 "+topic+":0,1\n", "group", "describe", group)
			why := fmt.Sprintf("group %q is Stable with 1 member, which would not notice", group)
			refuses(t, n, why, "group", "reset", group, topic, "--to", "start")
			refuses(t, n, why, "group", "reset", group, topic, "--to", "start", "--dry-run")
			refuses(t, n, fmt.Sprintf("group %q has members; stop them first", group),
				"group", "delete", group)
			c.LeaveGroup()
			says(t, n, topic+" 0 ", "group", "reset", group, topic, "--to", "start")
			says(t, n, "deleted group", "group", "delete", group)
		})
	}
}

func TestTheCommandsLookAfterTransactions(t *testing.T) {
	n := testkit.StartNode(t)
	createTopic(t, n, "orders", 2)
	p := transactional(t, n, "shop")
	transact(t, p, "orders", "first", 3, kgo.TryCommit)
	says(t, n, "shop CompleteCommit", "txn", "list")
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "orders", "open")
	says(t, n, "shop Ongoing", "txn", "list", "--state", "ongoing")
	says(t, n, "shop: Ongoing for ", "txn", "describe", "shop")
	var described []struct {
		StartTimestamp int64
		Partitions     []struct{ FirstOffset int64 }
	}
	if err := json.Unmarshal([]byte(n.Troupe("txn", "describe", "shop", "-o", "json")),
		&described); err != nil || len(described[0].Partitions) == 0 ||
		time.Since(time.UnixMilli(described[0].StartTimestamp)) > time.Minute {
		t.Errorf("described as %+v (%v)", described, err)
	}
	says(t, n, "FIRST OFFSET LAST WRITE\n", "txn", "list", "--hanging") // and none
	says(t, n, "aborted the transaction of shop", "txn", "abort", "shop")
	says(t, n, "shop has no open transaction", "txn", "abort", "shop")
	err := p.ProduceSync(patient(t), &kgo.Record{Topic: "orders", Value: []byte("late")}).FirstErr()
	if !fenced(err) {
		t.Errorf("the producer whose transaction was aborted is told %v", err)
	}
	if got := committedIn(t, n, "orders"); len(got) != 3 {
		t.Errorf("committed are %q", got)
	}
	refuses(t, n, `the cluster has no transactional id "nope"`, "txn", "abort", "nope")
}

// A producer that wrote to a partition without its coordinator leaves a transaction
// that nobody ends.
func TestATransactionThatHangsIsFoundAndAborted(t *testing.T) {
	n := testkit.StartNode(t, testkit.Set("transaction.partition.verification.enable", "false"))
	createTopic(t, n, "orders", 2)
	hang(t, n, "orders", 1, 4711)
	produce(t, client(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner())), "orders", "other")
	says(t, n, "orders 1 4711 3 0 ", "txn", "list", "--hanging")
	says(t, n, "orders 1 4711 3 0 ", "txn", "list", "--hanging", "orders:1")
	refuses(t, n, "producer 4711 has no open transaction in orders:0",
		"txn", "abort", "--partition", "orders:0", "--producer", "4711")
	says(t, n, "aborted the transaction of producer 4711 in orders:1, which began at offset 0",
		"txn", "abort", "--partition", "orders:1", "--producer", "4711")
	says(t, n, "LAST WRITE\n", "txn", "list", "--hanging")
	if got := committedIn(t, n, "orders"); len(got) != 1 || got[0] != "other" {
		t.Errorf("committed are %q", got)
	}

	p := transactional(t, n, "shop")
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "orders", "open")
	id, _, err := p.ProducerID(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, partition := range []string{"orders:0", "orders:1"} {
		_, err := n.TryTroupe("", "txn", "abort", "--partition", partition, "--producer", fmt.Sprint(id))
		if err != nil && strings.Contains(err.Error(), `transactional id "shop" has this transaction`) {
			refused++
		}
	}
	if refused != 1 {
		t.Error("a transaction that its coordinator knows is aborted in one of its partitions")
	}
}

// hang writes a batch of a transaction that no coordinator knows.
func hang(t *testing.T, n *testkit.Node, topic string, partition int32, producer int64) {
	t.Helper()
	record := kmsg.Record{Value: []byte("lost")}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	b := (&kmsg.RecordBatch{Magic: 2, Attributes: 0x10, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: producer, ProducerEpoch: 3, NumRecords: 1,
		Records: record.AppendTo(nil)}).AppendTo(nil)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr("nobody"), -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, b
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	// Of a version before producers left it to the leader to tell the coordinator.
	c := client(t, n, kgo.MaxVersions(kversion.V3_7_0()))
	details, err := kadm.NewClient(c).ListTopics(patient(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	leader := c.Broker(int(details[topic].Partitions[partition].Leader))
	resp, err := req.RequestWith(patient(t), leader)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("a transaction cannot be made to hang: %v", err)
	}
}

// metric returns the value of a line of /metrics, "" if there is none.
func metric(t *testing.T, n *testkit.Node, series string) string {
	t.Helper()
	resp, err := (&http.Client{Timeout: patience}).Get("http://" + n.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestTheLagOfGroupsIsAMetric(t *testing.T) {
	n := testkit.StartNode(t)
	createTopic(t, n, "orders", 1)
	p := client(t, n)
	for i := range 10 {
		r := &kgo.Record{Topic: "orders", Value: []byte("v"),
			Timestamp: time.Now().Add(time.Duration(i-100) * time.Minute)}
		if err := p.ProduceSync(patient(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	n.Troupe("consume", "orders", "--group", "billing", "--count", "4")
	const labels = `{consumergroup="billing",partition="0",topic="orders"}`
	for series, want := range map[string]string{
		"kafka_consumergroup_current_offset" + labels:                                    "4",
		"kafka_consumergroup_lag" + labels:                                               "6",
		`kafka_consumergroup_lag_sum{consumergroup="billing",topic="orders"}`:            "6",
		`kafka_consumergroup_current_offset_sum{consumergroup="billing",topic="orders"}`: "4",
		`kafka_consumergroup_members{consumergroup="billing"}`:                           "0",
		`troupe_consumergroup_partitions_left_out`:                                       "0",
	} {
		if got := metric(t, n, series); got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}
	var seconds float64
	text := metric(t, n, "kafka_consumergroup_lag_seconds"+labels)
	if _, err := fmt.Sscan(text, &seconds); err != nil || seconds < 96*60 || seconds > 97*60 {
		t.Errorf("the record that is next is 96 minutes old, not %q seconds (%v)", text, err)
	}
}
