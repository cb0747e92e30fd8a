package control

import (
	"errors"
	"testing"
	"time"

	"github.com/troupelog/troupe/messages"
)

func TestANodeThatIsSilentIsFencedAsSoonAsThatIsCertain(t *testing.T) {
	for name, tt := range map[string]struct {
		happens     func(*simNode)
		least, most time.Duration // until it is fenced; most 0: never
	}{
		"killed": {func(n *simNode) { n.kill() }, time.Second, 2 * time.Second},
		"paused": {func(n *simNode) { n.paused = true }, time.Second, 2500 * time.Millisecond},
		"cut from the controller alone": {func(n *simNode) { n.cut = true },
			8 * time.Second, 10 * time.Second},
		"dropped by the membership": {func(n *simNode) { n.dropped = true },
			0, 300 * time.Millisecond},
		"hears no pushes": {func(n *simNode) { n.deaf = true }, 0, 0},
		"well":            {func(*simNode) {}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 3)
			topic := s.create("orders", 1, 2, 1, 3)
			s.run(time.Second)
			tt.happens(s.node(2))
			if tt.most == 0 {
				if s.run(30 * time.Second); s.fenced(2) || s.node(2).lives != 1 {
					t.Error("it was fenced")
				}
				return
			}
			took := s.until("node 2 is fenced", func() bool { return s.fenced(2) })
			if took < tt.least || took > tt.most {
				t.Errorf("it took %s", took)
			}
			s.run(10 * time.Millisecond)
			p := s.image().Partition(messages.PartitionID{Topic: topic.ID})
			if p.Leader != 1 || len(p.ISR) != 2 || s.node(1).leads() != 1 {
				t.Errorf("node 1 should lead, the partition is %+v", p)
			}
		})
	}
}

func TestASuspectedNodeIsFencedByItsProbe(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(*simNode)
		stale   bool // the suspicion is of an earlier registration
		most    time.Duration
	}{
		"killed":             {func(n *simNode) { n.kill() }, false, 20 * time.Millisecond},
		"paused":             {func(n *simNode) { n.paused = true }, false, 600 * time.Millisecond},
		"alive":              {func(*simNode) {}, false, 0},
		"an earlier life":    {func(n *simNode) { n.kill() }, true, 0},
		"paused and resumed": {pauseBriefly, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 3)
			s.run(600 * time.Millisecond)
			tt.happens(s.node(2))
			if tt.stale {
				s.tell(&Suspect{messages.Suspicion{By: 3, Suspect: 2, Epoch: 1}})
			} else {
				s.node(3).agent.Suspect(s.now, 2)
			}
			if tt.most == 0 {
				if s.run(900 * time.Millisecond); s.fenced(2) || s.node(2).lives != 1 {
					t.Error("it was fenced")
				}
				return
			}
			if took := s.until("node 2 is fenced", func() bool { return s.fenced(2) }); took > tt.most {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestAProbeOfAnEarlierLifeSaysNothingOfThisOne(t *testing.T) {
	s := newSim(t, 3)
	c, n := s.node(1).controller, s.node(2)
	earlier := n.agent.epoch
	n.boot()
	n.agent.Start(s.now)
	s.run(10 * time.Millisecond)
	s.tell(&Suspect{messages.Suspicion{By: 3, Suspect: 2, Epoch: n.agent.epoch}})
	if c.Probed(s.now, 2, earlier, Refused); s.fenced(2) {
		t.Error("it was fenced")
	}
}

// pauseBriefly lets a probe time out although the node is heard meanwhile.
func pauseBriefly(n *simNode) {
	n.paused = true
	n.after(300*time.Millisecond, n.resume)
}

func TestAZombieLeadsNothingAndComesBackAsAnotherIncarnation(t *testing.T) {
	s := newSim(t, 3)
	s.create("orders", 4, 2, 1, 3)
	zombie := s.node(2)
	epoch := zombie.agent.epoch
	zombie.paused = true
	s.run(15 * time.Second)
	if s.node(1).leads() != 4 || zombie.leads() != 4 {
		t.Fatalf("node 1 leads %d, the zombie believes in %d", s.node(1).leads(), zombie.leads())
	}
	zombie.resume()
	s.until("the zombie leads nothing", func() bool { return zombie.leads() == 0 })
	s.until("it is back", func() bool { return !s.fenced(2) })
	s.run(10 * time.Millisecond)
	if zombie.agent.epoch <= epoch || zombie.agent.life == "life1" || !zombie.agent.registered() {
		t.Errorf("it is %q of epoch %d, before %d", zombie.agent.life, zombie.agent.epoch, epoch)
	}
	for id, p := range zombie.replicas {
		if p.Leader != 1 {
			t.Errorf("partition %d: it follows %d", id.Partition, p.Leader)
		}
	}
}

func TestALapseOfTheMembershipFencesTheNodeItself(t *testing.T) {
	s := newSim(t, 2)
	s.create("orders", 1, 2, 1)
	n := s.node(2)
	s.node(1).paused = true // no controller to ask
	n.agent.Lapsed(s.now)
	if n.leads() != 0 {
		t.Error("it leads on, although others may lead by now")
	}
	s.run(time.Second)
	if n.agent.registered() {
		t.Fatal("nobody can have registered it")
	}
	s.node(1).resume()
	s.until("it is registered", func() bool { return n.agent.registered() })
}

func TestAControllerThatStoodStillFencesNobodyForIt(t *testing.T) {
	for name, lost := range map[string]bool{"heartbeats wait": false, "heartbeats are lost": true} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 3)
			s.run(time.Second)
			s.node(1).paused = true
			s.run(20 * time.Second)
			if lost {
				s.node(1).backlog = nil
			}
			s.node(1).resume()
			s.run(20 * time.Second)
			for _, n := range s.nodes {
				if s.fenced(n.id) || n.lives != 1 {
					t.Errorf("node %d was fenced; it is in its life %d", n.id, n.lives)
				}
			}
		})
	}
}

func TestARegistrationThatIsRepeatedChangesNothing(t *testing.T) {
	s := newSim(t, 2)
	before := s.image().Version
	n := *s.image().Node(2)
	a := s.tell(&Register{messages.Registration{Node: n}})
	if a.Err != nil || a.Snapshot == nil || s.image().Version != before {
		t.Errorf("version %d became %d: %v", before, s.image().Version, a.Err)
	}
	n.Incarnation, n.Directory = "another", "another"
	if a := s.tell(&Register{messages.Registration{Node: n}}); !errors.Is(a.Err,
		messages.ErrDuplicateNode) {
		t.Errorf("a second node of the same id: %v", a.Err)
	}
}

func TestANodeThatRestartsQuicklyIsTakenInAtOnce(t *testing.T) {
	s := newSim(t, 3)
	s.create("orders", 1, 2, 1, 3)
	n := s.node(2)
	before := n.agent.epoch
	n.boot()
	clear(n.replicas)
	n.agent.Start(s.now)
	s.run(10 * time.Millisecond)
	if !n.agent.registered() || n.agent.epoch <= before || len(n.replicas) != 1 {
		t.Errorf("epoch %d after %d, %d replicas", n.agent.epoch, before, len(n.replicas))
	}
	s.run(20 * time.Second)
	if s.fenced(2) {
		t.Error("it was fenced for what its earlier life did not do")
	}
}

func TestANodeLeavesOnceOthersLead(t *testing.T) {
	s := newSim(t, 3)
	s.create("orders", 3, 2, 1, 3)
	s.create("alone", 2, 2)
	n := s.node(2)
	left := false
	n.agent.Leave(s.now, s.now.Add(20*time.Second), func(moved bool) { left = moved })
	took := s.until("it may stop", func() bool { return left })
	if took > 700*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	s.run(10 * time.Millisecond)
	if s.node(1).leads() != 3 || !s.fenced(2) {
		t.Errorf("node 1 leads %d of 3, node 2 fenced: %t", s.node(1).leads(), s.fenced(2))
	}
	s.run(20 * time.Second)
	if n.lives != 1 {
		t.Error("it registered again, although it is about to stop")
	}
}

func TestANodeWaitsForAFollowerThatCanTakeOver(t *testing.T) {
	for name, catchesUp := range map[string]bool{
		"that catches up": true, "until its deadline": false,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 2)
			topic := s.create("orders", 1, 2, 1)
			id := messages.PartitionID{Topic: topic.ID}
			n := s.node(2)
			propose := func(isr ...messages.NodeID) {
				p := s.image().Partition(id)
				q := messages.AlterPartition{ID: id, LeaderEpoch: p.LeaderEpoch,
					PartitionEpoch: p.PartitionEpoch}
				for _, r := range isr {
					q.ISR = append(q.ISR, messages.ISRMember{Node: r, Epoch: s.image().Node(r).Epoch})
				}
				n.agent.Propose(s.now, q, func(r messages.AlterPartitionResult) {
					if r.Err != nil && !errors.Is(r.Err, messages.ErrNewLeaderElected) {
						t.Errorf("%v: %v", isr, r.Err)
					}
				})
				s.run(10 * time.Millisecond)
			}
			propose(2)
			answer := ""
			n.agent.Leave(s.now, s.now.Add(5*time.Second), func(moved bool) {
				answer = map[bool]string{true: "moved", false: "deadline"}[moved]
			})
			s.run(3 * time.Second)
			if answer != "" {
				t.Fatalf("it was let go although it alone has the records: %s", answer)
			}
			if catchesUp {
				propose(2, 1)
			}
			s.run(3 * time.Second)
			if want := map[bool]string{true: "moved", false: "deadline"}[catchesUp]; answer != want {
				t.Errorf("it stopped by %q, want %q", answer, want)
			}
		})
	}
}
