package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func deleteRecordsRequest(topic string, parts ...[2]int64) *kmsg.DeleteRecordsRequest {
	req := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	for _, p := range parts {
		rp := kmsg.NewDeleteRecordsRequestTopicPartition()
		rp.Partition, rp.Offset = int32(p[0]), p[1]
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func TestDeleteRecordsMovesTheLogStart(t *testing.T) {
	eachVersion(t, 21, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("a", 3)
		for i := range int32(3) {
			f.replica("a", i).edit(func(p *fakePartition) { p.start, p.high = 5, 40 })
		}
		for _, tt := range []struct {
			name   string
			offset int64
			code   int16
			low    int64
		}{
			{"to the offset", 20, codeNone, 20},
			{"never back", 3, codeNone, 20},
			{"not above the high watermark", 41, codeOffsetOutOfRange, -1},
			{"not to a negative offset", -2, codeOffsetOutOfRange, -1},
			{"to the high watermark for -1", -1, codeNone, 40},
		} {
			t.Run(tt.name, func(t *testing.T) {
				resp := ask[*kmsg.DeleteRecordsResponse](t, f,
					deleteRecordsRequest("a", [2]int64{1, tt.offset}), v)
				got := resp.Topics[0].Partitions[0]
				equal(t, "partition", got.Partition, int32(1))
				equal(t, "code", got.ErrorCode, tt.code)
				equal(t, "low watermark", got.LowWatermark, tt.low)
			})
		}
		equal(t, "log start of another partition", f.replica("a", 0).Offsets().LogStart,
			messages.Offset(5))
	})
}

func TestDeleteRecordsRefusesTopicsThatKeepTheirRecords(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("compacted", 1)
	f.change("compacted", func(t *messages.Topic) {
		t.Configs = messages.Config{"cleanup.policy": "compact"}
	})
	f.addTopic("both", 1)
	f.change("both", func(t *messages.Topic) {
		t.Configs = messages.Config{"cleanup.policy": "compact, delete"}
	})
	f.addTopic("__consumer_offsets", 1)
	f.addTopic("elsewhere", 1)
	f.fail("elsewhere", 0, messages.ErrNotLeader)
	eachVersion(t, 21, func(t *testing.T, v int16) {
		for topic, want := range map[string]int16{
			"compacted": codePolicyViolation, "both": codeNone, "__consumer_offsets": codeInvalidTopic,
			"gone": codeUnknownTopicOrPartition, "elsewhere": codeNotLeaderOrFollower,
		} {
			resp := ask[*kmsg.DeleteRecordsResponse](t, f,
				deleteRecordsRequest(topic, [2]int64{0, 0}), v)
			equal(t, topic, resp.Topics[0].Partitions[0].ErrorCode, want)
		}
		resp := ask[*kmsg.DeleteRecordsResponse](t, f,
			deleteRecordsRequest("both", [2]int64{7, 0}), v)
		equal(t, "missing partition", resp.Topics[0].Partitions[0].ErrorCode,
			codeUnknownTopicOrPartition)
	})
}

func TestDeleteRecordsObeysTheBrokersCleanupPolicy(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 1)
	f.set("log.cleanup.policy", "compact")
	resp := ask[*kmsg.DeleteRecordsResponse](t, f, deleteRecordsRequest("a", [2]int64{0, 0}), 2)
	equal(t, "code", resp.Topics[0].Partitions[0].ErrorCode, codePolicyViolation)
}
