package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
)

func producersRequest(partitions ...int32) *kmsg.DescribeProducersRequest {
	req := kmsg.NewPtrDescribeProducersRequest()
	for _, name := range []string{"t", "gone"} {
		rt := kmsg.NewDescribeProducersRequestTopic()
		rt.Topic, rt.Partitions = name, partitions
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func TestDescribeProducersShowsWhatThePartitionKnows(t *testing.T) {
	f := newFakeCluster()
	f.addTopic("t", 3)
	f.leadElsewhere("t")
	f.replica("t", 1).producers = []data.Producer{
		{ID: 7, Epoch: 3, LastSequence: 5, LastTimestamp: 1000, CoordinatorEpoch: 2, TxnFirst: 40},
		{ID: 8, Epoch: 0, LastSequence: messages.NoSequence, LastTimestamp: 900,
			CoordinatorEpoch: -1, TxnFirst: messages.NoOffset},
	}
	f.replica("t", 2).err = messages.ErrStorage
	resp := ask[*kmsg.DescribeProducersResponse](t, f, producersRequest(0, 1, 2, 9, 1), 0)
	var codes []int16
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			codes = append(codes, p.ErrorCode)
			if p.ErrorCode != codeNone {
				hasText(t, "an error", p.ErrorMessage)
			}
		}
	}
	equal(t, "codes, each partition once", codes, []int16{6, 0, 56, 3, 3, 3, 3, 3})
	type active = kmsg.DescribeProducersResponseTopicPartitionActiveProducer
	equal(t, "producers", resp.Topics[0].Partitions[1].ActiveProducers, []active{
		{ProducerID: 7, ProducerEpoch: 3, LastSequence: 5, LastTimestamp: 1000, CoordinatorEpoch: 2,
			CurrentTxnStartOffset: 40},
		{ProducerID: 8, LastSequence: -1, LastTimestamp: 900, CoordinatorEpoch: -1,
			CurrentTxnStartOffset: -1},
	})
}
