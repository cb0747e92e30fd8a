package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// DescribeProducers, key 61, version 0: what the leader of a partition knows of
// its idempotent and transactional producers (KIP-664).
//
// A partition that is named twice is described once.
func (s *Server) describeProducers(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeProducersRequest)
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	image := s.cluster.Image()
	seen := map[messages.TopicPartition]bool{}
	for i := range req.Topics {
		t := kmsg.NewDescribeProducersResponseTopic()
		t.Topic = req.Topics[i].Topic
		for _, index := range req.Topics[i].Partitions {
			tp := messages.TopicPartition{Topic: t.Topic, Partition: index}
			if !seen[tp] {
				seen[tp] = true
				t.Partitions = append(t.Partitions, s.producersOf(ctx, image.Topic(t.Topic), index))
			}
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (s *Server) producersOf(ctx context.Context, topic *messages.Topic, index int32,
) kmsg.DescribeProducersResponseTopicPartition {
	out := kmsg.NewDescribeProducersResponseTopicPartition()
	out.Partition = index
	if out.ErrorCode = partitionCode(topic, false, index); out.ErrorCode != codeNone {
		out.ErrorMessage = errorMessage(messages.ErrUnknownTopicOrPartition)
		return out
	}
	p, err := s.partitions.Partition(topic, index)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = produceErrorCode(err), errorMessage(err)
		return out
	}
	states, err := p.Producers(ctx)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = produceErrorCode(err), errorMessage(err)
		return out
	}
	for _, st := range states {
		a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		a.ProducerID, a.ProducerEpoch = int64(st.ID), int32(st.Epoch)
		a.LastSequence, a.LastTimestamp = int32(st.LastSequence), int64(st.LastTimestamp)
		a.CoordinatorEpoch, a.CurrentTxnStartOffset = st.CoordinatorEpoch, int64(st.TxnFirst)
		out.ActiveProducers = append(out.ActiveProducers, a)
	}
	return out
}
