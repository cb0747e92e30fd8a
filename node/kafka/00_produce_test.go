package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/testkit"
)

func buildBatch(t testing.TB, c record.Compression, values ...string) []byte {
	t.Helper()
	b := record.NewBuilder(c)
	for _, v := range values {
		b.Append(messages.Timestamp(time.Now().UnixMilli()), nil, []byte(v))
	}
	return finished(t, b)
}

func finished(t testing.TB, b *record.Builder) []byte {
	t.Helper()
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch.Bytes
}

// resummed changes a batch and gives it the right CRC again.
func resummed(b []byte, change func([]byte)) []byte {
	change(b)
	sum := crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[17:], sum)
	return b
}

// produceOne sends one batch to partition 0 of "t" and returns its outcome.
func produceOne(t *testing.T, f *fakeCluster, version int16, records []byte,
	edit ...func(*kmsg.ProduceRequest),
) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	w := dial(t, serveFake(t, f, Config{}))
	req := produceTo(version, -1, map[int32][]byte{0: records})
	if version >= 13 {
		if topic := f.Image().Topic("t"); topic != nil {
			req.Topics[0].TopicID = topic.ID
		} else {
			req.Topics[0].TopicID = [16]byte{1}
		}
	}
	for _, e := range edit {
		e(req)
	}
	resp := request[*kmsg.ProduceResponse](w, req)
	return resp.Topics[0].Partitions[0]
}

func TestProduceIsServedInEveryVersion(t *testing.T) {
	eachVersion(t, keyProduce, func(t *testing.T, version int16) {
		f := newFakeCluster()
		f.addTopic("t", 1)
		p := produceOne(t, f, version, batchOf(t, "a", "b"))
		if p.ErrorCode != 0 || p.BaseOffset != 0 || p.LogAppendTime != -1 {
			t.Fatalf("%+v", p)
		}
		if o := f.replica("t", 0).Offsets(); o.LogEnd != 2 {
			t.Fatalf("log ends at %d", o.LogEnd)
		}
	})
}

func TestProduceAnswersLogAppendTime(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	f.replica("t", 0).logTime = 12345
	if p := produceOne(t, f, 9, batchOf(t, "a")); p.LogAppendTime != 12345 {
		t.Fatalf("%+v", p)
	}
}

func TestProduceErrors(t *testing.T) {
	zstd := record.Compression{Codec: record.Zstd}
	transactional := func(id messages.ProducerID) []byte {
		b := record.NewBuilder(record.Compression{}).Producer(id, 0, 0).Transactional()
		b.Append(messages.Timestamp(time.Now().UnixMilli()), nil, []byte("v"))
		return finished(t, b)
	}
	setting := func(change func(*configs.TopicSettings)) func(*fakeCluster) {
		return func(f *fakeCluster) { change(f.replica("t", 0).config) }
	}
	for _, tt := range []struct {
		name    string
		version int16
		records []byte
		scene   func(*fakeCluster)
		edit    func(*kmsg.ProduceRequest)
		code    int16
	}{
		{name: "acks that are none of -1, 0 and 1", records: batchOf(t, "a"),
			edit: func(r *kmsg.ProduceRequest) { r.Acks = 2 }, code: 21},
		{name: "a topic that does not exist", records: batchOf(t, "a"),
			edit: func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = "none" }, code: 3},
		{name: "a partition that does not exist", records: batchOf(t, "a"),
			edit: func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = 9 }, code: 3},
		{name: "a negative partition", records: batchOf(t, "a"),
			edit: func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = -1 }, code: 3},
		{name: "a topic id that does not exist", version: 13, records: batchOf(t, "a"),
			edit: func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID = [16]byte{9} }, code: 100},
		{name: "no batch at all", records: nil, code: 87},
		{name: "an empty set of batches", records: []byte{}, code: 87},
		{name: "two batches", records: append(batchOf(t, "a"), batchOf(t, "b")...), code: 87},
		{name: "an old record format", records: func() []byte {
			b := batchOf(t, "a")
			b[16] = 1
			return b
		}(), code: 87},
		{name: "a CRC that does not match", records: func() []byte {
			b := batchOf(t, "a")
			b[len(b)-1] ^= 1
			return b
		}(), code: 2},
		{name: "a batch that is cut short", records: batchOf(t, "a")[:62], code: 87},
		{name: "fewer bytes than a batch begins with", records: []byte{1, 2, 3}, code: 87},
		{name: "a length that no format has", records: make([]byte, 20), code: 2},
		{name: "a record format of the future", records: func() []byte {
			b := batchOf(t, "a")
			b[16] = 3
			return b
		}(), code: 2},
		{name: "bytes behind the batch that are none",
			records: append(batchOf(t, "a"), make([]byte, 20)...), code: 2},
		{name: "zstd before version 7", version: 6, records: buildBatch(t, zstd, "a"), code: 76},
		{name: "a base offset that is not 0", records: func() []byte {
			b := batchOf(t, "a")
			b[7] = 1
			return b
		}(), code: 87},
		{name: "a control batch from a client", records: resummed(batchOf(t, "a"),
			func(b []byte) { b[22] |= 0x20 }), code: 87},
		{name: "a batch above max.message.bytes", records: batchOf(t, strings.Repeat("x", 200)),
			scene: setting(func(s *configs.TopicSettings) { s.MaxMessageBytes = 100 }), code: 10},
		{name: "a null key in a compacted topic", records: batchOf(t, "a"),
			scene: setting(func(s *configs.TopicSettings) { s.CleanupCompact = true }), code: 87},
		{name: "LogAppendTime set by the producer", records: resummed(batchOf(t, "a"),
			func(b []byte) { b[22] |= 0x08 }), code: 32},
		{name: "an internal topic", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.addTopic("__consumer_offsets", 1) },
			edit:  func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = "__consumer_offsets" }, code: 17},
		{name: "a partition that another node leads", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.fail("t", 0, messages.ErrNotLeader) }, code: 6},
		{name: "a replica that stopped leading", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).config = nil }, code: 6},
		{name: "too few replicas", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrNotEnoughReplicas }, code: 19},
		{name: "a gap in the sequence", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrOutOfOrderSequence },
			code:  45},
		{name: "a disk that failed", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrStorage }, code: 56},
		{name: "a replica that is busy", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrOverloaded }, code: 7},
		{name: "a replica that starts", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = messages.ErrUnavailable }, code: 6},
		{name: "a transactional batch without a transactional id", records: transactional(7), code: 53},
		{name: "transactional batches of two producers", records: transactional(7),
			edit: func(r *kmsg.ProduceRequest) {
				r.TransactionID = kmsg.StringPtr("tx")
				second := kmsg.NewProduceRequestTopicPartition()
				second.Partition, second.Records = 1, transactional(8)
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, second)
			}, code: 49},
		{name: "a failure nobody thought of", records: batchOf(t, "a"),
			scene: func(f *fakeCluster) { f.replica("t", 0).err = errors.New("surprise") }, code: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeCluster()
			f.addTopic("t", 2)
			if tt.scene != nil {
				tt.scene(f)
			}
			if tt.edit == nil {
				tt.edit = func(*kmsg.ProduceRequest) {}
			}
			if tt.version == 0 {
				tt.version = 7
			}
			p := produceOne(t, f, tt.version, tt.records, tt.edit)
			if p.ErrorCode != tt.code || p.BaseOffset != -1 || p.LogAppendTime != -1 ||
				p.LogStartOffset != -1 {
				t.Fatalf("%+v, want code %d", p, tt.code)
			}
			if end := f.replica("t", 0).Offsets().LogEnd; end != 0 {
				t.Fatalf("log ends at %d", end)
			}
		})
	}
}

func TestProduceNamesTheBadRecords(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	f.replica("t", 0).config.CleanupCompact = true
	b := record.NewBuilder(record.Compression{Codec: record.Gzip})
	now := messages.Timestamp(time.Now().UnixMilli())
	b.Append(now, []byte("key"), nil)
	b.Append(now, nil, []byte("no key"))
	p := produceOne(t, f, 8, finished(t, b))
	if p.ErrorCode != 87 || len(p.ErrorRecords) != 1 || p.ErrorRecords[0].RelativeOffset != 1 ||
		p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, "key") {
		t.Fatalf("%+v", p)
	}
}

func TestProduceTellsWhereTheLeaderIs(t *testing.T) {
	for _, version := range []int16{9, 10, 13} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			f := twoNodes()
			topic := f.addTopic("t", 1)
			f.leadElsewhere("t")
			w := dial(t, serveFake(t, f, Config{}))
			req := produceTo(version, -1, map[int32][]byte{0: batchOf(t, "a")})
			req.Topics[0].TopicID = topic.ID
			resp := request[*kmsg.ProduceResponse](w, req)
			p := resp.Topics[0].Partitions[0]
			want := kmsg.NewProduceResponseTopicPartitionCurrentLeader()
			if version >= 10 {
				want.LeaderID, want.LeaderEpoch = 2, 9
				if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "second.example" {
					t.Errorf("brokers %+v", resp.Brokers)
				}
			} else if len(resp.Brokers) != 0 {
				t.Errorf("brokers %+v", resp.Brokers)
			}
			if p.ErrorCode != 6 || p.CurrentLeader.LeaderID != want.LeaderID ||
				p.CurrentLeader.LeaderEpoch != want.LeaderEpoch {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestProduceTimesOutWhatItsLeaderHasNotAnswered(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 2)
	s := serveFake(t, f, Config{})
	w := dial(t, s)
	slow := f.replica("t", 1)
	slow.edit(func(p *fakePartition) { p.pause = true })
	req := produceTo(9, -1, map[int32][]byte{0: batchOf(t, "a"), 1: batchOf(t, "b")})
	req.TimeoutMillis = 1
	resp := request[*kmsg.ProduceResponse](w, req)
	p := resp.Topics[0].Partitions
	if p[0].ErrorCode != 0 || p[1].ErrorCode != 7 || p[1].BaseOffset != -1 {
		t.Fatalf("%+v", p)
	}
	if s.Stats().QueuedBytes == 0 {
		t.Fatal("the batch was given back while its leader still had it")
	}
	slow.resume()
	testkit.Eventually(t, "the batch is given back", func() bool { return s.Stats().QueuedBytes == 0 })
	if end := slow.Offsets().LogEnd; end != 1 {
		t.Fatalf("what timed out was not appended: log ends at %d", end)
	}
}

func TestProduceCompressesAnewWhatTheTopicDemands(t *testing.T) {
	for _, tt := range []struct {
		demand string
		codec  record.Codec
	}{
		{"producer", record.Gzip}, {"gzip", record.Gzip}, {"uncompressed", record.None},
		{"snappy", record.Snappy}, {"lz4", record.LZ4}, {"zstd", record.Zstd},
	} {
		t.Run(tt.demand, func(t *testing.T) {
			f := newFakeCluster()
			f.addTopic("t", 1)
			f.replica("t", 0).config.CompressionType = tt.demand
			sent := buildBatch(t, record.Compression{Codec: record.Gzip}, "one", "two")
			if p := produceOne(t, f, 9, sent); p.ErrorCode != 0 {
				t.Fatalf("%+v", p)
			}
			var stored record.Batch
			f.replica("t", 0).edit(func(p *fakePartition) { stored = p.batches[0] })
			if stored.Codec() != tt.codec {
				t.Fatalf("stored as codec %d", stored.Codec())
			}
			if _, _, err := record.Parse(stored.Bytes); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestProduceKeepsTheOrderOfAConnection(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 1)
	w := dial(t, serveFake(t, f, Config{MaxInFlight: 8}))
	const n = 200
	go func() {
		for i := range n {
			_, _ = w.Write(frame(int32(i), produceTo(9, 1, map[int32][]byte{0: batchOf(t, fmt.Sprint(i))})))
		}
	}()
	for i := range int64(n) {
		resp := receive[*kmsg.ProduceResponse](w, int32(i), versioned(kmsg.NewPtrProduceRequest(), 9))
		if got := resp.Topics[0].Partitions[0].BaseOffset; got != i {
			t.Fatalf("request %d was appended at %d", i, got)
		}
	}
}

func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			f := withTopic(1)
			f.replica("t", 0).drop = true
			w := dial(b, serveFake(b, f, Config{}))
			req := frame(0, produceTo(9, 1, map[int32][]byte{0: largeBatch(b, size-200)}))
			buf := make([]byte, 4096)
			b.SetBytes(int64(len(req)))
			b.ReportAllocs()
			for b.Loop() {
				w.raw(req)
				w.readInto(buf)
			}
		})
	}
}
