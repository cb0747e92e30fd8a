package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// openTransaction leaves a transaction of id open that wrote to partitions of "orders",
// and returns its producer.
func openTransaction(t *testing.T, c *kfake.Cluster, id string, partitions ...int32) *kgo.Client {
	t.Helper()
	cl := client(t, c, kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionTimeout(time.Minute))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, p := range partitions {
		r := &kgo.Record{Topic: "orders", Partition: p, Value: []byte("v")}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return cl
}

func producerOf(t *testing.T, cl *kgo.Client) int64 {
	t.Helper()
	id, _, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTransactionsAreListedAndDescribed(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	shop := openTransaction(t, c, "shop", 0, 1)
	bank := openTransaction(t, c, "bank", 1)
	if err := bank.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"":                              "bank shop",
		"--state ongoing":               "shop",
		"--state Ongoing,Empty":         "shop",
		"--longer-than 1ns":             "shop",
		"--longer-than 1h":              "",
		"--state prepareabort -o table": "",
	} {
		var ids []string
		out := succeed(t, c, "", append([]string{"txn", "list"}, strings.Fields(args)...)...)
		for line := range strings.Lines(out) {
			ids = append(ids, strings.Fields(line)[0])
		}
		got := strings.TrimSpace(strings.Join(ids[1:], " "))
		if args == "--state Ongoing,Empty" {
			got = strings.TrimPrefix(got, "bank ") // its state after a commit is the broker's business
		}
		if got != want {
			t.Errorf("list %s: %q, want %q", args, got, want)
		}
	}
	out := spaces(succeed(t, c, "", "txn", "describe", "shop"))
	want := fmt.Sprintf(`^shop: Ongoing for \d+s of at most 1m0s, producer %d epoch 0, `+
		`coordinator is node 0\n\nTOPIC  PARTITION  FIRST OFFSET  LAST WRITE\norders  0  0  \d+s ago\n`+
		`orders  1  `,
		producerOf(t, shop))
	if !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("described as\n%swant\n%s", out, want)
	}
	var described []describedTxn
	dec := json.NewDecoder(strings.NewReader(succeed(t, c, "", "txn", "describe", "bank", "shop",
		"-o", "json")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&described); err != nil {
		t.Fatal(err)
	}
	if len(described) != 2 || described[0].StartTimestamp != nil || described[0].Partitions == nil ||
		len(described[1].Partitions) != 2 || *described[1].Partitions[1].FirstOffset != 0 {
		t.Errorf("got %+v", described)
	}
}

func TestATransactionIsAbortedAndItsProducerFenced(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"))
	shop := openTransaction(t, c, "shop", 0, 1)
	out := succeed(t, c, "", "txn", "abort", "shop")
	if !strings.HasPrefix(out, "aborted the transaction of shop, which began ") {
		t.Errorf("abort says %q", out)
	}
	out = succeed(t, c, "", "txn", "abort", "shop", "-o", "json")
	var r txnResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Result != resultUnneeded ||
		r.TransactionalID != "shop" {
		t.Errorf("aborting twice says %s (%v)", out, err)
	}
	late := &kgo.Record{Topic: "orders", Value: []byte("late")}
	if err := shop.ProduceSync(t.Context(), late).FirstErr(); err == nil {
		t.Error("the producer goes on")
	}
}

// amnesia makes the coordinators forget what they list.
func amnesia(c *kfake.Cluster) (listed *atomic.Int32) {
	listed = new(atomic.Int32)
	c.ControlKey(int16(kmsg.ListTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		listed.Add(1)
		return req.ResponseKind(), nil, true
	})
	return listed
}

func TestATransactionHangsIfNoCoordinatorKnowsIt(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "orders"), kfake.SeedTopics(1, "users"))
	shop := openTransaction(t, c, "shop", 1)
	if got := rows(succeed(t, c, "", "txn", "list", "--hanging")); strings.Contains(got, "orders") {
		t.Errorf("what a coordinator knows hangs:\n%s", got)
	}
	id := fmt.Sprint(producerOf(t, shop))
	where := []string{"txn", "abort", "--partition", "orders:1", "--producer", id}
	r := troupe(t, c, "", where...)
	if want := `troupe: txn abort: transactional id "shop" has this transaction, it is Ongoing; ` +
		"abort all of it with \"troupe txn abort shop\"\n"; r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
	amnesia(c)
	r = troupe(t, c, "", "txn", "list", "--hanging")
	if !strings.Contains(rows(r.out), "orders  1  "+id+"  0  0  ") || !strings.HasPrefix(r.err,
		"end them like this: troupe txn abort --partition orders:1 --producer "+id) {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	for named, found := range map[string]bool{"orders": true, "orders:1": true, "orders:0": false,
		"users": false} {
		out := succeed(t, c, "", "txn", "list", "--hanging", named, "-o", "json")
		if strings.Contains(out, id) != found || !strings.HasPrefix(out, "[") {
			t.Errorf("in %s: %s", named, out)
		}
	}
	markersEnd(c)
	want := "aborted the transaction of producer " + id + " in orders:1, which began at offset 0\n"
	if out := succeed(t, c, "", where...); out != want {
		t.Errorf("abort says %q", out)
	}
	r = troupe(t, c, "", where...)
	if want := "troupe: txn abort: producer " + id + " has no open transaction in orders:1; " +
		"see \"troupe txn list --hanging\"\n"; r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, %s", r.code, r.err)
	}
}

// markersEnd makes leaders forget open transactions once a marker was written, which
// the fake cluster leaves to its coordinator.
func markersEnd(c *kfake.Cluster) {
	var written atomic.Bool
	c.ControlKey(int16(kmsg.WriteTxnMarkers), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		written.Store(true)
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.DescribeProducers), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, t := range req.(*kmsg.DescribeProducersRequest).Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition = p
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, written.Load()
	})
}

// A transaction that ends between two looks does not hang.
func TestATransactionThatEndsMeanwhileDoesNotHang(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	shop := openTransaction(t, c, "shop", 0)
	c.ControlKey(int16(kmsg.ListTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() {
			if err := shop.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Error(err)
			}
		})
		return req.ResponseKind(), nil, true
	})
	if got := succeed(t, c, "", "txn", "list", "--hanging", "-o", "json"); got != "[]\n" {
		t.Errorf("hanging are %s", got)
	}
}

// A coordinator that does not answer may know the transaction.
func TestNothingHangsForSureWhileACoordinatorDoesNotAnswer(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	shop := openTransaction(t, c, "shop", 0)
	c.ControlKey(int16(kmsg.ListTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return resp, nil, true
	})
	id := fmt.Sprint(producerOf(t, shop))
	abort := []string{"txn", "abort", "--partition", "orders:0", "--producer", id, "--timeout", "1s"}
	for _, args := range [][]string{{"txn", "list", "--hanging", "--timeout", "1s"}, abort} {
		if r := troupe(t, c, "", args...); r.code != ExitFailure {
			t.Errorf("%s: exit %d, %s%s", strings.Join(args, " "), r.code, r.out, r.err)
		}
	}
	markersEnd(c)
	if out := succeed(t, c, "", append(abort, "--force")...); !strings.HasPrefix(out, "aborted ") {
		t.Errorf("abort --force says %q", out)
	}
}

func TestWhatIsBeingCommittedIsNotAborted(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "orders"))
	openTransaction(t, c, "shop", 0)
	key := int16(kmsg.DescribeTransactions)
	c.ControlKey(key, func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.State, s.StartTimestamp = "shop", txnPrepareCommit, noon.UnixMilli()
		resp.TransactionStates = append(resp.TransactionStates, s)
		return resp, nil, true
	})
	r := troupe(t, c, "", "txn", "abort", "shop")
	if want := `troupe: txn abort: the transaction of "shop" is being committed; ` +
		"its outcome is decided, so it cannot be aborted\n"; r.code != ExitFailure || r.err != want {
		t.Errorf("exit %d, %s%s", r.code, r.out, r.err)
	}
}
