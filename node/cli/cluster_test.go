package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// spaces shortens runs of blanks: the addresses in a table have any length.
func spaces(s string) string { return regexp.MustCompile(` {2,}`).ReplaceAllString(s, "  ") }

// nodeRow is what a table says of a node of the model.
func nodeRow(id, replicas, leaders, state string) string {
	return "  " + id + "  <broker>  r" + id + "  " + state + "  " + replicas + "  " + leaders +
		"  3.0 MiB  40.0 GiB of 100.0 GiB\n"
}

const nodeHeading = "NODE  ADDRESS  RACK  STATE  REPLICAS  LEADERS  SIZE  DISK FREE\n"

func TestClusterStatusSaysInWordsWhatIsNotWell(t *testing.T) {
	mute := healthy()
	mute.mute = 1
	sick := ailing()
	sick.badDisk = true
	plain := healthy()
	plain.kafka = true
	nodes := nodeHeading + nodeRow("0", "3", "1", "alive") +
		nodeRow("1", "2", "1", "alive, controller") + nodeRow("2", "3", "1", "alive")
	for _, tt := range []struct {
		name  string
		model *model
		code  int
		out   string
		err   string
	}{
		{name: "all is well", model: healthy(), out: "Cluster the-cluster: 3 nodes, controller is " +
			"node 1\n\n" + nodes + "\n3 partitions of 2 topics\n\nAll is well.\n"},
		{name: "Apache Kafka", model: plain, out: "Cluster the-cluster: 3 nodes, controller is " +
			"node 1\n\n" + nodes + "\n3 partitions of 2 topics\n\nAll is well.\n"},
		{name: "a dead node", model: ailing(), code: ExitFailure, out: "Cluster the-cluster: 4 nodes, " +
			"controller is node 1\n\n" + nodeHeading + nodeRow("0", "2", "1", "alive") +
			nodeRow("1", "2", "1", "alive, controller") + nodeRow("2", "2", "1", "alive") +
			"  3  gone.example:9092  r3  dead  4  0  -  -\n" +
			"\n5 partitions of 2 topics\n1 partition on the way to other replicas\n" +
			"2 partitions not led by the preferred replica\n\nNot well:\n" +
			"  1 partition is offline: no node that has it is alive\n" +
			"  1 partition has no leader: no replica that is alive has all records\n" +
			"  2 partitions are below min.insync.replicas: writes with acks=all are refused\n" +
			"  3 partitions are under-replicated: replicas lag or are dead\n" +
			"  node 3 is dead\n",
			err: "troupe: cluster status: the cluster is not well; 5 problems, see above"},
		{name: "a controller that does not answer", model: mute, code: ExitFailure,
			out: "  1  <broker>  r1  no answer, controller  2  1  -  -\n" +
				nodeRow("2", "3", "1", "alive") +
				"\n3 partitions of 2 topics\n\nNot well:\n  node 1 does not answer\n",
			err: "troupe: cluster status: the cluster is not well; 1 problem, see above"},
		{name: "failed disks", model: sick, code: ExitFailure,
			out: "  node 0: /data has failed: Disk error when trying to access log file on the disk " +
				"(KAFKA_STORAGE_ERROR)\n  node 1: /data has failed",
			err: "troupe: cluster status: the cluster is not well; 8 problems, see above"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := troupe(t, newModel(t, tt.model), "", "cluster", "status", "--check")
			out := spaces(golden(r.out))
			if r.code != tt.code || !strings.Contains(out, tt.out) ||
				!strings.HasPrefix(r.err, tt.err) || tt.err == "" && r.err != "" {
				t.Errorf("exit %d\n%s%s\nwant %d\n%s%s", r.code, out, r.err, tt.code, tt.out, tt.err)
			}
			if r := troupe(t, newModel(t, tt.model), "", "cluster", "status"); r.code != ExitOK {
				t.Errorf("without --check: exit %d", r.code)
			}
		})
	}
}

func TestClusterStatusHasTheseFields(t *testing.T) {
	out := succeed(t, newModel(t, ailing()), "", "cluster", "status", "-o", "json")
	var s clusterStatus
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	h := s.Health
	h.Problems = nil
	want := clusterHealth{DeadNodes: 1, Offline: 1, Leaderless: 1, UnderMinISR: 2,
		UnderReplicated: 3, Reassigning: 1, NotPreferred: 2}
	if h.OK != want.OK || h.DeadNodes != 1 || h.Offline != 1 || h.Leaderless != 1 ||
		h.UnderMinISR != 2 || h.UnderReplicated != 3 || h.Reassigning != 1 || h.NotPreferred != 2 {
		t.Errorf("health is %+v, want %+v", h, want)
	}
	dead := s.Nodes[3]
	if dead.ID != 3 || dead.Alive || dead.SizeBytes != nil || dead.Disks == nil || dead.Replicas != 4 {
		t.Errorf("the dead node is %+v", dead)
	}
	if s.Controller != 1 || !s.Nodes[1].Controller || s.Nodes[0].Disks[0].FreeBytes != 40<<30 {
		t.Errorf("got %s", out)
	}
}

func TestPartitionListShowsAndChoosesStates(t *testing.T) {
	c := newModel(t, ailing())
	rows := map[string]string{
		"orders 0": "orders  0  0  0,1,3  0,1  under-replicated\n",
		"orders 1": "orders  1  1  3,1  1  under-min-isr, under-replicated, not-preferred\n",
		"orders 2": "orders  2  none  3,2  3  leaderless, under-min-isr, under-replicated\n",
		"users 0":  "users  0  none  3  3  offline\n",
		"users 1":  "users  1  2  0,2  2,0  0  -  reassigning, not-preferred\n",
	}
	for flags, want := range map[string][]string{
		"":                                 {"orders 0", "orders 1", "orders 2", "users 0", "users 1"},
		"--topic users":                    {"users 0", "users 1"},
		"--under-replicated":               {"orders 0", "orders 1", "orders 2"},
		"--under-min-isr":                  {"orders 1", "orders 2"},
		"--offline":                        {"orders 2", "users 0"},
		"--offline --topic orders":         {"orders 2"},
		"--reassigning --under-min-isr":    {"orders 1", "orders 2", "users 1"},
		"--under-min-isr -t users":         {},
		"-t orders -t users --reassigning": {"users 1"},
	} {
		args := append([]string{"partition", "list"}, strings.Fields(flags)...)
		_, got, _ := strings.Cut(spaces(succeed(t, c, "", args...)), "\n")
		all := ""
		for _, name := range want {
			all += rows[name]
		}
		if got != all {
			t.Errorf("%s: got\n%s\nwant\n%s", flags, got, all)
		}
	}
	out := succeed(t, c, "", "partition", "list", "-t", "users", "--reassigning", "-o", "json")
	var listed []partitionState
	if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != 1 ||
		!slices.Equal(listed[0].Adding, []int32{0}) || listed[0].Removing == nil {
		t.Errorf("%v in\n%s", err, out)
	}
}

// step is a command line and what comes of it; out and err are prefixes.
type step struct {
	args string
	code int
	out  string
	err  string
}

func follow(t *testing.T, c *kfake.Cluster, steps []step) {
	t.Helper()
	for _, s := range steps {
		r := troupe(t, c, "", strings.Fields(s.args)...)
		if r.code != s.code || golden(r.out) != s.out || !strings.HasPrefix(golden(r.err), s.err) ||
			s.err == "" && r.err != "" {
			t.Errorf("troupe %s: exit %d\n%s%s\nwant %d\n%s%s",
				s.args, r.code, r.out, r.err, s.code, s.out, s.err)
		}
	}
}

func TestReplicasAreReassigned(t *testing.T) {
	m := healthy()
	m.slow = 2
	follow(t, newModel(t, m), []step{
		{args: "partition reassign orders:0 --replicas 2,1 --dry-run",
			out: "orders:0 would move from 0,1,2 to 2,1\n"},
		{args: "partition reassign orders:0 --replicas 2,9", code: ExitFailure,
			err: "troupe: partition reassign: orders:0: node 9 is not alive; see"},
		{args: "partition reassign nope --replicas 2", code: ExitFailure,
			err: `troupe: partition reassign: the cluster has no topic "nope"; see`},
		{args: "partition reassign orders:7 --replicas 2", code: ExitFailure,
			err: `troupe: partition reassign: topic "orders" has no partition 7; see`},
	})
	if m.reassigned != 0 {
		t.Fatalf("%d requests changed something", m.reassigned)
	}
	follow(t, newModel(t, m), []step{
		{args: "partition reassign orders:0 --replicas 2,1 --wait",
			out: "orders:0 has its replicas on 2,1\n", err: "1 partition on the way, 1 to go\n"},
		{args: "partition reassign --cancel", err: "no partition is on its way to other replicas\n"},
		{args: "partition reassign --cancel orders:0", out: "orders:0 is not being reassigned\n"},
	})
	m.slow = 1 << 30
	follow(t, newModel(t, m), []step{
		{args: "partition reassign users orders:1 --replicas 1",
			out: "orders:1 moves from 1,2,0 to 1\nusers:0 moves from 2,0 to 1\n"},
		{args: "partition reassign --cancel --dry-run",
			out: "orders:1 would go back to 1,2,0\nusers:0 would go back to 2,0\n"},
		{args: "partition reassign --cancel users", out: "users:0 goes back to 2,0\n"},
		{args: "partition reassign --cancel --wait", out: "orders:1 has its replicas on 1,2,0\n"},
		{args: "partition list --reassigning", out: "TOPIC  PARTITION  LEADER  REPLICAS  ISR  STATE\n"},
	})
}

func TestReplicasAreReassignedByAPlanOfKafkasTools(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		name := filepath.Join(dir, "plan.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	m := healthy()
	m.partitions = append(m.partitions, partitionState{Topic: "refused", Leader: 0,
		Replicas: []int32{0}, ISR: []int32{0}})
	c := newModel(t, m)
	name := file(`{"version":1,"partitions":[
		{"topic":"users","partition":0,"replicas":[0,1],"log_dirs":["any","any"]},
		{"topic":"orders","partition":1,"replicas":[2,1]}]}`)
	out := succeed(t, c, "", "partition", "reassign", "--file", name, "--wait")
	if want := "orders:1 has its replicas on 2,1\nusers:0 has its replicas on 0,1\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	plan := `{"version":1,"partitions":[{"topic":"users","partition":0,"replicas":[2]},` +
		`{"topic":"refused","partition":0,"replicas":[2,1]}]}`
	r := troupe(t, c, plan, "partition", "reassign", "-f", "-", "-o", "json")
	var results []partitionResult
	if err := json.Unmarshal([]byte(r.out), &results); err != nil {
		t.Fatal(err)
	}
	if want := "troupe: partition reassign: refused:0: node 2 is not for this topic " +
		"(INVALID_REPLICA_ASSIGNMENT)\n"; r.code != ExitFailure || r.err != want ||
		len(results) != 2 || results[0].Result != resultFailed || results[1].Result != resultStarted {
		t.Errorf("exit %d, %q\n%s", r.code, r.err, r.out)
	}
	for text, want := range map[string]string{
		`{"version":2,"partitions":[]}`:                                "its version is 2, not 1",
		`{"version":1,"partitions":[]}`:                                "it names no partitions",
		`{"version":1,"partitions":[{"topic":"users"}]}`:               "each entry needs a topic",
		`{"version":1,"partitions":[{"topic":"users","partition":0}]}`: "each entry needs",
		`{"version":1`: "unexpected EOF",
		`{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[1]},` +
			`{"topic":"a","partition":0,"replicas":[2]}]}`: "a:0 stands in it twice",
	} {
		r := troupe(t, c, "", "partition", "reassign", "--file", file(text))
		if r.code != ExitFailure || !strings.Contains(r.err, " is no plan: "+want) {
			t.Errorf("%s: exit %d, %q", text, r.code, r.err)
		}
	}
}

func TestLeadersAreElectedAndTransferred(t *testing.T) {
	m := ailing()
	m.at("users", 1).Adding = nil
	m.at("orders", 2).Replicas = []int32{2, 3}
	follow(t, newModel(t, m), []step{
		{args: "partition elect users:1 orders:0", out: "orders:0 has its leader already\n" +
			"elected a leader of users:1\n"},
		{args: "partition elect orders:1", code: ExitFailure, err: "troupe: partition elect: " +
			"orders:1: the preferred replica is dead or not in sync; see"},
		{args: "partition elect orders:2 --unclean", out: "elected a leader of orders:2\n"},
		{args: "partition elect --unclean --all", code: ExitFailure, err: "troupe: partition elect: " +
			"users:0: no replica may lead; start"},
		{args: "partition elect nope", code: ExitFailure,
			err: `troupe: partition elect: the cluster has no topic "nope"; see`},
		{args: "partition transfer users:1 --to 0", out: "node 0 leads users:1 already\n"},
		{args: "partition transfer users:1 --to 2", out: "node 2 leads users:1\n"},
		{args: "partition transfer orders:0 --to 3", code: ExitFailure, err: "troupe: partition " +
			"transfer: node 3 is not in sync with orders:0, in sync are 0,1; wait"},
		{args: "partition transfer orders:0 --to 2", code: ExitFailure, err: "troupe: partition " +
			"transfer: node 2 has no replica of orders:0, its replicas are on 0,1,3; give"},
		{args: "partition transfer orders:0 --to 1", out: "node 1 leads orders:0\n"},
	})
	if p := m.at("users", 1); p.Leader != 2 || !slices.Equal(p.Replicas, []int32{2, 0}) {
		t.Errorf("after the transfer: %+v", p)
	}
	follow(t, newModel(t, healthy()), []step{
		{args: "partition elect", err: "every partition is led as it should be\n"},
	})
}

func TestNodesAreDrainedAndRemoved(t *testing.T) {
	m := ailing()
	for i := range m.partitions {
		m.partitions[i].Adding = nil
	}
	m.slow = 3
	c := newModel(t, m)
	follow(t, c, []step{
		{args: "node remove 3", code: ExitFailure, err: "troupe: node remove: node 3 has 4 replicas; " +
			`move them away with "troupe node drain 3 --wait"`},
		{args: "node drain 3", out: "node 3 is being drained, it has 4 replicas still\n"},
	})
	if out := succeed(t, c, "", "node", "list"); !strings.Contains(out, "dead, draining") {
		t.Errorf("the list says\n%s", out)
	}
	m.mu.Lock()
	m.slow = 0
	m.mu.Unlock()
	follow(t, c, []step{
		{args: "node drain 3 --wait", out: "node 3 is drained: it has no replicas, stop it when you " +
			"like\n"},
		{args: "node undrain 3", out: "node 3 takes replicas again\n"},
		{args: "node remove 3", out: "removed node 3 from the cluster\n"},
		{args: "node remove 3", code: ExitFailure, err: "troupe: node remove: the cluster has no " +
			"node 3; see"},
		{args: "node remove 1", code: ExitFailure, err: "troupe: node remove: node 1 "},
		{args: "node drain x", code: ExitUsage, err: `troupe: node drain: "x" is no id of a node; ` +
			`give its number, see "troupe node list"`},
	})
}

func TestANodeIsNotDrainedThatNoOtherCouldReplace(t *testing.T) {
	m := healthy()
	m.drained = map[string]bool{"1": true, "2": true}
	follow(t, newModel(t, m), []step{{args: "node drain 0", code: ExitFailure,
		err: "troupe: node drain: no other node could take over from node 0; start one first\n"}})
	follow(t, newModel(t, healthy()), []step{{args: "node drain 1",
		out: "node 1 is being drained, it has 2 replicas still\n",
		err: "troupe: 2 partitions have more replicas than there are other nodes (2) and will stay; "}})
	follow(t, newModel(t, healthy()), []step{{args: "node drain 1 --wait", code: ExitFailure,
		err: "troupe: 2 partitions have more replicas than there are other nodes (2) and will stay; " +
			"start another node\nnode 1 has 2 replicas\ntroupe: node drain: node 1 keeps 2 replicas " +
			"that no other node can take; start another node, or give"}})
	kafka := healthy()
	kafka.kafka = true
	follow(t, newModel(t, kafka), []step{{args: "node drain 1", code: ExitFailure,
		err: "troupe: 2 partitions have more replicas than there are other nodes (2) and will stay; " +
			"start another node\ntroupe: node drain: the nodes of this cluster cannot be drained; " +
			"move partitions with"}})
}

func TestCompletionKnowsNodesAndPartitions(t *testing.T) {
	c := newModel(t, healthy())
	for args, want := range map[string]string{
		"node drain ":                     "0\n1\n2\n:4\n",
		"partition transfer orders --to ": "0\n1\n2\n:4\n",
		"partition elect us":              "users\n:6\n",
		"partition list --topic o":        "orders\n:4\n",
	} {
		words := strings.Split(args, " ")
		out := succeed(t, c, "", append([]string{"__complete"}, words...)...)
		if out != want {
			t.Errorf("%q completes to %q, want %q", args, out, want)
		}
	}
}
