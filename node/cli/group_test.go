package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ordersCluster has a topic "orders" of two partitions with five records in each, a
// minute apart, the last at noon.
func ordersCluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	cl := client(t, c, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 10 {
		r := &kgo.Record{Topic: "orders", Partition: int32(i % 2), Value: fmt.Append(nil, i),
			Timestamp: noon.Add(time.Duration(i/2-4) * time.Minute)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// member reads "orders" in a group until the test ends or stop is called.
func member(t *testing.T, c *kfake.Cluster, name string, opts ...kgo.Opt) (stop func()) {
	t.Helper()
	cl := client(t, c, append([]kgo.Opt{kgo.ClientID("amy"), kgo.ConsumerGroup(name),
		kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit()}, opts...)...)
	if f := cl.PollFetches(t.Context()); f.Err() != nil {
		t.Fatal(f.Err())
	}
	return cl.Close
}

func TestAGroupGoesOnWhereItIsTold(t *testing.T) {
	c := ordersCluster(t)
	for _, tt := range []struct {
		args string
		rows string
	}{
		{"orders --to start --dry-run", "orders 0 - 0 5\norders 1 - 0 5\n"},
		{"orders --to end", "orders 0 - 5 0\norders 1 - 5 0\n"},
		{"orders:1 --to 2", "orders 1 5 2 3\n"},
		{"orders:1 orders:1 --to 3 --dry-run", "orders 1 2 3 2\n"},
		{"orders:1 orders --shift -1 --dry-run", "orders 0 5 4 1\norders 1 2 1 4\n"},
		{"orders --shift -3", "orders 0 5 2 3\norders 1 2 0 5\n"},
		{"orders --shift 9223372036854775807 --dry-run", "orders 0 2 5 0\norders 1 0 5 0\n"},
		{"orders --shift -9223372036854775808 --dry-run", "orders 0 2 0 5\norders 1 0 0 5\n"},
		{"--all-topics --to -1", "orders 0 2 4 1\norders 1 0 4 1\n"},
		{"orders:0 --to 2026-03-01T11:57:30Z", "orders 0 4 2 3\n"},
		{"orders:0 --to @1772366340000 --dry-run", "orders 0 2 3 2\n"}, // 11:59
		{"orders:0 --to 1h --dry-run", "orders 0 2 5 0\n"},             // noon is long gone
	} {
		args := append([]string{"group", "reset", "billing"}, strings.Fields(tt.args)...)
		got := succeed(t, c, "", args...)
		_, rows, _ := strings.Cut(got, "\n")
		if got := strings.Join(strings.Fields(rows), " "); got != strings.Join(
			strings.Fields(tt.rows), " ") {
			t.Errorf("reset %s says\n%swant\n%s", tt.args, rows, tt.rows)
		}
	}
	want := "GROUP  TOPIC  PARTITION  COMMITTED  END  LAG\n" +
		"billing  orders  0  2  5  3\nbilling  orders  1  4  5  1\n"
	if got := rows(succeed(t, c, "", "group", "lag")); got != want {
		t.Errorf("lag says\n%swant\n%s", got, want)
	}
}

// rows is a table with two blanks between its columns.
func rows(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString(strings.Join(strings.Fields(line), "  ") + "\n")
	}
	return out.String()
}

func TestAGroupThatLivesIsLeftAlone(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"classic": nil, "consumer": {kgo.ServerSideBalancer()},
	} {
		t.Run(name, func(t *testing.T) {
			c := ordersCluster(t)
			stop := member(t, c, "billing", opts...)
			out := succeed(t, c, "", "group", "describe", "billing")
			if !strings.HasPrefix(out, "billing: Stable, "+name+", ") ||
				!regexp.MustCompile(`  amy +127.0.0.1:\d+  (orders)?:0,1\n`).MatchString(out) {
				t.Errorf("described as\n%s", out)
			}
			why := `group "billing" is Stable with 1 member, which would not notice; stop them first; ` +
				`"troupe group describe billing" shows who they are` + "\n"
			for _, args := range []string{"orders --to start", "orders --shift 1 --dry-run"} {
				r := troupe(t, c, "", append([]string{"group", "reset", "billing"},
					strings.Fields(args)...)...)
				if r.code != ExitFailure || !strings.HasSuffix(r.err, why) {
					t.Errorf("reset %s: exit %d, %s", args, r.code, r.err)
				}
			}
			r := troupe(t, c, "", "group", "delete", "billing", "none", "-o", "json")
			if r.code != ExitFailure || !strings.HasPrefix(r.err, "troupe: group delete: 2 of 2 groups "+
				`failed, the first: group "billing" has members; stop them first;`) ||
				strings.Count(r.out, `"result": "failed"`) != 2 {
				t.Errorf("delete: exit %d, %s%s", r.code, r.out, r.err)
			}
			stop()
			if out := succeed(t, c, "", "group", "delete", "billing"); out != "deleted group \"billing\"\n" {
				t.Errorf("delete says %q", out)
			}
		})
	}
}

func TestACommitThatAMemberPreventsIsAnError(t *testing.T) {
	c := ordersCluster(t)
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.OffsetCommitRequest)
		resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownMemberID.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	r := troupe(t, c, "", "group", "reset", "billing", "orders", "--to", "start")
	want := `troupe: group reset: 2 of 2 partitions failed, the first: group "billing" has members; ` +
		`stop them first; "troupe group describe billing" shows who they are` + "\n"
	if r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
}

func TestTheWaitForACoordinatorEnds(t *testing.T) {
	c := ordersCluster(t)
	succeed(t, c, "", "group", "reset", "billing", "orders", "--to", "start")
	times := 0
	c.ControlKey(int16(kmsg.DescribeGroups), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if times++; times > 2 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
		for _, name := range req.(*kmsg.DescribeGroupsRequest).Groups {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = name, kerr.CoordinatorLoadInProgress.Code
			resp.Groups = append(resp.Groups, g)
		}
		return resp, nil, true
	})
	if out := succeed(t, c, "", "group", "describe", "billing"); !strings.Contains(out, "Empty") {
		t.Errorf("described as\n%s", out)
	}
	if times != 3 {
		t.Errorf("the coordinator was asked %d times, want 3: twice it was loading", times)
	}
}

func TestACoordinatorThatRefusesConnectionsIsWaitedForIfOthersAnswer(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	asked := func(cl *kgo.Client) (times int, err error) {
		err = awaitCoordinator(t.Context(), kadm.NewClient(cl), func() error {
			if times++; times > 2 {
				return nil
			}
			return refused
		})
		return times, err
	}
	if times, err := asked(client(t, newCluster(t))); err != nil || times != 3 {
		t.Errorf("asked %d times: %v", times, err)
	}
	nobody, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	if times, err := asked(nobody); !errors.Is(err, refused) || times != 1 {
		t.Errorf("where nobody answers it is asked %d times: %v", times, err)
	}
}

// A broker that is still reading one of its partitions tells what is in the others.
func TestGroupsAreListedAsFarAsTheyAreKnown(t *testing.T) {
	c := ordersCluster(t)
	c.ControlKey(int16(kmsg.ListGroups), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.GroupState = "billing", "Empty"
		resp.Groups = append(resp.Groups, g)
		return resp, nil, true
	})
	r := troupe(t, c, "", "group", "list", "--timeout", "1s")
	if r.code != ExitFailure || !strings.Contains(r.out, "billing") ||
		!strings.Contains(r.err, "(COORDINATOR_LOAD_IN_PROGRESS); try again, and see "+
			`"troupe cluster status" if it stays so`) {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
}

func TestStatesAndTypesThatDoNotExistAreRefused(t *testing.T) {
	c := newCluster(t)
	for args, want := range map[string]string{
		"group list --state empti": `list: --state "empti" is not known; use stable, empty, `,
		"group list --type class":  `list: --type "class" is not known; use classic, consumer, `,
		"txn list --state going":   `list: --state "going" is not known; use ongoing, `,
	} {
		r := troupe(t, c, "", strings.Fields(args)...)
		if r.code != ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit %d, %s", args, r.code, r.err)
		}
	}
}

func TestGroupsAreListedByStateTypeAndName(t *testing.T) {
	c := ordersCluster(t)
	member(t, c, "newer", kgo.ServerSideBalancer())
	member(t, c, "older")
	succeed(t, c, "", "group", "reset", "billing", "orders", "--to", "start")
	for args, want := range map[string]string{
		"":                      "billing newer older",
		"--state EMPTY":         "billing",
		"--state stable,dead":   "newer older",
		"--type consumer":       "newer",
		"--type classic":        "billing older",
		"--regex ^o":            "older",
		"--state empty -o json": "billing",
	} {
		var names []string
		out := succeed(t, c, "", append([]string{"group", "list"}, strings.Fields(args)...)...)
		if strings.Contains(args, "json") {
			var listed []listedGroup
			if err := json.Unmarshal([]byte(out), &listed); err != nil {
				t.Fatal(err)
			}
			for _, l := range listed {
				names = append(names, l.Group)
			}
		} else {
			for line := range strings.Lines(out) {
				names = append(names, strings.Fields(line)[0])
			}
			names = names[1:]
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("list %s: %s, want %s", args, got, want)
		}
	}
	got := rows(succeed(t, c, "", "group", "lag", "--total", "billing", "older"))
	if want := "GROUP  STATE  MEMBERS  PARTITIONS  LAG\nbilling  Empty  0  2  10\n" +
		"older  Stable  1  2  10\n"; got != want {
		t.Errorf("lag --total says\n%swant\n%s", got, want)
	}
}

func TestDescribedGroupsHaveTheseFields(t *testing.T) {
	c := ordersCluster(t)
	member(t, c, "billing")
	var groups []groupState
	dec := json.NewDecoder(strings.NewReader(succeed(t, c, "", "group", "describe", "billing", "-o",
		"json")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&groups); err != nil {
		t.Fatal(err)
	}
	s := groups[0]
	if s.Group != "billing" || s.Lag != 10 || len(s.Members) != 1 || len(s.Offsets) != 2 ||
		s.Offsets[0].Committed != nil || *s.Offsets[1].Lag != 5 ||
		s.Offsets[1].MemberID != s.Members[0].MemberID || s.Epoch != nil ||
		!slices.Equal(s.Members[0].Assigned[0].Partitions, []int32{0, 1}) {
		t.Errorf("got %+v", s)
	}
}

func TestAMemberPrintsWhatTheGroupHasNotReadAndCommits(t *testing.T) {
	c := ordersCluster(t)
	consume := func(args ...string) []string {
		t.Helper()
		out := succeed(t, c, "", append([]string{"consume", "orders", "-q", "-g", "billing"}, args...)...)
		lines := strings.Fields(out)
		slices.Sort(lines)
		return lines
	}
	first := consume("--count", "3")
	if len(first) != 3 {
		t.Errorf("--count 3 prints %q", first)
	}
	rest := consume("--from", "end") // which is for partitions the group never read
	all := append(first, rest...)
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) || len(rest) < 2 {
		t.Errorf("printed are %q, then %q", first, rest)
	}
	if again := consume(); len(again) != 0 {
		t.Errorf("printed again are %q", again)
	}
	succeed(t, c, "1\n2\n", "produce", "orders", "--partition", "1", "-q")
	if more := consume(); !slices.Equal(more, []string{"1", "2"}) {
		t.Errorf("printed are %q", more)
	}
	for _, o := range groupOffsets(t, c) {
		if *o.Lag != 0 {
			t.Errorf("partition %d lags by %d", o.Partition, *o.Lag)
		}
	}
}

func groupOffsets(t *testing.T, c *kfake.Cluster) []groupOffset {
	t.Helper()
	var groups []groupState
	out := succeed(t, c, "", "group", "describe", "billing", "-o", "json")
	if err := json.Unmarshal([]byte(out), &groups); err != nil {
		t.Fatal(err)
	}
	return groups[0].Offsets
}

func TestAMemberThatFollowsCommitsWhatItPrintedBeforeItIsInterrupted(t *testing.T) {
	c := ordersCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan result)
	go func() {
		done <- troupeContext(ctx, c, strings.NewReader(""), "consume", "orders", "-f", "-q",
			"--group", "billing")
	}()
	for at := time.Now(); ; {
		r := troupe(t, c, "", "group", "lag", "billing", "--total")
		if strings.HasSuffix(rows(r.out), "  1  2  0\n") { // one member, two partitions, no lag
			break
		}
		if time.Since(at) > time.Minute {
			t.Fatal("the member commits nothing")
		}
	}
	cancel()
	if r := <-done; r.code != ExitOK || len(strings.Fields(r.out)) != 10 {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
	r := troupe(t, c, "", "group", "reset", "billing", "orders", "--to", "start")
	if r.code != ExitOK {
		t.Errorf("the member has not left: %s", r.err)
	}
}

func TestAMemberThatGetsNoPartitionEnds(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	succeed(t, c, "one\n", "produce", "orders", "-q")
	member(t, c, "billing", kgo.Balancers(kgo.RangeBalancer()),
		kgo.HeartbeatInterval(50*time.Millisecond), kgo.InstanceID("a")) // "a" is the first in order
	r := troupe(t, c, "", "consume", "orders", "-g", "billing", "-q")
	if r.code != ExitOK || r.out != "" {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
}

func TestAMemberOfAnotherProtocolIsToldSo(t *testing.T) {
	c := ordersCluster(t)
	member(t, c, "billing", kgo.Balancers(kgo.RoundRobinBalancer()))
	r := troupe(t, c, "", "consume", "orders", "-g", "billing", "-q")
	want := `troupe: consume: group "billing" has members that share partitions out in another way; ` +
		"stop them, or use another --group\n"
	if r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
}

func TestACommittedOffsetThatIsGoneIsAnErrorWithARemedy(t *testing.T) {
	c := ordersCluster(t)
	cl := client(t, c)
	succeed(t, c, "", "group", "reset", "billing", "orders", "--to", "start")
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = "orders"
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = 1, 3
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	r := troupe(t, c, "", "consume", "orders", "-g", "billing", "-q")
	want := `partition 1 of "orders" does not hold offset 0, where group "billing" is; ` +
		`set another with "troupe group reset billing orders:1 --to start"` + "\n"
	if r.code != ExitFailure || !strings.HasSuffix(r.err, want) {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
}
