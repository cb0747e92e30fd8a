package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/coord"
	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/node/door"
)

// TxnOffsetCommit, key 28, versions 0 to 5: positions of a group that count once
// the transaction commits (KIP-98). The group's coordinator answers it.
//
//	v1  throttling starts after the answer (KIP-219)
//	v2  leader epoch of the record before (KIP-320); COORDINATOR_LOAD_IN_PROGRESS
//	    may be answered
//	v3  flexible encoding; the member is checked (KIP-447)
//	v4  TRANSACTION_ABORTABLE may be answered (KIP-890)
//	v5  the group need not be part of the transaction yet: AddOffsetsToTxn is done
//	    on the way (KIP-890)
//
// A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION, the others are
// committed.
//
// Not there: version 6, topics by id.
func (s *Server) txnOffsetCommit(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.TxnOffsetCommitRequest)
	resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	codes, offsets := s.planTxnCommit(req, resp)
	if len(offsets) == 0 {
		return resp
	}
	if code := s.joinTxn(ctx, req); code != codeNone {
		for i := range codes {
			*codes[i] = code
		}
		return resp
	}
	done := door.Await(ctx, s.askGroup, req.Group, func(reply func(group.Committed)) coord.Request {
		return &group.TxnCommit{
			TransactionalID: req.TransactionalID,
			Producer:        messages.ProducerID(req.ProducerID),
			Epoch:           messages.ProducerEpoch(req.ProducerEpoch),
			MemberID:        req.MemberID,
			InstanceID:      orEmpty(req.InstanceID),
			Generation:      req.Generation,
			Offsets:         offsets,
			Reply:           reply,
		}
	})
	for i := range codes {
		*codes[i] = txnCommitErrorCode(door.ErrorAt(done.Err, done.Errs, i), req.Version)
	}
	return resp
}

// joinTxn makes the group part of the transaction, from version 5 on. That the
// transaction's coordinator cannot be asked is no reason to look for the group's,
// so the client is told to ask again here.
func (s *Server) joinTxn(ctx context.Context, req *kmsg.TxnOffsetCommitRequest) int16 {
	if req.TransactionalID == "" {
		return codeInvalidRequest
	}
	if req.Version < 5 {
		return codeNone
	}
	ctx, cancel := door.WaitFor(ctx, 0)
	defer cancel()
	err := door.GroupJoinsTxn(ctx, s.coordinators, req.Group, req.TransactionalID,
		messages.ProducerID(req.ProducerID), messages.ProducerEpoch(req.ProducerEpoch))
	switch code := txnCommitErrorCode(err, req.Version); code {
	case codeNotCoordinator, codeCoordinatorNotAvailable:
		return codeCoordinatorLoadInProgress
	default:
		return code
	}
}

func (s *Server) planTxnCommit(req *kmsg.TxnOffsetCommitRequest,
	resp *kmsg.TxnOffsetCommitResponse,
) (codes []*int16, offsets []group.Offset) {
	image := s.cluster.Image()
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic := image.Topic(rt.Topic)
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = rt.Topic
		t.Partitions = make([]kmsg.TxnOffsetCommitResponseTopicPartition, len(rt.Partitions))
		for j := range rt.Partitions {
			rp, p := &rt.Partitions[j], &t.Partitions[j]
			p.Partition = rp.Partition
			if p.ErrorCode = partitionCode(topic, false, rp.Partition); p.ErrorCode != codeNone {
				continue
			}
			codes = append(codes, &p.ErrorCode)
			offsets = append(offsets, group.Offset{
				TopicID: topic.ID, Topic: topic.Name, Partition: rp.Partition,
				Offset: messages.Offset(rp.Offset), Epoch: messages.LeaderEpoch(rp.LeaderEpoch),
				Metadata: orEmpty(rp.Metadata),
				CommitMs: messages.NoTimestamp, ExpireMs: messages.NoTimestamp,
			})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return codes, offsets
}

// txnCommitErrorCode is coordinatorErrorCode for TxnOffsetCommit. No version of it
// knows the errors of consumer groups.
func txnCommitErrorCode(err error, version int16) int16 {
	switch code := (txnErrors{fenced: 3, abortable: 4}).code(err, version); {
	case code == codeStaleMemberEpoch, code == codeGroupIDNotFound:
		return codeIllegalGeneration
	case code == codeCoordinatorLoadInProgress && version < 2:
		return codeCoordinatorNotAvailable
	default:
		return code
	}
}
