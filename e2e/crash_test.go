package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

const crashPartitions = 3

// A node is killed again and again while an idempotent producer writes to it as
// fast as it can.
func TestAcknowledgedRecordsSurviveKill9OnceAndInOrder(t *testing.T) {
	const kills = 5
	random := seeded(t)
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", crashPartitions)
	history := testkit.NewHistory()
	stop := produceUntilStopped(t, node, "orders", history)

	for range kills {
		_, before, _ := history.Counts()
		more := 500 + random.IntN(5000)
		testkit.Eventually(t, fmt.Sprintf("%d more records are acknowledged", more), func() bool {
			_, now, _ := history.Counts()
			return now >= before+more
		})
		node.Kill()
		node.Restart()
	}
	stop()

	readAll(t, node, "orders", func(r *kgo.Record) {
		history.Read(string(r.Value), position(r))
	})
	if err := history.Check(); err != nil {
		t.Error(err)
	}
	sent, acked, read := history.Counts()
	t.Logf("%d kills; %d records sent, %d acknowledged, %d read", kills, sent, acked, read)
	if acked == 0 || read < acked {
		t.Errorf("%d records acknowledged, %d read", acked, read)
	}
}

// The same for a node that is asked to stop: then not even a retry is needed.
func TestAcknowledgedRecordsSurviveACleanRestart(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", crashPartitions)
	history := testkit.NewHistory()
	stop := produceUntilStopped(t, node, "orders", history)
	testkit.Eventually(t, "some records are acknowledged", func() bool {
		_, acked, _ := history.Counts()
		return acked > 2000
	})
	node.Stop()
	node.Restart()
	stop()
	readAll(t, node, "orders", func(r *kgo.Record) {
		history.Read(string(r.Value), position(r))
	})
	if err := history.Check(); err != nil {
		t.Error(err)
	}
}

// A client that waits while the node is frozen must be served afterwards.
func TestAPausedNodeLosesNothing(t *testing.T) {
	node := testkit.StartNode(t)
	createTopic(t, node, "orders", crashPartitions)
	history := testkit.NewHistory()
	stop := produceUntilStopped(t, node, "orders", history)
	for range 3 {
		_, before, _ := history.Counts()
		testkit.Eventually(t, "records are acknowledged", func() bool {
			_, now, _ := history.Counts()
			return now > before+500
		})
		node.Pause()
		sent, _, _ := history.Counts()
		testkit.Eventually(t, "the producer runs into the frozen node", func() bool {
			now, acked, _ := history.Counts()
			blocked := now == sent && now > acked
			sent = now
			return blocked
		})
		node.Resume()
	}
	stop()
	readAll(t, node, "orders", func(r *kgo.Record) {
		history.Read(string(r.Value), position(r))
	})
	if err := history.Check(); err != nil {
		t.Error(err)
	}
}

func position(r *kgo.Record) testkit.Position {
	return testkit.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}
}

// produceUntilStopped sends numbered records to all partitions in turn until stop
// is called; stop returns once every record was acknowledged or given up.
func produceUntilStopped(
	t *testing.T, n *testkit.Node, topic string, h *testkit.History,
) (stop func()) {
	t.Helper()
	c := client(t, n,
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(2000),
		kgo.ProducerBatchMaxBytes(16<<10))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r := &kgo.Record{
				Topic:     topic,
				Partition: int32(i % crashPartitions),
				Value:     fmt.Appendf(nil, "record %d", i),
			}
			h.Send(topic, r.Partition, string(r.Value))
			// Not ctx: a record that is under way shall be finished.
			c.Produce(t.Context(), r, func(r *kgo.Record, err error) {
				if err == nil {
					h.Ack(string(r.Value), position(r))
				}
			})
		}
	})
	t.Cleanup(cancel)
	return func() {
		t.Helper()
		cancel()
		wg.Wait()
		if err := c.Flush(patient(t)); err != nil {
			t.Fatalf("the producer could not finish: %v", err)
		}
	}
}
