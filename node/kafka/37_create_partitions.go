package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
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
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	asked := make([]messages.CreatePartitions, len(req.Topics))
	for i := range req.Topics {
		asked[i] = createPartitionsOf(&req.Topics[i])
	}
	done := make(map[string]bool, len(asked))
	for _, res := range door.CreatePartitions(ctx, s.cluster, asked, req.ValidateOnly) {
		if done[res.Name] {
			continue
		}
		done[res.Name] = true
		t := kmsg.NewCreatePartitionsResponseTopic()
		t.Topic = res.Name
		t.ErrorCode = topicErrorCode(res.Err, req.Version >= 3)
		t.ErrorMessage = errorMessage(res.Err)
		resp.Topics = append(resp.Topics, t)
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
