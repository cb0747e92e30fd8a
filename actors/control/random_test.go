package control

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/troupelog/troupe/actors/topics"
	"github.com/troupelog/troupe/messages"
)

// TestWhateverHappensNodesAgreeInTheEnd lets nodes and controllers die, pause and
// lose messages at random. At no moment do two nodes lead a partition in one
// epoch, and no node's metadata goes back; once all is well again, every node is
// in the cluster and has the metadata that the registry has.
func TestWhateverHappensNodesAgreeInTheEnd(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runRandom(t, seed) })
	}
}

// leadership is one node leading in one epoch.
type leadership struct {
	id    messages.PartitionID
	epoch messages.LeaderEpoch
}

func runRandom(t *testing.T, seed uint64) {
	s := newSim(t, 4)
	for i := range 5 {
		s.create(fmt.Sprint("topic-", i), 4, messages.NodeID(i%4+1), messages.NodeID((i+1)%4+1),
			messages.NodeID((i+2)%4+1))
	}
	s.chance = rand.New(rand.NewPCG(seed, 3))
	leaders := map[leadership]string{}
	versions := map[*Agent]messages.MetadataVersion{}
	s.stepped = func() {
		for _, n := range s.nodes {
			if n.agent.image == nil || n.dead {
				continue
			}
			if v := n.agent.image.Version; v < versions[n.agent] {
				t.Fatalf("node %d went from version %d to %d", n.id, versions[n.agent], v)
			}
			versions[n.agent] = n.agent.image.Version
			for id, p := range n.replicas {
				if p.Leader != n.id {
					continue
				}
				l, who := leadership{id, p.LeaderEpoch}, fmt.Sprint("node ", n.id)
				if leaders[l] == "" {
					leaders[l] = who
				}
				if leaders[l] != who {
					t.Fatalf("%s and %s lead partition %d in epoch %d", leaders[l], who, id.Partition,
						p.LeaderEpoch)
				}
			}
		}
	}
	for range 60 {
		s.disturb(s.node(messages.NodeID(1 + s.chance.IntN(4))))
		s.run(time.Duration(s.chance.IntN(1500)) * time.Millisecond)
		if c := s.node(s.active).controller; c.Active() {
			if err := topics.Check(s.image()); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.heal()
	s.chance = nil
	s.until("all nodes are in the cluster and know all", func() bool {
		c := s.node(s.active).controller
		for _, n := range s.nodes {
			if !c.Active() || !n.agent.registered() || s.fenced(n.id) ||
				n.agent.image.Version != s.image().Version || n.agent.epoch != s.image().Node(n.id).Epoch {
				return false
			}
		}
		return true
	})
	s.run(time.Minute)
	before := s.image()
	s.elect(2) // whose controller reads the registry
	for _, made := range before.Topics() {
		for i, p := range made.Partitions {
			got := s.image().Partition(messages.PartitionID{Topic: made.ID, Partition: int32(i)})
			if got.LeaderEpoch != p.LeaderEpoch || got.Leader != p.Leader || p.Leader == messages.NoNode {
				t.Errorf("%s-%d: in the registry %+v, in memory %+v", made.Name, i, got, p)
			}
		}
	}
}

// disturb does something to a node, or ends it.
func (s *sim) disturb(n *simNode) {
	switch s.chance.IntN(9) {
	case 0:
		n.kill()
	case 1:
		n.paused = !n.dead
	case 2:
		n.cut = true
	case 3:
		n.deaf = true
	case 4:
		if !n.dead {
			s.elect(n.id)
		}
	case 5:
		n.agent.Lapsed(s.now)
	case 6:
		if live := s.node(s.active); !live.dead && live.controller.Active() {
			s.tell(drain(n.id, s.chance.IntN(3) == 0))
		}
	default:
		s.mend(n)
	}
}

// mend ends what disturb did.
func (s *sim) mend(n *simNode) {
	n.cut, n.deaf = false, false
	switch {
	case n.dead:
		n.restart()
	case n.paused:
		n.resume()
	}
}

// heal mends everything, and has a controller.
func (s *sim) heal() {
	for _, n := range s.nodes {
		s.mend(n)
	}
	s.elect(1)
	for _, n := range s.nodes {
		s.tell(drain(n.id, false))
	}
}
