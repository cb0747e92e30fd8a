package kafka

import (
	"context"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// OffsetCommit, key 8, versions 2 to 10: the positions of a group.
//
//	v2-4  the client may say how long they are kept
//	v3    throttling starts after the answer (KIP-219)
//	v6    leader epoch of the record before (KIP-320)
//	v7    static members (KIP-345)
//	v8    flexible encoding
//	v9    members of consumer groups (KIP-848): GROUP_ID_NOT_FOUND and
//	      STALE_MEMBER_EPOCH may be answered
//	v10   topics by id
//
// A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION, the others are
// committed. The metadata text comes back from OffsetFetch as it was; null is "".
//
// Not there: versions 0 and 1, which Kafka 4 does not serve either.
func (s *Server) offsetCommit(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.OffsetCommitRequest)
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	codes, offsets := s.planCommit(req, resp)
	if len(offsets) == 0 {
		return resp
	}
	done := door.Await(ctx, s.askGroup, req.Group, func(reply func(group.Committed)) coord.Request {
		return &group.Commit{
			MemberID:   req.MemberID,
			InstanceID: orEmpty(req.InstanceID),
			Generation: req.Generation,
			Epochs:     req.Version >= 9,
			Offsets:    offsets,
			Reply:      reply,
		}
	})
	for i := range codes {
		*codes[i] = offsetCommitErrorCode(door.ErrorAt(done.Err, done.Errs, i), req.Version)
	}
	return resp
}

// planCommit lays out the answer and returns what is to be committed, with where
// the error of each belongs.
func (s *Server) planCommit(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse,
) (codes []*int16, offsets []group.Offset) {
	image := s.cluster.Image()
	expire := expiry(req.RetentionTimeMillis, time.Now())
	byID := req.Version >= 10
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic := image.Topic(rt.Topic)
		if byID {
			topic = image.TopicByID(rt.TopicID)
		}
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = rt.Topic, rt.TopicID
		t.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			rp, p := &rt.Partitions[j], &t.Partitions[j]
			p.Partition = rp.Partition
			if p.ErrorCode = partitionCode(topic, byID, rp.Partition); p.ErrorCode != codeNone {
				continue
			}
			codes = append(codes, &p.ErrorCode)
			offsets = append(offsets, group.Offset{
				TopicID: topic.ID, Topic: topic.Name, Partition: rp.Partition,
				Offset: messages.Offset(rp.Offset), Epoch: messages.LeaderEpoch(rp.LeaderEpoch),
				Metadata: orEmpty(rp.Metadata), CommitMs: messages.NoTimestamp, ExpireMs: expire,
			})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return codes, offsets
}

// expiry is when an offset expires that the client wants kept for so many
// milliseconds; less than 0: as configured.
func expiry(retentionMs int64, now time.Time) messages.Timestamp {
	if retentionMs < 0 {
		return messages.NoTimestamp
	}
	ms := now.UnixMilli()
	return messages.Timestamp(ms + min(retentionMs, math.MaxInt64-ms))
}

// offsetCommitErrorCode is coordinatorErrorCode for OffsetCommit: clients learnt
// the errors of consumer groups in version 9.
func offsetCommitErrorCode(err error, version int16) int16 {
	code := coordinatorErrorCode(err)
	if version >= 9 {
		return code
	}
	switch code {
	case codeGroupIDNotFound:
		return codeIllegalGeneration
	case codeStaleMemberEpoch:
		return codeUnsupportedVersion
	}
	return code
}
