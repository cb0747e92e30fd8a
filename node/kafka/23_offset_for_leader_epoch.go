package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

// OffsetForLeaderEpoch, key 23, versions 2 to 4: where a leader epoch ends, so
// that a consumer notices that records it read were truncated (KIP-101,
// KIP-320).
//
//	v2  the client's own leader epoch is checked
//	v3  replica id
//	v4  flexible encoding
//
// An epoch the leader does not know is no error: epoch and offset are -1.
//
// Not there: versions 0 and 1, from before clients were told the epoch; and the
// replica id means nothing, since nodes do not replicate through this API.
func (s *Server) offsetForLeaderEpoch(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetForLeaderEpochRequest)
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	image := s.cluster.Image()
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic := image.Topic(rt.Topic)
		t := kmsg.NewOffsetForLeaderEpochResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition = rp.Partition
			end, err := s.epochEnd(topic, rp)
			p.ErrorCode = errorCode(err)
			if err == nil {
				p.LeaderEpoch, p.EndOffset = int32(end.Epoch), int64(end.End)
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (s *Server) epochEnd(topic *messages.Topic,
	rp *kmsg.OffsetForLeaderEpochRequestTopicPartition,
) (data.EpochEnd, error) {
	p, err := s.partition(topic, rp.Partition)
	if err != nil {
		return data.EpochEnd{}, err
	}
	return p.EpochEnd(messages.LeaderEpoch(rp.CurrentLeaderEpoch),
		messages.LeaderEpoch(rp.LeaderEpoch))
}
