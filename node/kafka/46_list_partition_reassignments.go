package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
)

// ListPartitionReassignments, key 46, version 0: which partitions are on their
// way to other replicas (KIP-455).
//
// Null topics mean all. What is not there, or not moving, is left out. The answer
// is what this node's metadata shows.
func (s *Server) listPartitionReassignments(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.ListPartitionReassignmentsRequest)
	resp := req.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	v := s.view(c)
	if req.Topics == nil {
		for _, t := range v.image.Topics() {
			resp.Topics = v.addMoving(resp.Topics, t, moving(t))
		}
		return resp
	}
	for i := range req.Topics {
		if t := v.image.Topic(req.Topics[i].Topic); t != nil {
			resp.Topics = v.addMoving(resp.Topics, t, req.Topics[i].Partitions)
		}
	}
	return resp
}

func moving(t *messages.Topic) []int32 {
	var indexes []int32
	for i := range t.Partitions {
		if t.Partitions[i].Reassigning() {
			indexes = append(indexes, int32(i))
		}
	}
	return indexes
}

// addMoving adds the topic if any of those partitions is being reassigned.
func (v *clusterView) addMoving(
	all []kmsg.ListPartitionReassignmentsResponseTopic, topic *messages.Topic, partitions []int32,
) []kmsg.ListPartitionReassignmentsResponseTopic {
	t := kmsg.NewListPartitionReassignmentsResponseTopic()
	t.Topic = topic.Name
	for _, i := range partitions {
		if i < 0 || int(i) >= len(topic.Partitions) || !topic.Partitions[i].Reassigning() {
			continue
		}
		now := &topic.Partitions[i]
		p := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		p.Partition, p.Replicas = i, v.list(now.Replicas, anyNode)
		p.AddingReplicas = v.list(now.Adding, anyNode)
		p.RemovingReplicas = v.list(now.Removing, anyNode)
		t.Partitions = append(t.Partitions, p)
	}
	if len(t.Partitions) == 0 {
		return all
	}
	return append(all, t)
}
