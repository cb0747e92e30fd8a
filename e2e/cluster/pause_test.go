package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

// pausedFor is longer than everything after which a node counts as dead.
const pausedFor = 15 * time.Second

// A leader is frozen for so long that another leads. What clients had sent it
// meanwhile reaches it when it wakes: it must not say that it took it.
func TestALeaderThatWasPausedAcknowledgesNothingAfterAnotherLeads(t *testing.T) {
	const partitions = 3
	c := testkit.StartCluster(t, 3)
	c.Create("orders", partitions, 3, "min.insync.replicas", "2")
	// A client waits for a frozen node for as long as it is told to.
	load := testkit.StartLoad(t, c, "orders",
		kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second))
	load.AwaitAcks(5000)
	zombie := c.Leader("orders", 0)
	led := c.Led("orders", zombie)
	late := lateProducers(t, c)
	for acks, p := range late { // knows the leader and has a connection
		if err := p.ProduceSync(patient(t), lateRecord(load, acks, "early")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	woken := time.NewTimer(pausedFor)
	zombie.Pause()
	answers := make(chan string, len(late))
	for acks, p := range late {
		p.Produce(t.Context(), lateRecord(load, acks, "late"), func(r *kgo.Record, err error) {
			if err != nil {
				answers <- ""
				return
			}
			answers <- fmt.Sprintf("%s by a zombie at offset %d", r.Value, r.Offset)
		})
	}
	fresh := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(time.Second))
	began := time.Now()
	if err := fresh.ProduceSync(patient(t), lateRecord(load, "all", "new")).FirstErr(); err != nil {
		t.Error(err)
	}
	t.Logf("the leader of %v froze; another took a record after %v", led,
		time.Since(began).Round(time.Millisecond))
	load.AwaitProgress()
	<-woken.C
	zombie.Resume()
	for range late {
		if a := <-answers; a != "" {
			t.Error("acknowledged:", a)
		}
	}
	c.AwaitMembers()
	finish(t, c, load, partitions)
}

// lateProducers returns clients that send each record once, to the leader they
// know, by the acknowledgements they ask for.
func lateProducers(t *testing.T, c *testkit.Cluster) map[string]*kgo.Client {
	t.Helper()
	producers := map[string]*kgo.Client{}
	for name, acks := range map[string]kgo.Acks{"one": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		producers[name] = c.Client(kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks),
			kgo.RecordRetries(0), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.MetadataMaxAge(time.Hour), kgo.ProduceRequestTimeout(time.Minute))
	}
	return producers
}

// lateRecord is told to the history, which else would take it for invented.
func lateRecord(load *testkit.Load, acks, when string) *kgo.Record {
	value := fmt.Sprintf("%s with acks=%s", when, acks)
	load.Extra(0, value)
	return &kgo.Record{Topic: "orders", Partition: 0, Value: []byte(value)}
}
