package control

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/wire"
)

// elect makes another node the controller, as the lock does.
func (s *sim) elect(id messages.NodeID) {
	s.store.Expire()
	s.active = id
	s.node(id).controller.Load(s.now)
}

func TestANewControllerIsLearnedOfAndFindsTheDead(t *testing.T) {
	s := newSim(t, 3)
	s.create("orders", 2, 1, 2, 3)
	s.run(time.Second)
	s.node(1).kill()
	s.run(100 * time.Millisecond) // beats of others are in flight to nobody
	s.elect(2)
	if took := s.until("node 1 is fenced", func() bool { return s.fenced(1) }); took > 20*delay {
		t.Errorf("it took %s", took)
	}
	s.until("all know the controller", func() bool {
		return s.node(2).agent.image.Controller == 2 && s.node(3).agent.image.Controller == 2
	})
	s.run(10 * time.Millisecond)
	if s.node(2).leads() != 2 || s.node(2).lives != 1 || s.node(3).lives != 1 {
		t.Errorf("node 2 leads %d of 2; lives %d and %d",
			s.node(2).leads(), s.node(2).lives, s.node(3).lives)
	}
}

func TestANewControllerIsLearnedOfEvenIfNothingElseIsNew(t *testing.T) {
	s := newSim(t, 3)
	version := s.image().Version
	s.elect(3)
	s.run(2 * time.Second)
	for _, n := range s.nodes {
		if im := n.agent.image; im.Controller != 3 || im.Version != version || n.lives != 1 {
			t.Errorf("node %d: controller %d, version %d after %d, life %d",
				n.id, im.Controller, im.Version, version, n.lives)
		}
	}
}

func TestOfTwoControllersTheStaleOneIsRefused(t *testing.T) {
	s := newSim(t, 3)
	stale := s.node(1).controller
	s.elect(2)
	if !stale.Active() {
		t.Fatal("it cannot know yet")
	}
	for name, c := range map[string]Command{
		"a topic": &CreateTopics{IDs: []messages.TopicID{{7}}, Topics: []messages.CreateTopic{
			{Name: "x", Partitions: 1, ReplicationFactor: 1}}},
		"a command after it": drain(3, true),
	} {
		a := stale.Handle(s.now, c)
		if !errors.Is(a.Err, messages.ErrFencedController) &&
			!errors.Is(a.Err, messages.ErrNotController) {
			t.Errorf("%s: %v", name, a.Err)
		}
	}
	if stale.Active() {
		t.Error("it did not step down")
	}
	s.run(10 * time.Second)
	if stale.Active() || !s.node(2).controller.Active() {
		t.Error("the stale controller took the lock from the other one")
	}
	if n := s.image().Node(3); n.Draining || s.image().Topic("x") != nil {
		t.Errorf("what it decided is there: %+v", n)
	}
}

func TestAStaleControllerStepsDownWhenANodeKnowsMore(t *testing.T) {
	s := newSim(t, 3)
	stale := s.node(1).controller
	s.elect(2)
	s.tell(drain(3, true))
	s.run(delay)
	n := s.image().Node(3)
	a := stale.Handle(s.now, &Heartbeat{messages.Heartbeat{
		Node: 3, Epoch: n.Epoch, Version: s.image().Version}})
	if !errors.Is(a.Err, messages.ErrFencedController) || stale.Active() {
		t.Errorf("active %t: %v", stale.Active(), a.Err)
	}
}

func TestACommandThatIsSentAgainFindsWhatItDid(t *testing.T) {
	s := newSim(t, 3)
	create := &CreateTopics{IDs: []messages.TopicID{{7}}, Topics: []messages.CreateTopic{
		{Name: "x", Partitions: 2, ReplicationFactor: 1}}}
	topic := messages.TopicRef{Name: "x"}
	for _, c := range []Command{
		create,
		&CreatePartitions{Topics: []messages.CreatePartitions{{Topic: "x", Count: 5}}},
		&ElectLeaders{Type: messages.ElectPreferred,
			Partitions: []messages.PartitionID{{Topic: messages.TopicID{7}}}},
		&DeleteTopics{Topics: []messages.TopicRef{topic}},
	} {
		_, electing := c.(*ElectLeaders) // the preferred one leads from the start
		if a := s.tell(c); a.Err != nil || !electing && a.Topics[0].Err != nil {
			t.Fatalf("%T: %v, %+v", c, a.Err, a.Topics)
		}
		version := s.image().Version
		a := s.tell(c) // the first answer was lost
		Settle(c, a)
		errs := slices.Clone(a.Errs)
		for _, r := range a.Topics {
			errs = append(errs, r.Err)
		}
		if err := errors.Join(errs...); err != nil || a.Err != nil || s.image().Version != version {
			t.Errorf("%T sent again: %v, %v", c, a.Err, err)
		}
	}
	other := *create
	other.IDs = []messages.TopicID{{8}}
	s.tell(create)
	a := s.tell(&other)
	if Settle(&other, a); !errors.Is(a.Topics[0].Err, messages.ErrTopicAlreadyExists) {
		t.Errorf("a topic that somebody else made: %+v", a.Topics)
	}
}

func TestANodeCatchesUpWithMetadataItMissed(t *testing.T) {
	for name, tt := range map[string]struct {
		changes  int
		snapshot bool
	}{
		"one delta": {1, false}, "some": {20, false}, "more than are kept": {historyDeltas + 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 3)
			n := s.node(3)
			n.deaf = true
			for i := range tt.changes {
				s.tell(&AlterConfigs{Reqs: []messages.AlterConfigs{{
					Resource: messages.ConfigResource{Type: messages.ConfigBroker},
					Changes: []messages.ConfigChange{
						{Key: "num.partitions", Value: fmt.Sprint(i + 1)}},
				}}})
			}
			strays := n.strays
			took := s.until("it has everything", func() bool { return n.applied == s.image().Version })
			if took > 600*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			if got := n.strays > strays; got != tt.snapshot {
				t.Errorf("it got a snapshot: %t, want %t", got, tt.snapshot)
			}
			if v := n.agent.image.NodeConfigs[messages.NoNode]["num.partitions"]; v !=
				fmt.Sprint(tt.changes) {
				t.Errorf("the setting is %s after %d changes", v, tt.changes)
			}
		})
	}
}

func TestAGapIsFilledAtOnce(t *testing.T) {
	s := newSim(t, 3)
	n := s.node(3)
	n.deaf = true
	s.create("lost", 1, 3)
	n.deaf = false
	s.create("seen", 1, 3)
	if n.applied != s.image().Version || len(n.replicas) != 2 {
		t.Errorf("it has version %d of %d and %d replicas", n.applied, s.image().Version,
			len(n.replicas))
	}
}

func TestMergedDeltasEqualTheirSteps(t *testing.T) {
	s := newSim(t, 3)
	before := s.image()
	s.create("kept", 1, 1)
	s.create("gone", 1, 2)
	s.tell(&DeleteTopics{Topics: []messages.TopicRef{{Name: "gone"}}})
	s.tell(&CreateTopics{IDs: []messages.TopicID{{9}}, Topics: []messages.CreateTopic{
		{Name: "gone", Partitions: 3, ReplicationFactor: 1}}})
	s.tell(drain(2, true))
	got, ok := before.Apply(s.node(1).controller.past.since(before.Version))
	if !ok {
		t.Fatal("the merged delta does not follow")
	}
	want := s.image()
	if got.Version != want.Version || got.TopicCount() != want.TopicCount() ||
		len(got.Topic("gone").Partitions) != 3 || got.Topic("kept") == nil ||
		!got.Node(2).Draining {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestTheFailoverOfAThousandPartitionsIsOnePlan(t *testing.T) {
	s := newSim(t, 3)
	for i := range 100 {
		s.create(fmt.Sprintf("topic-%d", i), 10, 2, 1, 3)
	}
	s.run(time.Second)
	s.pushes, s.commits = 0, 0
	s.node(2).kill()
	s.tell(&Suspect{messages.Suspicion{Suspect: 2, Epoch: s.image().Node(2).Epoch}})
	s.run(20 * time.Millisecond)
	if s.node(1).leads() != 1000 {
		t.Errorf("node 1 leads %d partitions", s.node(1).leads())
	}
	if s.pushes != 3 || s.commits != 2 {
		t.Errorf("%d pushes to 3 nodes, %d transactions for 101 records", s.pushes, s.commits)
	}
}

func TestTheRecordsOfOneTopicStayInOneTransaction(t *testing.T) {
	group := func(n, size int) []wire.Entry {
		g := make([]wire.Entry, n)
		for i := range g {
			g[i].Value = make([]byte, size)
		}
		return g
	}
	for name, tt := range map[string]struct {
		groups [][]wire.Entry
		want   []int
	}{
		"all fit":        {[][]wire.Entry{group(30, 1), group(30, 1)}, []int{60}},
		"one too many":   {[][]wire.Entry{group(30, 1), group(31, 1)}, []int{30, 31}},
		"too many bytes": {[][]wire.Entry{group(1, 200<<10), group(1, 100<<10)}, []int{1, 1}},
		"nothing":        {nil, nil},
	} {
		var got []int
		for _, b := range batches(tt.groups) {
			got = append(got, len(b))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestAClusterBalancesItselfAfterAChange(t *testing.T) {
	s := newSim(t, 3)
	topic := s.create("orders", 1, 1, 2, 3)
	id := messages.PartitionID{Topic: topic.ID}
	s.settings["auto.leader.rebalance.enable"] = "false"
	prefer := &Reassign{Reqs: []messages.Reassign{{ID: id, Replicas: []messages.NodeID{2, 1, 3}}}}
	if a := s.tell(prefer); a.Errs[0] != nil {
		t.Fatal(a.Errs)
	}
	s.run(time.Hour)
	if p := s.image().Partition(id); p.Leader != 1 || p.Replicas[0] != 2 || p.Reassigning() {
		t.Errorf("%+v although balancing is switched off", p)
	}
	s.settings["auto.leader.rebalance.enable"] = "true"
	s.run(301 * time.Second)
	if s.image().Partition(id).Leader != 2 {
		t.Error("it was not given to the preferred replica")
	}
}

func TestADrainedNodeIsEmptiedWhateverTheSettings(t *testing.T) {
	s := newSim(t, 4)
	s.settings["auto.leader.rebalance.enable"] = "false"
	topic := s.create("orders", 4, 1, 2, 3)
	if a := s.tell(drain(1, true)); a.Err != nil {
		t.Fatal(a.Err)
	}
	s.run(10 * time.Second)
	moving := 0
	for _, p := range s.image().TopicByID(topic.ID).Partitions {
		if p.Reassigning() && slices.Contains(p.Adding, 4) {
			moving++
		}
	}
	if moving != 4 {
		t.Errorf("%d of 4 partitions move to node 4", moving)
	}
	if a := s.tell(&Unregister{Node: 1}); !errors.Is(a.Err, messages.ErrInvalidRequest) {
		t.Errorf("a live node cannot be unregistered: %v", a.Err)
	}
}

func TestANodeThatIsUnregisteredLeavesNoRecord(t *testing.T) {
	s := newSim(t, 3)
	s.node(3).kill()
	s.until("node 3 is fenced", func() bool { return s.fenced(3) })
	if a := s.tell(&Unregister{Node: 3}); a.Err != nil {
		t.Fatal(a.Err)
	}
	s.elect(2)
	if n := s.image().Node(3); n != nil {
		t.Errorf("another controller finds %+v", n)
	}
}

// A plan of many records is several transactions, and a controller may die between
// them.
func TestANewControllerHealsWhatTheLastOneStoredInPart(t *testing.T) {
	s := newSim(t, 3)
	topic := s.create("orders", 1, 1, 2, 3)
	s.node(1).kill()
	fenced := *s.image().Node(1)
	fenced.Fenced = true
	s.store.Expire()
	store := s.store.Connect()
	lease, err := store.Campaign(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	// Of the registration of node 1 only the partitions it leads were stored.
	record := ops([]wire.Entry{wire.NodeEntry(fenced)})
	if _, err = store.Commit(t.Context(), lease, record); err != nil {
		t.Fatal(err)
	}
	s.elect(2)
	if err := topics.Check(s.image()); err != nil {
		t.Error(err)
	}
	if p := s.image().Partition(messages.PartitionID{Topic: topic.ID}); p.Leader != 2 {
		t.Errorf("%+v", p)
	}
}
