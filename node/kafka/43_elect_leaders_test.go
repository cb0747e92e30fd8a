package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// replicated is a cluster of three nodes. Partition 0 of "a" is led by its
// preferred leader, 1 by another; 2 has no leader and nobody in sync but a dead
// one.
func replicated() *fakeCluster {
	f := newFakeCluster()
	f.addNodes()
	f.addTopic("a", 3)
	f.change("a", func(t *messages.Topic) {
		for i := range t.Partitions {
			t.Partitions[i].Replicas = []messages.NodeID{1, 2, 3}
			t.Partitions[i].ISR = []messages.NodeID{1, 2, 3}
		}
		t.Partitions[1].Leader = 2
		t.Partitions[2].Leader, t.Partitions[2].ISR = messages.NoNode, []messages.NodeID{3}
		t.Partitions[2].ELR = []messages.NodeID{2}
	})
	f.fence(3)
	return f
}

func electRequest(kind messages.ElectionType, partitions ...int32) *kmsg.ElectLeadersRequest {
	req := kmsg.NewPtrElectLeadersRequest()
	req.ElectionType = int8(kind)
	if partitions != nil {
		t := kmsg.NewElectLeadersRequestTopic()
		t.Topic, t.Partitions = "a", partitions
		req.Topics = append(req.Topics, t)
	}
	return req
}

// elected are the codes of an answer about one topic, by partition.
func elected(t *testing.T, resp *kmsg.ElectLeadersResponse) map[int32]int16 {
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

func TestElectLeadersElectsThePartitionsNamed(t *testing.T) {
	eachVersion(t, 43, func(t *testing.T, v int16) {
		f := replicated()
		resp := ask[*kmsg.ElectLeadersResponse](t, f,
			electRequest(messages.ElectPreferred, 0, 1, 2, 7), v)
		equal(t, "code", resp.ErrorCode, codeNone)
		equal(t, "outcomes", elected(t, resp), map[int32]int16{
			0: codeElectionNotNeeded, 1: codeNone, 2: codePreferredLeaderUnavailable,
			7: codeUnknownTopicOrPartition,
		})
		equal(t, "leader", f.Image().Topic("a").Partitions[1].Leader, 1)

		req := electRequest(messages.ElectPreferred, 0)
		req.Topics[0].Topic = "none"
		equal(t, "of no topic", elected(t, ask[*kmsg.ElectLeadersResponse](t, f, req, v)),
			map[int32]int16{0: codeUnknownTopicOrPartition})
	})
}

func TestElectLeadersOfEverythingLeavesOutWhatNeedsNoElection(t *testing.T) {
	eachVersion(t, 43, func(t *testing.T, v int16) {
		resp := ask[*kmsg.ElectLeadersResponse](t, replicated(),
			electRequest(messages.ElectPreferred), v)
		equal(t, "outcomes", elected(t, resp),
			map[int32]int16{1: codeNone, 2: codePreferredLeaderUnavailable})
		equal(t, "topics", len(resp.Topics), 1)
	})
}

func TestElectLeadersElectsUncleanFromVersion1On(t *testing.T) {
	for v := int16(1); v <= 2; v++ {
		f := replicated()
		resp := ask[*kmsg.ElectLeadersResponse](t, f, electRequest(messages.ElectUnclean), v)
		equal(t, "outcomes of all", elected(t, resp), map[int32]int16{2: codeNone})
		resp = ask[*kmsg.ElectLeadersResponse](t, f, electRequest(messages.ElectUnclean, 1), v)
		equal(t, "with a leader", elected(t, resp), map[int32]int16{1: codeElectionNotNeeded})

		resp = ask[*kmsg.ElectLeadersResponse](t, f, electRequest(5, 0), v)
		equal(t, "of an unknown type", resp.ErrorCode, codeInvalidRequest)
		equal(t, "its partition", elected(t, resp), map[int32]int16{0: codeInvalidRequest})
	}
}

func TestElectLeadersTellsClientsToLookForTheController(t *testing.T) {
	f := replicated()
	f.failControl(messages.ErrUnavailable)
	eachVersion(t, 43, func(t *testing.T, v int16) {
		resp := ask[*kmsg.ElectLeadersResponse](t, f, electRequest(messages.ElectPreferred, 1), v)
		if v >= 1 {
			equal(t, "code", resp.ErrorCode, codeNotController)
		}
		equal(t, "outcomes", elected(t, resp), map[int32]int16{1: codeNotController})
	})
}

func TestAnAdminClientElectsAndReassigns(t *testing.T) {
	f := replicated()
	adm, _, ctx := adminOf(t, f)
	var some kadm.TopicsSet
	some.Add("a", 1, 2)
	results, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, some)
	must(t, err)
	must(t, results["a"][1].Err)
	equal(t, "no preferred leader", results["a"][2].Err, error(kerr.PreferredLeaderNotAvailable))

	var moves kadm.AlterPartitionAssignmentsReq
	moves.Assign("a", 0, []int32{2, 3})
	moves.CancelAssign("a", 1)
	altered, err := adm.AlterPartitionAssignments(ctx, moves)
	must(t, err)
	must(t, altered["a"][0].Err)
	equal(t, "cancelled", altered["a"][1].Err, error(kerr.NoReassignmentInProgress))
	some.Add("a", 0)
	listed, err := adm.ListPartitionReassignments(ctx, some)
	must(t, err)
	equal(t, "moving", len(listed.Sorted()), 1)
	equal(t, "added", listed["a"][0].AddingReplicas, []int32{3})

	moves = nil
	moves.CancelAssign("a", 0)
	altered, err = adm.AlterPartitionAssignments(ctx, moves)
	must(t, err)
	must(t, altered["a"][0].Err)
}
