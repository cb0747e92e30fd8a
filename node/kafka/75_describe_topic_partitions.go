package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/node/door"
)

// describePartitionsMax bounds the partitions of one answer, as Kafka's
// max.request.partition.size.limit does by default; a cursor leads on.
const describePartitionsMax = 2000

// DescribeTopicPartitions, key 75, version 0: topics and partitions, page by
// page (KIP-966).
//
// Topics come sorted by name, unnamed means all. A cursor names where the next
// page starts; topics before it are skipped.
//
// The last known eligible leader replicas are always none: a replica stays
// eligible until its data is known to be lost. Topics are never made.
func (s *Server) describeTopicPartitions(_ context.Context, c *call) kmsg.Response {
	req := c.req.(*kmsg.DescribeTopicPartitionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	v := s.view(c)
	names, err := describedTopics(v.image, req)
	if err != nil {
		for i := range req.Topics {
			t := kmsg.NewDescribeTopicPartitionsResponseTopic()
			t.Topic, t.ErrorCode = &req.Topics[i].Topic, errorCode(err)
			resp.Topics = append(resp.Topics, t)
		}
		return resp
	}
	room := int(max(1, min(req.ResponsePartitionLimit, describePartitionsMax)))
	for _, name := range names {
		if room == 0 {
			resp.NextCursor = cursorAt(name, 0)
			break
		}
		first := 0
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = int(req.Cursor.Partition)
		}
		t, next := describeTopic(v, name, first, room)
		resp.Topics = append(resp.Topics, t)
		room -= len(t.Partitions)
		if next > 0 {
			resp.NextCursor = cursorAt(name, next)
			break
		}
	}
	return resp
}

// describedTopics returns the names to describe, sorted, from the cursor on.
func describedTopics(image *messages.Image,
	req *kmsg.DescribeTopicPartitionsRequest,
) ([]string, error) {
	var names []string
	if len(req.Topics) == 0 {
		for _, t := range image.Topics() {
			names = append(names, t.Name)
		}
	}
	for i := range req.Topics {
		names = append(names, req.Topics[i].Topic)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if req.Cursor == nil {
		return names, nil
	}
	if req.Cursor.Partition < 0 {
		return nil, fmt.Errorf("%w: the cursor names partition %d", messages.ErrInvalidRequest,
			req.Cursor.Partition)
	}
	at, found := slices.BinarySearch(names, req.Cursor.Topic)
	if !found && len(req.Topics) > 0 {
		return nil, fmt.Errorf("%w: the cursor's topic %q is not among those asked for",
			messages.ErrInvalidRequest, req.Cursor.Topic)
	}
	return names[at:], nil
}

// describeTopic describes at most room partitions from first on. next is the
// first partition that did not fit, or 0.
func describeTopic(v *clusterView, name string, first, room int,
) (t kmsg.DescribeTopicPartitionsResponseTopic, next int) {
	t = kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic, t.IsInternal = &name, internalName(name)
	t.AuthorizedOperations = topicOperations
	topic := v.image.Topic(name)
	if topic == nil {
		t.ErrorCode = codeUnknownTopicOrPartition
		if door.CheckTopicName(name) != nil {
			t.ErrorCode = codeInvalidTopic
		}
		return t, 0
	}
	t.TopicID = topic.ID
	first = min(first, len(topic.Partitions))
	end := min(first+room, len(topic.Partitions))
	for i := first; i < end; i++ {
		pv := v.partition(&topic.Partitions[i])
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition, p.ErrorCode = int32(i), pv.code
		p.LeaderID, p.LeaderEpoch = pv.leader, pv.epoch
		p.Replicas, p.ISR, p.OfflineReplicas = pv.replicas, pv.isr, pv.offline
		// Empty, not null: null means that the cluster does not know of them.
		p.EligibleLeaderReplicas = v.list(topic.Partitions[i].ELR, anyNode)
		p.LastKnownELR = []int32{}
		t.Partitions = append(t.Partitions, p)
	}
	if end == len(topic.Partitions) {
		end = 0
	}
	return t, end
}

func cursorAt(topic string, partition int) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, int32(partition)
	return &c
}
