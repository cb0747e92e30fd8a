package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

func TestConsumerGroupDescribeShowsMembersAndTheirPartitions(t *testing.T) {
	eachVersion(t, 69, func(t *testing.T, v int16) {
		f := newFakeCluster()
		topic := f.addTopic("t", 4)
		script(f, func(_ string, r *group.Describe) {
			r.Reply(group.Description{Type: group.Consumer, State: group.Reconciling, Epoch: 5,
				AssignmentEpoch: 4, Assignor: "uniform", Members: []group.Member{
					{MemberID: "m", InstanceID: "i", Rack: "r", Epoch: 3, ClientID: "c",
						ClientHost: "/h", Topics: []string{"t"}, Regex: "t.*", Classic: true,
						Assigned: []group.TopicPartitions{{Topic: topic.ID, Partitions: []int32{0}},
							{Topic: messages.TopicID{9}, Partitions: []int32{0}}},
						Target: []group.TopicPartitions{{Topic: topic.ID, Partitions: []int32{0, 1}}}},
					{MemberID: "n"}}})
		})
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups, req.IncludeAuthorizedOperations = []string{"g", "g"}, true
		resp := ask[*kmsg.ConsumerGroupDescribeResponse](t, f, req, v)
		equal(t, "groups, each once", len(resp.Groups), 1)
		g := resp.Groups[0]
		equal(t, "code", g.ErrorCode, codeNone)
		equal(t, "group", []string{g.Group, g.State, g.AssignorName},
			[]string{"g", "Reconciling", "uniform"})
		equal(t, "epochs", []int32{g.Epoch, g.AssignmentEpoch}, []int32{5, 4})
		equal(t, "operations", g.AuthorizedOperations, groupOperations)
		m := g.Members[0]
		equal(t, "member", []string{m.MemberID, *m.InstanceID, *m.RackID, m.ClientID, m.ClientHost,
			m.SubscribedTopics[0], *m.SubscribedTopicRegex},
			[]string{"m", "i", "r", "c", "/h", "t", "t.*"})
		type part = kmsg.AssignmentTopicPartition
		equal(t, "assigned, of topics that are there", m.Assignment.TopicPartitions,
			[]part{{TopicID: topic.ID, Topic: "t", Partitions: []int32{0}}})
		equal(t, "target", m.TargetAssignment.TopicPartitions,
			[]part{{TopicID: topic.ID, Topic: "t", Partitions: []int32{0, 1}}})
		other := g.Members[1]
		equal(t, "nulls", []*string{other.InstanceID, other.RackID, other.SubscribedTopicRegex},
			[]*string{nil, nil, nil})
		if v >= 1 {
			equal(t, "types", []int8{m.MemberType, other.MemberType}, []int8{0, 1})
		}
	})
}

func TestConsumerGroupDescribeKnowsNoClassicGroup(t *testing.T) {
	eachVersion(t, 69, func(t *testing.T, v int16) {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{"a", "gone"}
		for _, g := range ask[*kmsg.ConsumerGroupDescribeResponse](t, withGroups(), req, v).Groups {
			equal(t, g.Group, g.ErrorCode, codeGroupIDNotFound)
			hasText(t, g.Group, g.ErrorMessage)
		}
	})
}
