//go:build linux

package raw

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages/record"
)

var testShape = Shape{BatchBytes: 16 << 10, RecordBytes: 100}

func TestABatchIsAsLargeAsFits(t *testing.T) {
	for _, s := range []Shape{testShape, {BatchBytes: 64 << 10, RecordBytes: 1 << 10},
		{BatchBytes: 16 << 10, RecordBytes: 100, LZ4: true}} {
		b, err := s.Batch()
		if err != nil || b.Plain > s.BatchBytes || b.Plain < s.BatchBytes-2*s.RecordBytes {
			t.Errorf("%+v: %d bytes of %d records: %v", s, b.Plain, b.Records, err)
		}
		if s.LZ4 != (len(b.Bytes) < b.Plain*3/4) || !s.LZ4 && len(b.Bytes) != b.Plain {
			t.Errorf("%+v: %d bytes became %d", s, b.Plain, len(b.Bytes))
		}
		parsed, rest, err := record.Parse(b.Bytes)
		if err != nil || len(rest) > 0 || int(parsed.Count) != b.Records {
			t.Errorf("%+v: the batch does not parse: %v, %d bytes left", s, err, len(rest))
		}
	}
}

func TestABatchHoldsOneRecordAtLeast(t *testing.T) {
	b, err := Shape{BatchBytes: 100, RecordBytes: 1000}.Batch()
	if err != nil || b.Records != 1 {
		t.Errorf("%d records, %v", b.Records, err)
	}
}

const header = 4 + 2 + 2 + 4 + 2 + len(ClientID)

func TestProduceFramesAreRequestsKafkaUnderstands(t *testing.T) {
	batch, err := testShape.Batch()
	if err != nil {
		t.Fatal(err)
	}
	head := produceHead("orders", AcksAll, len(batch.Bytes))
	for _, partition := range []int32{3, 1 << 20, 0} {
		setProducePartition(head, partition)
		frame := append(slices.Clone(head), batch.Bytes...)
		request := kmsg.ProduceRequest{Version: produceVersion}
		if err := request.ReadFrom(frame[header:]); err != nil {
			t.Fatal(err)
		}
		p := request.Topics[0].Partitions[0]
		if request.Acks != AcksAll || request.Topics[0].Topic != "orders" ||
			p.Partition != partition || string(p.Records) != string(batch.Bytes) {
			t.Errorf("acks %d, partition %d, expected %d", request.Acks, p.Partition, partition)
		}
		if size := int(binary.BigEndian.Uint32(frame)); size != len(frame)-4 {
			t.Errorf("the frame says it has %d bytes, and has %d", size, len(frame)-4)
		}
	}
}

func TestFetchFramesAreRequestsKafkaUnderstands(t *testing.T) {
	frame := fetchFrame("orders", 1000)
	setFetch(frame, 3, 77)
	request := kmsg.FetchRequest{Version: fetchVersion}
	if err := request.ReadFrom(frame[header:]); err != nil {
		t.Fatal(err)
	}
	p := request.Topics[0].Partitions[0]
	if p.Partition != 3 || p.FetchOffset != 77 || p.PartitionMaxBytes != 1000 ||
		request.MaxBytes != 1000 || request.MinBytes != 1 {
		t.Errorf("got %+v", request)
	}
}

func TestCommitFramesAreRequestsKafkaUnderstands(t *testing.T) {
	frame := commitFrame("readers", "orders", 3)
	setCommitOffset(frame, 3, 77)
	commit := kmsg.OffsetCommitRequest{Version: commitVersion}
	if err := commit.ReadFrom(frame[header:]); err != nil {
		t.Fatal(err)
	}
	ps := commit.Topics[0].Partitions
	if commit.Group != "readers" || commit.Generation != -1 || len(ps) != 3 ||
		ps[0].Offset != 77 || ps[2].Partition != 2 || ps[2].Offset != 0 {
		t.Errorf("got %+v", commit)
	}
}

const correlation = 4

func TestAnswersHaveTheSizeTheLoadExpects(t *testing.T) {
	produce := kmsg.ProduceResponse{Version: produceVersion, Topics: []kmsg.ProduceResponseTopic{{
		Topic: "orders", Partitions: []kmsg.ProduceResponseTopicPartition{{ErrorCode: 7}},
	}}}
	body := append(make([]byte, correlation), produce.AppendTo(nil)...)
	size, errorAt := ProduceAnswer("orders")
	if err := answerError(body, errorAt); len(body) != size || err == nil {
		t.Errorf("answer has %d bytes, expected %d; error %v", len(body), size, err)
	}

	fetch := kmsg.FetchResponse{Version: fetchVersion, Topics: []kmsg.FetchResponseTopic{{
		Topic: "orders", Partitions: []kmsg.FetchResponseTopicPartition{{ErrorCode: 7}},
	}}}
	body = append(make([]byte, correlation), fetch.AppendTo(nil)...)
	size, errorAt = FetchAnswerHead("orders")
	if err := answerError(body, errorAt); len(body) != size || err == nil {
		t.Errorf("answer has %d bytes, expected %d; error %v", len(body), size, err)
	}
}

func TestAnswersToCommitsHaveTheSizeTheLoadExpects(t *testing.T) {
	commit := kmsg.OffsetCommitResponse{Version: commitVersion,
		Topics: []kmsg.OffsetCommitResponseTopic{{Topic: "orders",
			Partitions: []kmsg.OffsetCommitResponseTopicPartition{{}, {Partition: 1, ErrorCode: 7}}}}}
	body := append(make([]byte, correlation), commit.AppendTo(nil)...)
	size, errorAt := commitAnswer("orders", 2)
	if len(body) != size || answerError(body, errorAt) != nil ||
		answerError(body, errorAt+6) == nil {
		t.Errorf("answer has %d bytes, expected %d: %x", len(body), size, body)
	}
}

func TestConnectionsShareThePartitionsOfTheirNode(t *testing.T) {
	leaders := []string{"a", "b", "a", "a", "b", "a"} // a leads 0, 2, 3, 5, b leads 1, 4
	for _, test := range []struct {
		conns int
		want  []share
	}{
		{1, []share{{"a", []int32{0, 2, 3, 5}}, {"b", []int32{1, 4}}}},
		{3, []share{{"a", []int32{0, 3}}, {"b", []int32{1, 4}}, {"a", []int32{2, 5}}}},
		{6, []share{{"a", []int32{0, 5}}, {"b", []int32{1}}, {"a", []int32{2}}, {"b", []int32{4}},
			{"a", []int32{3}}, {"b", []int32{1}}}},
	} {
		got := shares(leaders, test.conns)
		if !slices.EqualFunc(got, test.want, func(a, b share) bool {
			return a.addr == b.addr && slices.Equal(a.partitions, b.partitions)
		}) {
			t.Errorf("%d connections: %v, expected %v", test.conns, got, test.want)
		}
	}
	for i, s := range shares(SameLeader("a", 3), 8) {
		if len(s.partitions) != 1 || s.partitions[0] != int32(i%3) {
			t.Errorf("connection %d of 8 has partitions %v of 3", i, s.partitions)
		}
	}
}

func TestNoMoreIsTakenThanIsLeft(t *testing.T) {
	var left atomic.Int64
	left.Store(7)
	var got []int
	for range 4 {
		got = append(got, take(&left, 5))
	}
	if !slices.Equal(got, []int{5, 2, 0, 0}) {
		t.Errorf("of 7, in fives: %v", got)
	}
}

func TestRequestsAreDueInEqualStepsByTurns(t *testing.T) {
	s := schedule{start: time.Unix(100, 0), rate: 1000, lanes: 4, count: 10}
	seen := map[int64]bool{}
	for lane := range s.lanes {
		for n := range s.onLane(lane) {
			i := s.ofLane(lane, n)
			if seen[i] || i >= s.count {
				t.Errorf("request %d of connection %d is number %d", n, lane, i)
			}
			seen[i] = true
			if due := s.due(i).Sub(s.start); due != time.Duration(i)*time.Millisecond {
				t.Errorf("number %d is due after %v", i, due)
			}
		}
	}
	if len(seen) != 10 {
		t.Errorf("the connections have requests %v", seen)
	}
}
