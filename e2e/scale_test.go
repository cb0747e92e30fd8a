package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

const megabyte = 1 << 20

func TestTheBinaryAndAnIdleNodeAreSmall(t *testing.T) {
	info, err := os.Stat(testkit.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	n := testkit.StartNode(t)
	rss := n.Usage().RSS
	t.Logf("binary %d MB, RSS when ready %d MB", info.Size()/megabyte, rss/megabyte)
	if info.Size() > 40*megabyte {
		t.Errorf("the binary has %d MB, at most 40", info.Size()/megabyte)
	}
	if rss > 60*megabyte {
		t.Errorf("an idle node takes %d MB, at most 60", rss/megabyte)
	}
}

// The best of several starts counts: other tests share the machine.
func TestANodeIsReadyWithin100Milliseconds(t *testing.T) {
	best := time.Hour
	for range 10 {
		n := testkit.StartNode(t)
		best = min(best, n.Startup)
		n.Kill()
	}
	t.Logf("the best of ten starts on an empty directory took %v", best)
	if best > 100*time.Millisecond {
		t.Errorf("the best of ten starts took %v, at most 100ms", best)
	}
}

func TestAThousandPartitionsAreNothingSpecial(t *testing.T) {
	const topics, partitions = 10, 100
	n := testkit.StartNode(t)
	began := time.Now()
	for i := range topics {
		createTopic(t, n, fmt.Sprint("topic-", i), partitions)
	}
	created := time.Since(began)

	// One record into each, so that every partition has a file.
	ctx := patient(t)
	producer := client(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range topics {
		for p := range int32(partitions) {
			r := &kgo.Record{Topic: fmt.Sprint("topic-", i), Partition: p, Value: []byte("x")}
			producer.Produce(ctx, r, func(r *kgo.Record, err error) {
				if err != nil {
					t.Errorf("%s-%d: %v", r.Topic, r.Partition, err)
				}
			})
		}
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	producer.Close()

	idle := cpuOver(t, n, 2*time.Second)
	n.Kill()
	n.Restart()
	killed := n.Startup
	expectThousandEnds(t, n, topics, partitions)
	n.Stop()
	n.Restart()
	expectThousandEnds(t, n, topics, partitions)
	t.Logf("created in %v; idle %.1f %% of a core; ready %v after kill -9, %v after a stop; RSS %d MB",
		created, 100*idle, killed, n.Startup, n.Usage().RSS/megabyte)
	if created > 10*time.Second {
		t.Errorf("creation took %v, at most 10s", created)
	}
	if killed > 3*time.Second || n.Startup > 3*time.Second {
		t.Errorf("a restart took %v and %v, at most 3s", killed, n.Startup)
	}
	if idle > 0.05 {
		t.Errorf("an idle node used %.1f %% of a core, at most 5 %%", 100*idle)
	}
}

// cpuOver returns which share of one core the node used over a while, the least
// of some tries: what earlier work left over is not idle work.
func cpuOver(t *testing.T, n *testkit.Node, while time.Duration) float64 {
	t.Helper()
	least := 1e9
	for range 3 {
		before := n.Usage().CPU
		timer := time.NewTimer(while)
		select {
		case <-timer.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		least = min(least, (n.Usage().CPU-before).Seconds()/while.Seconds())
	}
	return least
}

func expectThousandEnds(t *testing.T, n *testkit.Node, topics, partitions int) {
	t.Helper()
	ends, err := kadm.NewClient(client(t, n)).ListEndOffsets(patient(t))
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	ends.Each(func(o kadm.ListedOffset) {
		seen++
		if o.Offset != 1 {
			t.Errorf("%s-%d ends at %d, want 1", o.Topic, o.Partition, o.Offset)
		}
	})
	if seen != topics*partitions {
		t.Errorf("%d partitions are there, want %d", seen, topics*partitions)
	}
}
