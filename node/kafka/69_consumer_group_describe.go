package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/group"
)

// ConsumerGroupDescribe, key 69, versions 0 and 1: what consumer groups are
// (KIP-848).
//
//	v1  whether a member speaks the classic protocol (KIP-1099)
//
// A classic group is GROUP_ID_NOT_FOUND: clients then ask DescribeGroups. A group
// that is named twice is described once.
func (s *Server) consumerGroupDescribe(ctx context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ConsumerGroupDescribeRequest)
	resp := req.ResponseKind().(*kmsg.ConsumerGroupDescribeResponse)
	names := once(req.Groups)
	found := s.describe(ctx, names, group.Consumer)
	image := s.cluster.Image()
	for i, name := range names {
		d := &found[i]
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group = name
		g.ErrorCode, g.ErrorMessage = coordinatorErrorCode(d.Err), errorMessage(d.Err)
		if d.Err == nil {
			g.State, g.Epoch, g.AssignmentEpoch = string(d.State), d.Epoch, d.AssignmentEpoch
			g.AssignorName = d.Assignor
			for j := range d.Members {
				g.Members = append(g.Members, consumerMember(image, &d.Members[j]))
			}
			if req.IncludeAuthorizedOperations {
				g.AuthorizedOperations = groupOperations
			}
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// Member types of ConsumerGroupDescribe.
const (
	memberClassic  int8 = 0
	memberConsumer int8 = 1
)

func consumerMember(image *messages.Image, d *group.Member,
) kmsg.ConsumerGroupDescribeResponseGroupMember {
	m := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	m.MemberID, m.InstanceID, m.RackID = d.MemberID, orNull(d.InstanceID), orNull(d.Rack)
	m.MemberEpoch, m.ClientID, m.ClientHost = d.Epoch, d.ClientID, d.ClientHost
	m.SubscribedTopics, m.SubscribedTopicRegex = d.Topics, orNull(d.Regex)
	m.Assignment = memberAssignment(image, d.Assigned)
	m.TargetAssignment = memberAssignment(image, d.Target)
	m.MemberType = memberConsumer
	if d.Classic {
		m.MemberType = memberClassic
	}
	return m
}

// memberAssignment names topics by id and name; one that was deleted meanwhile has
// no name and is left out.
func memberAssignment(image *messages.Image, assigned []group.TopicPartitions) kmsg.Assignment {
	a := kmsg.NewAssignment()
	for _, tp := range assigned {
		topic := image.TopicByID(tp.Topic)
		if topic == nil {
			continue
		}
		t := kmsg.NewAssignmentTopicPartition()
		t.TopicID, t.Topic, t.Partitions = tp.Topic, topic.Name, tp.Partitions
		a.TopicPartitions = append(a.TopicPartitions, t)
	}
	return a
}
