package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// offsetDeleteRequest is about partitions 0 of topics "t" and "gone".
func offsetDeleteRequest(id string) *kmsg.OffsetDeleteRequest {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = id
	for _, name := range []string{"t", "gone"} {
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = name
		rt.Partitions = append(rt.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func TestOffsetDeleteForgetsOffsetsOfPartitionsThatAreThere(t *testing.T) {
	f := committed()
	resp := ask[*kmsg.OffsetDeleteResponse](t, f, offsetDeleteRequest("g"), 0)
	equal(t, "code", resp.ErrorCode, codeNone)
	equal(t, "known", resp.Topics[0].Partitions[0].ErrorCode, codeNone)
	equal(t, "unknown", resp.Topics[1].Partitions[0].ErrorCode, codeUnknownTopicOrPartition)
	_, got := lastAsked[*group.DeleteOffsets](t, f)
	equal(t, "partitions", got.Partitions, []messages.TopicPartition{{Topic: "t"}})
}

func TestOffsetDeleteSaysWhichTopicsAreRead(t *testing.T) {
	f := committed()
	script(f, func(_ string, r *group.DeleteOffsets) {
		r.Reply(group.Committed{Errs: []error{group.ErrSubscribed}})
	})
	resp := ask[*kmsg.OffsetDeleteResponse](t, f, offsetDeleteRequest("g"), 0)
	equal(t, "code", resp.Topics[0].Partitions[0].ErrorCode, codeGroupSubscribedToTopic)
}

func TestOffsetDeleteHasOneErrorForTheWholeGroup(t *testing.T) {
	f := committed()
	resp := ask[*kmsg.OffsetDeleteResponse](t, f, offsetDeleteRequest("other"), 0)
	equal(t, "code", resp.ErrorCode, codeGroupIDNotFound)
	equal(t, "topics", len(resp.Topics), 0)
}
