package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/troupelog/troupe/clientlib"
	"github.com/troupelog/troupe/testkit"
	"github.com/troupelog/troupe/testkit/sdk"
)

// The copy of exactly_once_test.go by members with the SDK, while leaders and the
// coordinators of the group and of the transactions are killed: every record is in the
// output once, in its order.
func TestACopyWithTheSDKIsExactlyOnceWhateverIsKilled(t *testing.T) {
	const copiers = 2
	records, kills := number(t, "EOS_RECORDS", 20_000), number(t, "SDK_KILLS", 3)
	c := testkit.StartCluster(t, 3, testkit.FastGroups(), testkit.KeepActorAddr())
	for _, topic := range []string{"in", "out"} {
		c.Create(topic, eosPartitions, 3, "min.insync.replicas", "2")
	}
	copying := testkit.StartCopy(t, testkit.CopySettings{Brokers: c.Brokers(),
		In: "in", Out: "out", Group: "copy"}) // the copiers are not its own
	var stops []func()
	for i := range copiers {
		stops = append(stops, startCopier(t, sdk.Dial(t, sdk.ByConsul(c)), fmt.Sprint("copy-", i)))
	}
	began, share := time.Now(), records/kills
	for i := range kills {
		c.AwaitInSync("in", "out", "__consumer_offsets", "__transaction_state")
		copying.Feed(share)
		copying.AwaitCopied(i*share + rand.IntN(share))
		victim := []func() *testkit.Node{
			func() *testkit.Node { return c.Leader("out", int32(rand.IntN(eosPartitions))) },
			func() *testkit.Node { return c.TxnCoordinator("copy-0") },
			func() *testkit.Node { return c.GroupCoordinator("copy") },
		}[i%3]()
		t.Logf("kill %d: node %d, when %d records were copied", i+1, victim.ID, copying.Copied())
		victim.Kill()
		testkit.Eventually(t, "the group goes on without the node", func() bool {
			return copying.Copied() >= 0
		})
		victim.Restart()
	}
	copying.Feed(records - kills*share)
	copying.AwaitCopied(records)
	for _, stop := range stops {
		stop()
	}
	aborted := copying.Finish()
	sent, read, lost, doubled := copying.Tally()
	t.Logf("%d records, %d in the copy, %d lost, %d doubled, %d of aborted transactions hidden; %v",
		sent, read, lost, doubled, aborted, time.Since(began).Round(time.Millisecond))
}

// startCopier copies from "in" to "out" until it is stopped.
func startCopier(t *testing.T, client *clientlib.Client, id string) (stop func()) {
	t.Helper()
	producer, err := client.NewProducer(patient(t), clientlib.ProducerConfig{Topic: "out",
		TransactionalID: id, TransactionTimeout: 20 * time.Second, Partitioner: clientlib.Explicit})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := client.NewConsumer(patient(t), clientlib.ConsumerConfig{
		Group: "copy", Topics: []string{"in"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- consumer.ProcessTransactions(ctx, producer, copyAll)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("copier %s: %v", id, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := consumer.Close(ctx); err != nil {
			t.Errorf("copier %s: %v", id, err)
		}
		if err := producer.Close(ctx); err != nil {
			t.Errorf("copier %s: %v", id, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func copyAll(ctx context.Context, txn *clientlib.Transaction, rs []*clientlib.Record) error {
	for _, r := range rs {
		err := txn.Send(ctx, &clientlib.Record{Partition: r.Partition,
			Value: append([]byte(testkit.CopyMark), r.Value...)}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}
