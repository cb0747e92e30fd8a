package kafka

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// commitRequest commits offset 7 of partition 0 of topic "t".
func commitRequest(id string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = id, "m", 5, ptr("i")
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.LeaderEpoch, p.Metadata = 7, 2, ptr("note")
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = "t", messages.TopicID{0: 0xfa, 15: 1}
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestOffsetCommitHandsOverWhatTheVersionSays(t *testing.T) {
	eachVersion(t, 8, func(t *testing.T, v int16) {
		f := newFakeCluster()
		topic := f.addTopic("t", 1)
		resp := ask[*kmsg.OffsetCommitResponse](t, f, commitRequest("g"), v)
		equal(t, "code", resp.Topics[0].Partitions[0].ErrorCode, codeNone)
		if v >= 10 {
			equal(t, "topic", messages.TopicID(resp.Topics[0].TopicID), topic.ID)
		} else {
			equal(t, "topic", resp.Topics[0].Topic, "t")
		}
		key, got := lastAsked[*group.Commit](t, f)
		got.Reply = nil
		want := &group.Commit{MemberID: "m", Generation: 5, Epochs: v >= 9,
			Offsets: []group.Offset{{TopicID: topic.ID, Topic: "t", Offset: 7, Epoch: -1,
				Metadata: "note", CommitMs: -1, ExpireMs: -1}}}
		if v >= 6 {
			want.Offsets[0].Epoch = 2
		}
		if v >= 7 {
			want.InstanceID = "i"
		}
		equal(t, "group", key, "g")
		equal(t, "request", got, want)
	})
}

func TestOffsetCommitRefusesPartitionsThatAreNotThereAndCommitsTheOthers(t *testing.T) {
	eachVersion(t, 8, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("t", 2)
		script(f, func(_ string, r *group.Commit) {
			equal(t, "offsets", len(r.Offsets), 2)
			r.Reply(group.Committed{Errs: []error{nil, group.ErrMetadataTooLarge}})
		})
		req := commitRequest("g")
		p := req.Topics[0].Partitions[0]
		for _, index := range []int32{2, -1, 1} {
			p.Partition = index
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		}
		gone := kmsg.NewOffsetCommitRequestTopic()
		gone.Topic, gone.TopicID = "gone", [16]byte{9}
		gone.Partitions = append(gone.Partitions, p)
		req.Topics = append(req.Topics, gone)
		resp := ask[*kmsg.OffsetCommitResponse](t, f, req, v)
		var codes []int16
		for _, rt := range resp.Topics {
			for _, p := range rt.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
		want := []int16{0, 3, 3, 12, 3}
		if v >= 10 {
			want[4] = codeUnknownTopicID
		}
		equal(t, "codes", codes, want)
	})
}

func TestOffsetCommitOfNothingKnownAsksNobody(t *testing.T) {
	f := newFakeCluster()
	ask[*kmsg.OffsetCommitResponse](t, f, commitRequest("g"), 8)
	equal(t, "coordinators asked", f.coords.count(), 0)
}

func TestOffsetCommitKeepsOffsetsForAsLongAsTheClientSays(t *testing.T) {
	eachVersion(t, 8, func(t *testing.T, v int16) {
		f := newFakeCluster()
		f.addTopic("t", 1)
		req := commitRequest("g")
		req.RetentionTimeMillis = 1e9
		before := messages.Timestamp(time.Now().UnixMilli())
		ask[*kmsg.OffsetCommitResponse](t, f, req, v)
		_, got := lastAsked[*group.Commit](t, f)
		switch at := got.Offsets[0].ExpireMs; {
		case v >= 5:
			equal(t, "expiry", at, messages.NoTimestamp)
		case at < before+1e9 || at > before+1e9+60_000:
			t.Errorf("expiry is %d, %d ms from now", at, at-before)
		}
	})
	equal(t, "an endless retention", expiry(math.MaxInt64, time.UnixMilli(5)),
		messages.Timestamp(math.MaxInt64))
	equal(t, "none", expiry(-1, time.UnixMilli(5)), messages.NoTimestamp)
}
