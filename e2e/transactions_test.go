package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/testkit"
)

func TestReadersSeeWhatWasCommittedAndNothingThatWasAborted(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 3)
	p := transactional(t, node, "shop")
	var want []string
	for i, end := range []kgo.TransactionEndTry{
		kgo.TryCommit, kgo.TryAbort, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort, kgo.TryCommit,
	} {
		values := transact(t, p, "orders", fmt.Sprint("transaction ", i), 30, end)
		if end == kgo.TryCommit {
			want = append(want, values...)
		}
	}
	if got := committedIn(t, node, "orders"); !sameSet(got, want) {
		t.Errorf("read_committed: %d records, want %d", len(got), len(want))
	}
	if got := everythingIn(t, node, "orders"); len(got) != 6*30 {
		t.Errorf("read_uncommitted: %d records, want %d", len(got), 6*30)
	}
}

// A reader waits at an open transaction, though what follows it was not part of it.
func TestAnOpenTransactionHoldsReadersBack(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 1)
	p := transactional(t, node, "shop")
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "orders", "open")
	produce(t, client(t, node), "orders", "behind it")
	reader := reader(t, node, "orders", kgo.ReadCommitted())
	admin := kadm.NewClient(reader)
	stable, err := admin.ListCommittedOffsets(patient(t), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := stable.Lookup("orders", 0); o.Err != nil || o.Offset != 0 {
		t.Errorf("the last stable offset is %+v, want 0", o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := reader.PollFetches(ctx).NumRecords(); got != 0 {
		t.Errorf("%d records were read while the transaction was open", got)
	}
	if err := p.EndTransaction(patient(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if got := poll(t, reader, 2); !slices.Equal(got, []string{"open", "behind it"}) {
		t.Errorf("read %q", got)
	}
}

// Offsets that are part of a transaction count from its commit on, and never if it
// was aborted.
func TestOffsetsOfATransactionCountFromItsCommit(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 1)
	createTopic(t, node, "bills", 1)
	feeder := client(t, node)
	for i := range 10 {
		produce(t, feeder, "orders", fmt.Sprint("order ", i))
	}
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(node.Kafka),
		kgo.TransactionalID("biller"), kgo.ConsumerGroup("billers"), kgo.ConsumeTopics("orders"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	admin := kadm.NewClient(feeder)
	for _, step := range []struct {
		end  kgo.TransactionEndTry
		want int64
	}{{kgo.TryAbort, -1}, {kgo.TryCommit, 10}} {
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		for read := 0; read < 10; { // after an abort once more from the start
			fetches := s.PollFetches(patient(t))
			if err := fetches.Err0(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				read++
				s.Produce(patient(t), &kgo.Record{Topic: "bills", Value: r.Value}, nil)
			})
		}
		committed, err := s.End(patient(t), step.end)
		if err != nil || committed != bool(step.end) {
			t.Fatalf("committed: %v, %v; asked for %v", committed, err, step.end)
		}
		// The answer may come before the markers; then the offset is not stable yet.
		testkit.Eventually(t, fmt.Sprint("the committed offset is ", step.want), func() bool {
			got, err := admin.FetchOffsets(patient(t), "billers")
			if err != nil {
				t.Fatal(err)
			}
			at := int64(-1)
			if o, ok := got.Lookup("orders", 0); ok && o.Err == nil {
				at = o.At
			}
			return at == step.want
		})
	}
	if got := committedIn(t, node, "bills"); len(got) != 10 {
		t.Errorf("%d bills, want 10: %q", len(got), got)
	}
}

// A producer that is started again ends what the one before it had begun, and that
// one can do nothing any more.
func TestANewProducerFencesTheOneBeforeIt(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 1)
	zombie := transactional(t, node, "shop")
	id, epoch, err := zombie.ProducerID(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := zombie.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, zombie, "orders", "by the zombie")

	heir := transactional(t, node, "shop")
	want := transact(t, heir, "orders", "by its heir", 5, kgo.TryCommit)

	late := zombie.ProduceSync(patient(t), &kgo.Record{Topic: "orders", Value: []byte("late")})
	if err := late.FirstErr(); !fenced(err) {
		t.Errorf("the zombie's next record: %v", err)
	}
	if err := commitOf(t, heir, "shop", id, epoch); !fenced(err) {
		t.Errorf("the zombie's commit: %v", err)
	}
	want = append(want, transact(t, heir, "orders", "by its heir again", 5, kgo.TryCommit)...)
	if got := committedIn(t, node, "orders"); !sameSet(got, want) {
		t.Errorf("committed are %q, want %q", got, want)
	}
}

// commitOf asks for the commit of a producer's transaction, which its client would
// not do once it knows better.
func commitOf(t *testing.T, c *kgo.Client, id string, producer int64, epoch int16) error {
	t.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, producer, epoch
	req.Commit = true
	resp, err := req.RequestWith(patient(t), c)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// fenced tells the errors by which a producer learns that another has its id.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// The transaction of a producer that fell silent must not hold readers back for ever.
func TestATransactionThatRunsOutOfTimeIsAborted(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 1)
	p := transactional(t, node, "shop", kgo.TransactionTimeout(time.Second))
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "orders", "forgotten")
	produce(t, client(t, node), "orders", "behind it")
	if got := poll(t, reader(t, node, "orders", kgo.ReadCommitted()), 1); got[0] != "behind it" {
		t.Errorf("read %q", got)
	}
	err := p.EndTransaction(patient(t), kgo.TryCommit)
	if err == nil {
		t.Error("a transaction that had run out of time could be committed")
	}
	t.Logf("the commit of a transaction that had run out of time: %v", err)
}

// The node is killed while a transaction is open, and again after it was committed.
func TestTransactionsSurviveKill9(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", 3)
	p := transactional(t, node, "shop")
	want := transact(t, p, "orders", "before", 30, kgo.TryCommit)
	transact(t, p, "orders", "aborted", 30, kgo.TryAbort)
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if i == 15 {
			node.Kill()
			node.Restart()
		}
		value := fmt.Sprint("through it ", i)
		produce(t, p, "orders", value)
		want = append(want, value)
	}
	if err := p.EndTransaction(patient(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	node.Kill()
	node.Restart()
	want = append(want, transact(t, p, "orders", "after", 30, kgo.TryCommit)...)
	if got := committedIn(t, node, "orders"); !sameSet(got, want) {
		t.Errorf("read_committed: %d records, want %d", len(got), len(want))
	}
}

// transactional returns a producer that has its producer id, and so has fenced
// those before it.
func transactional(t *testing.T, n *testkit.Node, id string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	p := client(t, n, append([]kgo.Opt{kgo.TransactionalID(id)}, opts...)...)
	if _, _, err := p.ProducerID(patient(t)); err != nil {
		t.Fatalf("the producer id of %s: %v", id, err)
	}
	return p
}

// transact writes count records in a transaction and ends it.
func transact(
	t *testing.T, p *kgo.Client, topic, name string, count int, end kgo.TransactionEndTry,
) (values []string) {
	t.Helper()
	if err := p.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		values = append(values, fmt.Sprint(name, " ", i))
		p.Produce(patient(t), &kgo.Record{Topic: topic, Value: []byte(values[i])}, func(
			_ *kgo.Record, err error,
		) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if err := p.Flush(patient(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.EndTransaction(patient(t), end); err != nil {
		t.Fatalf("the end of %s: %v", name, err)
	}
	return values
}

func produce(t *testing.T, p *kgo.Client, topic, value string) {
	t.Helper()
	r := &kgo.Record{Topic: topic, Value: []byte(value)}
	if err := p.ProduceSync(patient(t), r).FirstErr(); err != nil {
		t.Fatalf("produce %q: %v", value, err)
	}
}

func reader(t *testing.T, n *testkit.Node, topic string, level kgo.IsolationLevel) *kgo.Client {
	t.Helper()
	return client(t, n, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
}

// committedIn returns what a read_committed reader sees of a topic once no
// transaction is open.
func committedIn(t *testing.T, n *testkit.Node, topic string) []string {
	t.Helper()
	return valuesIn(t, n, topic, kgo.ReadCommitted())
}

func everythingIn(t *testing.T, n *testkit.Node, topic string) []string {
	t.Helper()
	return valuesIn(t, n, topic, kgo.ReadUncommitted())
}

// valuesIn writes a record behind everything in each partition: who reads it has
// read what is in front of it, be there markers or not.
func valuesIn(t *testing.T, n *testkit.Node, topic string, level kgo.IsolationLevel) []string {
	t.Helper()
	const last = "the last record"
	c := reader(t, n, topic, level)
	m, err := kadm.NewClient(c).Metadata(patient(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	writer := client(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	missing := len(m.Topics[topic].Partitions)
	for p := range missing {
		r := &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(last)}
		if err := writer.ProduceSync(patient(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var values []string
	for missing > 0 {
		for _, v := range poll(t, c, 1) {
			if v == last {
				missing--
			} else {
				values = append(values, v)
			}
		}
	}
	return values
}

func sameSet(got, want []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}
