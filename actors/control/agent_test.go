package control

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

func TestReplicasComeAndGoWithTheAssignment(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	orders := s.create("orders", 1, 1, 2, 3)
	other := s.create("other", 2, 3)
	if len(n.replicas) != 3 {
		t.Fatalf("it runs %d replicas of 3", len(n.replicas))
	}
	s.tell(&DeleteTopics{Topics: []messages.TopicRef{{Name: "other"}}})
	s.run(10 * time.Millisecond)
	if len(n.replicas) != 1 || len(n.deleted) != 2 || n.deleted[0].Topic != other.ID {
		t.Errorf("%d replicas left, deleted %v", len(n.replicas), n.deleted)
	}

	id := messages.PartitionID{Topic: orders.ID}
	a := s.tell(&Reassign{Reqs: []messages.Reassign{{ID: id, Replicas: []messages.NodeID{1, 2}}}})
	if a.Errs[0] != nil {
		t.Fatal(a.Errs)
	}
	s.run(10 * time.Millisecond)
	if len(n.replicas) != 0 || !slices.Contains(n.deleted, id) {
		t.Errorf("the replica that was taken away still runs, deleted %v", n.deleted)
	}
}

func TestMetadataThatIsMerelyAbsentDeletesNothing(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	topic := s.create("orders", 1, 3)
	n.deaf, n.cut = true, true
	s.tell(&DeleteTopics{Topics: []messages.TopicRef{{Name: "orders"}}})
	for range historyDeltas {
		s.tell(&AllocateProducerIDs{})
	}
	n.deaf, n.cut = false, false
	s.until("it has everything", func() bool { return n.applied == s.image().Version })
	if len(n.deleted) != 0 || !slices.Contains(n.retired, messages.PartitionID{Topic: topic.ID}) {
		t.Errorf("deleted %v, retired %v", n.deleted, n.retired)
	}
}

func TestAVersionIsInEffectOnceItsReplicasAreOpen(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	n.slowOpen = true
	topic := s.create("orders", 1, 3)
	before := n.applied
	s.run(time.Second)
	if n.applied != before {
		t.Error("it counts although its replica does not run")
	}
	n.agent.Opened(messages.PartitionID{Topic: topic.ID})
	if n.applied != s.image().Version {
		t.Errorf("version %d of %d is in effect", n.applied, s.image().Version)
	}
	s.create("slow", 1, 3)
	if took := s.until("patience ends", func() bool { return n.applied == s.image().Version }); took <
		stepPatience-100*time.Millisecond {
		t.Errorf("it waited for %s", took)
	}
}

// outcomes collects the answers to proposals.
type outcomes []error

func (o *outcomes) add(r messages.AlterPartitionResult) { *o = append(*o, r.Err) }

func TestProposalsTravelTogetherAndTheNewestOfAPartitionCounts(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	topic := s.create("orders", 3, 3, 1, 2)
	proposal := func(partition int32, isr ...messages.NodeID) messages.AlterPartition {
		id := messages.PartitionID{Topic: topic.ID, Partition: partition}
		p := s.image().Partition(id)
		a := messages.AlterPartition{ID: id, LeaderEpoch: p.LeaderEpoch,
			PartitionEpoch: p.PartitionEpoch}
		for _, r := range isr {
			a.ISR = append(a.ISR, messages.ISRMember{Node: r, Epoch: s.image().Node(r).Epoch})
		}
		return a
	}
	s.commits = 0
	var first, second, third, overtaken outcomes
	n.agent.Propose(s.now, proposal(0, 3), first.add)
	n.agent.Propose(s.now, proposal(1, 3), overtaken.add) // waits for the first
	n.agent.Propose(s.now, proposal(1, 3, 2), second.add)
	n.agent.Propose(s.now, proposal(2, 3), third.add)
	s.run(20 * time.Millisecond)
	for name, o := range map[string]outcomes{"first": first, "second": second, "third": third} {
		if len(o) != 1 || o[0] != nil {
			t.Errorf("%s: %v", name, o)
		}
	}
	if len(overtaken) != 1 || !errors.Is(overtaken[0], messages.ErrInvalidUpdateVersion) {
		t.Errorf("the one overtaken: %v", overtaken)
	}
	if s.commits != 2 {
		t.Errorf("%d transactions for one proposal and then the others", s.commits)
	}
	if isr := s.image().TopicByID(topic.ID).Partitions[1].ISR; len(isr) != 2 {
		t.Errorf("the in-sync set is %v", isr)
	}

	n.cut = true
	var lost, fenced, late outcomes
	n.agent.Propose(s.now, proposal(0, 3, 1), lost.add)
	s.run(5 * time.Second)
	if len(lost) != 1 || !errors.Is(lost[0], messages.ErrUnavailable) {
		t.Errorf("without a controller: %v", lost)
	}
	n.agent.Propose(s.now, proposal(0, 3, 1), fenced.add)
	n.agent.Propose(s.now, proposal(1, 3, 1), fenced.add)
	n.agent.Lapsed(s.now)
	n.agent.Propose(s.now, proposal(2, 3, 1), late.add)
	for _, err := range append(fenced, late...) {
		if !errors.Is(err, messages.ErrStaleNodeEpoch) {
			t.Errorf("on a fenced node: %v", err)
		}
	}
	if len(fenced) != 2 || len(late) != 1 {
		t.Errorf("answers: %v, %v", fenced, late)
	}
}

func TestAProposalUnderAnOldRegistrationIsRefusedAndFencesTheNode(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	topic := s.create("orders", 1, 3, 1, 2)
	epoch := n.agent.epoch
	n.deaf = true
	s.node(1).controller.fence(s.now, []messages.NodeID{3}, "the test says so")
	var o outcomes
	n.agent.Propose(s.now, messages.AlterPartition{ID: messages.PartitionID{Topic: topic.ID}}, o.add)
	s.run(20 * time.Millisecond)
	if len(o) != 1 || !errors.Is(o[0], messages.ErrStaleNodeEpoch) {
		t.Errorf("answers: %v", o)
	}
	if !n.agent.registered() || n.agent.epoch <= epoch || n.lives != 2 {
		t.Errorf("it is in life %d, registered: %t", n.lives, n.agent.registered())
	}
}

func TestWithoutAControllerANodeGoesOnAsItIs(t *testing.T) {
	s := newSim(t, 3)
	s.create("orders", 4, 3, 1, 2)
	s.node(1).kill()
	s.run(5 * time.Minute)
	if n := s.node(3); n.leads() != 4 || n.lives != 1 {
		t.Errorf("it leads %d of 4, in life %d", n.leads(), n.lives)
	}
}

func TestASuspectIsReportedOnceInAWhile(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	asked := n.agent.asked
	for range 100 {
		n.agent.Suspect(s.now, 2)
		n.agent.Suspect(s.now, 3) // itself
		n.agent.Suspect(s.now, 9) // nobody
	}
	if n.agent.asked != asked+1 {
		t.Errorf("it asked %d times", n.agent.asked-asked)
	}
}

// A replica may find out long after the node was registered that records which were
// durable are gone.
func TestLostRecordsAreToldByAnotherRegistration(t *testing.T) {
	for _, c := range []struct {
		name        string
		registering bool // when the loss is found, a registration is under way
	}{
		{"of a registered node", false},
		{"while the node registers", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 3)
			topic := s.create("orders", 1, 1, 2, 3)
			n, id := s.node(3), messages.PartitionID{Topic: topic.ID}
			if c.registering {
				n.agent.Lapsed(s.now)
			}
			n.lost = []messages.PartitionID{id}
			n.agent.Lapsed(s.now)
			s.run(time.Second)
			if in := s.image().Node(3).Incarnation; n.told != in || !n.agent.registered() {
				t.Errorf("registered as %q, %q said what is lost", in, n.told)
			}
			if len(n.lost) > 0 {
				t.Errorf("the controller does not know that it lost %v", n.lost)
			}
		})
	}
}
