package topics

import (
	"errors"
	"fmt"
	"testing"

	"github.com/troupelog/troupe/messages"
)

func TestAlterPartition(t *testing.T) {
	type members = []messages.ISRMember
	full := partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2, 3}, nil)
	alone := partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nil)
	one, two, three := members{{Node: 1, Epoch: 10}}, members{{Node: 2, Epoch: 20}},
		members{{Node: 3, Epoch: 30}}
	join := func(lists ...members) (all members) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	moving := func(isr nodeIDs) messages.Partition {
		p := partitionOf(1, nodeIDs{3, 4, 1, 2}, isr, nil)
		p.Adding, p.Removing = nodeIDs{3, 4}, nodeIDs{1, 2}
		return p
	}
	for _, tt := range []struct {
		name  string
		given scene
		from  messages.NodeID
		isr   members
		epoch [2]int32 // on top of the leader and the partition epoch
		want  string
		err   error
	}{
		{"one falls out", scene{part: full}, 1, join(one, three), [2]int32{},
			"1@5.8 r[1 2 3] i[1 3]", nil},
		{"one falls out below min.insync.replicas and is eligible",
			scene{configs: minISR(3), part: full}, 1, join(one, three), [2]int32{},
			"1@5.8 r[1 2 3] i[1 3] e[2]", nil},
		{"two fall out at once and are eligible",
			scene{configs: minISR(2), part: full}, 1, one, [2]int32{},
			"1@5.8 r[1 2 3] i[1] e[2 3]", nil},
		{"two fall out at once where one is enough", scene{part: full}, 1, one, [2]int32{},
			"1@5.8 r[1 2 3] i[1]", nil},
		{"one comes back", scene{part: alone}, 1, join(one, two), [2]int32{},
			"1@5.8 r[1 2 3] i[1 2]", nil},
		{"one comes back and there are enough: nobody else is eligible",
			scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nodeIDs{3})},
			1, join(one, two), [2]int32{}, "1@5.8 r[1 2 3] i[1 2]", nil},
		{"an eligible one comes back",
			scene{configs: minISR(3), part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nodeIDs{2, 3})},
			1, join(one, two), [2]int32{}, "1@5.8 r[1 2 3] i[1 2] e[3]", nil},
		{"the same set", scene{part: full}, 1, join(one, two, three), [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", nil},
		{"the same set in another order", scene{part: full}, 1, join(three, two, one), [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", nil},
		{"a member without an epoch", scene{part: alone}, 1,
			join(one, members{{Node: 2, Epoch: messages.NoNodeEpoch}}), [2]int32{},
			"1@5.8 r[1 2 3] i[1 2]", nil},
		{"an older leader epoch", scene{part: full}, 1, one, [2]int32{-1, 0},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrFencedLeaderEpoch},
		{"an older leader epoch goes before an older partition epoch and the wrong leader",
			scene{part: full}, 2, one, [2]int32{-1, -1},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrFencedLeaderEpoch},
		{"a newer leader epoch", scene{part: full}, 1, one, [2]int32{1, 0},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrNotController},
		{"a newer partition epoch, though an older leader epoch", scene{part: full}, 1, one,
			[2]int32{-1, 1}, "1@5.7 r[1 2 3] i[1 2 3]", messages.ErrNotController},
		{"not the leader goes before an older partition epoch", scene{part: full}, 2, two,
			[2]int32{0, -1}, "1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
		{"an older partition epoch", scene{part: full}, 1, one, [2]int32{0, -1},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidUpdateVersion},
		{"an older partition epoch goes before a bad set", scene{part: full}, 1, two,
			[2]int32{0, -1}, "1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidUpdateVersion},
		{"no leader in the set", scene{part: full}, 1, two, [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
		{"an empty set", scene{part: full}, 1, nil, [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
		{"a node twice", scene{part: full}, 1, join(one, two, two), [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
		{"no replica", scene{part: full}, 1, join(one, members{{Node: 4, Epoch: 40}}), [2]int32{},
			"1@5.7 r[1 2 3] i[1 2 3]", messages.ErrInvalidRequest},
		{"a fenced node", scene{fenced: nodeIDs{2}, part: alone}, 1, join(one, two), [2]int32{},
			"1@5.7 r[1 2 3] i[1]", messages.ErrIneligibleReplica},
		{"a leaving node", scene{leaving: nodeIDs{2}, part: alone}, 1, join(one, two), [2]int32{},
			"1@5.7 r[1 2 3] i[1]", messages.ErrIneligibleReplica},
		{"a node that was registered again since it fetched", scene{part: alone}, 1,
			join(one, members{{Node: 2, Epoch: 19}}), [2]int32{},
			"1@5.7 r[1 2 3] i[1]", messages.ErrIneligibleReplica},
		{"one of two added replicas catches up: not done yet",
			scene{part: moving(nodeIDs{1, 2})}, 1, join(one, two, three), [2]int32{},
			"1@5.8 r[3 4 1 2] i[1 2 3] +[3 4] -[1 2]", nil},
		{"all added replicas caught up: done, and a target leads",
			scene{part: moving(nodeIDs{1, 2, 3})}, 1,
			join(one, two, three, members{{Node: 4, Epoch: 40}}), [2]int32{},
			"3@6.8 r[3 4] i[3 4]", messages.ErrNewLeaderElected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var answer messages.AlterPartitionResult
			got, err := tt.given.play(t, func(p *Plan) error {
				answer = p.AlterPartition(tt.from, messages.AlterPartition{
					ID: scenePartition, ISR: tt.isr,
					LeaderEpoch:    messages.LeaderEpoch(5 + tt.epoch[0]),
					PartitionEpoch: messages.PartitionEpoch(7 + tt.epoch[1]),
				})
				return answer.Err
			})
			outcome(t, got, err, tt.want, tt.err)
			if text(answer.Partition) != tt.want {
				t.Errorf("the answer is %s", text(answer.Partition))
			}
		})
	}
}

func TestAProposalForWhatIsNotThere(t *testing.T) {
	s := scene{part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}
	for _, tt := range []struct {
		id   messages.PartitionID
		want error
	}{
		{messages.PartitionID{Topic: messages.TopicID{9}}, messages.ErrUnknownTopicID},
		{messages.PartitionID{Topic: sceneTopic, Partition: 1}, messages.ErrUnknownTopicOrPartition},
		{messages.PartitionID{Topic: sceneTopic, Partition: -1}, messages.ErrUnknownTopicOrPartition},
	} {
		r := s.state().Plan().AlterPartition(1, messages.AlterPartition{ID: tt.id})
		if !errors.Is(r.Err, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.id, r.Err, tt.want)
		}
	}
}

func TestElect(t *testing.T) {
	preferred, any := messages.ElectPreferred, messages.ElectUnclean
	for _, tt := range []struct {
		name  string
		given scene
		kind  messages.ElectionType
		want  string
		err   error
	}{
		{"the preferred leader takes over",
			scene{part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2, 1}, nil)}, preferred,
			"1@6.8 r[1 2] i[2 1]", nil},
		{"it leads already", scene{part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{2, 1}, nil)}, preferred,
			"1@5.7 r[1 2] i[2 1]", messages.ErrElectionNotNeeded},
		{"it is not in sync", scene{part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2}, nil)}, preferred,
			"2@5.7 r[1 2] i[2]", messages.ErrPreferredLeaderNotAvailable},
		{"it is only eligible: the leader has more",
			scene{configs: minISR(2), part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2}, nodeIDs{1})},
			preferred, "2@5.7 r[1 2] i[2] e[1]", messages.ErrPreferredLeaderNotAvailable},
		{"it is leaving",
			scene{leaving: nodeIDs{1}, part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2, 1}, nil)}, preferred,
			"2@5.7 r[1 2] i[2 1]", messages.ErrPreferredLeaderNotAvailable},
		{"leaderless and nobody eligible lives: any live one, on demand",
			scene{fenced: nodeIDs{1}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})}, any,
			"2@6.8 r[1 2] i[2]", nil},
		{"one that is only being added comes last",
			scene{fenced: nodeIDs{1}, part: messages.Partition{Leader: none, Replicas: nodeIDs{3, 1, 2},
				ELR: nodeIDs{1}, Adding: nodeIDs{3}, Removing: nodeIDs{1, 2}}}, any,
			"2@1.1 r[3 1 2] i[2] +[3] -[1 2]", nil},
		{"no unclean election while somebody leads",
			scene{part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2}, nil)}, any,
			"2@5.7 r[1 2] i[2]", messages.ErrElectionNotNeeded},
		{"nobody lives",
			scene{fenced: nodeIDs{1, 2}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})}, any,
			"-1@5.7 r[1 2] i[] e[1]", messages.ErrEligibleLeadersNotAvailable},
		{"another kind", scene{part: partitionOf(2, nodeIDs{1, 2}, nodeIDs{2}, nil)}, 9,
			"2@5.7 r[1 2] i[2]", messages.ErrInvalidRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.given.play(t, func(p *Plan) error { return p.Elect(tt.kind, scenePartition) })
			outcome(t, got, err, tt.want, tt.err)
		})
	}
	p := scene{part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}.state().Plan()
	err := p.Elect(preferred, messages.PartitionID{Topic: sceneTopic, Partition: 3})
	if !errors.Is(err, messages.ErrUnknownTopicOrPartition) {
		t.Errorf("a partition that is not there: %v", err)
	}
}

func TestRulesThatChange(t *testing.T) {
	frozen := partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1}, nodeIDs{2})
	alter := func(kind messages.ConfigResourceType, name, key, value string) func(*Plan) error {
		return func(p *Plan) error {
			return p.AlterConfigs(messages.AlterConfigs{
				Resource: messages.ConfigResource{Type: kind, Name: name},
				Changes:  []messages.ConfigChange{{Key: key, Value: value}},
			})
		}
	}
	topic, node := messages.ConfigTopic, messages.ConfigBroker
	for _, tt := range []struct {
		name  string
		given scene
		when  func(*Plan) error
		want  string
	}{
		{"a lower min.insync.replicas: the high watermark moves on, nobody else is eligible",
			scene{configs: minISR(2), part: frozen},
			alter(topic, "t", "min.insync.replicas", "1"), "1@5.8 r[1 2 3] i[1]"},
		{"one lower that is still too high",
			scene{configs: minISR(3), part: frozen},
			alter(topic, "t", "min.insync.replicas", "2"), "1@5.7 r[1 2 3] i[1] e[2]"},
		{"a higher one: proposals that are under way are void",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2}, nil)},
			func(p *Plan) error {
				if err := alter(topic, "t", "min.insync.replicas", "2")(p); err != nil {
					return err
				}
				r := p.AlterPartition(1, messages.AlterPartition{ID: scenePartition, LeaderEpoch: 5,
					PartitionEpoch: 7, ISR: []messages.ISRMember{{Node: 1, Epoch: 10}}})
				if !errors.Is(r.Err, messages.ErrInvalidUpdateVersion) {
					return fmt.Errorf("the leader that may not know was told %w", r.Err)
				}
				return nil
			}, "1@5.8 r[1 2 3] i[1 2]"},
		{"a higher one for all topics",
			scene{part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2}, nil)},
			alter(node, "", "min.insync.replicas", "3"), "1@5.8 r[1 2 3] i[1 2]"},
		{"a higher one for all topics, which this one does not follow",
			scene{configs: minISR(1), part: partitionOf(1, nodeIDs{1, 2, 3}, nodeIDs{1, 2}, nil)},
			alter(node, "", "min.insync.replicas", "3"), "1@5.7 r[1 2 3] i[1 2]"},
		{"a higher one than there are replicas",
			scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1, 2}, nodeIDs{1, 2}, nil)},
			alter(topic, "t", "min.insync.replicas", "3"), "1@5.7 r[1 2] i[1 2]"},
		{"lower for one node: it may lead",
			scene{configs: minISR(2), part: frozen},
			func(p *Plan) error {
				if err := alter(node, "", "min.insync.replicas", "2")(p); err != nil {
					return err
				}
				if err := alter(topic, "t", "min.insync.replicas", "2")(p); err != nil {
					return err
				}
				if err := p.AlterConfigs(messages.AlterConfigs{Replace: true,
					Resource: messages.ConfigResource{Type: topic, Name: "t"}}); err != nil {
					return err
				}
				return alter(node, "3", "min.insync.replicas", "1")(p)
			}, "1@5.8 r[1 2 3] i[1]"},
		{"unclean elections are allowed: a leaderless partition gets a leader",
			scene{fenced: nodeIDs{1}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})},
			alter(topic, "t", "unclean.leader.election.enable", "true"), "2@6.8 r[1 2] i[2]"},
		{"they are allowed for all topics",
			scene{fenced: nodeIDs{1}, part: partitionOf(none, nodeIDs{1, 2}, nil, nodeIDs{1})},
			alter(node, "", "unclean.leader.election.enable", "true"), "2@6.8 r[1 2] i[2]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.given.play(t, tt.when)
			outcome(t, got, err, tt.want, nil)
		})
	}
}

func TestASettingThatKeepsItsValueChangesNothing(t *testing.T) {
	s := scene{configs: minISR(2), part: partitionOf(1, nodeIDs{1}, nodeIDs{1}, nil)}.state()
	p := s.Plan()
	err := p.AlterConfigs(messages.AlterConfigs{
		Resource: messages.ConfigResource{Type: messages.ConfigTopic, Name: "t"},
		Changes:  []messages.ConfigChange{{Key: "min.insync.replicas", Value: "2"}},
	})
	if err != nil || !p.Empty() {
		t.Errorf("%v, empty %v", err, p.Empty())
	}
}
