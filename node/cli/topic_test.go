package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

func TestTopicCommandsPrintTheseTables(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(12, "users"))
	for _, step := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{args: []string{"topic", "create", "orders", "--partitions", "2", "--replication-factor",
			"1", "--config", "retention.ms=1000"},
			want: "created topic \"orders\" with 2 partitions, replication factor 1\n"},
		{args: []string{"topic", "create", "orders", "--if-not-exists"},
			want: "topic \"orders\" exists already\n"},
		{args: []string{"topic", "create", "short", "-p", "3", "-r", "1", "-c", "retention.ms=1",
			"--set", "segment.ms=2"},
			want: "created topic \"short\" with 3 partitions, replication factor 1\n"},
		{args: []string{"topic", "alter", "short", "--config", "segment.ms=3"},
			want: "altered topic \"short\"\n"},
		{args: []string{"topic", "delete", "short"}, want: "deleted topic \"short\"\n"},
		{args: []string{"topic", "create", "returns", "--dry-run"},
			want: "topic \"returns\": this would work; nothing was changed\n"},
		{args: []string{"topic", "list"}, want: "" +
			"NAME    PARTITIONS  REPLICAS  ID\n" +
			"orders           2         1  <id>\n" +
			"users           12         1  <id>\n"},
		{args: []string{"topic", "list", "--regex", "^us"}, want: "" +
			"NAME   PARTITIONS  REPLICAS  ID\n" +
			"users          12         1  <id>\n"},
		{args: []string{"produce", "orders", "--partition", "1", "-q"}, stdin: "a\nb\n", want: ""},
		{args: []string{"topic", "describe", "orders"}, want: "" +
			"orders: 2 partitions, id <id>\n\n" +
			"PARTITION  LEADER  REPLICAS  ISR  START  END  SIZE\n" +
			"        0       0  0         0        0    0  <size>\n" +
			"        1       0  0         0        0    2  <size>\n\n" +
			"SETTING       VALUE  SOURCE\n" +
			"retention.ms  1000   topic\n\n" +
			"9 settings at the default; show with --all\n"},
		{args: []string{"topic", "alter", "orders", "--partitions", "3", "--delete", "retention.ms",
			"--set", "cleanup.policy=compact"}, want: "altered topic \"orders\"\n"},
		{args: []string{"topic", "describe", "orders"}, want: "" +
			"orders: 3 partitions, id <id>\n\n" +
			"PARTITION  LEADER  REPLICAS  ISR  START  END  SIZE\n" +
			"        0       0  0         0        0    0  <size>\n" +
			"        1       0  0         0        0    2  <size>\n" +
			"        2       0  0         0        0    0  <size>\n\n" +
			"SETTING         VALUE    SOURCE\n" +
			"cleanup.policy  compact  topic\n\n" +
			"9 settings at the default; show with --all\n"},
		{args: []string{"topic", "delete", "orders", "--yes"}, want: "deleted topic \"orders\"\n"},
		{args: []string{"topic", "list"}, want: "" +
			"NAME   PARTITIONS  REPLICAS  ID\n" +
			"users          12         1  <id>\n"},
		{args: []string{"topic", "delete", "users"}, want: "deleted topic \"users\"\n"},
	} {
		got := sizes(golden(succeed(t, c, step.stdin, step.args...)))
		if got != step.want {
			t.Errorf("troupe %s printed\n%s\nwant\n%s", strings.Join(step.args, " "), got, step.want)
		}
	}
}

// sizes hides the last column of a partition table: how many bytes the test
// cluster counts for a batch is its own business.
func sizes(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasSuffix(line, " B") && strings.HasPrefix(line, " ") {
			fields := strings.Fields(line)
			size := strings.Join(fields[len(fields)-2:], " ")
			lines[i] = strings.TrimRight(strings.TrimSuffix(line, size), " ") + "  <size>"
		}
	}
	return strings.Join(lines, "\n")
}

func TestTopicListHasTheseFields(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	for format, want := range map[string]string{
		"json": "[\n  {\n" +
			"    \"name\": \"orders\",\n" +
			"    \"topicId\": \"<id>\",\n" +
			"    \"partitions\": 2,\n" +
			"    \"replicationFactor\": 1,\n" +
			"    \"internal\": false\n" +
			"  }\n]\n",
		"yaml": "- name: orders\n" +
			"  topicId: <id>\n" +
			"  partitions: 2\n" +
			"  replicationFactor: 1\n" +
			"  internal: false\n",
	} {
		if got := golden(succeed(t, c, "", "topic", "list", "-o", format)); got != want {
			t.Errorf("%s\n%s\nwant\n%s", format, got, want)
		}
	}
}

func TestNoTopicsAreAnEmptyList(t *testing.T) {
	c := newCluster(t)
	if got := succeed(t, c, "", "topic", "list", "-o", "json"); got != "[]\n" {
		t.Errorf("json %q", got)
	}
	if got := succeed(t, c, "", "topic", "list", "-o", "yaml"); got != "[]\n" {
		t.Errorf("yaml %q", got)
	}
}

// epochs differ, as the test cluster begins with any.
var epochs = regexp.MustCompile(`leaderEpoch: \d+`)

func TestTopicDescribeHasTheseFields(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	got := golden(succeed(t, c, "", "topic", "describe", "orders", "-o", "yaml"))
	want := "- name: orders\n" +
		"  topicId: <id>\n" +
		"  internal: false\n" +
		"  partitions:\n" +
		"    - partition: 0\n" +
		"      leader: 0\n" +
		"      leaderEpoch: <epoch>\n" +
		"      replicas:\n" +
		"        - 0\n" +
		"      isr:\n" +
		"        - 0\n" +
		"      offline: []\n" +
		"      startOffset: 0\n" +
		"      endOffset: 0\n" +
		"      sizeBytes: 0\n" +
		"  configs:\n" +
		"    - name: cleanup.policy\n" +
		"      value: delete\n" +
		"      source: default\n" +
		"      sensitive: false\n"
	got = epochs.ReplaceAllString(got, "leaderEpoch: <epoch>")
	if !strings.HasPrefix(got, want) {
		t.Errorf("printed\n%s\nwant at the start\n%s", got, want)
	}
}

func TestOneTopicOfSeveralThatFailsDoesNotHideTheOthers(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	r := troupe(t, c, "", "topic", "create", "orders", "users", "--partitions", "1")
	if r.code != ExitFailure ||
		r.out != "created topic \"users\" with 1 partition, replication factor 1\n" ||
		!strings.HasPrefix(r.err, "troupe: topic create: topic \"orders\" exists already; ") {
		t.Errorf("exit %d\nstdout %q\nstderr %q", r.code, r.out, r.err)
	}
	r = troupe(t, c, "", "topic", "create", "orders", "users", "-o", "json")
	if r.code != ExitFailure || strings.Count(r.out, `"result": "failed"`) != 2 ||
		!strings.HasPrefix(r.err, "troupe: topic create: 2 of 2 topics failed, the first: ") {
		t.Errorf("exit %d\nstdout %q\nstderr %q", r.code, r.out, r.err)
	}
}
