package control

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// commands has one of every type.
func commands() []Command {
	id := messages.TopicID{1, 2, 3}
	partition := messages.PartitionID{Topic: id, Partition: 4}
	return []Command{
		&CreateTopics{Topics: []messages.CreateTopic{{Name: "a", Partitions: -1,
			ReplicationFactor: 3}}, IDs: []messages.TopicID{id}, ValidateOnly: true},
		&DeleteTopics{Topics: []messages.TopicRef{{Name: "a"}, {ID: id}}},
		&CreatePartitions{Topics: []messages.CreatePartitions{{Topic: "a", Count: 7}},
			ValidateOnly: true},
		&AlterConfigs{Reqs: []messages.AlterConfigs{{
			Resource: messages.ConfigResource{Type: messages.ConfigTopic, Name: "a"},
			Changes:  []messages.ConfigChange{{Key: "k", Op: messages.ConfigSet, Value: "v"}}}},
			ValidateOnly: true},
		&AllocateProducerIDs{Node: 3},
		&Register{messages.Registration{Node: messages.Node{ID: 1, Host: "h", Port: 9,
			Incarnation: "i"}, Unclean: true, Lost: []messages.PartitionID{partition}}},
		&Heartbeat{messages.Heartbeat{Node: 1, Epoch: 2, Version: 3, Incarnation: "i", Leave: true}},
		&Suspect{messages.Suspicion{By: 1, Suspect: 2, Epoch: messages.NoNodeEpoch}},
		&AlterPartitions{Node: 1, Epoch: 2, Proposals: []messages.AlterPartition{{ID: partition,
			LeaderEpoch: 3, PartitionEpoch: 4, ISR: []messages.ISRMember{{Node: 1, Epoch: 2}}}}},
		&ElectLeaders{Type: messages.ElectUnclean, Partitions: []messages.PartitionID{partition}},
		&Reassign{Reqs: []messages.Reassign{{ID: partition, Replicas: []messages.NodeID{1}},
			{Topic: "a"}}},
		&Unregister{Node: 3},
	}
}

func TestEveryCommandCrossesTheNetworkUnchanged(t *testing.T) {
	for _, c := range commands() {
		w := crossed(t, EncodeCommand(7, c, 90*time.Second))
		if w.GetRequestId() != 7 || w.GetTimeoutMs() != 90_000 {
			t.Errorf("%T: id %d, timeout %d", c, w.GetRequestId(), w.GetTimeoutMs())
		}
		got, err := DecodeCommand(w)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%T: %v\ngot  %+v\nwant %+v", c, err, got, c)
		}
	}
}

func TestEveryAnswerCrossesTheNetworkUnchanged(t *testing.T) {
	none := messages.NoProducerID
	delta := &messages.Delta{From: 1, To: 2, Controller: 3, ClusterID: "c"}
	for name, a := range map[string]*Answer{
		"topics": {Version: 7, FirstID: none, Topics: []messages.TopicResult{
			{Name: "a", Partitions: 3, ReplicationFactor: 2}}},
		"errors":       {FirstID: none, Errs: []error{nil, nil}},
		"producer ids": {FirstID: 0},
		"snapshot":     {FirstID: none, Snapshot: delta},
		"heartbeat": {FirstID: none,
			Heartbeat: &messages.HeartbeatReply{MayStop: true, Update: delta}},
		"partitions": {FirstID: none, Partitions: []messages.AlterPartitionResult{
			{Partition: messages.Partition{Leader: 1, Replicas: []messages.NodeID{1}}}}},
		"nothing": {Version: 7, FirstID: none},
	} {
		w := crossed(t, EncodeAnswer(7, a))
		got := DecodeAnswer(w)
		//nolint:govet // deepequalerrors: these answers have no errors in them
		if w.GetRequestId() != 7 || !reflect.DeepEqual(got, a) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, a)
		}
	}
	failed := &Answer{Err: fmt.Errorf("node 3: %w", messages.ErrStaleNodeEpoch)}
	if got := DecodeAnswer(crossed(t, EncodeAnswer(7, failed))); !errors.Is(got.Err,
		messages.ErrStaleNodeEpoch) {
		t.Errorf("the error came back as %v", got.Err)
	}
}

func TestWhatANewerVersionSendsIsRefusedPolitely(t *testing.T) {
	if _, err := DecodeCommand(&wire.ControllerRequest{}); !errors.Is(err, wire.ErrUnsupported) {
		t.Errorf("an unknown command: %v", err)
	}
	damaged := &wire.ControllerResponse{Result: &wire.ControllerResponse_Metadata{
		Metadata: &wire.MetadataDelta{Topics: []*wire.Topic{{}}}}}
	if a := DecodeAnswer(damaged); !errors.Is(a.Err, wire.ErrMalformed) {
		t.Errorf("a damaged answer: %+v", a)
	}
}

// FuzzEnvelopes feeds what a peer may send to the decoders and the controller:
// they answer, whatever it is.
func FuzzEnvelopes(f *testing.F) {
	for i, c := range commands() {
		b, err := proto.Marshal(EncodeCommand(uint64(i), c, time.Second))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var q wire.ControllerRequest
		if proto.Unmarshal(b, &q) == nil {
			if c, err := DecodeCommand(&q); err == nil {
				s := newSim(t, 2)
				if a := s.tell(c); a == nil {
					t.Error("no answer")
				} else {
					EncodeAnswer(1, a)
				}
			}
		}
		var r wire.ControllerResponse
		if proto.Unmarshal(b, &r) == nil {
			DecodeAnswer(&r)
		}
	})
}
