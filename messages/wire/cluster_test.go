package wire

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
)

func (g gen) partitionID() messages.PartitionID {
	return messages.PartitionID{Topic: g.topicID(), Partition: g.Int32N(1000)}
}

func TestWhatNodesAndTheControllerSayCrossesTheNetworkUnchanged(t *testing.T) {
	for seed := range uint64(rounds) {
		g := newGen(seed)
		registration := &messages.Registration{
			Node:    messages.Node{ID: 3, Host: g.text("host"), Port: 9092, Incarnation: g.text("life")},
			Unclean: g.IntN(2) == 0,
			Lost:    []messages.PartitionID{g.partitionID(), g.partitionID()},
		}
		gotRegistration, err := ToRegistration(crossed(t, FromRegistration(registration)))
		same(t, gotRegistration, registration, err)

		heartbeat := &messages.Heartbeat{Node: 4, Epoch: messages.NodeEpoch(g.Int64()),
			Version: messages.MetadataVersion(g.Int64()), Incarnation: g.text("life"),
			Leave: g.IntN(2) == 0}
		same(t, ToHeartbeat(crossed(t, FromHeartbeat(heartbeat))), heartbeat, nil)

		for _, reply := range []*messages.HeartbeatReply{{MayStop: true}, {Update: g.delta()}} {
			got, err := ToHeartbeatReply(crossed(t, FromHeartbeatReply(reply)))
			same(t, got, reply, err)
		}

		suspicion := &messages.Suspicion{By: 1, Suspect: 2, Epoch: messages.NodeEpoch(g.Int64())}
		same(t, ToSuspicion(crossed(t, FromSuspicion(suspicion))), suspicion, nil)

		proposals := []messages.AlterPartition{
			{ID: g.partitionID(), LeaderEpoch: 7, PartitionEpoch: 8,
				ISR: []messages.ISRMember{{Node: 1, Epoch: 2}, {Node: 3, Epoch: 4}}},
			{ID: g.partitionID()},
		}
		gotProposals, err := ToAlterPartitions(crossed(t, FromAlterPartitions(1, 5, proposals)))
		same(t, gotProposals, proposals, err)
	}
}

func TestOperatorsCommandsCrossTheNetworkUnchanged(t *testing.T) {
	g := newGen(3)
	for _, election := range []messages.ElectionType{
		messages.ElectPreferred, messages.ElectUnclean,
	} {
		ids := []messages.PartitionID{g.partitionID(), g.partitionID()}
		gotType, gotIDs, err := ToElectLeaders(crossed(t, FromElectLeaders(election, ids)))
		same(t, gotType, election, err)
		same(t, gotIDs, ids, err)
	}

	reassign := []messages.Reassign{
		{ID: g.partitionID(), Replicas: []messages.NodeID{3, 1}},
		{ID: messages.PartitionID{Partition: 4}, Topic: "orders"},
		{ID: g.partitionID(), Replicas: []messages.NodeID{}}, // refused by the controller
	}
	gotReassign, err := ToReassign(crossed(t, FromReassign(reassign)))
	same(t, gotReassign, reassign, err)
}

func TestPartitionResultsKeepTheMeaningOfTheirErrors(t *testing.T) {
	p := newGen(5).partition()
	in := []messages.AlterPartitionResult{
		{Partition: p},
		{Partition: p, Err: fmt.Errorf("orders-0: %w", messages.ErrInvalidUpdateVersion)},
	}
	got, err := ToPartitionResults(crossed(t, FromPartitionResults(in)))
	same(t, got[0], in[0], err)
	same(t, got[1].Partition, p, nil)
	if !errors.Is(got[1].Err, messages.ErrInvalidUpdateVersion) {
		t.Errorf("the error came back as %v", got[1].Err)
	}
}

func TestMalformedClusterCommandsAreRefused(t *testing.T) {
	node := &NodeRecord{NodeId: -1}
	for name, f := range map[string]func() error{
		"a node without an id": func() error {
			_, err := ToRegistration(&RegisterNode{Node: node})
			return err
		},
		"a lost replica of no topic": func() error {
			_, err := ToRegistration(&RegisterNode{Node: &NodeRecord{}, Lost: []*PartitionRef{{}}})
			return err
		},
		"an update that is damaged": func() error {
			update := &MetadataDelta{Topics: []*Topic{{}}}
			_, err := ToHeartbeatReply(&HeartbeatReply{Update: update})
			return err
		},
		"a proposal without a partition": func() error {
			_, err := ToAlterPartitions(&AlterPartitions{Partitions: []*AlterPartition{{}}})
			return err
		},
		"an election of no type": func() error {
			_, _, err := ToElectLeaders(&ElectLeaders{})
			return err
		},
		"a topic id that is too short": func() error {
			_, err := ToReassign(&Reassign{Partitions: []*Reassignment{
				{Partition: &PartitionRef{TopicId: []byte{1}}}}})
			return err
		},
		"a result without a state that can be": func() error {
			state := &PartitionState{Leader: 4}
			_, err := ToPartitionResults(&PartitionResults{
				Partitions: []*PartitionResult{{Partition: state}}})
			return err
		},
		"a topic to create without an id": func() error {
			_, _, err := ToCreateTopics(&CreateTopics{Topics: []*CreateTopic{{Name: "a"}}})
			return err
		},
	} {
		if err := f(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
}

// FuzzControl feeds the decoders of everything that crosses nodes: whatever a
// peer sends, they return a value or an error.
func FuzzControl(f *testing.F) {
	g := newGen(9)
	request := &ControllerRequest{Command: &ControllerRequest_AlterPartitions{
		AlterPartitions: FromAlterPartitions(1, 2, []messages.AlterPartition{{ID: g.partitionID()}})}}
	f.Add(marshal(request))
	f.Add(marshal(&ControllerResponse{Result: &ControllerResponse_Metadata{
		Metadata: FromDelta(g.delta())}}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var q ControllerRequest
		if proto.Unmarshal(b, &q) == nil {
			_, _, _ = ToCreateTopics(q.GetCreateTopics())
			_, _ = ToDeleteTopics(q.GetDeleteTopics())
			_, _ = ToCreatePartitions(q.GetCreatePartitions())
			_, _ = ToAlterConfigs(q.GetAlterConfigs())
			_, _ = ToRegistration(q.GetRegisterNode())
			_ = ToHeartbeat(q.GetHeartbeat())
			_ = ToSuspicion(q.GetSuspicion())
			_, _ = ToAlterPartitions(q.GetAlterPartitions())
			_, _, _ = ToElectLeaders(q.GetElectLeaders())
			_, _ = ToReassign(q.GetReassign())
		}
		var r ControllerResponse
		if proto.Unmarshal(b, &r) == nil {
			_, _ = ToTopicResults(r.GetTopics())
			_ = ToErrors(r.GetErrors())
			_, _ = ToDelta(r.GetMetadata())
			_, _ = ToHeartbeatReply(r.GetHeartbeat())
			_, _ = ToPartitionResults(r.GetPartitions())
		}
		var c NodeCommand
		if proto.Unmarshal(b, &c) == nil {
			_, _ = ToDelta(c.GetMetadata())
		}
	})
}
