package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// reassignRequest asks to move partitions of "a"; nil replicas take that back.
func reassignRequest(moves map[int32][]int32) *kmsg.AlterPartitionAssignmentsRequest {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	t.Topic = "a"
	for i, replicas := range moves {
		p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		p.Partition, p.Replicas = i, replicas
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func reassigned(t *testing.T, resp *kmsg.AlterPartitionAssignmentsResponse) map[int32]int16 {
	t.Helper()
	codes := map[int32]int16{}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			codes[p.Partition] = p.ErrorCode
			if p.ErrorCode != codeNone {
				hasText(t, "refusal", p.ErrorMessage)
			}
		}
	}
	return codes
}

func TestAlterPartitionReassignmentsMovesAndTakesBack(t *testing.T) {
	eachVersion(t, 45, func(t *testing.T, v int16) {
		f := replicated()
		resp := ask[*kmsg.AlterPartitionAssignmentsResponse](t, f, reassignRequest(
			map[int32][]int32{0: {3, 2, 1}, 1: nil, 2: {}, 7: {1}, -1: nil}), v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "message", resp.ErrorMessage, nil)
		equal(t, "outcomes", reassigned(t, resp), map[int32]int16{
			0: codeNone, 1: codeNoReassignmentInProgress, 2: codeInvalidReplicaAssignment,
			7: codeUnknownTopicOrPartition, -1: codeUnknownTopicOrPartition,
		})
		equal(t, "replicas", f.Image().Topic("a").Partitions[0].Replicas,
			[]messages.NodeID{3, 2, 1})

		resp = ask[*kmsg.AlterPartitionAssignmentsResponse](t, f,
			reassignRequest(map[int32][]int32{0: nil}), v)
		equal(t, "taken back", reassigned(t, resp), map[int32]int16{0: codeNone})
		equal(t, "moving", f.Image().Topic("a").Partitions[0].Reassigning(), false)
	})
}

func TestAlterPartitionReassignmentsKeepsTheReplicationFactorIfToldTo(t *testing.T) {
	f := replicated()
	f.change("a", func(t *messages.Topic) { // on its way from 1, 2 to 3, 2
		t.Partitions[1].Adding, t.Partitions[1].Removing = []messages.NodeID{3}, []messages.NodeID{1}
	})
	req := reassignRequest(map[int32][]int32{0: {1, 2}, 1: {1, 2}, 2: {2, 1, 3}})
	req.AllowReplicationFactorChange = false
	resp := ask[*kmsg.AlterPartitionAssignmentsResponse](t, f, req, 1)
	equal(t, "outcomes", reassigned(t, resp), map[int32]int16{
		0: codeInvalidReplicationFactor, 1: codeNone, 2: codeNone,
	})
	equal(t, "echo", resp.AllowReplicationFactorChange, false)

	resp = ask[*kmsg.AlterPartitionAssignmentsResponse](t, replicated(), req, 0)
	equal(t, "before there was the field", reassigned(t, resp)[0], codeNone)
}

func TestAlterPartitionReassignmentsIsRetriedWhileThereIsNoController(t *testing.T) {
	f := replicated()
	for err, want := range map[error]int16{
		messages.ErrUnavailable:     codeNotController,
		messages.ErrRequestTimedOut: codeRequestTimedOut,
	} {
		f.failControl(fmt.Errorf("no answer: %w", err))
		eachVersion(t, 45, func(t *testing.T, v int16) {
			resp := ask[*kmsg.AlterPartitionAssignmentsResponse](t, f,
				reassignRequest(map[int32][]int32{0: {1}}), v)
			equal(t, "code", resp.ErrorCode, want)
			hasText(t, "code", resp.ErrorMessage)
			equal(t, "outcomes", reassigned(t, resp), map[int32]int16{0: want})
		})
	}
}
