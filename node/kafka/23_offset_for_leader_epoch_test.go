package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

func TestOffsetForLeaderEpochTellsWhereAnEpochEnds(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("a", 2)
	f.replica("a", 0).edit(func(p *fakePartition) { p.start = 40 })
	f.fail("a", 1, messages.ErrNotLeader)
	eachVersion(t, 23, func(t *testing.T, v int16) {
		for _, tt := range []struct {
			name           string
			topic          string
			partition      int32
			current, asked int32
			code           int16
			epoch          int32
			end            int64
		}{
			{"the latest epoch ends at the log end", "a", 0, 3, 3, codeNone, 3, 40},
			{"the client need not know its epoch", "a", 0, -1, 3, codeNone, 3, 40},
			{"an epoch to come is unknown", "a", 0, 3, 4, codeNone, -1, -1},
			{"an old client is fenced", "a", 0, 2, 2, codeFencedLeaderEpoch, -1, -1},
			{"a client ahead of the leader", "a", 0, 4, 3, codeUnknownLeaderEpoch, -1, -1},
			{"a leader elsewhere", "a", 1, 3, 3, codeNotLeaderOrFollower, -1, -1},
			{"a missing partition", "a", 2, 3, 3, codeUnknownTopicOrPartition, -1, -1},
			{"a negative partition", "a", -1, 3, 3, codeUnknownTopicOrPartition, -1, -1},
			{"a missing topic", "b", 0, 3, 3, codeUnknownTopicOrPartition, -1, -1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				req := kmsg.NewPtrOffsetForLeaderEpochRequest()
				topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
				topic.Topic = tt.topic
				p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
				p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = tt.partition, tt.current, tt.asked
				topic.Partitions = append(topic.Partitions, p)
				req.Topics = append(req.Topics, topic)
				resp := ask[*kmsg.OffsetForLeaderEpochResponse](t, f, req, v)
				equal(t, "topic", resp.Topics[0].Topic, tt.topic)
				got := resp.Topics[0].Partitions[0]
				equal(t, "partition", got.Partition, tt.partition)
				equal(t, "code", got.ErrorCode, tt.code)
				equal(t, "epoch", got.LeaderEpoch, tt.epoch)
				equal(t, "end", got.EndOffset, tt.end)
			})
		}
	})
}
