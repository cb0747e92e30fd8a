package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// CreatePartitions, key 37, versions 0 to 3: more partitions for topics
// (KIP-195). The count is the new total.
//
//	v2  flexible encoding
//	v3  THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599)
//
// The answer leaves when this node's metadata shows the partitions. A topic
// that stands in the request more than once fails, and is answered once.
func (s *Server) createPartitions(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := waitFor(ctx, req.TimeoutMillis)
	defer cancel()

	names := make([]string, len(req.Topics))
	for i := range req.Topics {
		names[i] = req.Topics[i].Topic
	}
	twice := repeated(names)
	var asked []messages.CreatePartitions
	var answers []int // index in resp.Topics of each in asked
	done := make(map[string]bool, len(names))
	for i := range req.Topics {
		rt := &req.Topics[i]
		if done[rt.Topic] {
			continue
		}
		done[rt.Topic] = true
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic = rt.Topic
		if twice[rt.Topic] {
			err := fmt.Errorf("%w: topic %q stands in the request more than once",
				messages.ErrInvalidRequest, rt.Topic)
			t.ErrorCode, t.ErrorMessage = errorCode(err), errorMessage(err)
		} else {
			asked = append(asked, createPartitionsOf(rt))
			answers = append(answers, len(resp.Topics))
		}
		resp.Topics = append(resp.Topics, t)
	}
	if len(asked) == 0 {
		return resp
	}
	results, err := s.cluster.CreatePartitions(ctx, asked, req.ValidateOnly)
	for i, at := range answers {
		_, err := perTopic(results, err, i)
		resp.Topics[at].ErrorCode = topicErrorCode(err, req.Version >= 3)
		resp.Topics[at].ErrorMessage = errorMessage(err)
	}
	return resp
}

// createPartitionsOf reads one topic of the request. A null assignment leaves
// placement to the controller; an empty one assigns no partition, which is
// wrong and the controller's to refuse.
func createPartitionsOf(rt *kmsg.CreatePartitionsRequestTopic) messages.CreatePartitions {
	grow := messages.CreatePartitions{Topic: rt.Topic, Count: rt.Count}
	if rt.Assignment == nil {
		return grow
	}
	grow.Assignment = make([][]messages.NodeID, len(rt.Assignment))
	for i := range rt.Assignment {
		grow.Assignment[i] = nodeIDs(rt.Assignment[i].Replicas)
	}
	return grow
}
