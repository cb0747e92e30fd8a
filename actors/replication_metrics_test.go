package actors

import (
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

func TestALeaderCountsWhatItGivesAndWhoIsInSync(t *testing.T) {
	b := onBench(t, 1, []messages.NodeID{1}, "0", nil)
	counted := &counts{}
	b.body.r.env.Metrics = counted
	b.append(1)
	answer := b.fetch(0)()
	if answer == nil || counted.out.Load() < 4000 {
		t.Fatalf("%d bytes went out, the answer is %+v", counted.out.Load(), answer)
	}
	p := b.body.r.partition
	for _, isr := range [][]messages.NodeID{{1, 2}, {1, 2}, {1}, {1}, {1, 2}} {
		p.PartitionEpoch++
		p.ISR = isr
		b.send(&assigned{topic: b.topic, partition: p})
	}
	if grown, shrunk := counted.grown.Load(), counted.shrunk.Load(); grown != 2 || shrunk != 1 {
		t.Errorf("the in-sync set grew %d times and shrank %d, want 2 and 1", grown, shrunk)
	}
	p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.ISR = 2, 4, p.PartitionEpoch+1, []messages.NodeID{2}
	b.send(&assigned{topic: b.topic, partition: p})
	if n := counted.shrunk.Load(); n != 1 {
		t.Errorf("what happens under another leader is counted too: %d", n)
	}
}

func TestAFollowerCountsWhatItGetsAndTellsHowFarItIs(t *testing.T) {
	b := onBench(t, 2, []messages.NodeID{1, 2}, "0", nil)
	counted := &counts{}
	b.body.r.env.Metrics = counted
	if s := b.body.Face.Status(); s.Lag != 0 || s.Offsets.LogEnd != 0 {
		t.Errorf("before its leader was heard of: %+v", s)
	}
	records := batchOf("hello").Bytes
	b.replies[0](&data.ReplicaFetched{LeaderEpoch: 3, HighWatermark: 1, LogEnd: 10, Records: records})
	b.send(nil)
	s := b.body.Face.Status()
	if s.Leading || s.Lag != 9 || s.Offsets.LogEnd != 1 || s.Offsets.HighWatermark != 1 {
		t.Errorf("status is %+v", s)
	}
	if n := counted.in.Load(); n != int64(len(records)) {
		t.Errorf("%d bytes came in, want %d", n, len(records))
	}
}
