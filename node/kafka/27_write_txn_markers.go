package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/txn"
	"github.com/troupelog/troupe/node/door"
)

// WriteTxnMarkers, key 27, versions 0 and 1: transactions end in partitions that
// this node leads (KIP-98). Admin clients abort hanging transactions with it
// (KIP-664); our own coordinators have another way.
//
//	v1  flexible encoding
//
// Each partition has an error of its own. One that this node does not lead is
// NOT_LEADER_OR_FOLLOWER, a marker of a coordinator that was replaced
// TRANSACTION_COORDINATOR_FENCED.
func (s *Server) writeTxnMarkers(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.WriteTxnMarkersRequest)
	resp := req.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	image := s.cluster.Image()
	for i := range req.Markers {
		resp.Markers = append(resp.Markers, s.writeMarker(ctx, image, &req.Markers[i]))
	}
	return resp
}

func (s *Server) writeMarker(ctx context.Context, image *messages.Image,
	rm *kmsg.WriteTxnMarkersRequestMarker,
) kmsg.WriteTxnMarkersResponseMarker {
	out := kmsg.NewWriteTxnMarkersResponseMarker()
	out.ProducerID = rm.ProducerID
	var codes []*int16
	var partitions []messages.TopicPartition
	for i := range rm.Topics {
		t := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
		t.Topic = rm.Topics[i].Topic
		topic := image.Topic(t.Topic)
		t.Partitions = make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition,
			len(rm.Topics[i].Partitions))
		for j, index := range rm.Topics[i].Partitions {
			p := &t.Partitions[j]
			p.Partition = index
			if p.ErrorCode = partitionCode(topic, false, index); p.ErrorCode == codeNone {
				codes = append(codes, &p.ErrorCode)
				partitions = append(partitions,
					messages.TopicPartition{Topic: t.Topic, Partition: index})
			}
		}
		out.Topics = append(out.Topics, t)
	}
	if len(partitions) == 0 {
		return out
	}
	errs := s.coordinators.WriteMarkers(ctx, txn.Markers{
		Producer:         messages.ProducerID(rm.ProducerID),
		Epoch:            messages.ProducerEpoch(rm.ProducerEpoch),
		CoordinatorEpoch: rm.CoordinatorEpoch,
		Commit:           rm.Committed,
		Partitions:       partitions,
	})
	for i := range codes {
		if i >= len(errs) {
			*codes[i] = errorCode(fmt.Errorf("%d of %d markers are answered", len(errs), len(codes)))
			continue
		}
		*codes[i] = produceErrorCode(errs[i])
	}
	return out
}
