package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// AlterPartitionReassignments, key 45, versions 0 and 1: other replicas for
// partitions, or the end of a reassignment in progress (KIP-455).
//
//	v1  the client may forbid another number of replicas (KIP-860)
//
// Partitions succeed or fail one by one. Null replicas take back what is in
// progress. The answer leaves when the reassignments have begun; that they are
// done is seen in ListPartitionReassignments.
func (s *Server) alterPartitionReassignments(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	ctx, cancel := door.WaitFor(ctx, req.TimeoutMillis)
	defer cancel()

	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	var asked []messages.Reassign
	var answers [][2]int // indexes of the topic and partition of each in asked
	image := s.cluster.Image()
	fixed := req.Version >= 1 && !req.AllowReplicationFactorChange
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = rp.Partition
			move, err := reassignOf(image, rt.Topic, rp, fixed)
			p.ErrorCode, p.ErrorMessage = errorCode(err), errorMessage(err)
			if err == nil {
				asked, answers = append(asked, move), append(answers, [2]int{i, j})
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if len(asked) == 0 {
		return resp
	}
	errs, err := s.cluster.Reassign(ctx, asked)
	if controlPathBusy(err) { // clients try the whole request again
		resp.ErrorCode, resp.ErrorMessage = controllerErrorCode(err), errorMessage(err)
	}
	for i, at := range answers {
		err := door.PerItem(errs, err, i)
		p := &resp.Topics[at[0]].Partitions[at[1]]
		p.ErrorCode, p.ErrorMessage = controllerErrorCode(err), errorMessage(err)
	}
	return resp
}

// reassignOf reads one partition of the request. With fixed, the number of its
// replicas may not change.
func reassignOf(image *messages.Image, topic string,
	rp *kmsg.AlterPartitionAssignmentsRequestTopicPartition, fixed bool,
) (messages.Reassign, error) {
	t := image.Topic(topic)
	if t == nil || rp.Partition < 0 || int(rp.Partition) >= len(t.Partitions) {
		return messages.Reassign{}, fmt.Errorf("%s-%d: %w", topic, rp.Partition,
			messages.ErrUnknownTopicOrPartition)
	}
	move := messages.Reassign{ID: messages.PartitionID{Topic: t.ID, Partition: rp.Partition}}
	if rp.Replicas == nil {
		return move, nil
	}
	move.Replicas = nodeIDs(rp.Replicas)
	has := len(t.Partitions[rp.Partition].Target())
	if fixed && len(move.Replicas) > 0 && len(move.Replicas) != has {
		return move, fmt.Errorf("%s-%d has %d replicas and would have %d, which the request "+
			"forbids: %w", topic, rp.Partition, has, len(move.Replicas),
			messages.ErrInvalidReplicationFactor)
	}
	return move, nil
}
