package topics

import (
	"errors"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestReassign(t *testing.T) {
	inSync := partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)
	moving := func(leader messages.NodeID, isr, elr nodeIDs) scene { // from 1 2 to 3 4
		p := partitionOf(leader, nodeIDs{3, 4, 1, 2}, isr, elr)
		p.Adding, p.Removing = nodeIDs{3, 4}, nodeIDs{1, 2}
		return scene{configs: minISR(2), part: p}
	}
	for _, tt := range []struct {
		name  string
		given scene
		to    nodeIDs // nil: cancel
		want  string
		err   error
	}{
		{"to other nodes: they are added first", scene{part: inSync}, nodeIDs{4, 2, 5},
			"1@5.8 r[4 2 5 1 3] i[1 2 3] +[4 5] -[1 3]", nil},
		{"to the same nodes", scene{part: inSync}, nodeIDs{1, 2, 3}, "1@5.7 r[1 2 3] i[1 2 3]", nil},
		{"to another order: done at once, and the leader leads on", scene{part: inSync},
			nodeIDs{3, 1, 2}, "1@5.8 r[3 1 2] i[1 2 3]", nil},
		{"to fewer: done at once, under a new leader epoch", scene{part: inSync},
			nodeIDs{1, 3}, "1@6.8 r[1 3] i[1 3]", nil},
		{"to fewer without the leader: another leads", scene{part: inSync},
			nodeIDs{2, 3}, "2@6.8 r[2 3] i[2 3]", nil},
		{"to fewer of which none is in sync: that waits",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nil)}, nodeIDs{2, 3},
			"1@5.8 r[2 3 1] i[1] -[1]", nil},
		{"to more", scene{part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}, nodeIDs{1, 2},
			"1@5.8 r[1 2] i[1] +[2]", nil},
		{"to a dead node: that waits for it", scene{fenced: nodeIDs{5}, part: inSync}, nodeIDs{1, 2, 5},
			"1@5.8 r[1 2 5 3] i[1 2 3] +[5] -[3]", nil},
		{"another target replaces the first; what it added and is not wanted goes",
			moving(1, nodeIDs{1, 2, 3}, nil), nodeIDs{4, 5},
			"1@6.8 r[4 5 1 2] i[1 2] +[4 5] -[1 2]", nil},
		{"another target while only an added one is in sync: it stays until that is done",
			moving(3, nodeIDs{3}, nil), nodeIDs{1, 5},
			"3@6.8 r[1 5 3 2] i[3] +[5] -[3 2]", nil},
		{"back to where it was: done at once",
			moving(1, nodeIDs{1, 2}, nil), nodeIDs{1, 2}, "1@6.8 r[1 2] i[1 2]", nil},
		{"cancelled", moving(1, nodeIDs{1, 2, 3}, nil), nil, "1@6.8 r[1 2] i[1 2]", nil},
		{"cancelled while an added one leads", moving(3, nodeIDs{3, 2}, nil), nil,
			"2@6.8 r[1 2] i[2]", nil},
		{"cancelled while only an eligible one remains", moving(3, nodeIDs{3}, nodeIDs{2}), nil,
			"2@6.8 r[1 2] i[2]", nil},
		{"cancelled while only an added one has all", moving(3, nodeIDs{3}, nil), nil,
			"3@5.7 r[3 4 1 2] i[3] +[3 4] -[1 2]", messages.ErrInvalidReplicaAssignment},
		{"nothing to cancel", scene{part: inSync}, nil,
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrNoReassignmentInProgress},
		{"to nobody", scene{part: inSync}, nodeIDs{},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidReplicaAssignment},
		{"to one twice", scene{part: inSync}, nodeIDs{1, 1},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidReplicaAssignment},
		{"to a stranger", scene{part: inSync}, nodeIDs{1, 77},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidReplicaAssignment},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.given.play(t, func(p *Plan) error {
				return p.Reassign(messages.Reassign{Topic: "t", Replicas: tt.to})
			})
			outcome(t, got, err, tt.want, tt.err)
		})
	}
}

func TestAReassignmentThatNobodyCouldNoticeIsDoneByAnElection(t *testing.T) {
	part := partitionOf(none, nodeIDs{2, 1}, nil, nodeIDs{2})
	part.Removing = nodeIDs{1}
	got, err := scene{fenced: nodeIDs{2}, part: part}.play(t, func(p *Plan) error {
		return p.Register(messages.Registration{Node: messages.Node{
			ID: 2, Host: "h", Port: 1, Incarnation: "second life", Directory: oldDisk,
		}}, 101)
	})
	outcome(t, got, err, "2@6.8 r[2] i[2]", nil)
}

func TestReassigningWhatIsNotThere(t *testing.T) {
	p := scene{part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}.state().Plan()
	for _, r := range []messages.Reassign{
		{Topic: "nope"}, {Topic: "t", ID: messages.PartitionID{Partition: 1}},
		{ID: messages.PartitionID{Topic: messages.TopicID{9}}},
	} {
		if err := p.Reassign(r); !errors.Is(err, messages.ErrUnknownTopicOrPartition) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestNewPartitionsGoToUsableNodes(t *testing.T) {
	s := scene{fenced: nodeIDs{1}, leaving: nodeIDs{2}, draining: nodeIDs{3},
		part: partitionOf(4, nodeIDs{4, 5}, nodeIDs{4, 5}, nil)}.state()
	p := s.Plan()
	id := messages.TopicID{2}
	r := p.CreateTopic(plain("auto", 6, 2), id)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	for i, part := range p.topics[id].Partitions {
		if len(without(part.Replicas, 4, 5)) > 0 {
			t.Errorf("partition %d is on %v", i, part.Replicas)
		}
	}
	r = p.CreateTopic(plain("wide", 1, 3), messages.TopicID{3})
	if !errors.Is(r.Err, messages.ErrInvalidReplicationFactor) {
		t.Errorf("three replicas on two usable nodes: %v", r.Err)
	}
	c := manual(-1, map[int32][]messages.NodeID{0: {1, 2, 4}})
	c.Name = "by hand"
	if r = p.CreateTopic(c, messages.TopicID{4}); r.Err == nil {
		t.Error("a name with a space was taken")
	}
	c.Name = "manual"
	if r = p.CreateTopic(c, messages.TopicID{4}); r.Err != nil {
		t.Fatal(r.Err)
	}
	got := p.topics[messages.TopicID{4}].Partitions[0]
	if text(got) != "4@0.0 r[1 2 4] i[4]" {
		t.Errorf("by hand: %s", text(got))
	}
	c.Name, c.Assignment = "dead", map[int32][]messages.NodeID{0: {1, 2}}
	r = p.CreateTopic(c, messages.TopicID{5})
	if !errors.Is(r.Err, messages.ErrInvalidReplicaAssignment) {
		t.Errorf("on fenced and leaving nodes only: %v", r.Err)
	}
}

func TestATopicThatIsMovedGrowsByItsTargetFactor(t *testing.T) {
	part := partitionOf(1, nodeIDs{3, 4, 1, 2}, nodeIDs{1, 2}, nil)
	part.Adding, part.Removing = nodeIDs{3, 4}, nodeIDs{1, 2}
	p := scene{part: part}.state().Plan()
	r := p.CreatePartitions(messages.CreatePartitions{Topic: "t", Count: 2})
	fresh := p.topics[sceneTopic].Partitions[1]
	if r.Err != nil || r.ReplicationFactor != 2 || len(fresh.Replicas) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestATopicWithDeadNodesCanBeDeleted(t *testing.T) {
	s := scene{fenced: nodeIDs{1, 2}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})}.state()
	p := s.Plan()
	if r := p.DeleteTopic(messages.TopicRef{ID: sceneTopic}); r.Err != nil {
		t.Fatal(r.Err)
	}
	p.Fence(3)
	p.Balance(5) // what is deleted is not looked at
	s.Adopt(p, p.Delta(101, 1, 0, "c"))
	if s.Image().TopicCount() != 0 {
		t.Error("it is still there")
	}
}
