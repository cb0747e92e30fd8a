package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/data"
	"github.com/troupelog/troupe/node/door"
)

// ListOffsets, key 2, versions 1 to 10: offsets by timestamp, one for each
// partition asked for.
//
//	v1   the first record at or after a timestamp; -1 latest, -2 earliest
//	v2   isolation level
//	v4   the client's leader epoch is checked (KIP-320); the answer has one
//	v5   a leader that does not know its high watermark yet says so (KIP-207)
//	v6   flexible encoding
//	v7   -3, the record with the largest timestamp (KIP-734)
//	v8   -4, the start of the local log (KIP-405)
//	v9   -5, the end of tiered storage (KIP-1005): none here
//	v10  the client's timeout
//
// A search by time looks inside the batch, so the answer is the record itself.
// No record that late is no error: timestamp and offset are -1.
//
// Not there: version 0, which lists segments. Nodes do not replicate through
// this API, so whoever names a replica id still sees what a consumer sees.
func (s *Server) listOffsets(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	isolation := data.ReadUncommitted
	if req.IsolationLevel == int8(data.ReadCommitted) {
		isolation = data.ReadCommitted
	}
	twice := door.Repeated(listedPartitions(req))
	image := s.cluster.Image()
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic := image.Topic(rt.Topic)
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = rp.Partition
			name := messages.TopicPartition{Topic: rt.Topic, Partition: rp.Partition}
			switch {
			case twice[name]:
				p.ErrorCode = codeInvalidRequest
			case !timestampKnown(rp.Timestamp, req.Version):
				p.ErrorCode = codeUnsupportedVersion
			default:
				found, err := s.offsetByTimestamp(ctx, topic, rp, isolation)
				p.ErrorCode = listOffsetsErrorCode(err, req.Version)
				if err == nil {
					p.Timestamp = int64(found.Timestamp)
					p.Offset = int64(found.Offset)
					p.LeaderEpoch = int32(found.Epoch)
				}
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (s *Server) offsetByTimestamp(ctx context.Context, topic *messages.Topic,
	rp *kmsg.ListOffsetsRequestTopicPartition, isolation data.Isolation,
) (data.TimestampOffset, error) {
	if err := ctx.Err(); err != nil {
		return data.TimestampOffset{}, fmt.Errorf("list offsets: %w", err)
	}
	p, err := s.partition(topic, rp.Partition)
	if err != nil {
		return data.TimestampOffset{}, err
	}
	return p.ByTimestamp(ctx, messages.Timestamp(rp.Timestamp), isolation,
		messages.LeaderEpoch(rp.CurrentLeaderEpoch))
}

// partition finds the local replica of a partition clients named. A nil topic
// is one that does not exist.
func (s *Server) partition(topic *messages.Topic, index int32) (Partition, error) {
	if topic == nil || index < 0 || int(index) >= len(topic.Partitions) {
		return nil, messages.ErrUnknownTopicOrPartition
	}
	return s.partitions.Partition(topic, index)
}

func listedPartitions(req *kmsg.ListOffsetsRequest) []messages.TopicPartition {
	var all []messages.TopicPartition
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			all = append(all, messages.TopicPartition{
				Topic:     req.Topics[i].Topic,
				Partition: req.Topics[i].Partitions[j].Partition,
			})
		}
	}
	return all
}

// timestampKnown reports whether requests of that version may ask for t.
func timestampKnown(t int64, version int16) bool {
	switch messages.Timestamp(t) {
	case data.TimestampLatest, data.TimestampEarliest:
		return true
	case data.TimestampMax:
		return version >= 7
	case data.TimestampEarliestLocal:
		return version >= 8
	case data.TimestampLatestTiered:
		return version >= 9
	}
	return t >= 0
}

// listOffsetsErrorCode is errorCode for a partition of ListOffsets: a leader
// that cannot tell yet answers OFFSET_NOT_AVAILABLE, which clients below v5 do
// not know (KIP-207).
func listOffsetsErrorCode(err error, version int16) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, messages.ErrUnavailable), errors.Is(err, messages.ErrOverloaded),
		errors.Is(err, messages.ErrOffsetNotAvailable):
		if version < 5 {
			return codeLeaderNotAvailable
		}
		return codeOffsetNotAvailable
	}
	return errorCode(err)
}
