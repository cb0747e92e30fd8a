package kafka

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/testkit"
)

// store appends a batch to a partition of "t" as if a client had sent it.
func (f *fakeCluster) store(t testing.TB, index int32, batch []byte) []byte {
	t.Helper()
	b, _, err := record.Parse(batch)
	if err != nil {
		t.Fatal(err)
	}
	p := f.replica("t", index)
	p.Append(&data.Append{Batch: b, Done: func(r data.AppendResult) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.batches[len(p.batches)-1].Bytes
}

// fetchOne sends one Fetch and returns the answer.
func fetchOne(t *testing.T, f *fakeCluster, req *kmsg.FetchRequest) *kmsg.FetchResponse {
	t.Helper()
	if topic := f.Image().Topic("t"); topic != nil && len(req.Topics) > 0 && req.Version >= 13 {
		req.Topics[0].TopicID = topic.ID
	}
	return request[*kmsg.FetchResponse](dial(t, serveFake(t, f, Config{})), req)
}

// withTopic returns a fake cluster with the topic "t".
func withTopic(partitions int) *fakeCluster {
	f := newFakeCluster()
	f.addTopic("t", partitions)
	return f
}

func TestFetchIsServedInEveryVersion(t *testing.T) {
	eachVersion(t, keyFetch, func(t *testing.T, version int16) {
		f := withTopic(2)
		want := bytes.Clone(f.store(t, 0, batchOf(t, "a", "b")))
		want = append(want, f.store(t, 0, batchOf(t, "c"))...)
		resp := fetchOne(t, f, fetchFrom(version, 0, 0, 1))
		if resp.ErrorCode != 0 || resp.SessionID != 0 || len(resp.Topics) != 1 {
			t.Fatalf("%+v", resp)
		}
		p := resp.Topics[0].Partitions
		if !bytes.Equal(p[0].RecordBatches, want) || p[0].HighWatermark != 3 ||
			p[0].LastStableOffset != 3 {
			t.Fatalf("%+v", p[0])
		}
		if version >= 5 && p[0].LogStartOffset != 0 || p[0].AbortedTransactions != nil {
			t.Fatalf("%+v", p[0])
		}
		if len(p[1].RecordBatches) != 0 || p[1].RecordBatches == nil || p[1].ErrorCode != 0 {
			t.Fatalf("the empty partition: %+v", p[1])
		}
	})
}

// Kafka's kafka-replica-verification.sh asks so: as replica -2, and in the newest
// version alone.
func TestWhatOnlyFollowersOfKafkaSayInAFetchIsPassedOver(t *testing.T) {
	for _, version := range []int16{15, 17, 18} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			f := withTopic(1)
			want := bytes.Clone(f.store(t, 0, batchOf(t, "a")))
			req := fetchFrom(version, 0, 0)
			req.ReplicaState.ID = -2
			req.Topics[0].Partitions[0].ReplicaDirectoryID = [16]byte{7}
			req.Topics[0].Partitions[0].HighWatermark = 5
			p := fetchOne(t, f, req).Topics[0].Partitions[0]
			if p.ErrorCode != 0 || p.HighWatermark != 1 || !bytes.Equal(p.RecordBatches, want) {
				t.Fatalf("%+v", p)
			}
		})
	}
}

func TestFetchErrorsAnswerAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version int16
		scene   func(*fakeCluster)
		edit    func(*kmsg.FetchRequest)
		code    int16
	}{
		{name: "a topic that does not exist", version: 12, code: 3,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "none" }},
		{name: "a topic id that does not exist", version: 13, code: 100,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].TopicID = [16]byte{1} }},
		{name: "a partition that does not exist", version: 12, code: 3,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].Partition = 9 }},
		{name: "an offset above the log end", version: 12, code: 1,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = 99 }},
		{name: "a negative offset", version: 12, code: 1,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].FetchOffset = -5 }},
		{name: "a leader epoch that is behind", version: 12, code: 74,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 2 }},
		{name: "a leader epoch that is ahead", version: 12, code: 75,
			edit: func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 4 }},
		{name: "a partition that another node leads", version: 12, code: 6,
			scene: func(f *fakeCluster) { f.fail("t", 0, messages.ErrNotLeader) }},
		{name: "a disk that failed", version: 12, code: 56,
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrStorage }},
		{name: "a disk that failed, for a client that does not know that error", version: 5, code: 6,
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrStorage }},
		{name: "a replica that starts", version: 12, code: 6,
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrUnavailable }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := withTopic(2)
			if tt.scene != nil {
				tt.scene(f)
			}
			req := fetchFrom(tt.version, time.Minute, 0, 1)
			req.Topics[0].TopicID = f.Image().Topic("t").ID
			if tt.edit != nil {
				tt.edit(req)
			}
			resp := request[*kmsg.FetchResponse](dial(t, serveFake(t, f, Config{})), req)
			p := resp.Topics[0].Partitions[0]
			if p.ErrorCode != tt.code || p.RecordBatches == nil || len(p.RecordBatches) > 0 {
				t.Fatalf("%+v, want code %d", p, tt.code)
			}
			none := p.HighWatermark == -1 && p.LastStableOffset == -1 && p.LogStartOffset == -1
			if tt.code != 1 && !none {
				t.Fatalf("watermarks of an error: %+v", p)
			}
		})
	}
}

func TestFetchTellsWhereTheLeaderIs(t *testing.T) {
	for _, version := range []int16{15, 16, 18} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			f := twoNodes()
			f.addTopic("t", 1)
			f.leadElsewhere("t")
			resp := fetchOne(t, f, fetchFrom(version, time.Minute, 0))
			p := resp.Topics[0].Partitions[0]
			if p.ErrorCode != 6 {
				t.Fatalf("%+v", p)
			}
			hinted := p.CurrentLeader.LeaderID == 2 && p.CurrentLeader.LeaderEpoch == 9 &&
				len(resp.Brokers) == 1 && resp.Brokers[0].Host == "second.example"
			if hinted != (version >= 16) {
				t.Fatalf("leader %+v, brokers %+v", p.CurrentLeader, resp.Brokers)
			}
		})
	}
}

func TestFetchNamesNoLeaderThatIsDead(t *testing.T) {
	f := twoNodes()
	f.addTopic("t", 1)
	f.leadElsewhere("t")
	f.fence(2)
	resp := fetchOne(t, f, fetchFrom(16, time.Minute, 0))
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 6 || p.CurrentLeader.LeaderID != -1 || len(resp.Brokers) != 0 {
		t.Fatalf("%+v, brokers %+v", p, resp.Brokers)
	}
}

func TestFetchAnswersADivergingEpochAtOnce(t *testing.T) {
	f := withTopic(1)
	f.store(t, 0, batchOf(t, "a"))
	f.replica("t", 0).diverge = &data.EpochEnd{Epoch: 2, End: 7}
	p := fetchOne(t, f, fetchFrom(12, time.Minute, 0)).Topics[0].Partitions[0]
	if p.DivergingEpoch.Epoch != 2 || p.DivergingEpoch.EndOffset != 7 || len(p.RecordBatches) > 0 {
		t.Fatalf("%+v", p)
	}
}

func TestFetchIsolation(t *testing.T) {
	f := withTopic(1)
	first := f.store(t, 0, batchOf(t, "a"))
	second := f.store(t, 0, batchOf(t, "b"))
	f.replica("t", 0).edit(func(p *fakePartition) {
		p.stable = 1
		p.aborted = []data.AbortedTxn{{Producer: 5, FirstOffset: 0}}
	})
	req := fetchFrom(11, 0, 0)
	p := fetchOne(t, f, req).Topics[0].Partitions[0]
	if len(p.RecordBatches) != len(first)+len(second) || p.AbortedTransactions != nil ||
		p.LastStableOffset != 1 {
		t.Fatalf("read_uncommitted: %+v", p)
	}
	req.IsolationLevel = 1
	p = fetchOne(t, f, req).Topics[0].Partitions[0]
	if !bytes.Equal(p.RecordBatches, first) || len(p.AbortedTransactions) != 1 ||
		p.AbortedTransactions[0].ProducerID != 5 {
		t.Fatalf("read_committed: %+v", p)
	}
	f.replica("t", 0).edit(func(p *fakePartition) { p.aborted = nil })
	p = fetchOne(t, f, req).Topics[0].Partitions[0]
	if p.AbortedTransactions == nil {
		t.Fatal("read_committed without aborted transactions has a null list")
	}
}

func TestFetchRefusesZstdTopicsToClientsThatAreNotToldToReadThem(t *testing.T) {
	for _, version := range []int16{9, 10} {
		f := withTopic(2)
		zstd := record.Compression{Codec: record.Zstd}
		f.store(t, 0, buildBatch(t, zstd, "zstd"))
		chosen := f.store(t, 1, buildBatch(t, zstd, "zstd"))
		f.replica("t", 0).edit(func(p *fakePartition) {
			c := *p.config
			c.CompressionType = "zstd"
			p.config = &c
		})
		p := fetchOne(t, f, fetchFrom(version, time.Minute, 0, 1)).Topics[0].Partitions
		refused := p[0].ErrorCode == 76 && len(p[0].RecordBatches) == 0
		if refused != (version < 10) {
			t.Errorf("v%d: %+v", version, p[0])
		}
		if !bytes.Equal(p[1].RecordBatches, chosen) {
			t.Errorf("v%d: a partition whose producer chose zstd: %+v", version, p[1])
		}
	}
}

func TestFetchLimits(t *testing.T) {
	f := withTopic(3)
	var size int32
	for i := range int32(3) {
		size = int32(len(f.store(t, i, batchOf(t, "0123456789"))))
		f.store(t, i, batchOf(t, "0123456789"))
	}
	for _, tt := range []struct {
		name         string
		edit         func(*kmsg.FetchRequest)
		batches      [3]int32
		fetchMaxByte int
	}{
		{name: "all there is", edit: func(*kmsg.FetchRequest) {}, batches: [3]int32{2, 2, 2}},
		{name: "the first batch comes although it exceeds every limit",
			edit: func(r *kmsg.FetchRequest) {
				r.MaxBytes = 1
				r.Topics[0].Partitions[0].PartitionMaxBytes = 1
			}, batches: [3]int32{1, 0, 0}},
		{name: "a limit of nothing still makes progress",
			edit: func(r *kmsg.FetchRequest) { r.MaxBytes = 0 }, batches: [3]int32{1, 0, 0}},
		{name: "a negative limit is one of nothing",
			edit: func(r *kmsg.FetchRequest) { r.MaxBytes = -1 }, batches: [3]int32{1, 0, 0}},
		{name: "a partition's own limit",
			edit: func(r *kmsg.FetchRequest) {
				r.Topics[0].Partitions[1].PartitionMaxBytes = size
				r.Topics[0].Partitions[2].PartitionMaxBytes = size - 1
			}, batches: [3]int32{2, 1, 0}},
		{name: "what the first leave is for the last",
			edit: func(r *kmsg.FetchRequest) { r.MaxBytes = 3 * size }, batches: [3]int32{2, 1, 0}},
		{name: "the node's own limit", fetchMaxByte: int(5 * size),
			edit: func(*kmsg.FetchRequest) {}, batches: [3]int32{2, 2, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := fetchFrom(11, 0, 0, 1, 2)
			tt.edit(req)
			w := dial(t, serveFake(t, f, Config{FetchMaxBytes: tt.fetchMaxByte}))
			for i, p := range request[*kmsg.FetchResponse](w, req).Topics[0].Partitions {
				if got := int32(len(p.RecordBatches)); got != tt.batches[i]*size {
					t.Errorf("partition %d: %d bytes, want %d", i, got, tt.batches[i]*size)
				}
			}
		})
	}
}

func TestFetchWaits(t *testing.T) {
	t.Run("until max_wait, and answers what there is", func(t *testing.T) {
		f := withTopic(1)
		stored := f.store(t, 0, batchOf(t, "a"))
		req := fetchFrom(11, 30*time.Millisecond, 0)
		req.MinBytes = 1 << 20
		start := time.Now()
		p := fetchOne(t, f, req).Topics[0].Partitions[0]
		if !bytes.Equal(p.RecordBatches, stored) || time.Since(start) < 30*time.Millisecond {
			t.Fatalf("after %v: %+v", time.Since(start), p)
		}
	})
	t.Run("not when whole batches cannot fill the minimum to the byte", func(t *testing.T) {
		f := withTopic(1)
		first := bytes.Clone(f.store(t, 0, batchOf(t, "a")))
		f.store(t, 0, batchOf(t, "b"))
		req := fetchFrom(11, time.Minute, 0)
		limit := int32(len(first) + 10)
		req.MinBytes, req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = limit, limit, limit
		p := fetchOne(t, f, req).Topics[0].Partitions[0]
		if !bytes.Equal(p.RecordBatches, first) {
			t.Fatalf("%+v", p)
		}
	})
	t.Run("until the partitions together have min_bytes", func(t *testing.T) {
		f := withTopic(2)
		w := dial(t, serveFake(t, f, Config{}))
		size := len(batchOf(t, "a"))
		req := fetchFrom(11, time.Minute, 0, 1)
		req.MinBytes = int32(3 * size)
		w.send(req)
		parked := func() bool { return f.replica("t", 0).waiting()+f.replica("t", 1).waiting() == 2 }
		for _, index := range []int32{0, 1, 0} {
			testkit.Eventually(t, "it is parked on both", parked)
			f.store(t, index, batchOf(t, "a"))
		}
		p := receive[*kmsg.FetchResponse](w, 0, req).Topics[0].Partitions
		if len(p[0].RecordBatches) != 2*size || len(p[1].RecordBatches) != size {
			t.Fatalf("%d and %d bytes", len(p[0].RecordBatches), len(p[1].RecordBatches))
		}
	})
	t.Run("no longer when a partition fails", func(t *testing.T) {
		f := withTopic(2)
		w := dial(t, serveFake(t, f, Config{}))
		req := fetchFrom(11, time.Minute, 0, 1)
		req.MinBytes = 1000
		w.send(req)
		testkit.Eventually(t, "it is parked", func() bool { return f.replica("t", 1).waiting() == 1 })
		f.replica("t", 1).edit(func(p *fakePartition) { p.err = messages.ErrNotLeader })
		p := receive[*kmsg.FetchResponse](w, 0, req).Topics[0].Partitions
		if p[0].ErrorCode != 0 || p[1].ErrorCode != 6 {
			t.Fatalf("%+v", p)
		}
	})
	t.Run("on when the news is no records", func(t *testing.T) {
		f := withTopic(1)
		w := dial(t, serveFake(t, f, Config{}))
		req := fetchFrom(11, time.Minute, 0)
		w.send(req)
		p := f.replica("t", 0)
		for range 3 {
			testkit.Eventually(t, "it is parked", func() bool { return p.waiting() == 1 })
			p.edit(func(*fakePartition) {})
		}
		testkit.Eventually(t, "it is parked", func() bool { return p.waiting() == 1 })
		f.store(t, 0, batchOf(t, "a"))
		resp := receive[*kmsg.FetchResponse](w, 0, req)
		if len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Fatal("it answered without records")
		}
	})
	t.Run("without reading partitions that have no news", func(t *testing.T) {
		f := withTopic(2)
		w := dial(t, serveFake(t, f, Config{}))
		req := fetchFrom(11, time.Minute, 0, 1)
		w.send(req)
		testkit.Eventually(t, "it is parked", func() bool { return f.replica("t", 1).waiting() == 1 })
		stored := f.store(t, 1, batchOf(t, "a"))
		p := receive[*kmsg.FetchResponse](w, 0, req).Topics[0].Partitions
		if len(p[0].RecordBatches) != 0 || !bytes.Equal(p[1].RecordBatches, stored) {
			t.Fatalf("%+v", p)
		}
		if n := f.replica("t", 0).reads.Load(); n != 1 {
			t.Fatalf("the partition without news was read %d times", n)
		}
	})
	t.Run("not at all without partitions", func(t *testing.T) {
		req := fetchFrom(11, time.Minute)
		req.Topics = nil
		if resp := fetchOne(t, newFakeCluster(), req); len(resp.Topics) != 0 || resp.ErrorCode != 0 {
			t.Fatalf("%+v", resp)
		}
	})
	t.Run("not for a client that left", func(t *testing.T) {
		f := withTopic(1)
		s := serveFake(t, f, Config{})
		w := dial(t, s)
		w.send(fetchFrom(11, time.Minute, 0))
		testkit.Eventually(t, "it is parked", func() bool { return f.replica("t", 0).waiting() == 1 })
		_ = w.Close()
		testkit.Eventually(t, "nothing waits any more", func() bool {
			return f.replica("t", 0).waiting() == 0 && s.Stats().Connections == 0
		})
	})
}

func TestFetchOfOnePartitionTwiceIsAnsweredTwice(t *testing.T) {
	f := withTopic(1)
	stored := f.store(t, 0, batchOf(t, "a"))
	p := fetchOne(t, f, fetchFrom(11, 0, 0, 0)).Topics[0].Partitions
	if len(p) != 2 || !bytes.Equal(p[0].RecordBatches, stored) ||
		!bytes.Equal(p[1].RecordBatches, stored) {
		t.Fatalf("%+v", p)
	}
}
