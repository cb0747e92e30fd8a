package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/configs"
	"github.com/troupelog/troupe/node/door"
)

// DeleteRecords, key 21, versions 0 to 2: drop the records of a partition below
// an offset (KIP-107). Offset -1 means the high watermark.
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  flexible encoding
//
// The log start moves up, and never back; the answer tells where it is now.
// Topics that are only compacted keep their records: POLICY_VIOLATION.
func (s *Server) deleteRecords(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()
	image := s.cluster.Image()
	layers := s.layers(image)
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewDeleteRecordsResponseTopic()
		t.Topic = rt.Topic
		refused := checkDeletable(image, layers, rt.Topic)
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition = rp.Partition
			start, err := messages.NoOffset, refused
			if err == nil {
				start, err = s.deleteBelow(ctx, image.Topic(rt.Topic), rp)
			}
			p.ErrorCode, p.LowWatermark = errorCode(err), int64(start)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func checkDeletable(image *messages.Image, layers *door.Layers, name string) error {
	if internalName(name) {
		return fmt.Errorf("topic %q is internal: %w", name, messages.ErrInvalidTopic)
	}
	topic := image.Topic(name)
	if topic == nil {
		return fmt.Errorf("topic %q: %w", name, messages.ErrUnknownTopicOrPartition)
	}
	policy := configs.SplitList(topicValue(layers, topic, "cleanup.policy"))
	if !slices.Contains(policy, "delete") {
		return fmt.Errorf("topic %q has no cleanup.policy=delete: %w", name,
			messages.ErrPolicyViolation)
	}
	return nil
}

// deleteBelow returns the log start after the records below the offset went,
// or NoOffset with an error.
func (s *Server) deleteBelow(ctx context.Context, topic *messages.Topic,
	rp *kmsg.DeleteRecordsRequestTopicPartition,
) (messages.Offset, error) {
	p, err := s.partition(topic, rp.Partition)
	if err != nil {
		return messages.NoOffset, err
	}
	if rp.Offset < int64(messages.NoOffset) {
		return messages.NoOffset, fmt.Errorf("delete records below %d: %w", rp.Offset,
			messages.ErrOffsetOutOfRange)
	}
	start, err := p.DeleteRecords(ctx, messages.Offset(rp.Offset))
	if err != nil {
		return messages.NoOffset, err
	}
	return start, nil
}
