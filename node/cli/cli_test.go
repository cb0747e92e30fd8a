package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(stubbornEnv) != "" {
		os.Exit(Main([]string{"start"}, os.Stdin, os.Stdout, os.Stderr, Deps{Start: stubborn}))
	}
	goleak.VerifyTestMain(m)
}

// stubbornEnv makes the test binary a node that hears a signal but does not stop.
const stubbornEnv = "TROUPE_TEST_STUBBORN"

func stubborn(ctx context.Context, o StartOptions) error {
	io.WriteString(o.Out, "ready\n")
	<-ctx.Done()
	io.WriteString(o.Out, "stopping\n")
	select {}
}

func TestTheFirstSignalCancelsAndTheSecondEndsTheProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), stubbornEnv+"=1")
	cmd.WaitDelay = time.Minute
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	for _, want := range []string{"ready\n", "stopping\n"} {
		if line, err := said.ReadString('\n'); line != want {
			t.Fatalf("the process said %q (%v), want %q", line, err, want)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) ||
		ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v", err)
	}
}

// newCluster is a Kafka cluster of one broker inside the test.
func newCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// result is how a run of the binary ended.
type result struct {
	code     int
	out, err string
}

// troupe runs a command line against a cluster.
func troupe(t *testing.T, c *kfake.Cluster, stdin string, args ...string) result {
	t.Helper()
	return troupeContext(t.Context(), c, strings.NewReader(stdin), args...)
}

func troupeContext(
	ctx context.Context, c *kfake.Cluster, stdin io.Reader, args ...string,
) result {
	var out, errs bytes.Buffer
	if c != nil {
		args = append([]string{"--brokers", c.ListenAddrs()[0]}, args...)
	}
	code := run(ctx, args, stdin, &out, &errs, Deps{})
	return result{code, out.String(), errs.String()}
}

// succeed is troupe for commands that must work; it returns standard output.
func succeed(t *testing.T, c *kfake.Cluster, stdin string, args ...string) string {
	t.Helper()
	r := troupe(t, c, stdin, args...)
	if r.code != ExitOK {
		t.Fatalf("troupe %s: exit %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// client is a plain client of c, to look at a cluster without our commands.
func client(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

var (
	topicIDs = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)
	address  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// golden replaces what differs from run to run.
func golden(s string) string {
	return address.ReplaceAllString(topicIDs.ReplaceAllString(s, "<id>"), "<broker>")
}

func TestErrorsAreOneLineThatNamesTheThingAndTheRemedy(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, "orders"))
	for _, tt := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		err   string
	}{
		{name: "an unknown topic cannot be described", args: []string{"topic", "describe", "nope"},
			code: ExitFailure, err: `troupe: topic describe: the cluster has no topic "nope"; ` +
				`see "troupe topic list", or create it with "troupe topic create nope"`},
		{name: "an unknown topic cannot be written", args: []string{"produce", "nope"}, stdin: "x\n",
			code: ExitFailure, err: `troupe: produce: the cluster has no topic "nope"; ` +
				`see "troupe topic list", or create it with "troupe topic create nope"`},
		{name: "an unknown topic cannot be read", args: []string{"consume", "nope"},
			code: ExitFailure, err: `troupe: consume: the cluster has no topic "nope"; ` +
				`see "troupe topic list", or create it with "troupe topic create nope"`},
		{name: "a topic cannot be created twice", args: []string{"topic", "create", "orders"},
			code: ExitFailure, err: `troupe: topic create: topic "orders" exists already; ` +
				`accept that with --if-not-exists, or choose another name`},
		{name: "partitions cannot be taken away",
			args: []string{"topic", "alter", "orders", "--partitions", "2"}, code: ExitFailure,
			err: `troupe: topic alter: topic "orders": Number of partitions is below 1 ` +
				`(INVALID_PARTITIONS)`},
		{name: "the partition to write must be there",
			args: []string{"produce", "orders", "--partition", "3"}, code: ExitFailure,
			err: `troupe: produce: topic "orders" has no partition 3; its partitions are 0 to 2`},
		{name: "the partition to read must be there",
			args: []string{"consume", "orders", "-p", "0,7"}, code: ExitFailure,
			err: `troupe: consume: topic "orders" has no partition 7; its partitions are 0 to 2`},
		{name: "the offset to read must be there",
			args: []string{"consume", "orders", "-p", "1", "--from", "5"}, code: ExitFailure,
			err: `troupe: consume: partition 1 of "orders": offset 5 is not there, ` +
				`it holds 0 to 0; choose another --from, or one partition`},
		{name: "a time is no offset",
			args: []string{"consume", "orders", "-p", "1", "--from", "1772355600000"},
			code: ExitFailure, err: `troupe: consume: partition 1 of "orders": ` +
				`offset 1772355600000 is not there, it holds 0 to 0; ` +
				`for a time in milliseconds write --from @1772355600000`},
		{name: "a file must be there", args: []string{"produce", "orders", "-f", "/no/file"},
			code: ExitFailure, err: `troupe: produce: open /no/file: no such file or directory; ` +
				`check --file`},
		{name: "an unknown command is near a known one", args: []string{"topic", "lsit"},
			code: ExitUsage, err: `troupe: topic: unknown command "lsit"; did you mean list?`},
		{name: "an unknown flag shows the way to help", args: []string{"consume", "orders", "--wat"},
			code: ExitUsage, err: `troupe: consume: unknown flag: --wat; see troupe consume --help`},
		{name: "an argument is missing", args: []string{"topic", "create"}, code: ExitUsage,
			err: `troupe: topic create: the NAME of a topic is missing; ` +
				`usage: troupe topic create NAME... [flags]`},
		{name: "an argument is too much", args: []string{"consume", "orders", "returns"},
			code: ExitUsage, err: `troupe: consume: "returns" is too much; ` +
				`usage: troupe consume TOPIC [flags]`},
		{name: "nothing is asked for", args: []string{"topic", "list", "orders"},
			code: ExitUsage, err: `troupe: topic list: "orders" is too much; ` +
				`usage: troupe topic list [flags]`},
		{name: "an output format is unknown", args: []string{"topic", "list", "-o", "xml"},
			code: ExitUsage, err: `troupe: topic list: --output "xml" is unknown; ` +
				`use table, json or yaml`},
		{name: "records have no YAML", args: []string{"consume", "orders", "-o", "yaml"},
			code: ExitUsage, err: `troupe: consume: records cannot be printed as yaml; ` +
				`use --format json`},
		{name: "a timeout has bounds", args: []string{"topic", "list", "--timeout", "1ms"},
			code: ExitUsage, err: `troupe: topic list: --timeout 1ms is out of bounds; use 1s to 15m0s`},
		{name: "a setting needs a value", args: []string{"topic", "create", "x", "--config", "a"},
			code: ExitUsage, err: `troupe: topic create: --config "a" is not KEY=VALUE; ` +
				`write it like --config retention.ms=86400000`},
		{name: "a codec is unknown", args: []string{"produce", "orders", "--codec", "rar"},
			code: ExitUsage, err: `troupe: produce: --codec "rar" is unknown; ` +
				`use none, gzip, snappy, lz4 or zstd`},
		{name: "acks are unknown", args: []string{"produce", "orders", "--acks", "2"},
			code: ExitUsage, err: `troupe: produce: --acks "2" is unknown; use all, 1 or 0`},
		{name: "a place is unknown", args: []string{"consume", "orders", "--from", "yesterday"},
			code: ExitUsage, err: `troupe: consume: --from "yesterday" is no place in a topic; ` +
				`use start, end, an OFFSET, -N, a time like 2026-03-01T09:00:00Z, ` +
				`@MILLISECONDS or 10m`},
		{name: "a token is unknown", args: []string{"consume", "orders", "--format", "%q"},
			code: ExitUsage, err: `troupe: consume: --format has an unknown token "%q"; ` +
				`use %t %p %o %k %v %h %T %K %S %R or %%`},
		{name: "a partition needs replicas", args: []string{"partition", "reassign", "orders:0"},
			code: ExitUsage, err: `troupe: partition reassign: the new replicas are missing; ` +
				`name them with --replicas`},
		{name: "replicas need a partition", args: []string{"partition", "reassign", "--replicas", "1"},
			code: ExitUsage, err: `troupe: partition reassign: the TOPIC[:PARTITION] is missing; ` +
				`name partitions, or a --file`},
		{name: "replicas are on different nodes",
			args: []string{"partition", "reassign", "orders", "--replicas", "1,1"}, code: ExitUsage,
			err: `troupe: partition reassign: --replicas "1,1" is no list of different nodes; ` +
				`write it like --replicas 1,2,3`},
		{name: "a plan says everything",
			args: []string{"partition", "reassign", "orders", "--file", "x"}, code: ExitUsage,
			err: `troupe: partition reassign: --file says which partitions go where; ` +
				`leave out the names and --replicas`},
		{name: "a plan must be there", args: []string{"partition", "reassign", "-f", "/no/file"},
			code: ExitFailure, err: `troupe: partition reassign: open /no/file: ` +
				`no such file or directory; check --file`},
		{name: "a partition has a number", args: []string{"partition", "elect", "orders:x"},
			code: ExitUsage, err: `troupe: partition elect: "orders:x" is no TOPIC:PARTITION; ` +
				`write it like orders:0`},
		{name: "unclean elections are asked for by name",
			args: []string{"partition", "elect", "--unclean"}, code: ExitUsage,
			err: `troupe: partition elect: --unclean loses records of every partition it elects for; ` +
				`name the partitions, or say --all`},
		{name: "a transfer is of one partition",
			args: []string{"partition", "transfer", "orders", "--to", "1"}, code: ExitUsage,
			err: `troupe: partition transfer: "orders" names no partition; write it like orders:0`},
		{name: "a transfer has an aim", args: []string{"partition", "transfer", "orders:0"},
			code: ExitUsage, err: `troupe: partition transfer: the new leader is missing; ` +
				`name its node with --to`},
		{name: "a node is missing", args: []string{"node", "drain"}, code: ExitUsage,
			err: `troupe: node drain: the NODE is missing; usage: troupe node drain NODE [flags]`},
		{name: "a reset has an aim", args: []string{"group", "reset", "billing", "orders"},
			code: ExitUsage, err: `troupe: group reset: say once where the group shall go on; ` +
				`use --to or --shift`},
		{name: "a reset has one aim", args: []string{"group", "reset", "billing", "orders", "--to", "1",
			"--shift", "1"}, code: ExitUsage, err: `troupe: group reset: say once where the group ` +
			`shall go on; use --to or --shift`},
		{name: "a reset is of something", args: []string{"group", "reset", "billing", "--to", "end"},
			code: ExitUsage, err: `troupe: group reset: the TOPIC[:PARTITION] is missing; ` +
				`name topics, or say --all-topics`},
		{name: "a reset is of what was named",
			args: []string{"group", "reset", "billing", "orders", "--all-topics", "--to", "end"},
			code: ExitUsage, err: `troupe: group reset: --all-topics and names exclude each other; ` +
				`use one of them`},
		{name: "a place to reset to is unknown",
			args: []string{"group", "reset", "billing", "orders", "--to", "yesterday"}, code: ExitUsage,
			err: `troupe: group reset: --to "yesterday" is no place in a topic; ` +
				`use start, end, an OFFSET, -N, a time like 2026-03-01T09:00:00Z, @MILLISECONDS or 10m`},
		{name: "an offset to reset to must be there",
			args: []string{"group", "reset", "billing", "orders:1", "--to", "5"}, code: ExitFailure,
			err: `troupe: group reset: partition 1 of "orders": offset 5 is not there, ` +
				`it holds 0 to 0; choose another --to, or one partition`},
		{name: "an unknown group cannot be described", args: []string{"group", "describe", "nope"},
			code: ExitFailure, err: `troupe: group describe: the cluster has no group "nope"; ` +
				`see "troupe group list"`},
		{name: "an unknown group cannot be deleted", args: []string{"group", "delete", "nope"},
			code: ExitFailure, err: `troupe: group delete: the cluster has no group "nope"; ` +
				`see "troupe group list"`},
		{name: "an unknown group committed nothing",
			args: []string{"group", "reset", "nope", "--all-topics", "--to", "end"}, code: ExitFailure,
			err: `troupe: group reset: the cluster has no group "nope"; see "troupe group list"`},
		{name: "a group shares partitions out",
			args: []string{"consume", "orders", "--group", "billing", "-p", "0"}, code: ExitUsage,
			err: `troupe: consume: --group and --partition exclude each other; ` +
				`a group shares the partitions out itself`},
		{name: "an unknown transactional id cannot be described",
			args: []string{"txn", "describe", "nope"}, code: ExitFailure,
			err: `troupe: txn describe: the cluster has no transactional id "nope"; ` +
				`see "troupe txn list"`},
		{name: "partitions are for those that hang", args: []string{"txn", "list", "orders"},
			code: ExitUsage, err: `troupe: txn list: "orders" is too much; ` +
				`partitions are looked at with --hanging`},
		{name: "a transaction that hangs has a producer",
			args: []string{"txn", "abort", "--partition", "orders:0"}, code: ExitUsage,
			err: `troupe: txn abort: a transaction that hangs is named by both its partition and its ` +
				`producer; use --partition TOPIC:PARTITION --producer ID`},
		{name: "a transaction that hangs is in a partition",
			args: []string{"txn", "abort", "--partition", "orders", "--producer", "1"}, code: ExitUsage,
			err: `troupe: txn abort: "orders" names no partition; write it like orders:0`},
		{name: "a transaction has a name", args: []string{"txn", "abort"}, code: ExitUsage,
			err: `troupe: txn abort: the transactional ID is missing; ` +
				`name it, or use --partition and --producer`},
		{name: "nothing to alter", args: []string{"topic", "alter", "orders"},
			code: ExitUsage, err: `troupe: topic alter: nothing to change; ` +
				`use --partitions, --set or --delete`},
		{name: "a pattern is broken", args: []string{"topic", "list", "--regex", "("},
			code: ExitUsage, err: "troupe: topic list: --regex: error parsing regexp: " +
				"missing closing ): `(`; use Go's (RE2) syntax"},
		{name: "this build has no node", args: []string{"start"}, code: ExitFailure,
			err: `troupe: start: this binary was built without a node; use a full build`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := troupe(t, c, tt.stdin, tt.args...)
			if r.code != tt.code || r.err != tt.err+"\n" || r.out != "" {
				t.Errorf("exit %d, want %d\nstderr %q\nwant   %q\nstdout %q",
					r.code, tt.code, r.err, tt.err+"\n", r.out)
			}
		})
	}
}

func TestARefusedConnectionNamesTheAddressAndHowToStartABroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // from now on nobody listens there
	t.Setenv(brokersEnv, addr)
	for what, args := range map[string][]string{
		"topic list":     {"topic", "list"},
		"topic describe": {"topic", "describe", "x"},
		"cluster status": {"cluster", "status"},
		"partition list": {"partition", "list"},
		"node list":      {"node", "list"},
		"produce":        {"produce", "x"},
		"consume":        {"consume", "x"},
	} {
		r := troupe(t, nil, "", args...)
		want := "troupe: " + what + ": no broker answers at " + addr + ": connection refused; " +
			"start one with \"troupe start\" or name another with --brokers\n"
		if r.code != ExitFailure || r.err != want {
			t.Errorf("exit %d, stderr %q, want %q", r.code, r.err, want)
		}
	}
}

func TestKafkaErrorsAreToldInWords(t *testing.T) {
	for _, tt := range []struct {
		err  error
		said string
		want string
	}{
		{err: kerr.InvalidTopicException, want: `"x" is no topic name; ` +
			`use 1 to 249 of the letters a-z and A-Z, digits, '.', '_' and '-'`},
		{err: kerr.InvalidConfig, said: "retention.ms is negative.",
			want: `topic "x": retention.ms is negative (INVALID_CONFIG)`},
		{err: kerr.InvalidPartitions, said: `topic "x" has 3 partitions`,
			want: `topic "x" has 3 partitions (INVALID_PARTITIONS)`},
		{err: kerr.PolicyViolation, want: `topic "x": Request parameters do not satisfy ` +
			`the configured policy (POLICY_VIOLATION)`},
	} {
		got := explain(topicError("x", tt.err, tt.said), "b:1", time.Second)
		if got != tt.want {
			t.Errorf("%v is told as %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestTheBrokerFlagCountsBeforeTheEnvironment(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	t.Setenv(brokersEnv, "127.0.0.1:1")
	if out := succeed(t, c, "", "topic", "list"); !strings.Contains(out, "orders") {
		t.Errorf("output %q", out)
	}
}

func TestAReaderThatHadEnoughIsNoError(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\n", "produce", "orders")
	var errs bytes.Buffer
	code := run(t.Context(), []string{"--brokers", c.ListenAddrs()[0], "consume", "orders"},
		nil, closedPipe{}, &errs, Deps{})
	if code != ExitOK {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestAFullDiskBehindTheOutputIsAnError(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "a\nb\n", "produce", "orders")
	var errs bytes.Buffer
	code := run(t.Context(), []string{"--brokers", c.ListenAddrs()[0], "consume", "orders", "-q"},
		nil, fullDisk{}, &errs, Deps{})
	if code != ExitFailure || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestCompletionOffersTopicsThatAreNotOnTheLine(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders", "orders.dlq", "users"))
	succeed(t, c, "", "group", "reset", "billing", "orders", "--to", "end")
	openTransaction(t, c, "shop", 0)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"all topics", []string{"produce", ""}, "orders\norders.dlq\nusers\n:4\n"},
		{"those with the prefix", []string{"consume", "or"}, "orders\norders.dlq\n:4\n"},
		{"none after the only argument", []string{"consume", "orders", ""}, ":4\n"},
		{"none twice", []string{"topic", "delete", "orders", "o"}, "orders.dlq\n:4\n"},
		{"codecs", []string{"produce", "orders", "--codec", ""},
			"none\ngzip\nsnappy\nlz4\nzstd\n:4\n"},
		{"settings of topics", []string{"topic", "create", "x", "--config", "retention."},
			"retention.bytes=\nretention.ms=\n:6\n"},
		{"settings to alter", []string{"topic", "alter", "x", "--set", "preall"},
			"preallocate=\n:6\n"},
		{"values of a setting", []string{"start", "--set", "log.format="},
			"log.format=auto\nlog.format=console\nlog.format=json\n:6\n"},
		{"groups", []string{"consume", "orders", "--group", ""}, "billing\n:4\n"},
		{"groups to reset", []string{"group", "reset", "b"}, "billing\n:4\n"},
		{"topics to reset", []string{"group", "reset", "billing", "us"}, "users\n:6\n"},
		{"transactional ids", []string{"txn", "abort", ""}, "shop\n:4\n"},
		{"both of a switch", []string{"config", "--set", "log.preallocate="},
			"log.preallocate=true\nlog.preallocate=false\n:6\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"__complete", "--brokers", c.ListenAddrs()[0]}, tt.args...)
			if r := troupe(t, nil, "", args...); r.out != tt.want {
				t.Errorf("offered %q, want %q", r.out, tt.want)
			}
		})
	}
}

func TestCompletionWithoutAClusterOffersNothing(t *testing.T) {
	r := troupe(t, nil, "", "__complete", "--brokers", "127.0.0.1:1", "consume", "")
	if r.code != ExitOK || r.out != ":4\n" {
		t.Errorf("exit %d, offered %q", r.code, r.out)
	}
}

func TestStartHandsTheFlagsToTheNode(t *testing.T) {
	var got StartOptions
	deps := Deps{Start: func(ctx context.Context, o StartOptions) error {
		got = o
		return ctx.Err()
	}}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"start", "--data-dir", "d", "--kafka-addr", "h:1",
		"--http-addr", "h:2", "--actor-addr", "h:3", "--config", "f.yaml",
		"--set", "a=1,2", "--set", "b="}, nil, &out, &errs, deps)
	if code != ExitOK {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if got.DataDir != "d" || got.KafkaAddr != "h:1" || got.HTTPAddr != "h:2" ||
		got.ActorAddr != "h:3" || got.ConfigFile != "f.yaml" || got.Out != &out || got.Err != &errs {
		t.Errorf("options %+v", got)
	}
	if strings.Join(got.Set, " ") != "a=1,2 b=" {
		t.Errorf("settings %q", got.Set)
	}
}

// An empty flag is what becomes of one with a variable that is not set.
func TestStartTakesNoEmptyFlagForOneThatIsMissing(t *testing.T) {
	var got StartOptions
	deps := Deps{Start: func(_ context.Context, o StartOptions) error {
		got = o
		return nil
	}}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"start", "--http-addr", ""}, nil, &out, &errs,
		deps); code != ExitOK || strings.Join(got.Set, " ") != "http.listener=" {
		t.Errorf("exit %d, settings %q, %s", code, got.Set, errs.String())
	}
	want := "troupe: start: --consul is empty; name one, or leave the flag out\n"
	if code := run(t.Context(), []string{"start", "--consul", ""}, nil, &out, &errs,
		deps); code != ExitUsage || errs.String() != want {
		t.Errorf("exit %d, stderr %q", code, errs.String())
	}
}

func TestStartPrintsTheNodesErrorInOneLine(t *testing.T) {
	deps := Deps{Start: func(context.Context, StartOptions) error {
		return errors.Join(errors.New("unknown setting \"a\""), errors.New("unknown setting \"b\""))
	}}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"start"}, nil, &out, &errs, deps)
	want := "troupe: start: unknown setting \"a\"; unknown setting \"b\"\n"
	if code != ExitFailure || errs.String() != want {
		t.Errorf("exit %d, stderr %q", code, errs.String())
	}
}

func TestANodesErrorIsNotTakenForOneOfAClient(t *testing.T) {
	for _, err := range []error{
		&net.DNSError{Err: "no such host", Name: "nowhere"},
		context.DeadlineExceeded, io.EOF, syscall.ECONNRESET,
	} {
		told := fmt.Errorf("the node said so: %w", err)
		for _, what := range []string{"start", "config"} {
			var out, errs bytes.Buffer
			run(t.Context(), []string{what}, nil, &out, &errs, Deps{
				Start:  func(context.Context, StartOptions) error { return told },
				Config: func(StartOptions) ([]ConfigRow, error) { return nil, told },
			})
			if want := "troupe: " + what + ": " + told.Error() + "\n"; errs.String() != want {
				t.Errorf("stderr %q, want %q", errs.String(), want)
			}
		}
	}
}

func TestConfigShowsEverySettingWithItsOrigin(t *testing.T) {
	deps := Deps{Config: func(StartOptions) ([]ConfigRow, error) {
		return []ConfigRow{
			{"log.retention.ms", "1000", "flag --set", "How long records are kept."},
			{"log.dirs", "", "default", "Where records are kept."},
		}, nil
	}}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"config"}, "" +
			"NAME              VALUE  ORIGIN\n" +
			"log.retention.ms  1000   flag --set\n" +
			"log.dirs          -      default\n"},
		{[]string{"config", "--docs"}, "" +
			"NAME              VALUE  ORIGIN      MEANING\n" +
			"log.retention.ms  1000   flag --set  How long records are kept.\n" +
			"log.dirs          -      default     Where records are kept.\n"},
		{[]string{"config", "-o", "yaml"}, "" +
			"- name: log.retention.ms\n" +
			"  value: \"1000\"\n" +
			"  origin: flag --set\n" +
			"  doc: How long records are kept.\n" +
			"- name: log.dirs\n" +
			"  value: \"\"\n" +
			"  origin: default\n" +
			"  doc: Where records are kept.\n"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), tt.args, nil, &out, &errs, deps); code != ExitOK {
			t.Fatalf("exit %d: %s", code, errs.String())
		}
		if out.String() != tt.want {
			t.Errorf("%v printed\n%s\nwant\n%s", tt.args, out.String(), tt.want)
		}
	}
}
