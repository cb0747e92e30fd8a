package topics

import (
	"errors"
	"reflect"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestFencing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given scene
		fence messages.NodeID
		want  string
	}{
		{"a follower leaves the in-sync set",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)}, 2,
			"1@5.8 r[1 2 3] i[1 3]"},
		{"a leader is replaced by the next in-sync replica in order",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{3, 1}, nil)}, 1,
			"3@6.8 r[1 2 3] i[3]"},
		{"below min.insync.replicas it stays eligible",
			scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2}, nil)}, 1,
			"2@6.8 r[1 2 3] i[2] e[1]"},
		{"the last one leaves the partition leaderless and stays eligible",
			scene{configs: minISR(2), fenced: nodeIDs{2, 3},
				part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nodeIDs{2})}, 1,
			"-1@6.8 r[1 2 3] i[] e[1 2]"},
		{"an eligible replica leads when the last in-sync one is gone",
			scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nodeIDs{3})}, 1,
			"3@6.8 r[1 2 3] i[3] e[1]"},
		{"no unclean election unless the topic allows it",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nil)}, 1,
			"-1@6.8 r[1 2 3] i[] e[1]"},
		{"an unclean election if the topic allows it: nobody else is eligible any more",
			scene{configs: unclean(minISR(2)), fenced: nodeIDs{2},
				part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nil)}, 1,
			"3@6.8 r[1 2 3] i[3]"},
		{"a leaving replica leads only when nobody else is in sync",
			scene{leaving: nodeIDs{2}, part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)}, 1,
			"3@6.8 r[1 2 3] i[2 3]"},
		{"a leaving replica leads rather than nobody",
			scene{leaving: nodeIDs{2}, part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2}, nil)}, 1,
			"2@6.8 r[1 2 3] i[2]"},
		{"a replica that was out of sync changes nothing",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 3}, nil)}, 2,
			"1@5.7 r[1 2 3] i[1 3]"},
		{"more replicas required than there are: all of them count",
			scene{configs: minISR(3), part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1, 2}, nil)}, 2,
			"1@5.8 r[1 2] i[1] e[2]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.given.play(t, func(p *Plan) error {
				p.Fence(tt.fence)
				p.Fence(tt.fence) // again changes nothing
				p.Fence(77)       // a stranger neither
				if n := p.node(tt.fence); !n.Fenced {
					t.Error("the node is not fenced")
				}
				return nil
			})
			outcome(t, got, err, tt.want, nil)
		})
	}
}

func TestRegistering(t *testing.T) {
	sole := partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})
	all := partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)
	lost := func(r *messages.Registration) { r.Lost = []messages.PartitionID{scenePartition} }
	dirty := func(r *messages.Registration) { r.Unclean = true }
	disks := func(ids string) func(*messages.Registration) {
		return func(r *messages.Registration) { r.Node.Directory = ids }
	}
	for _, tt := range []struct {
		name  string
		given scene
		how   func(*messages.Registration)
		want  string
		err   error
	}{
		{"an eligible replica of a leaderless partition leads it",
			scene{fenced: nodeIDs{1, 2}, part: sole}, nil, "1@6.8 r[1 2] i[1]", nil},
		{"one that is not eligible does not",
			scene{fenced: nodeIDs{1, 2}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{2})}, nil,
			"-1@5.7 r[1 2] i[] e[2]", nil},
		{"one that is not eligible does if the topic allows it",
			scene{configs: unclean(nil), fenced: nodeIDs{1, 2},
				part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{2})}, nil,
			"1@6.8 r[1 2] i[1]", nil},
		{"a quick restart hands the leadership over",
			scene{part: all}, nil, "2@6.8 r[1 2 3] i[2 3]", nil},
		{"a quick restart of the only in-sync replica leads on under a new epoch",
			scene{part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}, nil, "1@6.8 r[1 2] i[1]", nil},
		{"an unclean one is out of the in-sync set",
			scene{configs: minISR(3), part: all}, dirty, "2@6.8 r[1 2 3] i[2 3]", nil},
		{"an unclean one is eligible no more: the partition waits for one who has all",
			scene{fenced: nodeIDs{1, 2}, part: sole}, dirty, "-1@5.8 r[1 2] i[]", nil},
		{"an unclean leader steps down even if nobody can follow",
			scene{fenced: nodeIDs{2}, part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}, dirty,
			"-1@6.8 r[1 2] i[]", nil},
		{"an unclean leader is followed by an eligible one",
			scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nodeIDs{2})}, dirty,
			"2@6.8 r[1 2] i[2]", nil},
		{"unclean and the only replica there is: it has what is left",
			scene{fenced: nodeIDs{1}, part: partitionOf(none, nodeIDs{1}, nil, nodeIDs{1})}, dirty,
			"1@6.8 r[1] i[1]", nil},
		{"unclean and the only one but for a replica being added",
			scene{fenced: nodeIDs{1}, part: messages.Partition{
				Leader: none, Replicas: nodeIDs{1, 2}, ELR: nodeIDs{1}, Adding: nodeIDs{2}}}, dirty,
			"1@1.1 r[1 2] i[1] +[2]", nil},
		{"unclean where the topic allows it: the first live replica leads",
			scene{configs: unclean(nil), part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}, dirty,
			"1@6.8 r[1 2] i[1]", nil},
		{"one short log: that partition alone",
			scene{fenced: nodeIDs{1, 2}, part: sole}, lost, "-1@5.8 r[1 2] i[]", nil},
		{"a fenced node with a new disk is unclean",
			scene{fenced: nodeIDs{1, 2}, part: sole}, disks("new disk"), "-1@5.8 r[1 2] i[]", nil},
		{"a new disk under the id of a live node",
			scene{part: all}, disks("new disk"), "1@5.7 r[1 2 3] i[1 2 3]", messages.ErrDuplicateNode},
		{"one disk more and another order of them: nothing is lost",
			scene{fenced: nodeIDs{1, 2}, part: sole}, disks("disk c,disk b,disk a"),
			"1@6.8 r[1 2] i[1]", nil},
		{"one disk of two is new: unclean",
			scene{fenced: nodeIDs{1, 2}, part: sole}, disks("disk a,disk c"), "-1@5.8 r[1 2] i[]", nil},
		{"a quick restart with one new disk of two: the same node",
			scene{part: all}, disks("disk a,disk c"), "2@6.8 r[1 2 3] i[2 3]", nil},
		{"the same life again changes nothing",
			scene{part: all}, func(r *messages.Registration) { r.Node.Incarnation = "first life" },
			"1@5.7 r[1 2 3] i[1 2 3]", nil},
		{"no address",
			scene{part: all}, func(r *messages.Registration) { r.Node.Host = "" },
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := messages.Registration{Node: messages.Node{
				ID: 1, Host: "new", Port: 1, Incarnation: "second life", Directory: oldDisk,
				Fenced: true, Leaving: true, // not the node's to say
			}}
			if tt.how != nil {
				tt.how(&r)
			}
			got, err := tt.given.play(t, func(p *Plan) error { return p.Register(r, 101) })
			outcome(t, got, err, tt.want, tt.err)
		})
	}
}

func TestARegistrationSetsWhatTheControllerKnows(t *testing.T) {
	s := scene{draining: nodeIDs{1}, part: partitionOf(2, nodeIDs{2}, nodeIDs{2}, nil)}
	p := s.state().Plan()
	again := messages.Node{
		ID: 1, Host: "moved", Port: 1, Rack: "r", Incarnation: "first life", Directory: oldDisk,
	}
	if err := p.Register(messages.Registration{Node: again}, 101); err != nil {
		t.Fatal(err)
	}
	if n := p.node(1); n.Epoch != 10 || n.Host != "moved" || n.Rack != "r" || !n.Draining {
		t.Errorf("the same life got %+v, want epoch 10 at the new address, draining still", n)
	}
	again.Incarnation = "second life"
	if err := p.Register(messages.Registration{Node: again}, 101); err != nil {
		t.Fatal(err)
	}
	if n := p.node(1); n.Epoch != 101 || n.Fenced || n.Leaving || !n.Draining {
		t.Errorf("another life got %+v, want epoch 101, draining still", n)
	}
	again.ID = 9
	if err := p.Register(messages.Registration{Node: again}, 101); err != nil {
		t.Fatal(err)
	}
	var ids nodeIDs
	for _, n := range p.nodeSet() {
		ids = append(ids, n.ID)
	}
	if want := (nodeIDs{1, 2, 3, 4, 5, 9}); !reflect.DeepEqual(ids, want) {
		t.Errorf("the nodes are %v, want %v", ids, want)
	}
}

func TestLeaving(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given scene
		want  string
		leads int
	}{
		{"a leader hands over and is out of the in-sync set",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)},
			"2@6.8 r[1 2 3] i[2 3]", 0},
		{"a follower is out of the in-sync set",
			scene{part: partitionOf(2, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)},
			"2@5.8 r[1 2 3] i[2 3]", 0},
		{"one that others can catch up with leads on and is waited for",
			scene{part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}, "1@5.7 r[1 2] i[1]", 1},
		{"the only live replica leads to the end, nobody waits",
			scene{fenced: nodeIDs{2}, part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)},
			"1@5.7 r[1 2] i[1]", 0},
		{"the only replica leads to the end, nobody waits",
			scene{part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}, "1@5.7 r[1] i[1]", 0},
		{"all others leave too",
			scene{leaving: nodeIDs{2}, part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1, 2}, nil)},
			"1@5.7 r[1 2] i[1 2]", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.given.play(t, func(p *Plan) error {
				if leads := p.Leave(1); leads != tt.leads {
					t.Errorf("%d partitions are waited for, want %d", leads, tt.leads)
				}
				if !p.node(1).Leaving || p.Leave(1) != tt.leads {
					t.Error("asked again, it leaves otherwise")
				}
				return nil
			})
			outcome(t, got, err, tt.want, nil)
		})
	}
}

func TestALeavingLeaderHandsOverWhenAnotherHasCaughtUp(t *testing.T) {
	s := scene{leaving: nodeIDs{1}, part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}
	got, err := s.play(t, func(p *Plan) error {
		return p.AlterPartition(1, messages.AlterPartition{
			ID: scenePartition, LeaderEpoch: 5, PartitionEpoch: 7,
			ISR: []messages.ISRMember{{Node: 1, Epoch: 10}, {Node: 2, Epoch: 20}},
		}).Err
	})
	outcome(t, got, err, "2@6.8 r[1 2] i[1 2]", messages.ErrNewLeaderElected)
}

func TestUnregistering(t *testing.T) {
	s := scene{fenced: nodeIDs{3, 4}, part: partitionOf(1, nodeIDs{1, 3}, nodeIDs{1}, nil)}
	p := s.state().Plan()
	for node, want := range map[messages.NodeID]error{
		1: messages.ErrInvalidRequest, 3: messages.ErrInvalidRequest, 77: messages.ErrUnknownNode,
		4: nil,
	} {
		if err := p.Unregister(node); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("node %d: %v, want %v", node, err, want)
		}
	}
	if p.node(4) != nil || p.node(3) == nil || len(p.nodeSet()) != 4 {
		t.Errorf("the nodes are %v", p.nodeSet())
	}
	if err := p.SetDraining(77, true); !errors.Is(err, messages.ErrUnknownNode) {
		t.Errorf("draining a stranger: %v", err)
	}
}

func TestDrainingIsASettingOfTheNode(t *testing.T) {
	p := scene{part: partitionOf(1, nodeIDs{1, 3}, nodeIDs{1}, nil), fenced: nodeIDs{4}}.state().Plan()
	alter := func(node, value string, op messages.ConfigOp) error {
		return p.AlterConfigs(messages.AlterConfigs{
			Resource: messages.ConfigResource{Type: messages.ConfigBroker, Name: node},
			Changes:  []messages.ConfigChange{{Key: "node.drain", Value: value, Op: op}},
		})
	}
	check := func(what string, node messages.NodeID, want bool) {
		t.Helper()
		setting := p.nodeConfigs()[node]["node.drain"] == "true"
		if n := p.node(node); n.Draining != want || setting != want {
			t.Errorf("%s: draining is %v, the setting %v, want %v", what, n.Draining, setting, want)
		}
	}
	for _, step := range []struct {
		what string
		do   func() error
		want bool
	}{
		{"set", func() error { return alter("4", "true", messages.ConfigSet) }, true},
		{"set to false", func() error { return alter("4", "false", messages.ConfigSet) }, false},
		{"drained", func() error { return p.SetDraining(4, true) }, true},
		{"deleted", func() error { return alter("4", "", messages.ConfigDelete) }, false},
		{"set again", func() error { return alter("4", "true", messages.ConfigSet) }, true},
		{"undrained", func() error { return p.SetDraining(4, false) }, false},
		{"once more", func() error { return p.SetDraining(4, true) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		check(step.what, 4, step.want)
		check(step.what+": another node", 2, false)
	}
	if err := alter("", "true", messages.ConfigSet); !errors.Is(err, messages.ErrInvalidRequest) {
		t.Errorf("for all nodes: %v", err)
	}
	if err := p.Unregister(4); err != nil || len(p.nodeConfigs()[4]) != 0 {
		t.Errorf("after it was forgotten (%v) its settings are %v", err, p.nodeConfigs()[4])
	}
}

func TestHealingWhatWasStoredInPart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given scene
		want  string
	}{
		{"a fenced leader", scene{configs: minISR(2), fenced: nodeIDs{1},
			part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1, 2}, nil)}, "2@6.8 r[1 2] i[2] e[1]"},
		{"a fenced leader nobody can follow", scene{fenced: nodeIDs{1},
			part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1}, nil)}, "-1@6.8 r[1 2] i[] e[1]"},
		{"a fenced follower", scene{fenced: nodeIDs{2},
			part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1, 2}, nil)}, "1@5.8 r[1 2] i[1]"},
		{"an in-sync replica that nobody made leader", scene{
			part: partitionOf(none, nodeIDs{1, 2}, nodeIDs{2}, nil)}, "2@6.8 r[1 2] i[2]"},
		{"a leader that is not in sync", scene{
			part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{2}, nil)}, "2@6.8 r[1 2] i[2]"},
		{"nothing", scene{fenced: nodeIDs{1},
			part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})}, "-1@5.7 r[1 2] i[] e[1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state := tt.given.state() // it need not be whole
			p := state.Plan()
			p.Heal()
			state.Adopt(p, p.Delta(101, 1, 0, "c"))
			outcome(t, *state.Image().Partition(scenePartition), Check(state.Image()), tt.want, nil)
		})
	}
}
