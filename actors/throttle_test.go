package actors

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

// bench is a replica body on a bench: time stands still unless the test moves it,
// and what the body wants to happen later is written down.
type bench struct {
	t       *testing.T
	now     time.Time
	body    *ReplicaBody
	topic   *messages.Topic
	queue   []any
	later   []any
	waits   []time.Duration
	fetches []*data.ReplicaFetch
	replies []func(*data.ReplicaFetched) // of fetches
}

func (b *bench) Self(m any)                   { b.queue = append(b.queue, m) }
func (b *bench) Opened(messages.PartitionID)  {}
func (b *bench) Lost(messages.PartitionID)    {}
func (b *bench) Removed(messages.PartitionID) {}
func (b *bench) Stop()                        {}

func (b *bench) After(d time.Duration, m any) {
	b.later, b.waits = append(b.later, m), append(b.waits, d)
}

func (b *bench) Fetch(_ messages.NodeID, q *data.ReplicaFetch, reply func(*data.ReplicaFetched)) {
	b.fetches, b.replies = append(b.fetches, q), append(b.replies, reply)
}

func (b *bench) Propose(messages.AlterPartition, func(messages.AlterPartitionResult)) {}

func (b *bench) send(m any) {
	b.queue = append(b.queue, m)
	for len(b.queue) > 0 {
		m := b.queue[0]
		b.queue = b.queue[1:]
		b.body.Receive(m)
	}
}

// onBench opens the replica of node 1 in a partition of nodes 1 and 2.
func onBench(t *testing.T, leader messages.NodeID, isr []messages.NodeID, rate string,
	topicConfigs messages.Config) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1_700_000_000, 0)}
	topic := &messages.Topic{ID: messages.TopicID{1}, Name: "orders", Configs: topicConfigs,
		Partitions: []messages.Partition{
			{Leader: leader, LeaderEpoch: 3, Replicas: []messages.NodeID{1, 2}, ISR: isr}}}
	b.topic = topic
	env := &Env{Self: 1, FS: vfs.NewMem(), Files: segment.NewCache(0), Metrics: NoMetrics{},
		Now: func() time.Time { return b.now },
		Settings: func(name string) string {
			if strings.HasSuffix(name, ".throttled.rate") {
				return rate
			}
			d, _ := configs.Broker(name)
			return d.Default
		}}
	t.Cleanup(env.Files.Close)
	NewClient(env)
	env.Init(1)
	t.Cleanup(env.Close)
	image, _ := messages.NewImage().Apply(&messages.Delta{To: 1, Snapshot: true,
		Topics: []*messages.Topic{topic},
		Nodes:  []messages.Node{{ID: 1, Epoch: 1}, {ID: 2, Epoch: 1}}})
	env.Client.SetImage(image)
	id := messages.PartitionID{Topic: topic.ID}
	b.body = NewReplicaBody(env, ReplicaBodyConfig{
		ID: messages.ReplicaID{PartitionID: id, Node: 1}, Topic: topic.Name, Folder: "data/orders-0",
		Out: b, Send: b.send, Flush: func(run func() error, reply func(error)) { reply(run()) },
	})
	b.send(Begin)
	return b
}

// fetch has node 2 ask at an offset; the answer is nil while it waits.
func (b *bench) fetch(at messages.Offset) func() *data.ReplicaFetched {
	var got *data.ReplicaFetched
	b.body.r.env.FetchReplica(&data.ReplicaFetch{Partition: messages.PartitionID{
		Topic: messages.TopicID{1}}, Follower: 2, FollowerEpoch: 1, LeaderEpoch: 3, Offset: at,
		LastEpoch: messages.NoEpoch, MaxBytes: 4096},
		func(r *data.ReplicaFetched) { got = r; r.View.Release() })
	return func() *data.ReplicaFetched { return got }
}

func (b *bench) append(n int) {
	for range n {
		b.body.Face.Append(&data.Append{Batch: batchOf(strings.Repeat("x", 4000)),
			Acks: data.AcksLeader, Done: func(data.AppendResult) {}})
	}
}

// A follower that catches up gets what the throttle lets through, and the rest when
// its time has come.
func TestALeaderHoldsBackWhatIsThrottled(t *testing.T) {
	b := onBench(t, 1, []messages.NodeID{1}, "1000",
		messages.Config{"leader.replication.throttled.replicas": "0:1"})
	b.append(5)
	if b.fetch(0)() == nil {
		t.Fatal("the first fetch waits though the bucket is full")
	}
	second := b.fetch(1)
	if second() != nil {
		t.Fatal("a bucket that is overdrawn lets a fetch through")
	}
	i := slices.Index(b.later, any(serveDue{}))
	if i < 0 || b.waits[i] < 2*time.Second {
		t.Fatalf("4000 bytes at 1000 a second: it looks again after %v", b.waits)
	}
	b.now = b.now.Add(b.waits[i])
	b.send(serveDue{})
	if second() == nil {
		t.Error("it waits on after its time")
	}
}

func TestOnlyWhatCatchesUpAndIsNamedIsThrottled(t *testing.T) {
	named := messages.Config{"leader.replication.throttled.replicas": "0:1"}
	for name, c := range map[string]struct {
		isr     []messages.NodeID
		configs messages.Config
	}{
		"a follower in sync": {[]messages.NodeID{1, 2}, named},
		"a replica that is not named": {[]messages.NodeID{1},
			messages.Config{"leader.replication.throttled.replicas": "1:1,0:2"}},
		"no throttle": {[]messages.NodeID{1}, nil},
	} {
		b := onBench(t, 1, c.isr, "1000", c.configs)
		b.append(5)
		for at := range messages.Offset(4) {
			if b.fetch(at)() == nil {
				t.Errorf("%s: the fetch at %d waits", name, at)
			}
		}
	}
}

func TestAFollowerAsksUnderTheThrottleWhileItCatchesUp(t *testing.T) {
	star := messages.Config{"follower.replication.throttled.replicas": "*"}
	for name, c := range map[string]struct {
		isr  []messages.NodeID
		want bool
	}{
		"catching up": {[]messages.NodeID{2}, true},
		"in sync":     {[]messages.NodeID{1, 2}, false},
	} {
		b := onBench(t, 2, c.isr, "1000", star)
		if len(b.fetches) != 1 || b.fetches[0].Throttled != c.want {
			t.Errorf("%s: fetches %+v", name, b.fetches)
		}
	}
}
