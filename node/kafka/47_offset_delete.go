package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// OffsetDelete, key 47, version 0: a group's positions in some partitions are
// forgotten (KIP-496).
//
// A topic that a member of the group reads is GROUP_SUBSCRIBED_TO_TOPIC, a
// partition that does not exist UNKNOWN_TOPIC_OR_PARTITION. The version is not
// flexible.
func (s *Server) offsetDelete(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetDeleteRequest)
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	image := s.cluster.Image()
	var codes []*int16
	var partitions []messages.TopicPartition
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic := image.Topic(rt.Topic)
		t := kmsg.NewOffsetDeleteResponseTopic()
		t.Topic = rt.Topic
		t.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			p := &t.Partitions[j]
			p.Partition = rt.Partitions[j].Partition
			if p.ErrorCode = partitionCode(topic, false, p.Partition); p.ErrorCode == codeNone {
				codes = append(codes, &p.ErrorCode)
				partitions = append(partitions,
					messages.TopicPartition{Topic: rt.Topic, Partition: p.Partition})
			}
		}
		resp.Topics = append(resp.Topics, t)
	}
	if len(partitions) == 0 {
		return resp
	}
	done := door.Await(ctx, s.askGroup, req.Group,
		func(reply func(group.Committed)) coord.Request {
			return &group.DeleteOffsets{Partitions: partitions, Reply: reply}
		})
	if done.Err != nil {
		resp.ErrorCode, resp.Topics = coordinatorErrorCode(done.Err), nil
		return resp
	}
	for i := range codes {
		*codes[i] = coordinatorErrorCode(door.ErrorAt(nil, done.Errs, i))
	}
	return resp
}
